//! CronJobs: Jobs made on a schedule. There is no clock that ticks for all; each is looked at when it is next due.

mod plan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::kit::adopt::{self, BY_CONTROLLER};
use crate::kit::meta::{controlled_by, controller, name, namespace, uid};
use crate::kit::seen::Seen;
use crate::kit::{Context, Write};
use crate::rooms::job::finished;
use parking_lot::Mutex;
use plan::{Made, Observed, Plan, plan};

struct Room {
    context: Context,
    crons: Cache<CronJob>,
    jobs: Cache<Job>,
    seen: Seen<Key>,
    /// Jobs made, or perhaps made, that no status says yet.
    pending: Mutex<HashMap<Key, Vec<Pending>>>,
    zone: TimeZone,
    /// How long after their time Jobs are made.
    skew: Histogram,
}

/// A Job that may have been made and is not in the status.
#[derive(Clone, Debug)]
struct Pending {
    name: String,
    at: Timestamp,
    /// It is known to have been made.
    sure: bool,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        crons: context.caches.of(),
        jobs: adopt::owned_cache(&context),
        seen: Seen::default(),
        pending: Mutex::default(),
        zone: TimeZone::system(),
        skew: context.metrics.register(
            "cronjob_controller_job_creation_skew_duration_seconds",
            "Time between when a job was due and when it was made.",
            Histogram::new(exponential_buckets(1.0, 2.0, 10)),
        ),
        context: context.clone(),
    });
    let queue = Queue::new();
    let q = queue.clone();
    room.crons.handle(move |event| q.add(event.key.clone()));
    let q = queue.clone();
    room.jobs.handle(move |event| {
        for job in event.old.iter().chain(&event.new) {
            let owner = controller(&job.metadata);
            if let Some(owner) = owner.filter(|o| o.kind == "CronJob" && o.api_version == "batch/v1") {
                q.add(Key::new(namespace(&job.metadata), &owner.name));
            }
        }
    });
    let workers = context.config.workers("cron-job", 5);
    context.run(Options::new("cronjob-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(cron) = self.crons.get_key(&key) else {
            self.pending.lock().remove(&key);
            return Ok(None);
        };
        // A decision over a status older than the last one written would make a Job twice.
        if self.seen.behind(&key, control::cache::version_of(&*cron).unwrap_or(u64::MAX)) {
            return Ok(Some(std::time::Duration::from_secs(1)));
        }
        let owned = self.jobs.by_index(BY_CONTROLLER, uid(&cron.metadata));
        let missing = self.missing(&cron, &owned).await?;
        let made = self.made(&key, &cron).await?;
        let jobs: Vec<&Job> = owned.iter().map(|j| &**j).collect();
        let observed = Observed { cron: &cron, jobs, missing, zone: self.zone.clone(), made };
        let mut plan = plan(&observed, Timestamp::now());
        let tried = self.apply(&cron, &mut plan).await;
        self.write_status(&cron, plan.status).await?;
        if tried.is_ok() {
            self.pending.lock().remove(&key);
        }
        tried?;
        Ok(plan.again)
    }

    /// The Jobs whose making could not be written down.
    async fn made(&self, key: &Key, cron: &CronJob) -> anyhow::Result<Vec<Made>> {
        let pending = self.pending.lock().get(key).cloned().unwrap_or_default();
        let mut made = Vec::new();
        for one in pending {
            let live = self.api(cron).get_opt(&one.name).await.context("job made before")?;
            let ours = live.filter(|job| controlled_by(&job.metadata, &cron.metadata));
            if ours.is_some() || one.sure {
                let job = ours.filter(|job| !finished(job)).map(|job| reference(&job));
                made.push(Made { job, at: one.at });
            }
        }
        Ok(made)
    }

    /// Remembers a Job until the status has it.
    fn pending(&self, cron: &CronJob, name: &str, at: Timestamp, sure: bool) {
        self.settle(cron, name);
        let pending = Pending { name: name.into(), at, sure };
        self.pending.lock().entry(Key::of(cron)).or_default().push(pending);
    }

    /// That Job was not made.
    fn settle(&self, cron: &CronJob, name: &str) {
        if let Some(pending) = self.pending.lock().get_mut(&Key::of(cron)) {
            pending.retain(|one| one.name != name);
        }
    }

    /// Active Jobs neither the cache nor the API server has.
    async fn missing(&self, cron: &CronJob, owned: &[Arc<Job>]) -> anyhow::Result<HashSet<String>> {
        let mut missing = HashSet::new();
        let status = cron.status.as_ref();
        for active in status.iter().flat_map(|s| s.active.iter().flatten()) {
            let id = active.uid.clone().unwrap_or_default();
            if owned.iter().any(|j| uid(&j.metadata) == id) {
                continue;
            }
            let live = self.api(cron).get_opt(active.name.as_deref().unwrap_or_default()).await;
            if live.context("active job")?.is_none_or(|job| uid(&job.metadata) != id) {
                missing.insert(id);
            }
        }
        Ok(missing)
    }

    fn api(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.context.writer.client(), namespace(&cron.metadata))
    }

    async fn apply(&self, cron: &CronJob, plan: &mut Plan<'_>) -> anyhow::Result<()> {
        for (kind, reason, message) in &plan.events {
            self.context.recorder.record(&reference(cron), *kind, reason, message.clone());
        }
        for job in &plan.old {
            self.delete(cron, &mut plan.status, job).await?;
        }
        for active in &plan.replace {
            let live = self.api(cron).get_opt(active.name.as_deref().unwrap_or_default()).await;
            match live {
                Ok(Some(job)) => self.delete(cron, &mut plan.status, &job).await?,
                Ok(None) => strike(&mut plan.status, active.uid.as_deref().unwrap_or_default()),
                Err(error) => {
                    let message = format!("Get job: {error}");
                    self.context.recorder.warning(&reference(cron), "FailedGet", message);
                    return Err(error.into());
                }
            }
        }
        match plan.make.take() {
            Some((job, at)) => self.make(cron, &mut plan.status, job, at).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, cron: &CronJob, status: &mut CronJobStatus, job: &Job) -> anyhow::Result<()> {
        let recorder = &self.context.recorder;
        match self.context.writer.send(&Write::delete(job).policy("Background")).await {
            Err(failure) if !failure.not_found() => {
                let message = format!("Deleted job: {}", failure.message);
                recorder.warning(&reference(cron), "FailedDelete", message);
                return Err(failure.into());
            }
            _ => {
                let message = format!("Deleted job {}", name(&job.metadata));
                recorder.normal(&reference(cron), "SuccessfulDelete", message);
            }
        }
        strike(status, uid(&job.metadata));
        Ok(())
    }

    async fn make(
        &self,
        cron: &CronJob,
        status: &mut CronJobStatus,
        job: Job,
        at: Timestamp,
    ) -> anyhow::Result<()> {
        let recorder = &self.context.recorder;
        let mut made = reference(&job);
        self.pending(cron, name(&job.metadata), at, false);
        match self.context.writer.send(&Write::create(&job)).await {
            Ok(answer) => {
                self.skew.observe(Timestamp::now().duration_since(at).as_secs_f64().max(0.0));
                made.uid = answer.metadata.uid;
                made.resource_version = answer.metadata.resource_version;
                let message = format!("Created job {}", name(&job.metadata));
                recorder.normal(&reference(cron), "SuccessfulCreate", message);
            }
            Err(failure) if failure.already_exists() => {
                // Made before, and the status could not be written then; or somebody else's.
                let live = self.api(cron).get_opt(name(&job.metadata)).await?;
                let ours = live.filter(|j| controlled_by(&j.metadata, &cron.metadata));
                let Some(live) = ours else { return Ok(()) };
                if finished(&live) {
                    status.last_schedule_time = Some(Time(at));
                    return Ok(());
                }
                made = reference(&live);
            }
            Err(failure) if failure.namespace_terminating() => return Ok(()),
            Err(failure) => {
                if failure.is_definite() {
                    self.settle(cron, name(&job.metadata));
                }
                let message = format!("Error creating job: {}", failure.message);
                recorder.warning(&reference(cron), "FailedCreate", message);
                return Err(failure.into());
            }
        }
        self.pending(cron, name(&job.metadata), at, true);
        enlist(status, made);
        status.last_schedule_time = Some(Time(at));
        Ok(())
    }

    async fn write_status(&self, cron: &CronJob, status: CronJobStatus) -> anyhow::Result<()> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let mut changed = cron.clone();
        changed.status = Some(status);
        match self.context.writer.send(&Write::update_status(&changed)).await {
            Err(failure) if failure.not_found() => Ok(()),
            Err(failure) => Err(failure.into()),
            Ok(answer) => {
                self.seen.wrote(Key::of(cron), &answer);
                Ok(())
            }
        }
    }
}

fn enlist(status: &mut CronJobStatus, job: ObjectReference) {
    let active = status.active.get_or_insert_default();
    if !active.iter().any(|r| r.uid == job.uid) {
        active.push(job);
    }
}

fn strike(status: &mut CronJobStatus, id: &str) {
    if let Some(active) = &mut status.active {
        active.retain(|r| r.uid.as_deref() != Some(id));
        if active.is_empty() {
            status.active = None;
        }
    }
}
