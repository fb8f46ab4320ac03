//! Wakes, observes and applies for DaemonSets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Event, Expectations, Key, Queue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;

use super::backoff::{Backoff, Place};
use super::fit;
use super::history::{History, history, surplus};
use super::plan::{Observed, Plan, plan};
use crate::kit::batch::slow_start;
use crate::kit::counts::Skips;
use crate::kit::doubt::Doubts;
use crate::kit::history::{Made, make};
use crate::kit::meta::{controller, is_empty_selector, name, namespace, selects, uid};
use crate::kit::seen::Seen;
use crate::kit::write::Failure;
use crate::kit::{Context, Write, adopt, creation, pods};

/// At most so many pods are made, and so many deleted, in one look.
const BURST: usize = 250;
/// How often waits that are over are dropped.
const CLEANING: Duration = Duration::from_secs(60);
/// How long to wait for a cache that is behind the room's own writes before looking whether it has given up.
const BEHIND: Duration = Duration::from_secs(2);

struct Room {
    context: Context,
    sets: Cache<DaemonSet>,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    revisions: Cache<ControllerRevision>,
    expectations: Arc<Expectations<Key>>,
    seen: Seen<Key>,
    backoff: Mutex<Backoff>,
    doubts: Doubts<Key>,
    skips: Skips,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        sets: context.caches.of(),
        nodes: context.nodes(),
        pods: context.pods(),
        revisions: adopt::owned_cache(&context),
        expectations: Arc::new(Expectations::new()),
        seen: Seen::default(),
        backoff: Mutex::default(),
        doubts: Doubts::default(),
        skips: Skips::register(&context.metrics, "daemonset_controller"),
        context: context.clone(),
    });
    let queue = Queue::new();
    wake(&room, &queue);
    clean(&room);
    let workers = context.config.workers("daemonset", 2);
    context.run(Options::new("daemonset-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn clean(room: &Arc<Room>) {
    let backoff = Arc::downgrade(room);
    room.context.tasks.spawn("daemonset-controller backoff", async move {
        loop {
            tokio::time::sleep(CLEANING).await;
            let Some(room) = backoff.upgrade() else { break };
            room.backoff.lock().clean(Timestamp::now());
        }
    });
}

fn wake(room: &Arc<Room>, queue: &Queue<Key>) {
    let (q, expectations) = (queue.clone(), room.expectations.clone());
    room.sets.handle(move |event| {
        let replaced =
            event.old.as_ref().zip(event.new.as_ref()).is_some_and(|(o, n)| o.metadata.uid != n.metadata.uid);
        if replaced || event.new.is_none() {
            expectations.forget(&event.key);
        }
        q.add(event.key.clone());
    });
    let (q, sets, expectations) = (queue.clone(), room.sets.clone(), room.expectations.clone());
    room.pods.handle(move |event| pod_changed(event, &sets, &expectations, &q));
    let (q, sets) = (queue.clone(), room.sets.clone());
    room.revisions.handle(move |event| {
        for revision in event.old.iter().chain(&event.new) {
            owners(&sets, &revision.metadata).into_iter().for_each(|key| q.add(key));
        }
    });
    let (q, sets) = (queue.clone(), room.sets.clone());
    room.nodes.handle(move |event| node_changed(event, &sets, &q));
}

fn pod_changed(
    event: &Event<Pod>,
    sets: &Cache<DaemonSet>,
    expected: &Expectations<Key>,
    queue: &Queue<Key>,
) {
    for pod in event.old.iter().chain(&event.new) {
        owners(sets, &pod.metadata).into_iter().for_each(|key| queue.add(key));
    }
    let Some(pod) = event.object() else { return };
    let Some(owner) = owner(&pod.metadata) else { return };
    let known = event.old.as_ref().is_some_and(|old| old.metadata.uid == pod.metadata.uid);
    if event.new.is_some() && !known {
        expected.created(&owner);
    }
    if event.new.is_none() || pod.metadata.deletion_timestamp.is_some() {
        expected.deleted(&owner, uid(&pod.metadata));
    }
    // A pod replaced by another of its name within one event is gone too.
    if let Some(old) = event.old.as_ref().filter(|old| old.metadata.uid != pod.metadata.uid) {
        expected.deleted(&owner, uid(&old.metadata));
    }
}

fn owner(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller(meta).filter(|c| c.kind == "DaemonSet")?;
    Some(Key::new(namespace(meta), &owner.name))
}

/// The set that owns an object, or those that may adopt it.
fn owners(sets: &Cache<DaemonSet>, meta: &ObjectMeta) -> Vec<Key> {
    if controller(meta).is_some() {
        return owner(meta).into_iter().collect();
    }
    let wants = |set: &&Arc<DaemonSet>| {
        set.spec
            .as_ref()
            .is_some_and(|s| !is_empty_selector(&s.selector) && selects(&s.selector, meta.labels.as_ref()))
    };
    sets.by_namespace(namespace(meta)).iter().filter(wants).map(|s| Key::of(&**s)).collect()
}

/// Wakes the sets for which a node's change means something.
fn node_changed(event: &Event<Node>, sets: &Cache<DaemonSet>, queue: &Queue<Key>) {
    let (old, new) = (event.old.as_deref(), event.new.as_deref());
    if let (Some(old), Some(new)) = (old, new)
        && !fit::matters(old, new)
    {
        return;
    }
    for set in sets.list() {
        let spec = fit::spec(&set);
        let fits = |node: Option<&Node>| node.map(|n| fit::fit(&spec, n));
        let (before, after) = (fits(old), fits(new));
        let replaced = old.zip(new).is_some_and(|(o, n)| o.metadata.uid != n.metadata.uid) || new.is_none();
        if before != after || replaced {
            queue.add(Key::of(&*set));
        }
    }
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        // Whether earlier writes are settled is asked before the caches are read, never after.
        let behind = self.seen.behind(&key, self.sets.resource_version());
        let behind = self.skips.note(behind, "apps", "daemonsets");
        if behind
            || !self
                .doubts
                .settled(&self.context, &self.pods, &key.namespace, &key, Some(&self.expectations))
                .await?
        {
            return Ok(Some(BEHIND));
        }
        let settled = self.expectations.satisfied(&key);
        let Some(set) = self.sets.get_key(&key) else {
            self.expectations.forget(&key);
            self.doubts.forget(&key);
            return Ok(None);
        };
        let Some(spec) = &set.spec else { return Ok(None) };
        if is_empty_selector(&spec.selector) {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.context.recorder.warning(&reference(&*set), "SelectingAll", message);
            return Ok(None);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let Some(owned) = self.claim(&set, spec).await? else { return Ok(None) };
        let (revisions, _) = adopt::owned_and_orphans(&self.revisions, &set.metadata);
        match history(&set, revisions, &owned) {
            History::Make(revision) => self.make_revision(&key, &set, &revision).await,
            History::Mend(writes) => self.send_all(&writes).await,
            History::Settled { hash, old } => {
                let pod_spec = fit::spec(&set);
                let plan = self.plan(&set, spec, &pod_spec, &owned, &hash, settled);
                let outcome = self.apply(&key, &set, &pod_spec, &owned, &hash, plan).await;
                self.send_all(&surplus(&set, &old, &owned)).await?;
                outcome
            }
        }
    }

    async fn send_all(&self, writes: &[Write]) -> Outcome {
        for write in writes {
            match self.context.writer.send(write).await {
                Err(failure) if failure.not_found() => {}
                other => drop(other?),
            }
        }
        Ok(None)
    }

    /// The set's pods, or nothing if it first takes some in or lets some go.
    async fn claim(
        &self,
        set: &Arc<DaemonSet>,
        spec: &DaemonSetSpec,
    ) -> anyhow::Result<Option<Vec<Arc<Pod>>>> {
        let (owned, orphans) = pods::owned_and_orphans(&self.pods, &set.metadata);
        let mut claim = adopt::claim(&**set, &spec.selector, &owned, &orphans);
        let (kept, strays) = adopt::owned_and_orphans(&self.revisions, &set.metadata);
        let revisions = adopt::claim(&**set, &spec.selector, &kept, &strays);
        claim.adopt.extend(revisions.adopt);
        claim.release.extend(revisions.release);
        if claim.is_empty() {
            return Ok(Some(owned));
        }
        claim.apply::<DaemonSet>(&self.context, set).await?;
        Ok(None)
    }

    async fn make_revision(&self, key: &Key, set: &Arc<DaemonSet>, revision: &ControllerRevision) -> Outcome {
        if make(&self.context, &set.metadata, revision).await? == Made::Collision {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            self.write_status(key, set, status).await?;
        }
        Ok(None)
    }

    fn plan(
        &self,
        set: &DaemonSet,
        spec: &DaemonSetSpec,
        pod_spec: &PodSpec,
        owned: &[Arc<Pod>],
        hash: &str,
        settled: bool,
    ) -> Plan {
        let now = Timestamp::now();
        let nodes = self.nodes.list();
        let failed = owned.iter().filter(|p| pods::phase(p) == "Failed").filter_map(|p| fit::target(p));
        let backoff = self.backoff.lock();
        let waits: HashMap<_, _> = failed
            .filter_map(|node| Some((node.to_string(), backoff.left(&place(set, node), now)?)))
            .collect();
        drop(backoff);
        let nodes = nodes.iter().map(|n| &**n).collect();
        let pods = owned.iter().map(|p| &**p).collect();
        plan(&Observed { set, spec, nodes, pods, hash, settled, waits }, pod_spec, now)
    }

    async fn apply(
        &self,
        key: &Key,
        set: &Arc<DaemonSet>,
        pod_spec: &PodSpec,
        owned: &[Arc<Pod>],
        hash: &str,
        mut plan: Plan,
    ) -> Outcome {
        tracing::debug!(set = %key, why = plan.why, create = plan.create.len(), delete = plan.delete.len(), "plan");
        for (kind, reason, message) in plan.events.drain(..) {
            self.context.recorder.record(&reference(&**set), kind, reason, message);
        }
        for node in &plan.failed {
            self.backoff.lock().failed(place(set, node), Timestamp::now());
        }
        let victims = owned.iter().filter(|p| plan.delete.iter().any(|n| n == name(&p.metadata)));
        let victims: Vec<_> = victims.take(BURST).cloned().collect();
        plan.create.truncate(BURST);
        let mut trouble = None;
        if !plan.create.is_empty() || !victims.is_empty() {
            let going = victims.iter().map(|p| uid(&p.metadata).to_string());
            self.expectations.expect(key, plan.create.len(), going);
            let create = |at: usize| self.create(key, set, fit::make(set, pod_spec, hash, &plan.create[at]));
            let ((tried, failed), deleted) = futures::join!(
                slow_start(plan.create.len(), create),
                join_all(victims.iter().map(|pod| self.delete(key, set, pod)))
            );
            self.expectations.created_many(key, plan.create.len() - tried);
            trouble = failed.or(deleted.into_iter().find_map(Result::err));
        }
        let status = plan.status;
        if set.status.as_ref() != Some(&status) {
            self.write_status(key, set, status).await?;
        }
        match trouble {
            Some(failure) if !failure.namespace_terminating() => Err(failure.into()),
            _ => Ok(plan.again),
        }
    }

    async fn create(&self, key: &Key, set: &DaemonSet, pod: Pod) -> Result<(), Failure> {
        let account = (&*self.expectations, &self.doubts);
        let write = creation::named(&Write::create(&pod));
        creation::pod(&self.context, reference(set), key, &write, account).await
    }

    async fn delete(&self, key: &Key, set: &DaemonSet, pod: &Pod) -> Result<(), Failure> {
        match self.context.writer.send(&Write::delete(pod)).await {
            Ok(_) => {
                let message = format!("Deleted pod: {}", name(&pod.metadata));
                self.context.recorder.normal(&reference(set), "SuccessfulDelete", message);
                Ok(())
            }
            Err(failure) => {
                self.expectations.deleted(key, uid(&pod.metadata));
                if failure.not_found() {
                    return Ok(());
                }
                self.doubts.failed(key, name(&pod.metadata), &failure);
                let message = format!("Error deleting: {}", failure.message);
                self.context.recorder.warning(&reference(set), "FailedDelete", message);
                Err(failure)
            }
        }
    }

    async fn write_status(&self, key: &Key, set: &DaemonSet, status: DaemonSetStatus) -> anyhow::Result<()> {
        let mut set = set.clone();
        set.status = Some(status);
        match self.context.writer.send(&Write::update_status(&set)).await {
            Ok(answer) => self.seen.wrote(key.clone(), &answer),
            Err(failure) if failure.not_found() => {}
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }
}

fn place(set: &DaemonSet, node: &str) -> Place {
    let generation = set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    (Key::of(set), uid(&set.metadata).into(), generation, node.into())
}
