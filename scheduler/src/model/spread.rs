//! Topology spread constraints: how unevenly pods may lie over domains.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodSpec, TopologySpreadConstraint};

use super::labels::{Labels, Selector};
use super::terms::{Match, Scope, Wanted};

/// One constraint.
#[derive(Debug, Clone)]
pub struct Spread {
    /// How much fuller than the emptiest domain a domain may be.
    pub max_skew: i64,
    /// The node label whose values are the domains.
    pub key: String,
    /// Refuses (`DoNotSchedule`), or only scores.
    pub hard: bool,
    /// With fewer domains than this the emptiest counts as empty.
    pub min_domains: i64,
    /// Nodes the pod's node affinity refuses don't count.
    pub honor_affinity: bool,
    /// Nodes with taints the pod doesn't tolerate don't count.
    pub honor_taints: bool,
    /// Which pods are counted.
    pub selector: Selector,
    /// The same, as it is counted.
    pub wanted: Arc<Wanted>,
}

impl Spread {
    /// The constraints of a pod.
    pub fn of(spec: &PodSpec, namespace: &str, labels: &Labels) -> Vec<Self> {
        let all = spec.topology_spread_constraints.iter().flatten();
        all.map(|c| {
            let mut selector = Selector::of(c.label_selector.as_ref());
            for key in c.match_label_keys.iter().flatten() {
                labels.get(key).into_iter().for_each(|value| selector.require(key, value));
            }
            Self::with(c, namespace, selector)
        })
        .collect()
    }

    /// A constraint about the pods of `selector` in `namespace`.
    pub fn with(c: &TopologySpreadConstraint, namespace: &str, selector: Selector) -> Self {
        let pods = Match { scope: Scope::of_one(namespace), selector: selector.clone() };
        Self {
            max_skew: i64::from(c.max_skew),
            key: c.topology_key.clone(),
            hard: c.when_unsatisfiable != "ScheduleAnyway",
            min_domains: i64::from(c.min_domains.unwrap_or(1)),
            honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
            selector,
            wanted: Arc::new(Wanted { matches: vec![pods], living: true }),
        }
    }
}
