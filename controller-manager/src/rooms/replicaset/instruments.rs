//! The ReplicaSet controller's metrics. ReplicationControllers have none of their own.

use std::sync::Arc;

use daemon::metrics::Metrics;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::metrics::histogram::Histogram;

use super::kinds::Replicas;
use crate::kit::counts::Skips;
use crate::kit::meta::created;
use crate::kit::pods;

/// What is counted.
pub struct Instruments {
    ratios: Histogram,
    skips: Skips,
}

impl Instruments {
    /// Adds those of a kind to a registry.
    pub fn register<T: Replicas>(metrics: &Arc<Metrics>) -> Self {
        let ratios = Histogram::new([0.25, 0.5, 1.0, 2.0, 4.0, 8.0]);
        if T::CONTROLLER != ReplicaSet::CONTROLLER {
            return Self { ratios, skips: Skips::default() };
        }
        let help = "The ratio of chosen deleted pod's ages to the current youngest pod's age (at the time). Should be <2.";
        Self {
            ratios: metrics.register("replicaset_controller_sorting_deletion_age_ratio", help, ratios),
            skips: Skips::register(metrics, "replicaset_controller"),
        }
    }

    /// A look that could not do anything yet.
    pub fn skipped(&self) {
        self.skips.note(true, "", "pods");
    }

    /// Pods are about to be deleted: how old the ready ones are beside the youngest ready one there is.
    pub fn ages(&self, all: &[Arc<Pod>], victims: &[Arc<Pod>], now: Timestamp) {
        let age = |pod: &Arc<Pod>| now.duration_since(created(&pod.metadata)).as_millis();
        let active = all.iter().filter(|p| pods::active(p) && pods::ready(p));
        let Some(youngest) = active.map(age).min() else { return };
        for victim in victims.iter().filter(|p| pods::ready(p)) {
            // As whole numbers, so that those of much the same age count as one.
            self.ratios.observe((age(victim) / youngest.max(1)) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, pod};
    use k8s_openapi::api::core::v1::ReplicationController;

    #[test]
    fn ages_beside_the_youngest() {
        let metrics = Metrics::new();
        let instruments = Instruments::register::<ReplicaSet>(&metrics);
        let _none = Instruments::register::<ReplicationController>(&metrics);
        let made = |name: &str, at: &str| {
            Arc::new(pod(&format!("{name} Running ready created=2026-01-01T{at}:00Z")))
        };
        let (old, young) = (made("a", "09:00"), made("b", "09:40"));
        instruments.ages(&[old.clone(), young.clone()], &[old, young], now());
        instruments.skipped();
        let text = metrics.encode();
        let name = "replicaset_controller_sorting_deletion_age_ratio";
        for line in [
            format!("{name}_bucket{{le=\"1.0\"}} 1"),
            format!("{name}_bucket{{le=\"4.0\"}} 2"),
            "replicaset_controller_stale_sync_skips_total{group=\"\",resource=\"pods\"} 1".into(),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE replicaset_controller_sorting").count(), 1);
    }
}
