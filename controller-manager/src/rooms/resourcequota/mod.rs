//! ResourceQuotas: what a namespace uses, counted. Admission charges; this gives back.

mod count;
mod plan;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Event, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::Resource;
use machinery::quota::Amounts;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::kit::{Context, Write};
use count::{Counter, wake};
use plan::{Of, Texts, count as counted, resources, status, sum};

/// Changes are gathered for this long.
const GATHER: Duration = Duration::from_millis(200);
/// A quota must have been as it is for this long before anything is given back.
const REST: Duration = Duration::from_secs(1);
/// After admission has charged, what was really stored is counted.
const RECOUNT: Duration = Duration::from_secs(5);

struct Room {
    context: Context,
    quotas: Cache<ResourceQuota>,
    pods: Cache<Pod>,
    services: Cache<Service>,
    claims: Cache<PersistentVolumeClaim>,
    counter: Counter,
    /// The version a quota was last seen in, and since when.
    rest: Mutex<HashMap<Key, (String, Instant)>>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let quotas: Cache<ResourceQuota> = context.caches.of();
    let queue = Queue::new();
    let room = Arc::new(Room {
        pods: context.pods(),
        services: context.caches.of(),
        claims: context.caches.of(),
        counter: Counter::new(&context, quotas.clone(), queue.clone()),
        rest: Mutex::default(),
        quotas,
        context: context.clone(),
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
    let q = queue.clone();
    room.quotas.handle(move |event| {
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
    let asks = |p: &Pod| {
        let spec = p.spec.as_ref();
        let of = |c: &k8s_openapi::api::core::v1::Container| c.resources.clone();
        let containers: Vec<_> = spec.into_iter().flat_map(|s| s.containers.iter().map(of)).collect();
        (containers, spec.and_then(|s| s.active_deadline_seconds))
    };
    let held = |p: &Pod| {
        let statuses = p.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        statuses.map(|c| (c.resources.clone(), c.allocated_resources.clone())).collect::<Vec<_>>()
    };
    over(old) != over(new)
        || crate::kit::pods::phase(old) != crate::kit::pods::phase(new)
        || asks(old) != asks(new)
        || held(old) != held(new)
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
    async fn sync(&self, key: Key) -> Outcome {
        let Some(quota) = self.quotas.get_key(&key) else {
            self.rest.lock().remove(&key);
            return Ok(None);
        };
        // Whether it is at rest is asked before anything is counted.
        let at_rest = self.at_rest(&key, &quota);
        let used = self.used(&key, &quota).await?;
        let (status, all) = status(&quota, &used, at_rest);
        if quota.status.as_ref() != Some(&status) {
            let mut changed = (*quota).clone();
            changed.status = Some(status);
            match self.context.writer.send(&Write::update_status(&changed)).await {
                Err(failure) if failure.not_found() => return Ok(None),
                other => drop(other?),
            }
        }
        Ok((!all).then_some(REST))
    }

    fn at_rest(&self, key: &Key, quota: &ResourceQuota) -> bool {
        let version = quota.metadata.resource_version.clone().unwrap_or_default();
        let mut rest = self.rest.lock();
        match rest.get(key) {
            Some((seen, since)) if *seen == version => since.elapsed() >= REST,
            _ => {
                rest.insert(key.clone(), (version, Instant::now()));
                false
            }
        }
    }

    async fn used(&self, key: &Key, quota: &ResourceQuota) -> anyhow::Result<Amounts> {
        let spec = serde_json::to_value(&quota.spec)?;
        let hard: Texts = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
        let scoped = quota.spec.as_ref().is_some_and(|s| s.scopes.is_some() || s.scope_selector.is_some());
        let mut used = Amounts::new();
        for (of, look) in resources(&hard, scoped) {
            used.extend(self.used_of(&of, look, &spec, &hard, &key.namespace).await?);
        }
        Ok(used)
    }

    async fn used_of(
        &self,
        of: &Of,
        look: bool,
        spec: &Value,
        hard: &Texts,
        ns: &str,
    ) -> anyhow::Result<Amounts> {
        let objects = match (of.0.as_str(), of.1.as_str()) {
            ("", "pods") => values(self.pods.by_namespace(ns)),
            ("", "services") => values(self.services.by_namespace(ns)),
            ("", "persistentvolumeclaims") => values(self.claims.by_namespace(ns)),
            _ if look => match self.counter.list(of, ns).await? {
                Some(objects) => objects,
                None => return Ok(Amounts::new()),
            },
            _ => {
                let number = self.counter.count(of, ns).await?;
                return Ok(number.map(|n| counted(hard, of, n)).unwrap_or_default());
            }
        };
        Ok(sum(spec, hard, of, &objects, Timestamp::now()))
    }
}
