//! The server as one value: what its parts share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::admission::Plugin;
use crate::aggregator::Aggregator;
use crate::alloc::ports::Ports;
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::cache::Cache;
use crate::config::Config;
use crate::health::Health;
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::server::endpoints::Leaving;
use crate::server::seats::Seats;
use crate::storage::Storage;

/// Everything the parts of the server share. Made once, in `build`.
pub struct App {
    /// Flags.
    pub config: Config,
    /// The resources that are served.
    pub kinds: Kinds,
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// The watch cache over it.
    pub cache: Arc<Cache>,
    /// The same, for parts that decide by stored objects.
    pub reader: Reader,
    /// Who calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Admission plugins in order.
    pub admission: Vec<Arc<dyn Plugin>>,
    /// Named health checks.
    pub health: Arc<Health>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// How many requests are served at once.
    pub seats: Seats,
    /// Node ports of services.
    pub node_ports: Ports,
    /// Cancelled when no more requests are taken: what would go on for long ends.
    pub closing: CancellationToken,
    /// Group versions that other servers serve.
    pub aggregator: Arc<Aggregator>,
    /// How it takes leave of the other servers.
    pub leaving: Leaving,
}
