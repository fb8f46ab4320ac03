//! NodeUnschedulable: cordoned nodes are for pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use crate::framework::{Before, Happening, Plugin, Prepared, Verdict};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::taints::tolerated;

/// Refuses cordoned nodes.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter(&self, _pod: &PodInfo, _nodes: &Snapshot) -> Before {
        Before::Ask(None)
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        if !node.unschedulable {
            return Verdict::Fits;
        }
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Default::default()
        };
        if tolerated(&pod.tolerations, &taint) {
            Verdict::Fits
        } else {
            Verdict::never("node(s) were unschedulable")
        }
    }

    fn woken_by(&self) -> &'static [Happening] {
        &[Happening::NodeOpened, Happening::PodChanged]
    }
}
