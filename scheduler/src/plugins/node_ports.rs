//! NodePorts: two pods can't have the same port of a node.

use crate::framework::{Before, Happening, Plugin, Prepared, Verdict};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Refuses nodes where a host port is taken.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn pre_filter(&self, pod: &PodInfo, _nodes: &Snapshot) -> Before {
        if pod.host_ports.is_empty() { Before::Skip } else { Before::Ask(None) }
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let mut taken = node.pods.values().flat_map(|p| &p.host_ports);
        if taken.any(|t| pod.host_ports.iter().any(|p| p.conflicts(t))) {
            return Verdict::refused("node(s) didn't have free ports for the requested pod ports");
        }
        Verdict::Fits
    }

    fn woken_by(&self) -> &'static [Happening] {
        &[Happening::PodLeft, Happening::NodeOpened]
    }
}
