//! What rooms count for `/metrics`.

use std::sync::Arc;

use daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Labels of a metric, by name.
pub type Labels = Vec<(&'static str, String)>;

/// Counters told apart by labels.
pub type Counters = Family<Labels, Counter>;

/// Counts one for these labels.
pub fn count<const N: usize>(counters: &Counters, labels: [(&'static str, &str); N]) {
    add(counters, labels, 1);
}

/// Counts some for these labels; nothing is no sample.
pub fn add<const N: usize>(counters: &Counters, labels: [(&'static str, &str); N], some: u64) {
    if some > 0 {
        counters.get_or_create(&named(labels)).inc_by(some);
    }
}

/// Labels from text.
pub fn named<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.map(|(name, value)| (name, value.to_string())).to_vec()
}

/// Looks that were put off because a cache did not show the room's own writes yet.
#[derive(Clone, Default)]
pub struct Skips(Counters);

impl Skips {
    /// Of a controller, by the first part of its metrics' names.
    pub fn register(metrics: &Arc<Metrics>, controller: &str) -> Self {
        let name = format!("{controller}_stale_sync_skips");
        let help = "Syncs that were skipped because a cache was behind the controller's own writes.";
        Self(metrics.register(&name, help, Family::default()))
    }

    /// Gives back whether a cache is behind, and counts it if so.
    pub fn note(&self, behind: bool, group: &str, resource: &str) -> bool {
        if behind {
            count(&self.0, [("group", group), ("resource", resource)]);
        }
        behind
    }
}
