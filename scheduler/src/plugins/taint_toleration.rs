//! TaintToleration: nodes keep away pods that don't tolerate their taints, and prefer those that do.

use crate::framework::{Before, Happening, Plugin, Prepared, Verdict, scale};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::taints::{first_untolerated, tolerated};

/// Refuses nodes with untolerated taints; scores by the soft ones.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn pre_filter(&self, _pod: &PodInfo, _nodes: &Snapshot) -> Before {
        Before::Ask(None)
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        match first_untolerated(&node.taints, &pod.tolerations, &["NoSchedule", "NoExecute"]) {
            Some(_) => Verdict::never("node(s) had untolerated taint(s)"),
            None => Verdict::Fits,
        }
    }

    fn weight(&self) -> i64 {
        3
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _nodes: &Snapshot) -> i64 {
        let soft = node.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
        soft.filter(|t| !tolerated(&pod.tolerations, t)).count() as i64
    }

    fn normalise(&self, scores: &mut [i64]) {
        scale(scores, true);
    }

    fn woken_by(&self) -> &'static [Happening] {
        &[Happening::NodeOpened, Happening::PodChanged]
    }
}
