//! What updates may take at a time, as shown to whoever measures.

use std::collections::HashMap;

use control::Key;
use daemon::metrics::Metrics;
use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::kit::counts::{Labels, named};

/// The gauges, with the labels each set is shown under.
pub struct Budgets {
    most: Family<Labels, Gauge>,
    down: Family<Labels, Gauge>,
    shown: Mutex<HashMap<Key, Labels>>,
}

impl Budgets {
    /// Adds them to a registry.
    pub fn register(metrics: &Metrics) -> Self {
        let name = |what: &str| format!("statefulset_controller_statefulset_{what}");
        Self {
            most: metrics.register(
                &name("max_unavailable"),
                "Maximum number of unavailable pods allowed during StatefulSet rolling updates",
                Family::default(),
            ),
            down: metrics.register(
                &name("unavailable_replicas"),
                "Current number of unavailable pods in StatefulSet",
                Family::default(),
            ),
            shown: Mutex::default(),
        }
    }

    /// Shows a set's policy and numbers (how many may be down, how many are); nothing for a set that says nothing of
    /// it, or is gone.
    pub fn show(&self, key: &Key, now: Option<(&str, (i32, i32))>) {
        let labels = |policy: &str| {
            named([
                ("pod_management_policy", policy),
                ("statefulset_name", &*key.name),
                ("statefulset_namespace", &*key.namespace),
            ])
        };
        let wanted = now.map(|(policy, _)| labels(policy));
        let mut shown = self.shown.lock();
        let before = match &wanted {
            Some(labels) => shown.insert(key.clone(), labels.clone()),
            None => shown.remove(key),
        };
        if let Some(old) = before.filter(|old| Some(old) != wanted.as_ref()) {
            self.most.remove(&old);
            self.down.remove(&old);
        }
        if let (Some(labels), Some((_, (most, down)))) = (wanted, now) {
            self.most.get_or_create(&labels).set(most.into());
            self.down.get_or_create(&labels).set(down.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_change_and_go() {
        let metrics = Metrics::new();
        let budgets = Budgets::register(&metrics);
        let key = Key::new("ns", "web");
        budgets.show(&key, Some(("OrderedReady", (2, 1))));
        budgets.show(&key, Some(("Parallel", (3, 0))));
        let text = metrics.encode();
        let labels =
            "{pod_management_policy=\"Parallel\",statefulset_name=\"web\",statefulset_namespace=\"ns\"}";
        assert!(
            text.contains(&format!("statefulset_controller_statefulset_max_unavailable{labels} 3")),
            "{text}"
        );
        assert!(text.contains(&format!("statefulset_controller_statefulset_unavailable_replicas{labels} 0")));
        assert!(!text.contains("OrderedReady"));
        budgets.show(&key, None);
        assert!(!metrics.encode().contains("Parallel"));
    }
}
