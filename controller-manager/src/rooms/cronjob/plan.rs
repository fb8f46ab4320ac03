//! What a CronJob needs: bookkeeping of its Jobs, the one that is due, and when to look again.

use std::collections::HashSet;
use std::time::Duration;

use control::events::{Kind as EventKind, reference};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use machinery::cron::Schedule;

use crate::kit::meta::{annotation, controller_ref, name, namespace, uid, until};
use crate::rooms::job::{finished, holds};

/// The annotation that says for what time a Job was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are worth a warning.
const MANY: i64 = 100;
/// Two times that are none, or the same.
const TOO_CLOSE: &str = "time difference between two schedules is less than 1 second";
/// Looked at this long after the hour: clocks differ.
const DELAY: SignedDuration = SignedDuration::from_millis(100);

/// What is known.
pub struct Observed<'a> {
    pub cron: &'a CronJob,
    /// The Jobs it controls.
    pub jobs: Vec<&'a Job>,
    /// UIDs of active Jobs that the API server does not have either.
    pub missing: HashSet<String>,
    /// The manager's own zone, for CronJobs that name none.
    pub zone: TimeZone,
    /// Jobs made, as far as the status does not say so yet.
    pub made: Vec<Made>,
}

/// A Job that is known to have been made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Unless it is over.
    pub job: Option<ObjectReference>,
    /// The time it was made for.
    pub at: Timestamp,
}

/// An event about the CronJob.
pub type Note = (EventKind, &'static str, String);

/// The decision.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Finished Jobs beyond what is kept.
    pub old: Vec<&'a Job>,
    /// Active Jobs to make room for the new one.
    pub replace: Vec<ObjectReference>,
    /// The Job that is due, and for when.
    pub make: Option<(Job, Timestamp)>,
    /// The status but for what making a Job adds.
    pub status: CronJobStatus,
    pub events: Vec<Note>,
    pub again: Option<Duration>,
}

/// What to do now.
pub fn plan<'a>(o: &Observed<'a>, now: Timestamp) -> Plan<'a> {
    let mut plan = Plan { status: o.cron.status.clone().unwrap_or_default(), ..Plan::default() };
    plan.old = old(o);
    for made in &o.made {
        made.job.iter().for_each(|job| super::enlist(&mut plan.status, job.clone()));
        ran(&mut plan.status, made.at);
    }
    book(o, &mut plan);
    if o.cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let spec = &o.cron.spec;
    let Some((schedule, zone)) = clock(o, spec, &mut plan) else { return plan };
    match due(o.cron, &plan.status, &schedule, &zone, true, now) {
        Err(why) => {
            warn(&mut plan, "InvalidSchedule", format!("invalid schedule: {} : {why}", spec.schedule))
        }
        Ok(found) => {
            if found.many && found.latest.is_some() {
                let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
                warn(&mut plan, "TooManyMissedTimes", message.into());
            }
            if let Some(at) = found.latest {
                start(o, spec, at, &zone, &mut plan, now);
            }
            plan.again = wait(o.cron, &plan, &schedule, &zone, now);
        }
    }
    plan
}

fn warn(plan: &mut Plan<'_>, reason: &'static str, message: String) {
    plan.events.push((EventKind::Warning, reason, message));
}

fn tell(plan: &mut Plan<'_>, reason: &'static str, message: String) {
    plan.events.push((EventKind::Normal, reason, message));
}

/// The time a Job was made for, if it was for one.
fn scheduled(job: &Job) -> Option<Timestamp> {
    annotation(&job.metadata, SCHEDULED)?.parse().ok()
}

/// Whether a Job was made for a time that the status does not know of: whoever made it got no further.
pub fn forgotten(cron: &CronJob, job: &Job) -> bool {
    let last = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
    scheduled(job).is_some_and(|at| last.is_none_or(|last| at > last.0))
}

/// Notes that a Job was made for a time.
fn ran(status: &mut CronJobStatus, at: Timestamp) {
    if status.last_schedule_time.as_ref().is_none_or(|last| at > last.0) {
        status.last_schedule_time = Some(Time(at));
    }
}

