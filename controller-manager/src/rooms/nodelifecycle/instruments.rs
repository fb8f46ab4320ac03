//! The controller's metrics.

use daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::zones::Zones;

type Labels = [(&'static str, String); 1];

/// What is counted.
pub struct Instruments {
    health: Family<Labels, Gauge>,
    size: Family<Labels, Gauge>,
    unhealthy: Family<Labels, Gauge>,
    evictions: Family<Labels, Counter>,
    /// One look at one node.
    pub node: Histogram,
    /// One look at all nodes.
    pub round: Histogram,
}

impl Instruments {
    /// Adds them to a registry.
    pub fn new(metrics: &Metrics) -> Self {
        let name = |what: &str| format!("node_collector_{what}");
        Self {
            health: metrics.register(
                &name("zone_health"),
                "Gauge measuring percentage of healthy nodes per zone",
                Family::default(),
            ),
            size: metrics.register(
                &name("zone_size"),
                "Gauge measuring number of registered Nodes per zones",
                Family::default(),
            ),
            unhealthy: metrics.register(
                &name("unhealthy_nodes_in_zone"),
                "Gauge measuring number of not Ready Nodes per zones",
                Family::default(),
            ),
            evictions: metrics.register(
                &name("evictions"),
                "Number of Node evictions that happened since current instance of NodeController started",
                Family::default(),
            ),
            node: metrics.register(
                &name("update_node_health_duration_seconds"),
                "Duration in seconds for NodeController to update the health of a single node",
                Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            ),
            round: metrics.register(
                &name("update_all_nodes_health_duration_seconds"),
                "Duration in seconds for NodeController to update the health of all nodes",
                Histogram::new(exponential_buckets(0.01, 4.0, 8)),
            ),
        }
    }

    /// The zones as counted now; those that are gone are no longer shown.
    pub fn zones(&self, zones: &Zones) {
        [&self.health, &self.size, &self.unhealthy].into_iter().for_each(Family::clear);
        for (name, ready, not_ready) in zones.sizes() {
            let labels = label(name);
            let all = ready + not_ready;
            self.health.get_or_create(&labels).set((100 * ready / all.max(1)) as i64);
            self.size.get_or_create(&labels).set(all as i64);
            self.unhealthy.get_or_create(&labels).set(not_ready as i64);
        }
    }

    /// A node was given up.
    pub fn evicted(&self, zone: &str) {
        self.evictions.get_or_create(&label(zone)).inc();
    }
}

/// A zone's key holds a byte no label should.
fn label(zone: &str) -> Labels {
    [("zone", zone.replace('\0', ""))]
}
