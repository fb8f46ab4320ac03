//! The status: ends are noted first, then the pods are let go, then the counters are raised. A manager that dies in
//! between leaves either a pod that is still held or a note, never neither.

use std::collections::HashSet;

use control::events::Kind as EventKind;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::Decision;
use super::pods::{failed, index_of, indexed, succeeded, valid_index};
use super::policy::{action, judge};
use super::view::{Finish, View, suspended};
use crate::kit::meta::uid;
use crate::kit::pods;

/// Ends noted in one go.
pub const NOTED: usize = 500;

/// What became of the pods that were to be made or deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    pub deleted: i32,
    /// How many of the deleted were ready.
    pub deleted_ready: i32,
    pub made: i32,
    /// Why not all of it was done.
    pub trouble: Option<String>,
}

/// An event about the Job.
pub type Note = (EventKind, &'static str, String);

/// The first half of the bookkeeping.
#[derive(Debug, Default)]
pub struct Tally<'a> {
    /// The status to be written before any pod is let go.
    pub status: JobStatus,
    /// Pods to let go once it is written.
    pub free: Vec<&'a Pod>,
    /// The end, to be said when all is counted.
    pub finish: Option<Finish>,
    /// There was more to note than fits.
    pub full: bool,
    pub events: Vec<Note>,
    /// Actions of the failure policy's rules that newly failed pods met.
    pub handled: Vec<&'static str>,
}

