//! NodeAffinity: node selectors and node affinity, required and preferred.

use crate::framework::{Before, Happening, Plugin, Prepared, Verdict, scale};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Refuses nodes the pod doesn't ask for; scores by its preferences.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter(&self, pod: &PodInfo, _nodes: &Snapshot) -> Before {
        if pod.wishes.is_free() { Before::Skip } else { Before::Ask(None) }
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        if pod.wishes.allows(&node.name, &node.labels) {
            return Verdict::Fits;
        }
        Verdict::never("node(s) didn't match Pod's node affinity/selector")
    }

    fn weight(&self) -> i64 {
        2
    }

    fn scores(&self, pod: &PodInfo) -> bool {
        !pod.wishes.preferred.is_empty()
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _nodes: &Snapshot) -> i64 {
        pod.wishes.preference(&node.name, &node.labels)
    }

    fn normalise(&self, scores: &mut [i64]) {
        scale(scores, false);
    }

    fn woken_by(&self) -> &'static [Happening] {
        &[Happening::NodeOpened]
    }
}
