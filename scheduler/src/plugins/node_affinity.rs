//! NodeAffinity: node selectors and node affinity, required and preferred, and what the profile adds to every pod's.

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, NodeSelectorTerm, PreferredSchedulingTerm};

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View, scale};
use crate::model::affinity::{any_matches, named, preference};
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Refuses nodes the pod doesn't ask for; scores by its preferences.
#[derive(Default)]
pub struct NodeAffinity {
    required: Option<Vec<NodeSelectorTerm>>,
    preferred: Vec<PreferredSchedulingTerm>,
}

impl NodeAffinity {
    /// With an affinity added to that of every pod.
    pub fn with(added: Option<Affinity>) -> Self {
        let added = added.unwrap_or_default();
        let required = added.required_during_scheduling_ignored_during_execution;
        Self {
            required: required.map(|r| r.node_selector_terms),
            preferred: added.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
        }
    }

    fn verdict(&self, pod: &PodInfo, node: &NodeSpec) -> Verdict {
        let enforced = |terms: &Vec<NodeSelectorTerm>| any_matches(terms, &node.name, &node.labels);
        if !self.required.as_ref().is_none_or(enforced) {
            return Verdict::never("node(s) didn't match scheduler-enforced node affinity");
        }
        if pod.wishes.allows(&node.name, &node.labels) {
            return Verdict::Fits;
        }
        Verdict::never("node(s) didn't match Pod's node affinity/selector")
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        if pod.wishes.is_free() && self.required.is_none() {
            return Before::Skip;
        }
        match pod.wishes.required.as_deref().and_then(named) {
            None => Before::Ask(None),
            Some(names) if names.is_empty() => Before::Refuse("pod affinity terms conflict".into()),
            Some(names) => Before::Only(names.iter().filter_map(|n| all.slot(n)).collect(), None),
        }
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        self.verdict(pod, &at.node.spec)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_score(&self, pod: &PodInfo, _all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        (!pod.wishes.preferred.is_empty() || !self.preferred.is_empty()).then_some(None)
    }

    fn score(&self, _prepared: &Prepared, pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        for (slot, score) in nodes.iter().zip(scores.iter_mut()) {
            let node = &all.node(*slot).spec;
            let of = |terms| preference(terms, &node.name, &node.labels);
            *score = of(&pod.wishes.preferred) + of(&self.preferred);
        }
        scale(scores, false);
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::NodeAdded, Kind::NodeLabels]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        match what {
            Happening::Node { new, .. } => self.verdict(pod, new) == Verdict::Fits,
            _ => true,
        }
    }
}
