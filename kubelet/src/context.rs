//! What every part of the kubelet shares: configuration, API client, runtime, pod table, node view and health.

use crate::config::Config;
use crate::events::Events;
use crate::pods::table::PodTable;
use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The node as this kubelet sees it. Published by `node`, read by admission, environment and status.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// The Node object last seen in the API (None in standalone mode or before registration).
    pub node: Option<Arc<Node>>,
    /// Addresses of the host, primary first.
    pub addresses: Vec<IpAddr>,
    /// Capacity and allocatable as computed from the machine (never empty once `node` has started).
    pub capacity: BTreeMap<String, Quantity>,
    /// Capacity less reservations and hard eviction thresholds.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// Health of the container runtime and of the pod lifecycle loop. Published by `runtime::health` and the relist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeHealth {
    /// Error of the runtime's last status call, None when it is up.
    pub runtime_error: Option<String>,
    /// Why the pod network is not ready (upstream's text), None when it is.
    pub network_error: Option<String>,
    /// Why the relist is unhealthy, None when it is fine.
    pub pleg_error: Option<String>,
    /// Name and version as in nodeInfo.containerRuntimeVersion, e.g. `containerd://1.6.20`.
    pub runtime_version: String,
    /// RuntimeClass handlers the runtime knows: (name, recursive read-only mounts, user namespaces).
    pub handlers: Vec<(String, bool, bool)>,
    /// True once the runtime answered for the first time.
    pub seen: bool,
}

/// Pressure conditions of the node. Published by `gc::eviction`, written into the node status by `node`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// memory.available under its threshold
    pub memory: bool,
    /// nodefs or imagefs under its threshold
    pub disk: bool,
    /// pid.available under its threshold
    pub pid: bool,
}

/// Shared state; cheap to clone through its Arc.
pub struct Context {
    /// Effective configuration.
    pub config: Arc<Config>,
    /// API client; None in standalone mode.
    pub client: Option<kube::Client>,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// All pods of this node with their runtime identities.
    pub pods: Arc<PodTable>,
    /// Event recorder of component "kubelet".
    pub events: Arc<Events>,
    /// The node view, written by `node`.
    pub node: watch::Sender<Arc<NodeView>>,
    /// Runtime health, written by `runtime`.
    pub health: watch::Sender<RuntimeHealth>,
    /// Pressure conditions, written by eviction.
    pub pressure: watch::Sender<Pressure>,
    /// Unix nanoseconds of the sync loop's last turn; /healthz calls it stuck when too old.
    pub sync_loop_ns: std::sync::atomic::AtomicI64,
    /// Counters and histograms, exposed by `server` on /metrics.
    pub metrics: crate::status::metrics::Metrics,
    /// Cancelled when the process shall end.
    pub cancel: CancellationToken,
}

impl Context {
    /// Assembles a context with empty tables.
    pub fn new(
        config: Arc<Config>,
        client: Option<kube::Client>,
        runtime: Arc<dyn Runtime>,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let events = Events::start(client.clone(), &config.node_name, cancel.clone());
        Arc::new(Self {
            config,
            client,
            runtime,
            pods: Arc::new(PodTable::default()),
            events,
            node: watch::Sender::new(Arc::new(NodeView::default())),
            health: watch::Sender::new(RuntimeHealth::default()),
            pressure: watch::Sender::new(Pressure::default()),
            sync_loop_ns: std::sync::atomic::AtomicI64::new(0),
            metrics: crate::status::metrics::Metrics::default(),
            cancel,
        })
    }

    /// Spawns a named background task that ends with the process; logs when it ends by itself.
    pub fn spawn<F>(self: &Arc<Self>, name: &'static str, fut: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = fut => tracing::debug!(task = name, "task ended"),
            }
        });
    }
}
