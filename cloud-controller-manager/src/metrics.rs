//! What is counted, under upstream's names.

use std::sync::Arc;

use daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

/// The daemon's metrics.
pub struct Tally {
    pub metrics: Arc<Metrics>,
    pub load_balancer_syncs: Counter,
    pub node_sync_errors: Counter,
    pub node_sync_latency: Histogram,
    pub host_update_latency: Histogram,
    pub route_syncs: Counter,
    pub taint_removal_delay: Histogram,
    pub initial_sync_delay: Histogram,
}

fn powers(base: f64, count: i32) -> Histogram {
    Histogram::new((0..count).map(|n| base.powi(n)))
}

impl Tally {
    /// All at nought.
    pub fn new() -> Arc<Self> {
        let metrics = Metrics::new();
        let counter = |name: &str, help: &str| metrics.register(name, help, Counter::default());
        let time = |name: &str, help: &str, all: Histogram| metrics.register(name, help, all);
        let delay = |name: &str, help: &str| time(name, help, powers(4.0, 6));
        let latency = |name: &str, help: &str| time(name, help, powers(2.0, 15));
        Arc::new(Self {
            load_balancer_syncs: counter(
                "service_controller_loadbalancer_sync",
                "Load balancers looked after",
            ),
            node_sync_errors: counter(
                "service_controller_nodesync_error",
                "Load balancers that could not be told of nodes",
            ),
            route_syncs: counter("route_controller_route_sync", "Routes looked after"),
            node_sync_latency: latency(
                "service_controller_nodesync_latency_seconds",
                "Time to tell all of nodes",
            ),
            host_update_latency: latency(
                "service_controller_update_loadbalancer_host_latency_seconds",
                "Time to tell one load balancer of nodes",
            ),
            taint_removal_delay: delay(
                "node_controller_cloud_provider_taint_removal_delay_seconds",
                "Age of nodes when they were initialised",
            ),
            initial_sync_delay: delay(
                "node_controller_initial_node_sync_delay_seconds",
                "Age of nodes when their initialisation began",
            ),
            metrics: metrics.clone(),
        })
    }
}