/// Finished Jobs beyond the history that is kept, oldest first. One the status does not know of stays until it does:
/// it is all that says that its time has been.
fn old<'a>(o: &Observed<'a>) -> Vec<&'a Job> {
    let spec = &o.cron.spec;
    let limits =
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    let mut going = Vec::new();
    for (kind, limit) in limits {
        let Some(limit) = limit else { continue };
        let mut ended: Vec<&Job> = o.jobs.iter().copied().filter(|j| holds(j, kind).is_some()).collect();
        let start = |j: &Job| j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        ended.sort_by_key(|j| (start(j).is_none(), start(j), name(&j.metadata).to_string()));
        let excess = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        going.extend(ended.into_iter().take(excess));
    }
    going.retain(|j| j.metadata.deletion_timestamp.is_none() && !forgotten(o.cron, j));
    going
}

/// The active list, and the time of the last success.
fn book(o: &Observed<'_>, plan: &mut Plan<'_>) {
    let listed = |plan: &Plan<'_>, uid: &str| {
        plan.status.active.iter().flatten().any(|r| r.uid.as_deref() == Some(uid))
    };
    for job in &o.jobs {
        let id = uid(&job.metadata);
        let over = finished(job);
        if let Some(at) = scheduled(job).filter(|_| forgotten(o.cron, job)) {
            ran(&mut plan.status, at);
        }
        match (listed(plan, id), over) {
            (false, false) => {
                let message = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    name(&job.metadata)
                );
                warn(plan, "UnexpectedJob", message);
                // Its own, made and not written down: it counts, or there would be two at a time.
                if forgotten(o.cron, job) && job.metadata.deletion_timestamp.is_none() {
                    super::enlist(&mut plan.status, reference(*job));
                }
            }
            (true, true) => {
                let kind = if holds(job, "Complete").is_some() { "Complete" } else { "Failed" };
                super::strike(&mut plan.status, id);
                let message = format!("Saw completed job: {}, condition: {kind}", name(&job.metadata));
                tell(plan, "SawCompletedJob", message);
            }
            _ => {}
        }
        let completed = job.status.as_ref().and_then(|s| s.completion_time.as_ref());
        if let Some(at) = completed.filter(|_| holds(job, "Complete").is_some())
            && plan.status.last_successful_time.as_ref().is_none_or(|last| at.0 > last.0)
        {
            plan.status.last_successful_time = Some(at.clone());
        }
    }
    for gone in plan.status.active.clone().into_iter().flatten() {
        let id = gone.uid.as_deref().unwrap_or_default();
        if o.missing.contains(id) {
            super::strike(&mut plan.status, id);
            tell(plan, "MissingJob", format!("Active job went missing: {}", gone.name.unwrap_or_default()));
        }
    }
}

/// The schedule and its zone, unless the CronJob rests.
fn clock(o: &Observed<'_>, spec: &CronJobSpec, plan: &mut Plan<'_>) -> Option<(Schedule, TimeZone)> {
    let mut zone = o.zone.clone();
    let mut text = spec.schedule.as_str();
    if let Some(wanted) = &spec.time_zone {
        zone = find_zone(wanted, plan)?;
    }
    if spec.suspend == Some(true) {
        return None;
    }
    // Only objects older than the field may still carry a zone here.
    if let Some((named, rest)) = text.split_once(' ').filter(|(head, _)| head.contains("TZ=")) {
        let message = format!(
            "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            spec.schedule
        );
        warn(plan, "UnsupportedSchedule", message);
        if spec.time_zone.is_none() {
            zone = find_zone(named.split_once('=').map_or("", |(_, z)| z), plan)?;
        }
        text = rest.trim_start();
    }
    match Schedule::parse(text) {
        Ok(schedule) => Some((schedule, zone)),
        Err(why) => {
            warn(plan, "UnparseableSchedule", format!("unparseable schedule: {:?} : {why}", spec.schedule));
            None
        }
    }
}

