//! The controller's metrics.

use std::sync::Arc;

use control::Key;
use daemon::metrics::Metrics;
use k8s_openapi::api::core::v1::Service;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::plan::{Observed, Outcome};
use super::source;
use crate::kit::Step;
use crate::kit::counts::{Counters, Labels, count, named};
use crate::kit::slices::Slices;
use crate::kit::write::Write;

/// Where the sheet names no buckets: those a client library has by itself.
const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What is counted.
pub struct Instruments {
    pub slices: Slices,
    changed: Histograms,
    syncs: Counters,
    services: Family<Labels, Gauge>,
}

fn histogram() -> Histogram {
    Histogram::new(DEFAULT_BUCKETS)
}

impl Instruments {
    /// Adds them to a registry.
    pub fn register(metrics: &Arc<Metrics>) -> Self {
        let name = |what: &str| format!("endpoint_slice_controller_{what}");
        let made: fn() -> Histogram = histogram;
        Self {
            slices: Slices::register(metrics, "endpoint_slice_controller"),
            changed: metrics.register(
                &name("endpointslices_changed_per_sync"),
                "Number of EndpointSlices changed on each Service sync",
                Family::new_with_constructor(made),
            ),
            syncs: metrics.register(&name("syncs"), "Number of EndpointSlice syncs", Family::default()),
            services: metrics.register(
                &name("services_count_by_traffic_distribution"),
                "Number of Services using some specific trafficDistribution",
                Family::default(),
            ),
        }
    }

    /// A plan was made.
    pub fn looked(&self, key: &Key, observed: &Observed<'_>, outcome: &Outcome) {
        let writes = |step: &'_ Step| match step {
            Step::Write(write) | Step::Vanishing(write) => Some(write.clone()),
            Step::Event { .. } => None,
        };
        let writes: Vec<Write> = outcome.plan.steps.iter().filter_map(writes).collect();
        let writes: Vec<&Write> = writes.iter().collect();
        let changed = self.slices.looked(key, &observed.slices, &writes, observed.max);
        // An annotation goes before the field.
        let topology = if observed.shares.is_some() { "Auto" } else { "Disabled" };
        let distribution = if observed.shares.is_some() { "" } else { distribution(observed.service) };
        let labels = named([("topology", topology), ("traffic_distribution", distribution)]);
        self.changed.get_or_create(&labels).observe(changed.slices as f64);
    }

    /// A sync is over.
    pub fn synced(&self, good: bool) {
        count(&self.syncs, [("result", if good { "success" } else { "error" })]);
    }

    /// A sync was put off.
    pub fn stale(&self) {
        count(&self.syncs, [("result", "stale")]);
    }

    /// A Service changed.
    pub fn service(&self, old: Option<&Service>, new: Option<&Service>) {
        let of = |service: &Service| {
            let distribution = distribution(service);
            (source::selector(service).is_some() && !distribution.is_empty())
                .then(|| named([("traffic_distribution", distribution)]))
        };
        let (old, new) = (old.and_then(of), new.and_then(of));
        if old != new {
            if let Some(labels) = &old {
                self.services.get_or_create(labels).dec();
            }
            if let Some(labels) = &new {
                self.services.get_or_create(labels).inc();
            }
        }
    }
}

fn distribution(service: &Service) -> &str {
    service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_by_their_wish() {
        let metrics = Metrics::new();
        let instruments = Instruments::register(&metrics);
        let of = |wish: &str| -> Service {
            serde_yaml::from_str(&format!("{{spec: {{selector: {{a: b}}, trafficDistribution: {wish}}}}}"))
                .unwrap()
        };
        let (close, same) = (of("PreferClose"), of("PreferSameNode"));
        instruments.service(None, Some(&close));
        instruments.service(Some(&close), Some(&same));
        instruments.service(None, Some(&same));
        instruments.stale();
        let text = metrics.encode();
        let name = "endpoint_slice_controller_services_count_by_traffic_distribution";
        assert!(text.contains(&format!("{name}{{traffic_distribution=\"PreferClose\"}} 0")), "{text}");
        assert!(text.contains(&format!("{name}{{traffic_distribution=\"PreferSameNode\"}} 2")), "{text}");
        assert!(text.contains("endpoint_slice_controller_syncs_total{result=\"stale\"} 1"), "{text}");
    }
}
