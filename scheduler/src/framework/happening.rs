//! What happened in the cluster, for pods that wait for it.

use std::sync::Arc;

use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;

/// The kinds of things that happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    NodeAdded,
    NodeGone,
    NodeLabels,
    NodeTaints,
    NodeRoom,
    /// A pod is on a node now.
    PodPlaced,
    PodLabels,
    /// A pod on a node asks for less.
    PodShrunk,
    /// A pod that was on a node, or meant to go there, is gone.
    PodLeft,
    /// The waiting pod itself.
    OwnLabels,
    OwnTolerations,
    OwnGates,
    OwnRequest,
    ClaimChanged,
    VolumeChanged,
    ClassChanged,
    CsiNodeChanged,
    DriverChanged,
    CapacityChanged,
    AttachmentGone,
}

impl Kind {
    /// A bit for sets of kinds.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// One event with what it was about.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A node came, or changed in one respect.
    Node { kind: Kind, old: Option<Arc<NodeSpec>>, new: Arc<NodeSpec> },
    /// A pod on a node came, changed in one respect, or went.
    Pod { kind: Kind, old: Option<Arc<PodInfo>>, pod: Arc<PodInfo> },
    /// The waiting pod of this uid changed.
    Own { kind: Kind, uid: String },
    /// A claim, by namespace and name.
    Claim { namespace: String, name: String },
    /// Something else, by name.
    Other { kind: Kind, name: String },
}

impl Happening {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Node { kind, .. }
            | Self::Pod { kind, .. }
            | Self::Own { kind, .. }
            | Self::Other { kind, .. } => *kind,
            Self::Claim { .. } => Kind::ClaimChanged,
        }
    }

    /// What a change of a Node object comes to; nothing if it is none that any plugin waits for.
    pub fn of_node(old: Option<&Arc<NodeSpec>>, new: &Arc<NodeSpec>) -> Vec<Self> {
        let event = |kind| Self::Node { kind, old: old.cloned(), new: new.clone() };
        let Some(before) = old else { return vec![event(Kind::NodeAdded)] };
        let differs = [
            (Kind::NodeLabels, before.labels != new.labels),
            (Kind::NodeTaints, before.taints != new.taints || before.unschedulable != new.unschedulable),
            (Kind::NodeRoom, before.allocatable != new.allocatable || before.max_pods != new.max_pods),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(kind, _)| event(kind)).collect()
    }

    /// What a change of a pod on a node comes to.
    pub fn of_pod(old: Option<&Arc<PodInfo>>, pod: &Arc<PodInfo>) -> Vec<Self> {
        let event = |kind| Self::Pod { kind, old: old.cloned(), pod: pod.clone() };
        let Some(before) = old else { return vec![event(Kind::PodPlaced)] };
        let differs = [
            (Kind::PodLabels, before.labels != pod.labels || (pod.deleting && !before.deleting)),
            (Kind::PodShrunk, before.request != pod.request),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(kind, _)| event(kind)).collect()
    }

    /// What a change of a waiting pod comes to.
    pub fn of_own(old: &PodInfo, pod: &PodInfo) -> Vec<Self> {
        let differs = [
            (Kind::OwnLabels, old.labels != pod.labels),
            (Kind::OwnTolerations, old.tolerations != pod.tolerations),
            (Kind::OwnGates, old.gates != pod.gates),
            (Kind::OwnRequest, old.request != pod.request),
        ];
        let changed = differs.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(kind, _)| Self::Own { kind, uid: pod.uid.clone() }).collect()
    }

    /// A pod left its node.
    pub fn left(pod: Arc<PodInfo>) -> Self {
        Self::Pod { kind: Kind::PodLeft, old: None, pod }
    }
}
