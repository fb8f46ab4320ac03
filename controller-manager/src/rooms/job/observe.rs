//! Wakes, observes, and keeps what must be remembered between two looks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::runner::{Options, Outcome};
use control::{Cache, Event, Expectations, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use parking_lot::Mutex;
use serde_json::json;

use super::backoff::Record;
use super::counts::Counts;
use super::orphans::forsaken;
use super::pods::{FINALIZER, tracked};
use super::run::run;
use super::view::Observed;
use super::{finished, managed_elsewhere};
use crate::kit::doubt::Doubts;
use crate::kit::meta::{controller, is_empty_selector, namespace, selects, uid};
use crate::kit::seen::Seen;
use crate::kit::{Context, adopt, pods};

const CONTROLLER: &str = "job-controller";
/// Changes of pods are gathered for this long.
const BATCH: Duration = Duration::from_secs(1);
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The controller's parts.
pub struct Room {
    pub context: Context,
    pub jobs: Cache<Job>,
    pub pods: Cache<Pod>,
    pub expectations: Expectations<Key>,
    pub seen: Seen<Key>,
    pub doubts: Doubts<Key>,
    pub counts: Counts,
    /// What time it is.
    pub now: fn() -> Timestamp,
    /// Pods that were let go and are still shown as held, per Job.
    freed: Mutex<HashMap<Key, HashSet<String>>>,
    /// Pauses after failures, per Job and its UID.
    backoff: Mutex<HashMap<Key, (String, Record)>>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room::new(context.clone(), adopt::owned_cache(&context), context.pods()));
    let queue = Queue::with_backoff(RETRY.0, RETRY.1);
    let orphans = Queue::new();
    wake(&room, &queue, &orphans);
    let workers = context.config.workers("job", 5);
    let looker = room.clone();
    context.run(Options::new(CONTROLLER, workers), queue, move |key| {
        let room = looker.clone();
        async move { room.sync(key).await }
    });
    context.run(Options::new("job-controller orphans", 1), orphans, move |key| {
        let room = room.clone();
        async move { room.sync_orphan(key).await }
    });
}

/// Whether an owner is a Job.
pub fn is_job(owner: &OwnerReference) -> bool {
    owner.kind == "Job" && owner.api_version == "batch/v1"
}

pub(super) fn wake(room: &Arc<Room>, queue: &Queue<Key>, orphans: &Queue<Key>) {
    let (r, q, o) = (room.clone(), queue.clone(), orphans.clone());
    room.jobs.handle(move |event| r.job_changed(event, &q, &o));
    let (r, q, o) = (room.clone(), queue.clone(), orphans.clone());
    room.pods.handle(move |event| r.pod_changed(event, &q, &o));
}

impl Room {
    /// A room that remembers nothing yet.
    pub fn new(context: Context, jobs: Cache<Job>, pods: Cache<Pod>) -> Self {
        Self {
            counts: Counts::register(&context.metrics),
            context,
            jobs,
            pods,
            expectations: Expectations::new(),
            seen: Seen::default(),
            doubts: Doubts::default(),
            now: Timestamp::now,
            freed: Mutex::default(),
            backoff: Mutex::default(),
        }
    }

    fn job_changed(&self, event: &Event<Job>, queue: &Queue<Key>, orphans: &Queue<Key>) {
        if let Some(job) = event.new.as_ref().filter(|j| event.old.is_none() && managed_elsewhere(j)) {
            self.counts.foreign(job);
        }
        let id = |j: &Option<Arc<Job>>| j.as_ref().map(|j| uid(&j.metadata).to_string());
        if event.new.is_none() || (event.old.is_some() && id(&event.old) != id(&event.new)) {
            self.forget(&event.key);
        }
        if let Some(job) = event.object().filter(|j| event.new.is_none() || finished(j)) {
            let held = self.pods.by_index(pods::BY_CONTROLLER, uid(&job.metadata));
            held.iter().filter(|p| tracked(p)).for_each(|p| orphans.add(Key::of(&**p)));
        }
        let generation = |j: &Option<Arc<Job>>| j.as_ref().and_then(|j| j.metadata.generation);
        let status_only = event.old.is_some() && generation(&event.old) == generation(&event.new);
        if status_only {
            queue.add_after(event.key.clone(), BATCH);
        } else {
            queue.add(event.key.clone());
        }
    }

    fn pod_changed(&self, event: &Event<Pod>, queue: &Queue<Key>, orphans: &Queue<Key>) {
        self.counts.pod(event.old.as_deref(), event.new.as_deref());
        for pod in event.old.iter().chain(&event.new) {
            if let Some(key) = job_key(pod) {
                queue.add_after(key, BATCH);
            }
        }
        if let Some((pod, key)) = event.object().and_then(|p| Some((p, job_key(p)?))) {
            self.observe_pod(event, pod, &key);
        }
        let Some(pod) = &event.new else { return };
        if controller(&pod.metadata).is_none() {
            self.candidates(pod).into_iter().for_each(|key| queue.add(key));
        }
        // Whether it is so is asked again when the caches are whole.
        if forsaken(pod, self.job_of(pod).as_deref()) {
            orphans.add(event.key.clone());
        }
    }

