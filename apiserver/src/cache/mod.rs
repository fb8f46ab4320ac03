//! The watch cache: everything stored, as bytes ready to send, fed by one watch over the whole prefix.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use machinery::kinds::Resource;
use machinery::status::Status;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

use crate::storage::Storage;

pub mod collection;
pub mod entry;
pub mod feed;
pub mod filter;
pub mod scan;
pub mod spans;

pub use collection::{Change, Collection, Snapshot, Subscription};
pub use entry::{Entry, EventType};
pub use feed::stored_json;
pub use filter::Filter;

/// How long a read waits for the cache to reach a revision.
const CATCH_UP: Duration = Duration::from_secs(3);
/// How long it waits before it asks the store where the watch is.
const FIRST_WAIT: Duration = Duration::from_millis(3);
const NEXT_WAIT: Duration = Duration::from_millis(50);

/// All collections, and how far they have followed the store.
pub struct Cache {
    storage: Arc<dyn Storage>,
    prefix: String,
    by_resource: RwLock<AHashMap<String, Arc<Collection>>>,
    by_prefix: RwLock<AHashMap<String, Arc<Collection>>>,
    revision: watch::Sender<u64>,
    synced: watch::Sender<bool>,
    healthy: AtomicBool,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    running: bool,
    waiters: Vec<oneshot::Sender<Result<u64, String>>>,
}

/// The name a collection goes by: `pods`, `leases.coordination.k8s.io`.
pub fn group_resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl Cache {
    /// An empty cache over `storage`; `prefix` is what all keys begin with, without a slash at its end.
    pub fn new(storage: Arc<dyn Storage>, prefix: &str) -> Arc<Self> {
        Arc::new(Self {
            storage,
            prefix: prefix.to_owned(),
            by_resource: RwLock::default(),
            by_prefix: RwLock::default(),
            revision: watch::Sender::new(0),
            synced: watch::Sender::new(false),
            healthy: AtomicBool::new(false),
            pending: Mutex::default(),
        })
    }

    /// Adds a collection for a resource. Resources that share a place in the store (versions of one kind, or one kind in
    /// two groups) share the collection.
    pub fn add(&self, resource: &Resource) {
        let place = relative_prefix(&resource.etcd_prefix);
        let collection = (self.by_prefix.write().entry(place.clone()))
            .or_insert_with(|| Arc::new(Collection::new(resource, &format!("{}/{place}", self.prefix))))
            .clone();
        let name = group_resource(&resource.group, &resource.plural);
        self.by_resource.write().insert(name, collection);
    }

    /// The collection of `pods`, `leases.coordination.k8s.io` and the like.
    pub fn collection(&self, group_resource: &str) -> Option<Arc<Collection>> {
        self.by_resource.read().get(group_resource).cloned()
    }

    /// All collections.
    pub fn collections(&self) -> Vec<Arc<Collection>> {
        self.by_prefix.read().values().cloned().collect()
    }

    /// All collections with the name of a resource each, sorted.
    pub fn named(&self) -> Vec<(String, Arc<Collection>)> {
        let mut all: Vec<_> = self.by_resource.read().iter().map(|(n, c)| (n.clone(), c.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The collection that a full key belongs to, and the rest of the key (`namespace/name`).
    pub fn locate<'k>(&self, key: &'k str) -> Option<(Arc<Collection>, &'k str)> {
        let rest = key.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let places = self.by_prefix.read();
        let one = rest.find('/')? + 1;
        if let Some(two) = rest[one..].find('/').map(|n| one + n + 1)
            && let Some(found) = places.get(&rest[..two])
        {
            return Some((found.clone(), &rest[two..]));
        }
        places.get(&rest[..one]).map(|found| (found.clone(), &rest[one..]))
    }

    /// Whether everything was read once.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until everything was read once.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        let _ = synced.wait_for(|done| *done).await;
    }

    /// Whether the watch that feeds the cache runs.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// The revision the cache has followed the store to.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// A receiver of that revision.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Waits until the cache has what the store has now, and yields that revision. One question to the store serves all
    /// callers that came before it was asked.
    pub async fn consistent_revision(self: &Arc<Self>) -> Result<u64, Status> {
        let (answer, wait) = oneshot::channel();
        let start = {
            let mut pending = self.pending.lock();
            pending.waiters.push(answer);
            !std::mem::replace(&mut pending.running, true)
        };
        if start {
            let cache = self.clone();
            tokio::spawn(async move { cache.answer_waiters().await });
        }
        let revision = match wait.await {
            Ok(Ok(revision)) => revision,
            Ok(Err(reason)) => return Err(Status::timeout(format!("storage: {reason}"), 1)),
            Err(_) => return Err(Status::internal("storage: revision lookup ended")),
        };
        self.wait_for(revision).await?;
        Ok(revision)
    }

    async fn answer_waiters(&self) {
        loop {
            let waiters = {
                let mut pending = self.pending.lock();
                if pending.waiters.is_empty() {
                    pending.running = false;
                    return;
                }
                std::mem::take(&mut pending.waiters)
            };
            let answer = self.storage.revision().await.map_err(|e| e.to_string());
            for waiter in waiters {
                let _ = waiter.send(answer.clone());
            }
        }
    }

    /// Waits until the cache has followed the store to `revision`; Timeout when it does not in three seconds.
    pub async fn wait_for(&self, revision: u64) -> Result<(), Status> {
        let mut seen = self.revision.subscribe();
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        let mut wait = FIRST_WAIT;
        loop {
            if *seen.borrow() >= revision {
                return Ok(());
            }
            // Judged at once: what is waited for holds a lock, which may not live across the next await.
            let reached =
                tokio::time::timeout(wait, seen.wait_for(|r| *r >= revision)).await.is_ok_and(|r| r.is_ok());
            if reached {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Status::too_large_resource_version(self.revision(), revision));
            }
            self.storage.request_progress().await;
            wait = NEXT_WAIT;
        }
    }
}

/// A resource's place below the prefix, with a slash at its end: `services/specs/`.
pub fn relative_prefix(etcd_prefix: &str) -> String {
    let place = etcd_prefix.strip_prefix("/registry").unwrap_or(etcd_prefix).trim_matches('/');
    format!("{place}/")
}
