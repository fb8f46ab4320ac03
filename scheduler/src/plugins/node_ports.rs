//! NodePorts: two pods can't have the same port of a node.

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Refuses nodes where a host port is taken.
pub struct NodePorts;

fn conflict(pod: &PodInfo, other: &PodInfo) -> bool {
    other.host_ports.iter().any(|t| pod.host_ports.iter().any(|p| p.conflicts(t)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn pre_filter(&self, pod: &PodInfo, _all: &Snapshot) -> Before {
        if pod.host_ports.is_empty() { Before::Skip } else { Before::Ask(None) }
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        if at.node.ports > 0 && at.node.pods.iter().any(|other| conflict(pod, other)) {
            return Verdict::refused("node(s) didn't have free ports for the requested pod ports");
        }
        Verdict::Fits
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::PodLeft, Kind::NodeAdded]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        match what {
            Happening::Pod { pod: left, .. } => conflict(pod, left),
            _ => true,
        }
    }
}
