//! What the proxy counts, under upstream's names.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::metrics::Metrics as Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Label of the family.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByFamily {
    ip_family: &'static str,
}

/// Label of a family and a policy.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByPolicy {
    ip_family: &'static str,
    traffic_policy: &'static str,
}

/// Label of a response code.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByCode {
    code: u16,
}

type Times = Labelled<ByFamily, Histogram>;
type Counts = Labelled<ByFamily, Counter>;
type Level = Gauge<f64, std::sync::atomic::AtomicU64>;
type Levels = Labelled<ByFamily, Level>;

/// Upstream's bounds begin at a millisecond, which is where most of our syncs have long ended.
const SYNC_BOUNDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048, 4.096, 8.192, 16.384,
];

/// Upstream's bounds of programming durations, with some below.
fn programming_bounds() -> Vec<f64> {
    let fixed = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5];
    let (seconds, fives) = ((1..=60).map(f64::from), (13..=24).map(|n| f64::from(n) * 5.0));
    fixed.into_iter().chain(seconds).chain(fives).chain([150.0, 180.0, 210.0, 240.0, 270.0, 300.0]).collect()
}

/// The proxy's metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    sync: Times,
    full: Times,
    partial: Times,
    programming: Times,
    last: Levels,
    queued: Levels,
    endpoints_pending: Level,
    services_pending: Level,
    endpoints_total: Counter,
    services_total: Counter,
    failures: Counts,
    cleanup_failures: Counts,
    no_local: Labelled<ByPolicy, Gauge>,
    healthz: Labelled<ByCode, Counter>,
    livez: Labelled<ByCode, Counter>,
    conntrack: Times,
    conntrack_deleted: Counts,
}

fn times() -> Times {
    Labelled::new_with_constructor(|| Histogram::new(SYNC_BOUNDS))
}

impl Metrics {
    /// Registers everything.
    pub fn new(registry: Arc<Registry>) -> Self {
        let t = |name: &str, help| registry.register(&format!("kubeproxy_{name}"), help, times());
        let c = |name: &str, help| registry.register(&format!("kubeproxy_{name}"), help, Counts::default());
        let g = |name: &str, help| registry.register(&format!("kubeproxy_{name}"), help, Levels::default());
        Self {
            sync: t("sync_proxy_rules_duration_seconds", "Seconds a sync of the rules took"),
            full: t("sync_full_proxy_rules_duration_seconds", "Seconds a full sync took"),
            partial: t("sync_partial_proxy_rules_duration_seconds", "Seconds a partial sync took"),
            programming: registry.register(
                "kubeproxy_network_programming_duration_seconds",
                "Seconds from a change to its rules",
                Times::new_with_constructor(|| Histogram::new(programming_bounds())),
            ),
            last: g("sync_proxy_rules_last_timestamp_seconds", "When rules were last synced"),
            queued: g("sync_proxy_rules_last_queued_timestamp_seconds", "When a sync was last queued"),
            endpoints_pending: registry.register(
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Endpoint changes not yet in the rules",
                Level::default(),
            ),
            services_pending: registry.register(
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "Service changes not yet in the rules",
                Level::default(),
            ),
            endpoints_total: registry.register(
                "kubeproxy_sync_proxy_rules_endpoint_changes",
                "Endpoint changes",
                Counter::default(),
            ),
            services_total: registry.register(
                "kubeproxy_sync_proxy_rules_service_changes",
                "Service changes",
                Counter::default(),
            ),
            failures: c("sync_proxy_rules_nftables_sync_failures", "Failed transactions"),
            cleanup_failures: c("sync_proxy_rules_nftables_cleanup_failures", "Failed clean-ups"),
            conntrack: t("conntrack_reconciler_sync_duration_seconds", "Seconds a conntrack clean-up took"),
            conntrack_deleted: c("conntrack_reconciler_deleted_entries", "Conntrack entries deleted"),
            no_local: registry.register(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Services of policy Local without an endpoint here",
                Labelled::default(),
            ),
            healthz: registry.register("kubeproxy_proxy_healthz", "Answers of /healthz", Labelled::default()),
            livez: registry.register("kubeproxy_proxy_livez", "Answers of /livez", Labelled::default()),
            registry,
        }
    }

    /// The registry, for serving.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// One endpoint or service change came in.
    pub fn changed(&self, family: &'static str, endpoints: bool) {
        let label = ByFamily { ip_family: family };
        let (total, pending) = match endpoints {
            true => (&self.endpoints_total, &self.endpoints_pending),
            false => (&self.services_total, &self.services_pending),
        };
        total.inc();
        pending.inc();
        self.queued.get_or_create(&label).set(now());
    }

    /// A sync ended well after so many seconds.
    pub fn synced(&self, family: &'static str, seconds: f64, full: bool) {
        let label = ByFamily { ip_family: family };
        self.sync.get_or_create(&label).observe(seconds);
        let which = if full { &self.full } else { &self.partial };
        which.get_or_create(&label).observe(seconds);
        self.last.get_or_create(&label).set(now());
        self.endpoints_pending.set(0.0);
        self.services_pending.set(0.0);
        self.cleanup_failures.get_or_create(&label).inc_by(0);
    }

    /// A transaction failed.
    pub fn failed(&self, family: &'static str) {
        self.failures.get_or_create(&ByFamily { ip_family: family }).inc();
    }

    /// A change that began at this time reached the rules.
    pub fn programmed(&self, family: &'static str, began: f64) {
        self.programming.get_or_create(&ByFamily { ip_family: family }).observe((now() - began).max(0.0));
    }

    /// How many services of policy Local have nothing here.
    pub fn no_local(&self, family: &'static str, internal: i64, external: i64) {
        for (traffic_policy, n) in [("internal", internal), ("external", external)] {
            self.no_local.get_or_create(&ByPolicy { ip_family: family, traffic_policy }).set(n);
        }
    }

    /// Health was asked for.
    pub fn asked(&self, live: bool, code: u16) {
        let which = if live { &self.livez } else { &self.healthz };
        which.get_or_create(&ByCode { code }).inc();
    }

    /// Conntrack was cleaned.
    pub fn cleaned(&self, family: &'static str, seconds: f64, deleted: usize) {
        let label = ByFamily { ip_family: family };
        self.conntrack.get_or_create(&label).observe(seconds);
        self.conntrack_deleted.get_or_create(&label).inc_by(deleted as u64);
    }
}

/// Seconds since the epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
