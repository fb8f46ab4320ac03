//! What is watched: nodes for their addresses and labels, the metadata of pods for their labels, and whom to trust.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::cache::{Cache, Options};
use daemon::authorities::{CONFIG_MAP, Watched};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{ConfigMap, Node, NodeStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PartialObjectMeta};

/// The caches.
#[derive(Clone)]
pub struct Seen {
    /// Nodes that are scraped.
    pub nodes: Cache<Node>,
    /// All pods, by name.
    pub pods: Cache<PartialObjectMeta<Pod>>,
}

/// Labels of an object without any.
static NONE: BTreeMap<String, String> = BTreeMap::new();

/// An object's labels.
pub fn labels(meta: &ObjectMeta) -> &BTreeMap<String, String> {
    meta.labels.as_ref().unwrap_or(&NONE)
}

impl Seen {
    /// Starts to watch; `selector` picks the nodes.
    pub fn start(client: &kube::Client, selector: &str, tasks: &Tasks) -> Self {
        let mut nodes = Options::default().trim(trim_node);
        if !selector.is_empty() {
            nodes = nodes.labels(selector);
        }
        let pods = Options::default().trim(|pod: &mut PartialObjectMeta<Pod>| trim_meta(&mut pod.metadata));
        Self {
            nodes: Cache::start(Api::all(client.clone()), nodes, tasks),
            pods: Cache::start(Api::all(client.clone()), pods, tasks),
        }
    }

    /// Whether both are complete.
    pub fn is_synced(&self) -> bool {
        self.nodes.is_synced() && self.pods.is_synced()
    }
}

/// Names and labels are all that is asked for; the version tells the cache what has changed.
fn trim_meta(meta: &mut ObjectMeta) {
    *meta = ObjectMeta {
        name: meta.name.take(),
        namespace: meta.namespace.take(),
        labels: meta.labels.take(),
        resource_version: meta.resource_version.take(),
        uid: meta.uid.take(),
        ..ObjectMeta::default()
    };
}

fn trim_node(node: &mut Node) {
    trim_meta(&mut node.metadata);
    node.spec = None;
    if let Some(status) = node.status.take() {
        node.status = Some(NodeStatus {
            addresses: status.addresses,
            daemon_endpoints: status.daemon_endpoints,
            ..NodeStatus::default()
        });
    }
}

/// Follows the ConfigMap of the cluster's authorities.
pub fn authorities(client: &kube::Client, tasks: &Tasks) -> (Arc<Watched>, Cache<ConfigMap>) {
    let watched = Arc::new(Watched::default());
    let (namespace, name) = CONFIG_MAP;
    let options = Options::default().fields(format!("metadata.name={name}"));
    let cache = Cache::start(Api::namespaced(client.clone(), namespace), options, tasks);
    let taker = watched.clone();
    cache.handle(move |event: &control::cache::Event<ConfigMap>| {
        if let Some(data) = event.new.as_ref().and_then(|map| map.data.as_ref()) {
            taker.take(data);
        }
    });
    (watched, cache)
}
