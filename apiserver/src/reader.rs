//! The server's own view of what is stored: the watch cache, for those who decide by it.

use std::sync::Arc;

use crate::cache::{Cache, Change, Entry};

/// Reads from the watch cache. Cheap to clone. Resources are named as upstream does, `pods` or `leases.coordination.k8s.io`.
#[derive(Clone)]
pub struct Reader {
    cache: Arc<Cache>,
}

impl Reader {
    /// A reader of `cache`.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self { cache }
    }

    /// One object; `namespace` is empty for cluster-scoped ones. None when it does not exist (or nothing is read yet).
    pub fn get(&self, group_resource: &str, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.cache.collection(group_resource)?.get(namespace, name)
    }

    /// All objects of a namespace, or of all when it is empty, in store order.
    pub fn list(&self, group_resource: &str, namespace: &str) -> Vec<Arc<Entry>> {
        match self.cache.collection(group_resource) {
            Some(collection) => collection.list(namespace),
            None => Vec::new(),
        }
    }

    /// Calls `observer` for every object there is and then for every change, in order, without gaps, on the cache's own
    /// task: it must be quick and may not block.
    pub fn observe(&self, group_resource: &str, observer: impl Fn(&Change) + Send + Sync + 'static) {
        if let Some(collection) = self.cache.collection(group_resource) {
            collection.observe(Arc::new(observer));
        }
    }

    /// Where the value of a selectable path of a resource stands in `Entry::values`.
    pub fn value_index(&self, group_resource: &str, path: &str) -> Option<usize> {
        self.cache.collection(group_resource)?.value_index(path)
    }

    /// A receiver that wakes with the newest revision of a resource whenever an object of it changes.
    pub fn changed(&self, group_resource: &str) -> Option<tokio::sync::watch::Receiver<u64>> {
        Some(self.cache.collection(group_resource)?.changed())
    }

    /// Whether the cache has read everything once.
    pub fn is_synced(&self) -> bool {
        self.cache.is_synced()
    }

    /// Waits until the cache has read everything once.
    pub async fn synced(&self) {
        self.cache.synced().await;
    }

    /// Waits until the cache has caught up with the store as of now, so that a read that follows is not stale.
    /// Errors when the store does not answer in time.
    pub async fn caught_up(&self) -> Result<u64, machinery::status::Status> {
        self.cache.consistent_revision().await
    }
}
