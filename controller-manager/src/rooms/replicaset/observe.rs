//! Wakes, observes and applies for kinds that keep a number of pods.

use std::collections::HashMap;
use std::sync::Arc;

use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Event, Expectations, Key, Queue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;

use super::instruments::Instruments;
use super::kinds::{Replicas, Spec};
use super::plan::{self, Manage, Observed, Trouble};
use crate::kit::doubt::Doubts;
use crate::kit::meta::{controller, controller_ref, is_empty_selector, name, namespace, selects, uid};
use crate::kit::write::Failure;
use crate::kit::{Context, Write, adopt, creation, pods};

struct Room<T: Replicas> {
    context: Context,
    sets: Cache<T>,
    pods: Cache<Pod>,
    expectations: Arc<Expectations<Key>>,
    doubts: Doubts<Key>,
    instruments: Instruments,
}

/// How long to wait for a cache to show what became of a deletion whose answer was lost.
const BEHIND: std::time::Duration = std::time::Duration::from_secs(2);

/// Starts the controller of one kind.
pub fn start<T: Replicas>(context: Context, workers: usize) {
    let room = Arc::new(Room {
        sets: adopt::owned_cache::<T>(&context),
        pods: context.pods(),
        expectations: Arc::new(Expectations::new()),
        doubts: Doubts::default(),
        instruments: Instruments::register::<T>(&context.metrics),
        context: context.clone(),
    });
    let queue = Queue::new();
    wake(&room, &queue);
    context.run(Options::new(T::CONTROLLER, workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn wake<T: Replicas>(room: &Arc<Room<T>>, queue: &Queue<Key>) {
    let (q, expectations) = (queue.clone(), room.expectations.clone());
    room.sets.handle(move |event| {
        let replaced =
            event.old.as_ref().zip(event.new.as_ref()).is_some_and(|(o, n)| o.meta().uid != n.meta().uid);
        if replaced || event.new.is_none() {
            expectations.forget(&event.key);
        }
        q.add(event.key.clone());
    });
    let (q, sets, expectations) = (queue.clone(), room.sets.clone(), room.expectations.clone());
    room.pods.handle(move |event| pod_changed::<T>(event, &sets, &expectations, &q));
}

fn pod_changed<T: Replicas>(
    event: &Event<Pod>,
    sets: &Cache<T>,
    expected: &Expectations<Key>,
    queue: &Queue<Key>,
) {
    let mut told = None;
    for pod in event.old.iter().chain(&event.new) {
        let Some(owner) = owner::<T>(&pod.metadata) else { continue };
        if told.as_ref() != Some(&owner) {
            queue.add(owner.clone());
        }
        told = Some(owner);
    }
    match (&event.old, &event.new) {
        (_, Some(pod)) => {
            let owner = owner::<T>(&pod.metadata);
            let fresh = event.old.as_ref().is_none_or(|old| old.metadata.uid != pod.metadata.uid);
            if let Some(owner) = owner.as_ref().filter(|_| fresh) {
                expected.created(owner);
            }
            if let Some(owner) = owner.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_some()) {
                expected.deleted(owner, &seen_as(&pod.metadata));
            }
            if controller(&pod.metadata).is_none() {
                matching(sets, &pod.metadata).into_iter().for_each(|k| queue.add(k));
            }
        }
        (Some(pod), None) => {
            if let Some(owner) = owner::<T>(&pod.metadata) {
                expected.deleted(&owner, &seen_as(&pod.metadata));
            }
        }
        (None, None) => {}
    }
}

/// How an expected deletion is recognised: the name alone could be taken by another pod meanwhile.
fn seen_as(meta: &ObjectMeta) -> String {
    uid(meta).to_string()
}

fn owner<T: Replicas>(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller(meta)?;
    (owner.kind == T::kind(&()) && owner.api_version == T::api_version(&()))
        .then(|| Key::new(namespace(meta), &owner.name))
}

fn matching<T: Replicas>(sets: &Cache<T>, pod: &ObjectMeta) -> Vec<Key> {
    let wants = |set: &&Arc<T>| {
        set.wants()
            .is_some_and(|s| !is_empty_selector(&s.selector) && selects(&s.selector, pod.labels.as_ref()))
    };
    sets.by_namespace(namespace(pod)).iter().filter(wants).map(|s| Key::of(&**s)).collect()
}

impl<T: Replicas> Room<T> {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(set) = self.sets.get_key(&key) else {
            self.expectations.forget(&key);
            self.doubts.forget(&key);
            return Ok(None);
        };
        let Some(spec) = set.wants().filter(|s| !is_empty_selector(&s.selector)) else { return Ok(None) };
        if !self
            .doubts
            .settled(&self.context, &self.pods, &key.namespace, &key, Some(&self.expectations))
            .await?
        {
            self.instruments.skipped();
            return Ok(Some(BEHIND));
        }
        // Whether earlier writes are settled is asked before the pods are read, never after.
        let settled = self.expectations.satisfied(&key);
        if !settled {
            self.instruments.skipped();
        }
        let (owned, orphans) = pods::owned_and_orphans(&self.pods, set.meta());
        let owned: Vec<_> = owned.into_iter().filter(|p| !pods::finished(p)).collect();
        let orphans: Vec<_> = orphans.into_iter().filter(|p| pods::active(p)).collect();
        let claim = adopt::claim(&*set, &spec.selector, &owned, &orphans);
        if !claim.is_empty() {
            claim.apply::<T>(&self.context, &set).await?;
            return Ok(None);
        }
        let observed = self.observe(&set, &spec, &owned, settled);
        let now = Timestamp::now();
        let trouble = self.manage(&key, &set, &spec, &owned, plan::manage(&observed, now)).await;
        let status = plan::status(&observed, trouble.as_ref(), now);
        let again = plan::again(&observed, &status, now);
        if status != set.says() {
            self.write_status(&set, status).await?;
        }
        match trouble {
            Some(trouble) => Err(anyhow::anyhow!(trouble.message)),
            None => Ok(again),
        }
    }

    fn observe<'a>(
        &self,
        set: &'a Arc<T>,
        spec: &'a Spec,
        owned: &'a [Arc<Pod>],
        settled: bool,
    ) -> Observed<'a> {
        let surplus = owned.iter().filter(|p| pods::active(p)).count() as i32 > spec.replicas;
        Observed {
            meta: set.meta(),
            spec,
            status: set.says(),
            pods: owned.iter().map(|p| &**p).collect(),
            neighbours: if surplus { self.neighbours(set, owned) } else { HashMap::new() },
            settled,
        }
    }

    /// Active pods per node of all sets with the same owner as this one.
    fn neighbours(&self, set: &Arc<T>, owned: &[Arc<Pod>]) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        let mut count = |pods: &[Arc<Pod>]| {
            for node in pods.iter().filter(|p| pods::active(p)).filter_map(|p| pods::node(p)) {
                *counts.entry(node.to_string()).or_insert(0) += 1;
            }
        };
        match controller(set.meta()) {
            None => count(owned),
            Some(owner) => {
                for sibling in self.sets.by_index(adopt::BY_CONTROLLER, &owner.uid) {
                    count(&self.pods.by_index(pods::BY_CONTROLLER, uid(sibling.meta())));
                }
            }
        }
        counts
    }

    async fn manage(
        &self,
        key: &Key,
        set: &T,
        spec: &Spec,
        owned: &[Arc<Pod>],
        what: Manage,
    ) -> Option<Trouble> {
        match what {
            Manage::Nothing => None,
            Manage::Create(count) => {
                self.expectations.expect(key, count, []);
                let failed = self.create(key, set, spec, count).await?;
                Some(Trouble { creating: true, message: failed })
            }
            Manage::Delete(names) => {
                let victims = owned.iter().filter(|p| names.iter().any(|n| n == name(&p.metadata)));
                let victims: Vec<_> = victims.cloned().collect();
                self.instruments.ages(owned, &victims, Timestamp::now());
                self.expectations.expect(key, 0, victims.iter().map(|p| seen_as(&p.metadata)));
                let failed = self.delete(key, set, &victims).await?;
                Some(Trouble { creating: false, message: failed })
            }
        }
    }

    /// Makes pods in batches of 1, 2, 4, ...: a batch with a failure is the last.
    async fn create(&self, key: &Key, set: &T, spec: &Spec, count: usize) -> Option<String> {
        let pod =
            pods::from_template(&spec.template, name(set.meta()), namespace(set.meta()), controller_ref(set));
        let write = Write::create(&pod);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| self.create_one(key, set, &write))).await;
            left -= size;
            if let Some(failed) = results.into_iter().find_map(Result::err) {
                self.expectations.created_many(key, left);
                // Nothing can be made in a namespace that is going away, and that is no failure.
                return (!failed.namespace_terminating()).then(|| failed.message.clone());
            }
            batch *= 2;
        }
        None
    }

    async fn create_one(&self, key: &Key, set: &T, write: &Write) -> Result<(), Failure> {
        let account = (&*self.expectations, &self.doubts);
        creation::pod(&self.context, reference(set), key, &creation::named(write), account).await
    }

    async fn delete(&self, key: &Key, set: &T, victims: &[Arc<Pod>]) -> Option<String> {
        let results = join_all(victims.iter().map(|pod| self.delete_one(key, set, pod))).await;
        results.into_iter().flatten().next()
    }

    async fn delete_one(&self, key: &Key, set: &T, pod: &Pod) -> Option<String> {
        let pod_name = name(&pod.metadata);
        match self.context.writer.send(&Write::delete(pod)).await {
            Ok(_) => {
                let message = format!("Deleted pod: {pod_name}");
                self.context.recorder.normal(&reference(set), "SuccessfulDelete", message);
                None
            }
            Err(failure) => {
                self.expectations.deleted(key, &seen_as(&pod.metadata));
                if failure.not_found() {
                    return None;
                }
                self.doubts.failed(key, pod_name, &failure);
                let message = format!("Error deleting: {}", failure.message);
                self.context.recorder.warning(&reference(set), "FailedDelete", message.clone());
                Some(message)
            }
        }
    }

    /// Writes the status; on a conflict once more over a fresh read.
    async fn write_status(&self, set: &T, status: super::kinds::Status) -> anyhow::Result<()> {
        let write = Write::update_status(&set.with_status(status.clone()));
        match self.context.writer.send(&write).await {
            Err(failure) if failure.conflict() => {
                let api: Api<T> = Api::namespaced(self.context.writer.client(), namespace(set.meta()));
                let live = api.get(name(set.meta())).await?;
                if live.meta().uid != set.meta().uid {
                    return Ok(());
                }
                self.context.writer.send(&Write::update_status(&live.with_status(status))).await?;
                Ok(())
            }
            Err(failure) if failure.not_found() => Ok(()),
            Err(failure) => Err(failure.into()),
            Ok(_) => Ok(()),
        }
    }
}
