//! The controller's metrics.

use std::time::Duration;

use daemon::metrics::Metrics;
use k8s_openapi::api::autoscaling::v2::MetricSpec;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::metrics::kind;

type Labels<const N: usize> = [(&'static str, String); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

const PREFIX: &str = "horizontal_pod_autoscaler_controller";

/// What is counted.
pub struct Instruments {
    reconciliations: Family<Labels<2>, Counter>,
    reconciliation_seconds: Histograms<2>,
    computations: Family<Labels<3>, Counter>,
    computation_seconds: Histograms<3>,
    scalers: Gauge,
    desired: Family<Labels<2>, Gauge>,
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn action(change: i32) -> String {
    match change.signum() {
        1 => "scale_up",
        -1 => "scale_down",
        _ => "none",
    }
    .into()
}

/// What kind of error there was, as the label says it.
#[derive(Clone, Copy)]
pub enum Trouble {
    None,
    Spec,
    Internal,
}

impl Trouble {
    fn label(self) -> String {
        match self {
            Trouble::None => "none",
            Trouble::Spec => "spec",
            Trouble::Internal => "internal",
        }
        .into()
    }
}

impl Instruments {
    /// Adds them to a registry.
    pub fn new(metrics: &Metrics) -> Self {
        let name = |what: &str| format!("{PREFIX}_{what}");
        let made: fn() -> Histogram = histogram;
        Self {
            reconciliations: metrics.register(
                &name("reconciliations"),
                "Number of reconciliations of HPA controller",
                Family::default(),
            ),
            reconciliation_seconds: metrics.register(
                &name("reconciliation_duration_seconds"),
                "The time that the HPA controller takes to reconcile once",
                Family::new_with_constructor(made),
            ),
            computations: metrics.register(
                &name("metric_computation"),
                "Number of metric computations",
                Family::default(),
            ),
            computation_seconds: metrics.register(
                &name("metric_computation_duration_seconds"),
                "The time that the HPA controller takes to calculate one metric",
                Family::new_with_constructor(made),
            ),
            scalers: metrics.register(
                &name("num_horizontal_pod_autoscalers"),
                "Current number of controlled HPA objects",
                Gauge::default(),
            ),
            desired: metrics.register(
                &name("desired_replicas"),
                "Current desired replica count for HPA objects",
                Family::default(),
            ),
        }
    }

    /// One look at an autoscaler.
    pub fn looked(&self, change: i32, trouble: Trouble, took: Duration) {
        let labels = [("action", action(change)), ("error", trouble.label())];
        self.reconciliations.get_or_create(&labels).inc();
        self.reconciliation_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// One metric of it.
    pub fn computed(&self, spec: &MetricSpec, change: i32, trouble: Trouble, took: Duration) {
        let labels =
            [("action", action(change)), ("error", trouble.label()), ("metric_type", kind(spec).to_string())];
        self.computations.get_or_create(&labels).inc();
        self.computation_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// How many autoscalers there are.
    pub fn scalers(&self, count: usize) {
        self.scalers.set(count as i64);
    }

    /// What an autoscaler wants, or that it is gone.
    pub fn desired(&self, namespace: &str, name: &str, replicas: Option<i32>) {
        let labels = [("hpa_name", name.to_string()), ("namespace", namespace.to_string())];
        match replicas {
            Some(n) => drop(self.desired.get_or_create(&labels).set(n.into())),
            None => drop(self.desired.remove(&labels)),
        }
    }
}
