//! ResourceQuotas: what a namespace uses, counted. Admission charges; this gives back.
//!
//! A charge is stored in one transaction with the object it is for. So a count that shows every object charged up to the
//! quota's version, written on condition of that version, can't give back what is in use.

mod count;
mod plan;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Event, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceRequirements, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Resource;
use machinery::quota::Amounts;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use crate::kit::{Context, Write};
use count::{Counter, wake};
use plan::{Of, Texts, count as counted, less, resources, status, sum};

/// Changes are gathered for this long.
const GATHER: Duration = Duration::from_millis(200);
/// After a change of what is used all is counted once more: what was stored before a quota came into force everywhere.
const RECOUNT: Duration = Duration::from_secs(5);

struct Room {
    context: Context,
    quotas: Cache<ResourceQuota>,
    pods: Cache<Pod>,
    services: Cache<Service>,
    claims: Cache<PersistentVolumeClaim>,
    counter: Counter,
    /// The newest version of a quota in which more of a resource was charged.
    charged: Mutex<HashMap<Key, HashMap<Of, u64>>>,
    /// What time it is.
    now: fn() -> Timestamp,
}

/// Starts the controller.
pub fn start(context: Context) {
    let queue = Queue::new();
    let room = Arc::new(Room {
        pods: context.pods(),
        services: context.caches.of(),
        claims: context.caches.of(),
        ..Room::new(context.clone(), context.caches.of(), &queue)
    });
    wake_on_changes(&room, &queue);
    recount(&context, room.quotas.clone(), queue.clone());
    let workers = context.config.workers("resource-quota", 5);
    context.run(Options::new("resourcequota-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn wake_on_changes(room: &Arc<Room>, queue: &Queue<Key>) {
    let (q, r) = (queue.clone(), Arc::downgrade(room));
    room.quotas.handle(move |event| {
        if let Some(room) = r.upgrade() {
            room.note_charges(event);
        }
        let specs = (event.old.as_ref().map(|o| &o.spec), event.new.as_ref().map(|o| &o.spec));
        if specs.0 == specs.1 { q.add_after(event.key.clone(), RECOUNT) } else { q.add(event.key.clone()) }
    });
    let (q, quotas) = (queue.clone(), room.quotas.clone());
    room.pods.handle(move |event| {
        if gives_back(event) {
            wake(&quotas, &q, &event.key.namespace);
        }
    });
    let (q, quotas) = (queue.clone(), room.quotas.clone());
    room.services.handle(move |event| wake(&quotas, &q, &event.key.namespace));
    let (q, quotas) = (queue.clone(), room.quotas.clone());
    room.claims.handle(move |event| wake(&quotas, &q, &event.key.namespace));
}

/// Whether a pod's change may leave more of a quota: it went, it ended, or it asks for something else.
fn gives_back(event: &Event<Pod>) -> bool {
    let (Some(old), Some(new)) = (&event.old, &event.new) else { return event.new.is_none() };
    let over = |p: &Pod| crate::kit::pods::finished(p) || p.metadata.deletion_timestamp.is_some();
    over(old) != over(new)
        || crate::kit::pods::phase(old) != crate::kit::pods::phase(new)
        || !asked(old).eq(asked(new))
        || !held(old).eq(held(new))
        || deadline(old) != deadline(new)
}

fn asked(pod: &Pod) -> impl Iterator<Item = Option<&ResourceRequirements>> {
    pod.spec.iter().flat_map(|s| s.containers.iter().map(|c| c.resources.as_ref()))
}

fn held(
    pod: &Pod,
) -> impl Iterator<Item = (Option<&ResourceRequirements>, Option<&BTreeMap<String, Quantity>>)> {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|c| (c.resources.as_ref(), c.allocated_resources.as_ref()))
}

fn deadline(pod: &Pod) -> Option<i64> {
    pod.spec.as_ref()?.active_deadline_seconds
}

/// Counts everything anew from time to time.
fn recount(context: &Context, quotas: Cache<ResourceQuota>, queue: Queue<Key>) {
    let period = context.config.resource_quota_sync_period.max(Duration::from_secs(1));
    context.tasks.spawn("resourcequota-controller recount", async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            quotas.keys().into_iter().for_each(|key| queue.add(key));
        }
    });
}

