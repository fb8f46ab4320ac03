//! TaintToleration: nodes keep away pods that don't tolerate their taints, and prefer those that do.

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View, scale};
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::{HARD, SOFT, Snapshot};
use crate::model::taints::{first_untolerated, tolerated};

/// Refuses nodes with untolerated taints; scores by the soft ones.
pub struct TaintToleration;

fn keeps_away(node: &NodeSpec, pod: &PodInfo) -> bool {
    !node.taints.is_empty() && first_untolerated(&node.taints, &pod.tolerations, HARD).is_some()
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn pre_filter(&self, _pod: &PodInfo, all: &Snapshot) -> Before {
        if all.hard_taints == 0 { Before::Skip } else { Before::Ask(None) }
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        if keeps_away(&at.node.spec, pod) {
            Verdict::never("node(s) had untolerated taint(s)")
        } else {
            Verdict::Fits
        }
    }

    fn weight(&self) -> i64 {
        3
    }

    fn pre_score(&self, _pod: &PodInfo, all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        (all.soft_taints > 0).then_some(None)
    }

    fn score(&self, _prepared: &Prepared, pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        for (slot, score) in nodes.iter().zip(scores.iter_mut()) {
            let soft = all.node(*slot).spec.taints.iter().filter(|t| SOFT.contains(&t.effect.as_str()));
            *score = soft.filter(|t| !tolerated(&pod.tolerations, t)).count() as i64;
        }
        scale(scores, true);
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::NodeAdded, Kind::NodeTaints, Kind::OwnTolerations]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        !matches!(what, Happening::Node { new, .. } if keeps_away(new, pod))
    }
}
