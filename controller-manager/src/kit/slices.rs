//! What the two controllers of EndpointSlices count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use control::Key;
use daemon::metrics::Metrics;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use serde_json::Value;

use super::counts::{Counters, add};
use super::write::{Verb, Write};

/// Of one Service, or one Endpoints object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    endpoints: i64,
    slices: i64,
    /// As few as would do.
    desired: i64,
}

/// The counters and gauges, told apart by the first part of their names.
pub struct Slices {
    changes: Counters,
    added: Histogram,
    removed: Histogram,
    endpoints: Gauge,
    slices: Gauge,
    desired: Gauge,
    sizes: Mutex<HashMap<Key, Size>>,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub added: usize,
    pub removed: usize,
    pub updated: usize,
    pub slices: usize,
}

/// Powers of two from 2 to 32768.
pub fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(2.0, 2.0, 15))
}

impl Slices {
    /// Adds them to a registry.
    pub fn register(metrics: &Arc<Metrics>, controller: &str) -> Self {
        let name = |what: &str| format!("{controller}_{what}");
        let gauge = |what: &str, help: &str| metrics.register(&name(what), help, Gauge::default());
        let histogram = |what: &str, help: &str| metrics.register(&name(what), help, sizes());
        Self {
            changes: metrics.register(&name("changes"), "Number of EndpointSlice changes", Family::default()),
            added: histogram("endpoints_added_per_sync", "Number of endpoints added on each sync"),
            removed: histogram("endpoints_removed_per_sync", "Number of endpoints removed on each sync"),
            endpoints: gauge("endpoints_desired", "Number of endpoints desired"),
            slices: gauge("num_endpoint_slices", "Number of EndpointSlices"),
            desired: gauge(
                "desired_endpoint_slices",
                "Number of EndpointSlices that would exist with perfect endpoint allocation",
            ),
            sizes: Mutex::default(),
        }
    }

    /// A look: the slices there were, what is written, and how many endpoints a slice may have.
    pub fn looked(&self, key: &Key, before: &[&EndpointSlice], writes: &[&Write], max: usize) -> Changed {
        for (verb, operation) in
            [(Verb::Create, "create"), (Verb::Update, "update"), (Verb::Delete, "delete")]
        {
            let some = writes.iter().filter(|w| w.verb == verb).count();
            add(&self.changes, [("operation", operation)], some as u64);
        }
        if writes.is_empty() && self.sizes.lock().contains_key(key) {
            self.added.observe(0.0);
            self.removed.observe(0.0);
            return Changed::default();
        }
        let (was, is) = (of_slices(before), after(before, writes));
        let changed = compare(&was, &is, writes.len());
        self.added.observe(changed.added as f64);
        self.removed.observe(changed.removed as f64);
        self.resize(key, Some(size(&is, max)));
        changed
    }

    /// What it was about is gone.
    pub fn forget(&self, key: &Key) {
        self.resize(key, None);
    }

    fn resize(&self, key: &Key, to: Option<Size>) {
        let mut sizes = self.sizes.lock();
        let from = match to {
            Some(size) => sizes.insert(key.clone(), size),
            None => sizes.remove(key),
        };
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        self.endpoints.inc_by(to.endpoints - from.endpoints);
        self.slices.inc_by(to.slices - from.slices);
        self.desired.inc_by(to.desired - from.desired);
    }
}

/// Slices by name: their ports with the family, and their endpoints by address.
type Seen = BTreeMap<String, (String, BTreeMap<String, Value>)>;

fn of_slice(slice: &Value) -> (String, BTreeMap<String, Value>) {
    let group = format!("{} {}", slice["addressType"], slice["ports"]);
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let address = |e: &Value| e["addresses"][0].as_str().unwrap_or_default().to_string();
    (group, endpoints.map(|e| (address(e), e.clone())).collect())
}

fn of_slices(slices: &[&EndpointSlice]) -> Seen {
    let value = |s: &EndpointSlice| serde_json::to_value(s).unwrap_or_default();
    let name = |s: &EndpointSlice| s.metadata.name.clone().unwrap_or_default();
    slices.iter().map(|s| (name(s), of_slice(&value(s)))).collect()
}

fn after(before: &[&EndpointSlice], writes: &[&Write]) -> Seen {
    let mut seen = of_slices(before);
    for (at, write) in writes.iter().enumerate() {
        match write.verb {
            Verb::Delete => drop(seen.remove(&write.name)),
            // The server gives new ones their names.
            Verb::Create => drop(seen.insert(format!("new {at}"), of_slice(&write.body))),
            _ => drop(seen.insert(write.name.clone(), of_slice(&write.body))),
        }
    }
    seen
}

fn compare(was: &Seen, is: &Seen, slices: usize) -> Changed {
    fn all(seen: &Seen) -> BTreeMap<(&str, &str), &Value> {
        seen.values().flat_map(|(g, es)| es.iter().map(move |(a, e)| ((g.as_str(), a.as_str()), e))).collect()
    }
    let (was, is) = (all(was), all(is));
    let old: BTreeSet<_> = was.keys().collect();
    let new: BTreeSet<_> = is.keys().collect();
    Changed {
        added: new.difference(&old).count(),
        removed: old.difference(&new).count(),
        updated: is.iter().filter(|(at, e)| was.get(at).is_some_and(|o| o != *e)).count(),
        slices,
    }
}

fn size(seen: &Seen, max: usize) -> Size {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for (group, endpoints) in seen.values() {
        *groups.entry(group).or_default() += endpoints.len();
    }
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Size {
        endpoints: number(groups.values().sum()),
        slices: number(seen.len()),
        desired: number(groups.values().map(|n| n.div_ceil(max.max(1)).max(1)).sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, addresses: &[&str]) -> EndpointSlice {
        let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
        serde_json::from_value(
            json!({"metadata": {"name": name}, "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints}),
        )
        .unwrap()
    }

    #[test]
    fn looks_are_counted() {
        let metrics = Metrics::new();
        let slices = Slices::register(&metrics, "x");
        let (a, b) = (slice("a", &["1", "2", "3"]), slice("b", &["4"]));
        let changed = slice("a", &["1", "2", "5"]);
        let (update, create, delete) =
            (Write::update(&changed), Write::create(&slice("", &["6"])), Write::delete(&b));
        let key = Key::new("ns", "web");
        let found = slices.looked(&key, &[&a, &b], &[&update, &create, &delete], 2);
        assert_eq!(found, Changed { added: 2, removed: 2, updated: 0, slices: 3 });
        let text = metrics.encode();
        for line in [
            "x_changes_total{operation=\"delete\"} 1",
            "x_endpoints_added_per_sync_bucket{le=\"2.0\"} 1",
            "x_endpoints_desired 4",
            "x_num_endpoint_slices 2",
            "x_desired_endpoint_slices 2",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        slices.forget(&key);
        assert!(metrics.encode().contains("x_num_endpoint_slices 0"));
    }
}