fn values<T: Resource + Serialize + Clone + fmt::Debug>(objects: Vec<Arc<T>>) -> Vec<Value> {
    objects.iter().filter_map(|o| serde_json::to_value(&**o).ok()).collect()
}

impl Room {
    /// A room that remembers nothing yet, with caches of its own that nobody fills.
    fn new(context: Context, quotas: Cache<ResourceQuota>, queue: &Queue<Key>) -> Self {
        Self {
            pods: Cache::detached(),
            services: Cache::detached(),
            claims: Cache::detached(),
            counter: Counter::new(&context, quotas.clone(), queue.clone()),
            charged: Mutex::default(),
            now: Timestamp::now,
            quotas,
            context,
        }
    }

    async fn sync(&self, key: Key) -> Outcome {
        let Some(quota) = self.quotas.get_key(&key) else {
            return Ok(None);
        };
        let used = self.used(&key, &quota).await?;
        let status = status(&quota, &used);
        if quota.status.as_ref() == Some(&status) {
            return Ok(None);
        }
        let mut changed = (*quota).clone();
        changed.status = Some(status);
        match self.context.writer.send(&Write::update_status(&changed)).await {
            // Charged meanwhile: counted anew when that is seen.
            Err(failure) if failure.conflict() => Ok(Some(GATHER)),
            Err(failure) if failure.not_found() => Ok(None),
            other => Ok(other.map(|_| None)?),
        }
    }

    /// Remembers in which version of a quota more of a resource was charged than before.
    fn note_charges(&self, event: &Event<ResourceQuota>) {
        let mut charged = self.charged.lock();
        let Some(new) = &event.new else { return drop(charged.remove(&event.key)) };
        let version = control::cache::version_of(&**new).unwrap_or(u64::MAX);
        let entry = charged.entry(event.key.clone()).or_default();
        for of in plan::charged(event.old.as_deref(), new) {
            entry.insert(of, version);
        }
    }

    /// Whether a cache that has seen `version` shows all that a quota was charged for.
    fn is_whole(&self, key: &Key, of: &Of, version: u64) -> bool {
        let charged = self.charged.lock();
        charged.get(key).and_then(|all| all.get(of)).is_some_and(|at| *at <= version)
    }

    async fn used(&self, key: &Key, quota: &ResourceQuota) -> anyhow::Result<Amounts> {
        let spec = serde_json::to_value(&quota.spec)?;
        let hard: Texts = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
        let scoped = quota.spec.as_ref().is_some_and(|s| s.scopes.is_some() || s.scope_selector.is_some());
        let mut used = Amounts::new();
        for (of, look) in resources(&hard, scoped) {
            let count = |objects: &[Value]| sum(&spec, &hard, &of, objects, (self.now)());
            let counted = match self.cached(&of, &key.namespace) {
                Some((version, objects)) => {
                    let shown = count(&objects);
                    match less(quota, &shown) && !self.is_whole(key, &of, version) {
                        true => self.counter.list(&of, &key.namespace).await?.map(|live| count(&live)),
                        false => Some(shown),
                    }
                }
                None if look => self.counter.list(&of, &key.namespace).await?.map(|live| count(&live)),
                None => {
                    self.counter.count(&of, &key.namespace).await?.map(|number| counted(&hard, &of, number))
                }
            };
            used.extend(counted.unwrap_or_default());
        }
        Ok(used)
    }

    /// Objects of a resource the manager keeps a cache of, and how far that cache is; asked before it is read.
    fn cached(&self, (group, plural): &Of, ns: &str) -> Option<(u64, Vec<Value>)> {
        match (group.as_str(), plural.as_str()) {
            ("", "pods") => Some((self.pods.resource_version(), values(self.pods.by_namespace(ns)))),
            ("", "services") => {
                Some((self.services.resource_version(), values(self.services.by_namespace(ns))))
            }
            ("", "persistentvolumeclaims") => {
                Some((self.claims.resource_version(), values(self.claims.by_namespace(ns))))
            }
            _ => None,
        }
    }
}
