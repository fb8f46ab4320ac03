//! What is counted, under CoreDNS's names.

use std::sync::Arc;

use daemon::metrics::Metrics as Registry;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Asked {
    server: &'static str,
    zone: &'static str,
    proto: &'static str,
    r#type: &'static str,
}

/// Labels of a response.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answered {
    server: &'static str,
    zone: &'static str,
    rcode: &'static str,
    plugin: &'static str,
}

/// Label of the server.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Server {
    server: &'static str,
}

const SERVER: &str = "dns://:53";

/// The counters.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Asked, Counter>,
    responses: Family<Answered, Counter>,
    seconds: Histogram,
    hits: Family<Server, Counter>,
    misses: Family<Server, Counter>,
    forwarded: Counter,
    failed: Counter,
}

impl Metrics {
    /// Registers everything.
    pub fn new(registry: Arc<Registry>) -> Self {
        let r = &registry;
        Self {
            requests: r.register("coredns_dns_requests", "Questions", Family::default()),
            responses: r.register("coredns_dns_responses", "Answers", Family::default()),
            seconds: r.register(
                "coredns_dns_request_duration_seconds",
                "Seconds until an answer",
                Histogram::new(exponential_buckets(0.00001, 4.0, 11)),
            ),
            hits: r.register("coredns_cache_hits", "Answers from the cache", Family::default()),
            misses: r.register("coredns_cache_misses", "Questions not in the cache", Family::default()),
            forwarded: r.register("coredns_proxy_requests", "Questions passed on", Counter::default()),
            failed: r.register("coredns_forward_failed", "Questions passed on in vain", Counter::default()),
            registry,
        }
    }

    /// The registry, for serving.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// A question came in. `inside` tells whether it is about the cluster.
    pub fn asked(&self, tcp: bool, kind: RecordType, inside: bool) {
        let label = Asked {
            server: SERVER,
            zone: zone(inside),
            proto: if tcp { "tcp" } else { "udp" },
            r#type: kind_name(kind),
        };
        self.requests.get_or_create(&label).inc();
    }

    /// An answer went out after so many seconds.
    pub fn answered(&self, code: ResponseCode, inside: bool, seconds: f64) {
        let plugin = if inside { "kubernetes" } else { "forward" };
        let label = Answered { server: SERVER, zone: zone(inside), rcode: code_name(code), plugin };
        self.responses.get_or_create(&label).inc();
        self.seconds.observe(seconds);
    }

    /// The cache had an answer, or not.
    pub fn cache(&self, hit: bool) {
        let which = if hit { &self.hits } else { &self.misses };
        which.get_or_create(&Server { server: SERVER }).inc();
    }

    /// A resolver was asked.
    pub fn forwarded(&self, worked: bool) {
        self.forwarded.inc();
        if !worked {
            self.failed.inc();
        }
    }
}

fn zone(inside: bool) -> &'static str {
    if inside { "cluster" } else { "." }
}

fn kind_name(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::SRV => "SRV",
        RecordType::PTR => "PTR",
        RecordType::CNAME => "CNAME",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::SOA => "SOA",
        RecordType::TXT => "TXT",
        RecordType::HTTPS => "HTTPS",
        RecordType::ANY => "ANY",
        _ => "other",
    }
}

fn code_name(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        _ => "other",
    }
}
