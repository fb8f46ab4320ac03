//! Counters of the kubelet, by upstream's names.

use prometheus_client::metrics::counter::Counter;

/// The registered metrics.
#[derive(Default)]
pub struct Metrics {
    /// kubelet_started_pods_total
    pub started_pods: Counter,
}