fn find_zone(wanted: &str, plan: &mut Plan<'_>) -> Option<TimeZone> {
    let found = TimeZone::get(wanted).ok();
    if found.is_none() {
        let message = format!("invalid timeZone: {wanted:?}: unknown time zone {wanted}");
        warn(plan, "UnknownTimeZone", message);
    }
    found
}

/// What has become due since the last time.
#[derive(Debug)]
struct Due {
    since: Timestamp,
    latest: Option<Timestamp>,
    missed: bool,
    many: bool,
}

fn due(
    cron: &CronJob,
    status: &CronJobStatus,
    schedule: &Schedule,
    zone: &TimeZone,
    deadline: bool,
    now: Timestamp,
) -> Result<Due, String> {
    let mut since = status.last_schedule_time.as_ref().or(cron.metadata.creation_timestamp.as_ref());
    let none = Time(Timestamp::UNIX_EPOCH);
    let mut from = since.take().unwrap_or(&none).0;
    let limit = cron.spec.starting_deadline_seconds.filter(|_| deadline);
    if let Some(earliest) = limit.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok()) {
        from = from.max(earliest);
    }
    let mut due = Due { since: from, latest: None, missed: false, many: false };
    // A day that never comes (the 30th of February) is no schedule.
    let first = schedule.next(from, zone).ok_or(TOO_CLOSE)?;
    if first > now {
        return Ok(due);
    }
    let Some(second) = schedule.next(first, zone).filter(|t| *t <= now) else {
        due.latest = Some(first);
        return Ok(due);
    };
    let gap = second.duration_since(first).as_secs();
    if gap < 1 {
        return Err(TOO_CLOSE.into());
    }
    let count = now.duration_since(first).as_secs() / gap + 1;
    (due.missed, due.many) = (true, count > MANY);
    // From shortly before the latest on, so that a long pause is not walked through step by step.
    let close = first.checked_add(SignedDuration::from_secs((count - 2).saturating_mul(gap)));
    let mut at = close.ok().and_then(|t| schedule.next(t, zone));
    while let Some(t) = at.filter(|t| *t <= now) {
        due.latest = Some(t);
        at = schedule.next(t, zone);
    }
    Ok(due)
}

fn start(
    o: &Observed<'_>,
    spec: &CronJobSpec,
    at: Timestamp,
    zone: &TimeZone,
    plan: &mut Plan<'_>,
    now: Timestamp,
) {
    let limit = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if limit.is_some_and(|l| at.checked_add(l).is_ok_and(|end| end < now)) {
        let text = at.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
        return warn(plan, "MissSchedule", format!("Missed scheduled time to start a job: {text}"));
    }
    let job = job(o.cron, spec, at, zone);
    let active = plan.status.active.clone().unwrap_or_default();
    let running = active.iter().any(|r| r.name == job.metadata.name);
    if running || plan.status.last_schedule_time.as_ref().is_some_and(|t| t.0 == at) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            return tell(plan, "JobAlreadyActive", message.into());
        }
        Some("Replace") => plan.replace = active,
        _ => {}
    }
    plan.make = Some((job, at));
}

/// The Job for a time.
fn job(cron: &CronJob, spec: &CronJobSpec, at: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED.into(), local.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", name(&cron.metadata), at.as_second().div_euclid(60))),
            namespace: Some(namespace(&cron.metadata).into()),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(cron)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec.job_template.spec.clone().unwrap_or_default()),
        status: None,
    }
}

/// How long until the next time, supposing that what is planned is done.
fn wait(
    cron: &CronJob,
    plan: &Plan<'_>,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
) -> Option<Duration> {
    let mut status = plan.status.clone();
    if let Some((_, at)) = &plan.make {
        status.last_schedule_time = Some(Time(*at));
    }
    let from = match due(cron, &status, schedule, zone, false, now) {
        Ok(Due { latest: Some(latest), .. }) => latest,
        Ok(Due { since, missed: false, .. }) => since,
        _ => now,
    };
    let next = schedule.next(from, zone)?.checked_add(DELAY).ok()?;
    Some(until(next, now))
}
