//! NodeName: a pod that names its node goes nowhere else.

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Refuses all nodes but the one asked for.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn pre_filter(&self, pod: &PodInfo, _all: &Snapshot) -> Before {
        if pod.node.is_some() { Before::Ask(None) } else { Before::Skip }
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        match &pod.node {
            Some(name) if name != at.node.name() => {
                Verdict::never("node(s) didn't match the requested node name")
            }
            _ => Verdict::Fits,
        }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::NodeAdded]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        matches!(what, Happening::Node { new, .. } if Some(&new.name) == pod.node.as_ref())
    }
}