/// Sets a condition; one that is not there is made only if it is to be true. Says whether anything changed.
pub fn set_condition(
    status: &mut JobStatus,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let state = if holds { "True" } else { "False" };
    let present = conditions.iter_mut().find(|c| c.type_ == kind);
    let same = |c: &JobCondition| {
        c.status == state && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    };
    let made = JobCondition {
        type_: kind.into(),
        status: state.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match present {
        Some(c) if same(c) => false,
        Some(c) => {
            *c = made;
            true
        }
        None if holds => {
            conditions.push(made);
            true
        }
        None => false,
    }
}

/// Books what was seen and done.
pub fn tally<'a>(view: &View<'a>, decision: &Decision<'_>, acted: &Acted, now: Timestamp) -> Tally<'a> {
    let mut status = view.observed.job.status.clone().unwrap_or_default();
    status.uncounted_terminated_pods.get_or_insert_default();
    if status.start_time.is_none() && !suspended(view.spec) {
        status.start_time = Some(Time(now));
    }
    let active = view.active.len() as i32 - acted.deleted + acted.made;
    status.active = Some(active);
    status.ready = Some((view.ready - acted.deleted_ready).min(active));
    status.terminating = Some(view.terminating + acted.deleted);
    let mut tally = Tally { status, finish: ending(view, acted, active), ..Tally::default() };
    if view.finish.is_none() && tally.finish.is_none() && decision.managed {
        suspension(view, &mut tally, now);
    }
    note(view, &mut tally);
    target(&mut tally, now);
    tally
}

/// The end, if it may be said: nothing is left to delete, and no pod is unknown.
fn ending(view: &View<'_>, acted: &Acted, active: i32) -> Option<Finish> {
    if !view.observed.settled {
        return None;
    }
    if let Some(finish) = &view.finish {
        return (acted.deleted == view.active.len() as i32).then(|| finish.clone());
    }
    let complete = view.spec.completions.map_or(view.succeeded > 0, |c| view.succeeded >= c) && active == 0;
    complete.then(|| Finish::success("CompletionsReached", "Reached expected number of succeeded pods"))
}

fn suspension(view: &View<'_>, tally: &mut Tally<'_>, now: Timestamp) {
    let held = suspended(view.spec);
    let (reason, message) =
        if held { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
    if !set_condition(&mut tally.status, "Suspended", held, reason, message, now) {
        return;
    }
    tally.status.start_time = (!held).then_some(Time(now));
    let event = if held { "Suspended" } else { "Resumed" };
    tally.events.push((EventKind::Normal, event, message.into()));
}

/// Notes pods that ended, and chooses those that may go.
fn note<'a>(view: &View<'a>, tally: &mut Tally<'a>) {
    let held: HashSet<&str> = view.open().map(|p| uid(&p.metadata)).collect();
    settle(&mut tally.status, &|uid| held.contains(uid));
    let mut done = view.done_before.clone();
    let mut open: Vec<&Pod> = view.open().collect();
    open.sort_by_key(|p| index_of(p));
    let mut new = 0;
    for pod in open {
        if !may_go(view, tally, pod) {
            continue;
        }
        tally.free.push(pod);
        if pods::finished(pod) && !succeeded(pod) && !is_listed(tally, pod) {
            tally.handled.extend(action(view.spec, pod));
        }
        let noted = noted_as(view, tally, pod);
        let index = valid_index(pod, view.spec);
        let id = || uid(&pod.metadata).to_string();
        let lists = tally.status.uncounted_terminated_pods.get_or_insert_default();
        match (noted, index) {
            (Some(true), Some(index)) if indexed(view.spec) => {
                new += usize::from(!done.has(index));
                done.add(index);
            }
            (Some(true), _) => lists.succeeded.get_or_insert_default().push(id()),
            (Some(false), _) => lists.failed.get_or_insert_default().push(id()),
            (None, _) => {}
        }
        let listed = [&lists.succeeded, &lists.failed].map(|l| l.as_ref().map_or(0, Vec::len));
        if new + listed[0] + listed[1] >= NOTED {
            tally.full = true;
            break;
        }
    }
    if indexed(view.spec) {
        tally.status.succeeded = Some(done.total());
        tally.status.completed_indexes = Some(done.to_string());
        if let Some(lost) = &view.lost {
            tally.status.failed_indexes = Some(lost.to_string());
        }
    }
}

fn may_go(view: &View<'_>, tally: &Tally<'_>, pod: &Pod) -> bool {
    if view.observed.job.metadata.deletion_timestamp.is_some() || succeeded(pod) {
        return true;
    }
    // What is cleared away at the end goes once it is seen to be on its way out: it may have ended well just before.
    if tally.finish.is_some() {
        return pods::finished(pod) || pod.metadata.deletion_timestamp.is_some();
    }
    let kept = index_of(pod).and_then(|i| view.kept.get(&i));
    failed(pod, view.spec) && kept.is_none_or(|k| uid(&k.metadata) != uid(&pod.metadata))
}

/// Whether a pod's end was noted before.
fn is_listed(tally: &Tally<'_>, pod: &Pod) -> bool {
    let lists = tally.status.uncounted_terminated_pods.as_ref();
    let listed = lists.iter().flat_map(|l| l.succeeded.iter().chain(&l.failed).flatten());
    listed.into_iter().any(|u| *u == uid(&pod.metadata))
}

/// Whether an end is to be noted as a success or a failure; `None` if it was noted before or does not count.
fn noted_as(view: &View<'_>, tally: &Tally<'_>, pod: &Pod) -> Option<bool> {
    if is_listed(tally, pod) {
        return None;
    }
    if indexed(view.spec) {
        valid_index(pod, view.spec)?;
    }
    if succeeded(pod) {
        return Some(true);
    }
    // What is cleared away because enough succeeded has not failed.
    if tally.finish.as_ref().is_some_and(|f| !f.failed) && !pods::finished(pod) {
        return None;
    }
    // Whatever still runs when a Job fails has failed with it.
    let over = tally.finish.as_ref().is_some_and(|f| f.failed);
    ((failed(pod, view.spec) || over) && judge(view.spec, pod).counts()).then_some(false)
}

/// Raises the counters by ends whose pods are no longer held, and strikes them off. Says whether anything changed.
pub fn settle(status: &mut JobStatus, held: &dyn Fn(&str) -> bool) -> bool {
    let lists = status.uncounted_terminated_pods.get_or_insert_default();
    let strike = |list: &mut Option<Vec<String>>| {
        let Some(uids) = list else { return 0 };
        let before = uids.len();
        uids.retain(|u| held(u));
        let struck = before - uids.len();
        if uids.is_empty() {
            *list = None;
        }
        struck as i32
    };
    let (good, bad) = (strike(&mut lists.succeeded), strike(&mut lists.failed));
    if good > 0 {
        status.succeeded = Some(status.succeeded.unwrap_or(0) + good);
    }
    if bad > 0 {
        status.failed = Some(status.failed.unwrap_or(0) + bad);
    }
    good + bad > 0
}

/// Says what the Job is heading for before its pods are let go.
fn target(tally: &mut Tally<'_>, now: Timestamp) {
    let Some(finish) = &tally.finish else { return };
    let kind = if finish.failed { "FailureTarget" } else { "SuccessCriteriaMet" };
    let told = tally.status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    if !told {
        set_condition(&mut tally.status, kind, true, &finish.reason, &finish.message, now);
    }
}

/// Says the end, if all is counted and nothing is on its way out. Gives the events that go with it.
pub fn conclude(job: &Job, tally: &Tally<'_>, status: &mut JobStatus, now: Timestamp) -> Vec<Note> {
    let Some(finish) = tally.finish.as_ref().filter(|_| !tally.full) else { return Vec::new() };
    let lists = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let open = [&lists.succeeded, &lists.failed].into_iter().any(|l| l.iter().flatten().next().is_some());
    if open || status.terminating.unwrap_or(0) > 0 {
        return Vec::new();
    }
    // One that was held back again has no time of start; what is over must have one.
    status.start_time.get_or_insert(Time(now));
    let kind = if finish.failed { "Failed" } else { "Complete" };
    set_condition(status, kind, true, &finish.reason, &finish.message, now);
    if finish.failed {
        return vec![(EventKind::Warning, leak(&finish.reason), finish.message.clone())];
    }
    status.completion_time = Some(Time(now));
    let wanted = job.spec.as_ref().and_then(|s| s.completions);
    let mut events = Vec::new();
    if wanted.is_some_and(|c| status.succeeded.unwrap_or(0) > c) {
        events.push((EventKind::Warning, "TooManySucceededPods", "Too many succeeded pods".to_string()));
    }
    events.push((EventKind::Normal, "Completed", "Job completed".to_string()));
    events
}

/// The reasons a Job may fail for, as the event recorder wants them.
fn leak(reason: &str) -> &'static str {
    const REASONS: [&str; 5] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    REASONS.into_iter().find(|r| *r == reason).unwrap_or("Failed")
}
