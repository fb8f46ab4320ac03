//! What is counted, under upstream's names.

use std::sync::Arc;
use std::time::Duration;

use daemon::metrics::Metrics as Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Success {
    success: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

/// The counters. Those of single nodes are summed up: thousands of nodes would be thousands of histograms.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Success, Counter>,
    request_seconds: Histogram,
    tick_seconds: Histogram,
    points: Family<Kind, Gauge>,
    freshness: Histogram,
}

impl Metrics {
    /// Registers everything.
    pub fn new(registry: Arc<Registry>) -> Self {
        let histogram = || Histogram::new(exponential_buckets(0.01, 2.0, 12));
        let r = &registry;
        Self {
            requests: r.register(
                "metrics_server_kubelet_request",
                "Number of requests sent to Kubelet API",
                Family::default(),
            ),
            request_seconds: r.register(
                "metrics_server_kubelet_request_duration_seconds",
                "Duration of requests to Kubelet API in seconds",
                histogram(),
            ),
            tick_seconds: r.register(
                "metrics_server_manager_tick_duration_seconds",
                "The total time spent collecting and storing metrics in seconds",
                histogram(),
            ),
            points: r.register(
                "metrics_server_storage_points",
                "Number of metrics points stored",
                Family::default(),
            ),
            freshness: r.register(
                "metrics_server_api_metric_freshness_seconds",
                "Freshness of metrics exported",
                Histogram::new(exponential_buckets(1.0, 1.364, 20)),
            ),
            registry,
        }
    }

    /// For the server.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// A kubelet was asked.
    pub fn request(&self, success: bool, took: Duration) {
        let success = if success { "true" } else { "false" };
        self.requests.get_or_create(&Success { success }).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// All kubelets were asked, and so much is known.
    pub fn tick(&self, took: Duration, (nodes, containers): (usize, usize)) {
        self.tick_seconds.observe(took.as_secs_f64());
        for (kind, count) in [("node", nodes), ("container", containers)] {
            self.points.get_or_create(&Kind { r#type: kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Something measured so long ago was told.
    pub fn told(&self, age: Duration) {
        self.freshness.observe(age.as_secs_f64());
    }
}
