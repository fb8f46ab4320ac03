//! The server's metrics, under upstream's names.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use indexmap::{Equivalent, IndexMap};
use parking_lot::RwLock;

use crate::cache::Cache;
use crate::request::RequestInfo;

/// Upper bounds of the request duration buckets, in seconds.
const BUCKETS: [f64; 21] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0,
];

/// What requests are told apart by: the texts are owned by what is kept, and borrowed by what is looked for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Route<T> {
    verb: &'static str,
    group: T,
    version: T,
    resource: T,
    subresource: T,
    scope: &'static str,
}

impl Equivalent<Route<String>> for Route<&str> {
    fn equivalent(&self, kept: &Route<String>) -> bool {
        let own = |route: &Route<String>| (route.verb, route.scope) == (self.verb, self.scope);
        own(kept)
            && [&kept.resource, &kept.subresource, &kept.version, &kept.group].into_iter().eq([
                self.resource,
                self.subresource,
                self.version,
                self.group,
            ])
    }
}

#[derive(Default)]
struct Series {
    by_code: RwLock<AHashMap<u16, Arc<AtomicU64>>>,
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// Counters of requests, by route.
pub struct Metrics {
    daemon: Arc<daemon::metrics::Metrics>,
    routes: RwLock<IndexMap<Route<String>, Arc<Series>, ahash::RandomState>>,
    /// Requests being served, by lane (see `server::seats`): reads, writes, leader elections, nodes.
    pub inflight: [AtomicI64; 4],
    /// Requests refused because too many were in flight.
    pub rejected: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            daemon: daemon::metrics::Metrics::new(),
            routes: RwLock::default(),
            inflight: Default::default(),
            rejected: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Counts one answered request. `took` is None for requests that run on.
    pub fn observe(&self, info: &RequestInfo, code: u16, took: Option<Duration>) {
        let series = self.series(info);
        let known = series.by_code.read().get(&code).cloned();
        let counter = known.unwrap_or_else(|| series.by_code.write().entry(code).or_default().clone());
        counter.fetch_add(1, Ordering::Relaxed);
        let Some(took) = took else { return };
        let seconds = took.as_secs_f64();
        if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        series.count.fetch_add(1, Ordering::Relaxed);
        series.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    fn series(&self, info: &RequestInfo) -> Arc<Series> {
        let route = Route {
            verb: verb(info),
            group: info.group.as_str(),
            version: info.version.as_str(),
            resource: info.resource.as_str(),
            subresource: if info.is_resource { info.subresource.as_str() } else { first_segment(&info.path) },
            scope: scope(info),
        };
        if let Some(found) = self.routes.read().get(&route) {
            return found.clone();
        }
        self.routes.write().entry(route.owned()).or_default().clone()
    }

    /// Everything as text.
    pub fn encode(&self, cache: &Cache) -> String {
        let mut out = self.daemon.encode();
        self.encode_requests(&mut out);
        head(&mut out, "apiserver_current_inflight_requests", "gauge", "Requests being served");
        for (lanes, kind) in [(0..1, "readOnly"), (1..4, "mutating")] {
            let n: i64 = self.inflight[lanes].iter().map(|n| n.load(Ordering::Relaxed)).sum();
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {n}");
        }
        head(&mut out, "apiserver_storage_objects", "gauge", "Objects stored, by resource");
        for (name, collection) in cache.named() {
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{name}\"}} {}", collection.len());
        }
        head(&mut out, "apiserver_registered_watchers", "gauge", "Watchers, by resource");
        for (name, collection) in cache.named() {
            let _ = writeln!(
                out,
                "apiserver_registered_watchers{{resource=\"{name}\"}} {}",
                collection.watchers()
            );
        }
        out
    }

    fn encode_requests(&self, out: &mut String) {
        let routes = self.routes.read();
        head(out, "apiserver_request_total", "counter", "Requests answered");
        for (route, series) in routes.iter() {
            for (code, count) in series.by_code.read().iter() {
                let n = count.load(Ordering::Relaxed);
                let _ = writeln!(
                    out,
                    "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",{}}} {n}",
                    route.labels()
                );
            }
        }
        let name = "apiserver_request_duration_seconds";
        head(out, name, "histogram", "Time until the answer, in seconds");
        for (route, series) in routes.iter() {
            let labels = format!("component=\"apiserver\",dry_run=\"\",{}", route.labels());
            let mut sum = 0;
            for (bound, bucket) in BUCKETS.iter().zip(&series.buckets) {
                sum += bucket.load(Ordering::Relaxed);
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
            }
            let count = series.count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let seconds = series.micros.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {count}");
        }
    }
}

impl Route<&str> {
    fn owned(&self) -> Route<String> {
        Route {
            verb: self.verb,
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            resource: self.resource.to_owned(),
            subresource: self.subresource.to_owned(),
            scope: self.scope,
        }
    }
}

impl Route<String> {
    fn labels(&self) -> String {
        format!(
            "group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.group, self.resource, self.scope, self.subresource, self.verb, self.version
        )
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

fn first_segment(path: &str) -> &'static str {
    let known = ["/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi", "/api", "/apis"];
    known.iter().find(|k| path.starts_with(*k)).copied().unwrap_or("/")
}

fn verb(info: &RequestInfo) -> &'static str {
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "proxy" => "CONNECT",
        _ => "OTHER",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (_, false, _) => "resource",
        (_, true, false) => "namespace",
        (_, true, true) => "cluster",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_found_again() {
        let metrics = Metrics::default();
        let info = |resource: &str, name: &str| RequestInfo {
            is_resource: true,
            verb: "get".into(),
            version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            ..RequestInfo::default()
        };
        for (resource, name) in [("pods", "a"), ("pods", "b"), ("pods", ""), ("nodes", "a")] {
            metrics.observe(&info(resource, name), 200, None);
        }
        let mut text = String::new();
        metrics.encode_requests(&mut text);
        for (resource, scope, n) in
            [("pods", "resource", 2), ("pods", "cluster", 1), ("nodes", "resource", 1)]
        {
            let line = format!(
                "apiserver_request_total{{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"\",verb=\"GET\",version=\"v1\"}} {n}"
            );
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
