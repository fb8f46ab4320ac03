//! What the balancer counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::pool::{Pool, State};

/// Label of a server's series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Server {
    server: String,
}

/// Label of a state's series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfState {
    state: &'static str,
}

/// The balancer's metrics.
pub struct Metrics {
    registry: Arc<daemon::metrics::Metrics>,
    open: Family<Server, Gauge>,
    servers: Family<OfState, Gauge>,
    accepted: Counter,
    unserved: Counter,
    failures: Family<Server, Counter>,
    cut: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: Arc<daemon::metrics::Metrics>) -> Arc<Self> {
        let (open, servers, failures) = <(Family<_, _>, Family<_, _>, Family<_, _>)>::default();
        let (accepted, unserved, cut) = <(Counter, Counter, Counter)>::default();
        let name = |n: &str| format!("coxswain_balancer_{n}");
        Arc::new(Self {
            open: registry.register(&name("connections"), "Open connections by server", open),
            servers: registry.register(&name("servers"), "Known servers by state", servers),
            accepted: registry.register(&name("accepted"), "Connections taken from clients", accepted),
            unserved: registry.register(
                &name("unserved"),
                "Connections closed because no server took them",
                unserved,
            ),
            failures: registry.register(
                &name("connect_failures"),
                "Connections a server did not take",
                failures,
            ),
            cut: registry.register(
                &name("cut"),
                "Connections closed because their server became unhealthy",
                cut,
            ),
            registry,
        })
    }

    /// A client came.
    pub fn accepted(&self) {
        self.accepted.inc();
    }

    /// A client left with nothing.
    pub fn unserved(&self) {
        self.unserved.inc();
    }

    /// A server did not take a connection.
    pub fn failed(&self, server: &str) {
        self.failures.get_or_create(&Server { server: server.to_owned() }).inc();
    }

    /// All metrics as text, with the pool as it is now.
    pub fn encode(&self, pool: &Pool) -> String {
        let shown = pool.shown();
        self.open.clear();
        for server in &shown {
            let label = Server { server: server.server.clone() };
            self.open.get_or_create(&label).set(server.connections as i64);
        }
        let states = [State::Healthy, State::Unknown, State::Suspect, State::Unhealthy];
        for (state, name) in states.into_iter().zip(["healthy", "unknown", "suspect", "unhealthy"]) {
            let count = shown.iter().filter(|s| s.state == state).count();
            self.servers.get_or_create(&OfState { state: name }).set(count as i64);
        }
        self.cut.inc_by(pool.cuts().saturating_sub(self.cut.get()));
        self.registry.encode()
    }
}
