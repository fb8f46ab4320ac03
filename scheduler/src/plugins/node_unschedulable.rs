//! NodeUnschedulable: cordoned nodes are for pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::taints::tolerated;

/// Refuses cordoned nodes.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        if all.cordoned == 0 {
            return Before::Skip;
        }
        let key = "node.kubernetes.io/unschedulable".into();
        let taint = Taint { key, effect: "NoSchedule".into(), ..Default::default() };
        if tolerated(&pod.tolerations, &taint) { Before::Skip } else { Before::Ask(None) }
    }

    fn filter(&self, _prepared: &Prepared, _pod: &PodInfo, at: &View<'_>) -> Verdict {
        if at.node.spec.unschedulable { Verdict::never("node(s) were unschedulable") } else { Verdict::Fits }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::NodeAdded, Kind::NodeTaints, Kind::OwnTolerations]
    }

    fn hint(&self, _pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        !matches!(what, Happening::Node { new, .. } if new.unschedulable)
    }
}