    fn observe_pod(&self, event: &Event<Pod>, pod: &Pod, key: &Key) {
        let fresh = event.old.as_ref().is_none_or(|old| old.metadata.uid != pod.metadata.uid);
        if fresh && event.new.is_some() {
            self.expectations.created(key);
        }
        if event.new.is_none() || pod.metadata.deletion_timestamp.is_some() {
            self.expectations.deleted(key, uid(&pod.metadata));
        }
        if event.new.is_none() || !tracked(pod) {
            self.not_freed(key, pod);
        }
    }

    /// Jobs that would like to have a pod nobody controls.
    fn candidates(&self, pod: &Pod) -> Vec<Key> {
        let wants = |job: &&Arc<Job>| {
            selector(job).is_some_and(|s| !is_empty_selector(s) && selects(s, pod.metadata.labels.as_ref()))
        };
        let jobs = self.jobs.by_namespace(namespace(&pod.metadata));
        jobs.iter().filter(wants).map(|j| Key::of(&**j)).collect()
    }

    /// Remembers that a pod is let go, until the cache shows it.
    pub fn expect_free(&self, key: &Key, pod: &Pod) {
        let uid = uid(&pod.metadata).to_string();
        self.freed.lock().entry(key.clone()).or_default().insert(uid);
    }

    /// The cache shows it, or it was not done.
    pub fn not_freed(&self, key: &Key, pod: &Pod) {
        let mut freed = self.freed.lock();
        let Some(uids) = freed.get_mut(key) else { return };
        uids.remove(uid(&pod.metadata));
        if uids.is_empty() {
            freed.remove(key);
        }
    }

    fn forget(&self, key: &Key) {
        self.expectations.forget(key);
        self.doubts.forget(key);
        self.freed.lock().remove(key);
        self.backoff.lock().remove(key);
    }

    /// Looks at a Job.
    pub(super) async fn sync(&self, key: Key) -> Outcome {
        let Some(job) = self.jobs.get_key(&key) else {
            self.forget(&key);
            return Ok(None);
        };
        if managed_elsewhere(&job) {
            return Ok(None);
        }
        if finished(&job) {
            self.backoff.lock().remove(&key);
            return Ok(None);
        }
        // A decision over a status older than the last one written would be about pods that are counted already.
        let behind = self.seen.behind(&key, control::cache::version_of(&*job).unwrap_or(u64::MAX));
        if self.counts.skips.note(behind, "batch", "jobs") {
            return Ok(Some(BATCH));
        }
        if !self
            .doubts
            .settled(&self.context, &self.pods, &key.namespace, &key, Some(&self.expectations))
            .await?
        {
            return Ok(Some(BATCH));
        }
        self.look(&key, &job).await
    }

    async fn look(&self, key: &Key, job: &Arc<Job>) -> Outcome {
        let Some(spec) = job.spec.as_ref().filter(|s| self.mode_known(job, s)) else { return Ok(None) };
        let Some(wants) = selector(job).filter(|s| !is_empty_selector(s)) else { return Ok(None) };
        // Whether earlier writes are settled is asked before the pods are read, never after.
        let settled = self.expectations.satisfied(key);
        let freed = self.freed.lock().get(key).cloned().unwrap_or_default();
        let (mut owned, orphans) = pods::owned_and_orphans(&self.pods, &job.metadata);
        owned.sort_by(|a, b| uid(&a.metadata).cmp(uid(&b.metadata)));
        let claim = claim(job, wants, &owned, &orphans);
        if !claim.is_empty() {
            claim.apply::<Job>(&self.context, job).await?;
            return Ok(None);
        }
        let backoff = self.record(key, job);
        let observed = Observed { job: (**job).clone(), pods: owned, freed, settled, backoff };
        tracing::trace!(%key, pods = observed.pods.len(), parallelism = spec.parallelism, "job");
        let begin = Instant::now();
        let outcome = run(&observed, self, (self.now)()).await;
        self.counts.looked(job, outcome.as_ref().ok(), begin.elapsed());
        let outcome = outcome?;
        self.backoff.lock().insert(key.clone(), (uid(&job.metadata).into(), outcome.backoff));
        match outcome.trouble {
            Some(trouble) => Err(anyhow::anyhow!(trouble)),
            None => Ok(outcome.again),
        }
    }

    fn record(&self, key: &Key, job: &Job) -> Record {
        let records = self.backoff.lock();
        records.get(key).filter(|(of, _)| of == uid(&job.metadata)).map(|(_, r)| *r).unwrap_or_default()
    }

    fn mode_known(&self, job: &Job, spec: &JobSpec) -> bool {
        let known = matches!(spec.completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed"));
        if !known {
            let message = "Skipped Job sync because completion mode is unknown";
            self.context.recorder.warning(&control::events::reference(job), "UnknownCompletionMode", message);
        }
        known
    }
}

fn selector(job: &Job) -> Option<&LabelSelector> {
    job.spec.as_ref()?.selector.as_ref()
}

fn job_key(pod: &Pod) -> Option<Key> {
    let owner = controller(&pod.metadata).filter(|o| is_job(o))?;
    Some(Key::new(namespace(&pod.metadata), &owner.name))
}

/// Adoption holds the pods too, and release lets them go.
fn claim(job: &Job, wants: &LabelSelector, owned: &[Arc<Pod>], orphans: &[Arc<Pod>]) -> adopt::Claim {
    let mut claim = adopt::claim(job, wants, owned, orphans);
    for write in &mut claim.adopt {
        write.body["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    for write in &mut claim.release {
        write.body["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([FINALIZER]);
    }
    claim
}
