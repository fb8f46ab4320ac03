//! How the blocks of each cluster CIDR are used.

use std::sync::atomic::AtomicU64;

use daemon::metrics::Metrics;
use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

type Labels = [(&'static str, String); 1];
type Share = Gauge<f64, AtomicU64>;

/// What is counted, for all cluster CIDRs.
pub struct Instruments {
    allocations: Family<Labels, Counter>,
    releases: Family<Labels, Counter>,
    usage: Family<Labels, Share>,
    most: Family<Labels, Gauge>,
    tries: Family<Labels, Histogram, fn() -> Histogram>,
}

/// What is counted for one of them.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Blocks taken, by nodes or because something else uses them.
    pub allocations: Counter,
    pub releases: Counter,
    /// The share of the blocks that is taken.
    usage: Share,
    /// Blocks looked at in vain before one was free.
    pub tries: Histogram,
}

impl Instruments {
    /// Adds them to a registry.
    pub fn new(metrics: &Metrics) -> Self {
        let name = |what: &str| format!("node_ipam_controller_{what}");
        Self {
            allocations: metrics.register(
                &name("cidrset_cidrs_allocations"),
                "Counter measuring total number of CIDR allocations",
                Family::default(),
            ),
            releases: metrics.register(
                &name("cidrset_cidrs_releases"),
                "Counter measuring total number of CIDR releases",
                Family::default(),
            ),
            usage: metrics.register(
                &name("cidrset_usage_cidrs"),
                "Gauge measuring percentage of allocated CIDRs",
                Family::default(),
            ),
            // Upstream's spelling.
            most: metrics.register(
                &name("cirdset_max_cidrs"),
                "Maximum number of CIDRs that can be allocated",
                Family::default(),
            ),
            tries: metrics.register(
                &name("cidrset_allocation_tries_per_request"),
                "Histogram measuring CIDR allocation tries per request",
                Family::new_with_constructor(|| Histogram::new([1.0, 5.0, 25.0, 125.0, 625.0])),
            ),
        }
    }

    /// Those of a cluster CIDR with so many blocks.
    pub fn of(&self, cidr: &IpNet, blocks: usize) -> Tally {
        let labels = [("clusterCIDR", cidr.to_string())];
        self.most.get_or_create(&labels).set(i64::try_from(blocks).unwrap_or(i64::MAX));
        Tally {
            allocations: self.allocations.get_or_create_owned(&labels),
            releases: self.releases.get_or_create_owned(&labels),
            usage: self.usage.get_or_create_owned(&labels),
            tries: self.tries.get_or_create_owned(&labels),
        }
    }
}

impl Tally {
    /// So many of so many are taken.
    pub fn used(&self, taken: usize, all: usize) {
        self.usage.set(taken as f64 / all.max(1) as f64);
    }
}
