//! What a Job and its pods come to, before anything is decided.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec};
use k8s_openapi::api::core::v1::Pod;

use super::backoff::Record;
use super::indexes::Indexes;
use super::pods::{failed, failures_before, index_of, indexed, restarts, succeeded, tracked, valid_index};
use super::policy::{Verdict, fails_job, judge, success};
use crate::kit::meta::{uid, until};
use crate::kit::pods;

/// A Job with everything a decision about it rests on.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub job: Job,
    /// Its pods as the cache has them.
    pub pods: Vec<Arc<Pod>>,
    /// UIDs of pods that were let go, which the cache does not show yet.
    pub freed: HashSet<String>,
    /// Whether the cache shows all pods made and deleted so far.
    pub settled: bool,
    pub backoff: Record,
}

/// How the Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    pub failed: bool,
    pub reason: String,
    pub message: String,
}

impl Finish {
    /// It fails.
    pub fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self { failed: true, reason: reason.into(), message: message.into() }
    }

    /// It has done what was asked.
    pub fn success(reason: &str, message: impl Into<String>) -> Self {
        Self { failed: false, reason: reason.into(), message: message.into() }
    }

    fn of(condition: &JobCondition, failed: bool) -> Self {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        Self { failed, reason: text(&condition.reason), message: text(&condition.message) }
    }
}

/// The reckoning.
pub struct View<'a> {
    pub observed: &'a Observed,
    pub spec: &'a JobSpec,
    /// Neither ended nor being deleted.
    pub active: Vec<&'a Pod>,
    pub ready: i32,
    pub terminating: i32,
    /// Counted before, and newly ended.
    pub succeeded: i32,
    pub failed: i32,
    /// Indexes completed as the status has them, and with those newly ended.
    pub done_before: Indexes,
    pub done: Indexes,
    /// Failed indexes, where they are limited.
    pub lost: Option<Indexes>,
    /// Failed pods kept until their index has a new pod that carries the count of failures on.
    pub kept: BTreeMap<i32, &'a Pod>,
    pub backoff: Record,
    pub finish: Option<Finish>,
    /// Time left until the deadline.
    pub deadline: Option<std::time::Duration>,
}

/// A condition that holds.
pub fn holds<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// Complete or Failed.
pub fn finished(job: &Job) -> bool {
    holds(job, "Complete").or_else(|| holds(job, "Failed")).is_some()
}

/// Whether the Job is held back.
pub fn suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

/// UIDs noted in the status as ended and not yet counted: succeeded, failed.
fn noted(job: &Job) -> (HashSet<&str>, HashSet<&str>) {
    let noted = job.status.as_ref().and_then(|s| s.uncounted_terminated_pods.as_ref());
    (
        noted.iter().flat_map(|n| n.succeeded.iter().flatten()).map(String::as_str).collect(),
        noted.iter().flat_map(|n| n.failed.iter().flatten()).map(String::as_str).collect(),
    )
}

impl<'a> View<'a> {
    /// The reckoning of an observation; `None` for a Job without a spec.
    pub fn of(observed: &'a Observed, now: Timestamp) -> Option<Self> {
        let spec = observed.job.spec.as_ref()?;
        let pods = || observed.pods.iter().map(|p| &**p);
        let active: Vec<&Pod> = pods().filter(|p| pods::active(p)).collect();
        let mut view = Self {
            observed,
            spec,
            ready: active.iter().filter(|p| pods::ready(p)).count() as i32,
            active,
            terminating: pods().filter(|p| pods::terminating(p)).count() as i32,
            succeeded: 0,
            failed: 0,
            done_before: Indexes::default(),
            done: Indexes::default(),
            lost: None,
            kept: BTreeMap::new(),
            backoff: observed.backoff,
            finish: None,
            deadline: None,
        };
        view.count();
        view.index();
        view.deadline = view.until_deadline(now);
        view.finish = view.ending();
        view.keep();
        Some(view)
    }

