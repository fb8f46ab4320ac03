//! What a room is given when it starts.

use std::sync::Arc;

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;

use control::runner::{self, Options, Outcome};
use control::{Caches, Queue, Recorder};
use daemon::metrics::Metrics;
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::write::Writer;
use crate::Config;
use crate::kit::pods;

/// Everything a controller works with.
#[derive(Clone)]
pub struct Context {
    /// The controller's name.
    pub name: &'static str,
    pub config: Arc<Config>,
    pub caches: Caches,
    /// The manager's own identity, for watches.
    pub root: kube::Client,
    pub writer: Writer,
    pub recorder: Recorder,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    pub tasks: Tasks,
}

impl Context {
    /// The pods of the cluster, trimmed and indexed.
    pub fn pods(&self) -> control::Cache<Pod> {
        let cache = self.caches.with(|| control::cache::Options::default().trim(pods::trim));
        pods::index(&cache);
        cache
    }

    /// Starts a room's workers as soon as every cache opened so far is filled: a plan over half a view would make
    /// what is there already.
    pub fn run<K, F, Fut>(&self, options: Options, queue: Queue<K>, sync: F)
    where
        K: Clone + Eq + Hash + Send + Sync + Debug + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send,
    {
        let (caches, tasks) = (self.caches.clone(), self.tasks.clone());
        self.tasks.spawn_result(format!("{} waiting", options.name), async move {
            let token = tasks.token().clone();
            if token.run_until_cancelled(caches.synced()).await.is_some() {
                runner::start(options, queue, &tasks, sync);
            }
            Ok(())
        });
    }

    /// The nodes of the cluster, without their lists of images.
    pub fn nodes(&self) -> control::Cache<Node> {
        self.caches.with(|| control::cache::Options::default().trim(trim_node))
    }
}

/// Drops a node's list of images, by far its largest part, which no room reads.
pub fn trim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}
