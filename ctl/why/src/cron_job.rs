//! CronJobs: when they run, and why they do not.

use coxctl_kit::dig;
use jiff::tz::TimeZone;
use machinery::cron::Schedule;
use serde_json::Value;

use crate::case::{Case, event_time};
use crate::facts;
use crate::finding::{Finding, Mood, Reason};
use crate::{job, leaving, words};

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let written = case.text("spec.schedule");
    let (schedule, zone) = match (Schedule::parse(bare(written)), zone(case, written)) {
        (Ok(schedule), Ok(zone)) => (schedule, zone),
        (Err(why), _) => {
            let reason = Reason::new("schedule", format!("spec.schedule {written:?} can't be read: {why}"));
            return Finding::bad(
                "never runs",
                vec![
                    reason
                        .seen("CronJob", case.name(), "spec.schedule", written)
                        .help("use five fields: minute hour day month weekday"),
                ],
            );
        }
        (_, Err(name)) => {
            let reason = Reason::new("time-zone", format!("there is no time zone named {name:?}"));
            return Finding::bad(
                "never runs",
                vec![
                    reason
                        .seen("CronJob", case.name(), "spec.timeZone", name)
                        .help("use a name such as Europe/Paris"),
                ],
            );
        }
    };
    if dig::flag(case.object, "spec.suspend") {
        let help = format!(
            "`coxctl -n {} patch cronjob {} -p '{{\"spec\":{{\"suspend\":false}}}}'`",
            case.namespace(),
            case.name()
        );
        let reason = Reason::new("suspended", "spec.suspend is true: no Job is started")
            .seen("CronJob", case.name(), "spec.suspend", true)
            .help(help);
        return Finding::bad("is suspended", vec![reason]);
    }
    let next = schedule.next(case.now, &zone);
    let Some(next) = next else {
        let reason = Reason::new(
            "schedule",
            format!("spec.schedule {written:?} names no day that comes within years"),
        );
        return Finding::bad("never runs", vec![reason]);
    };
    let due = format!(
        "next run in {} ({} {})",
        words::span(next.as_second() - case.now.as_second()),
        next.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M"),
        zone.iana_name().unwrap_or("UTC")
    );
    let reasons: Vec<Reason> = running(case).into_iter().chain(missed(case)).chain(last(case)).collect();
    let ran = match case.since("status.lastScheduleTime").as_str() {
        "" => "has not run yet".to_string(),
        ago => format!("ran last {ago} ago"),
    };
    match reasons.is_empty() {
        true => Finding::well(format!("is well: {ran}, {due}")),
        false => Finding::bad(format!("{ran}, {due}"), reasons),
    }
}

/// A schedule without a zone inside.
fn bare(written: &str) -> &str {
    match written.starts_with("TZ=") || written.starts_with("CRON_TZ=") {
        true => written.split_once(' ').map_or(written, |(_, rest)| rest),
        false => written,
    }
}

fn zone(case: &Case<'_>, written: &str) -> Result<TimeZone, String> {
    let inside = written.split_once("TZ=").and_then(|(_, rest)| rest.split(' ').next());
    match inside.unwrap_or(case.text("spec.timeZone")) {
        "" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| name.to_string()),
    }
}

/// A run that is still going keeps the next from starting.
fn running(case: &Case<'_>) -> Option<Reason> {
    let active: Vec<&str> = case.items("status.active").iter().map(|job| dig::text(job, "name")).collect();
    if active.is_empty() || case.text("spec.concurrencyPolicy") != "Forbid" {
        return None;
    }
    let skipped = case
        .event(&["JobAlreadyActive"])
        .map(|event| format!(", as it did {} ago", case.ago(event_time(event))))
        .unwrap_or_default();
    let job = case.facts.find("Job", case.namespace(), active.first()?);
    let cause = job.map(|job| job::explain(&case.about(job))).filter(|finding| finding.mood != Mood::Well);
    let cause = cause.map(|f| format!("; that Job {}{}", f.verdict, first(&f))).unwrap_or_default();
    let text = format!(
        "concurrencyPolicy is Forbid and Job {} still runs: the next run is left out{skipped}{cause}",
        words::list(&active, 2)
    );
    Some(
        Reason::new("concurrency", text)
            .seen("CronJob", case.name(), "spec.concurrencyPolicy", "Forbid")
            .help(format!("see `coxctl -n {} why job/{}`", case.namespace(), active.first()?)),
    )
}

fn first(finding: &Finding) -> String {
    finding.reasons.first().map(|reason| format!(" ({})", reason.sentence)).unwrap_or_default()
}

fn missed(case: &Case<'_>) -> Option<Reason> {
    let event = case.event(&["MissSchedule", "TooManyMissedTimes"])?;
    let last = dig::moment(case.object, "status.lastScheduleTime");
    if event_time(event) <= last {
        return None;
    }
    let deadline = match case.int("spec.startingDeadlineSeconds") {
        0 => String::new(),
        n => format!("; startingDeadlineSeconds is {n}"),
    };
    let text = format!(
        "a run was missed {} ago: {}{deadline}",
        case.ago(event_time(event)),
        words::message(dig::text(event, "message"))
    );
    Some(
        Reason::new("missed", text)
            .seen("Event", case.name(), "reason", dig::text(event, "reason"))
            .help("see that kube-controller-manager runs, and raise startingDeadlineSeconds if it is short"),
    )
}

/// The last Job, if it failed.
fn last(case: &Case<'_>) -> Option<Reason> {
    let jobs = case.facts.children("Job", case.object);
    let last: &Value = jobs.into_iter().max_by_key(|job| dig::moment(job, "metadata.creationTimestamp"))?;
    let finding = job::explain(&case.about(last));
    if finding.mood != Mood::Bad {
        return None;
    }
    let mut reason = Reason::new(
        "last-job",
        format!("its last Job {} {}{}", facts::name(last), finding.verdict, first(&finding)),
    );
    let cause = finding.reasons.into_iter().flat_map(|r| r.evidence).take(4);
    reason.evidence.extend(cause);
    Some(reason.help(format!("see `coxctl -n {} why job/{}`", case.namespace(), facts::name(last))))
}