    /// Pods whose end may still have to be counted.
    pub fn open(&self) -> impl Iterator<Item = &'a Pod> {
        let freed = &self.observed.freed;
        let pods = self.observed.pods.iter().map(|p| &**p);
        pods.filter(move |p| tracked(p) && !freed.contains(uid(&p.metadata)))
    }

    fn relevant(&self, pod: &Pod) -> bool {
        !indexed(self.spec) || valid_index(pod, self.spec).is_some()
    }

    fn count(&mut self) {
        let (good, bad) = noted(&self.observed.job);
        let new = |noted: &HashSet<&str>, is: &dyn Fn(&Pod) -> bool| -> Vec<&'a Pod> {
            self.open().filter(|p| !noted.contains(uid(&p.metadata)) && self.relevant(p) && is(p)).collect()
        };
        let succeeded = new(&good, &succeeded);
        let failed = new(&bad, &|p| failed(p, self.spec));
        let counted = failed.iter().filter(|p| judge(self.spec, p).counts()).count();
        let status = self.observed.job.status.as_ref();
        let before = |of: Option<i32>, noted: usize| of.unwrap_or(0) + noted as i32;
        let totals = (
            before(status.and_then(|s| s.succeeded), good.len()) + succeeded.len() as i32,
            before(status.and_then(|s| s.failed), bad.len()) + counted as i32,
        );
        self.backoff = self.observed.backoff.after(&succeeded, &failed);
        (self.succeeded, self.failed) = totals;
    }

    fn index(&mut self) {
        if !indexed(self.spec) {
            return;
        }
        let completions = self.spec.completions.unwrap_or(0);
        let status = self.observed.job.status.as_ref();
        let text = status.and_then(|s| s.completed_indexes.as_deref()).unwrap_or_default();
        self.done_before = Indexes::parse(text, completions);
        self.done = self.done_before.clone();
        let new: Vec<i32> = self.open_by_index().filter(|(_, p)| succeeded(p)).map(|(i, _)| i).collect();
        new.into_iter().for_each(|i| self.done.add(i));
        self.succeeded = self.done.total();
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let text = status.and_then(|s| s.failed_indexes.as_deref()).unwrap_or_default();
        let mut lost = Indexes::parse(text, completions);
        let given_up = self.open_by_index().filter(|(i, p)| !self.done.has(*i) && self.gives_up(p, limit));
        given_up.for_each(|(i, _)| lost.add(i));
        self.lost = Some(lost);
    }

    /// Pods still to be counted, with their indexes.
    fn open_by_index(&self) -> impl Iterator<Item = (i32, &'a Pod)> {
        let spec = self.spec;
        self.open().filter_map(move |p| Some((valid_index(p, spec)?, p)))
    }

    fn gives_up(&self, pod: &Pod, limit: i32) -> bool {
        if !failed(pod, self.spec) {
            return false;
        }
        match judge(self.spec, pod) {
            Verdict::FailIndex => true,
            verdict => verdict.counts() && failures_before(pod).0 >= limit,
        }
    }

    /// Failed pods of indexes that are to be tried again: one each, that with the most failures before it.
    fn keep(&mut self) {
        let Some(lost) = &self.lost else { return };
        let busy: BTreeSet<i32> = self.active.iter().filter_map(|p| index_of(p)).collect();
        let settled = |i: i32| self.done.has(i) || lost.has(i) || busy.contains(&i);
        let mut kept: BTreeMap<i32, &'a Pod> = BTreeMap::new();
        let sum = |p: &Pod| failures_before(p).0.saturating_add(failures_before(p).1);
        for (index, pod) in self.open_by_index().filter(|(i, p)| failed(p, self.spec) && !settled(*i)) {
            let entry = kept.entry(index).or_insert(pod);
            if sum(pod) > sum(entry) {
                *entry = pod;
            }
        }
        self.kept = kept;
    }

    fn until_deadline(&self, now: Timestamp) -> Option<std::time::Duration> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !suspended(self.spec))?;
        let start = self.observed.job.status.as_ref().and_then(|s| s.start_time.as_ref());
        let start = start.map_or(now, |t| t.0);
        let at = start.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(until(at, now))
    }

    fn ending(&self) -> Option<Finish> {
        self.told().or_else(|| self.failure()).or_else(|| self.index_failure()).or_else(|| {
            let rule = success(self.spec, &self.done)?;
            Some(Finish::success("SuccessPolicy", format!("Matched rules at index {rule}")))
        })
    }

    /// An end that is already in the status.
    fn told(&self) -> Option<Finish> {
        let job = &self.observed.job;
        let success = holds(job, "SuccessCriteriaMet").map(|c| Finish::of(c, false));
        success.or_else(|| holds(job, "FailureTarget").map(|c| Finish::of(c, true)))
    }

    fn failure(&self) -> Option<Finish> {
        if let Some(message) = fails_job(self.spec, self.observed.pods.iter().map(|p| &**p)) {
            return Some(Finish::failed("PodFailurePolicy", message));
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarted_too_often(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(Finish::failed("BackoffLimitExceeded", message));
        }
        let started = self.observed.job.status.as_ref().is_some_and(|s| s.start_time.is_some());
        let over = started && self.deadline.is_some_and(|d| d.is_zero());
        over.then(|| Finish::failed("DeadlineExceeded", "Job was active longer than specified deadline"))
    }

    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let alive = self.observed.pods.iter().filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
        let sum: i32 = alive.map(|p| restarts(p)).sum();
        if limit == 0 { sum > 0 } else { sum >= limit }
    }

    fn index_failure(&self) -> Option<Finish> {
        let lost = self.lost.as_ref()?.total();
        if self.spec.max_failed_indexes.is_some_and(|max| lost > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Finish::failed("MaxFailedIndexesExceeded", message));
        }
        let all = lost.saturating_add(self.done.total()) >= self.spec.completions.unwrap_or(0);
        (lost > 0 && all).then(|| Finish::failed("FailedIndexes", "Job has failed indexes"))
    }
}
