//! Jobs and cron jobs.

use super::page::Page;
use super::pod;
use super::subject::Subject;
use super::workload;
use crate::dig;
use crate::put;
use serde_json::Value;

/// From how many characters on a list of completed indexes is cut at the next comma.
const INDEXES_SHOWN: usize = 50;

/// Writes a job.
pub fn page(subject: &Subject, page: &mut Page) {
    let job = &subject.object;
    page.name(job);
    page.namespace(job);
    selector(&job["spec"]["selector"], page);
    page.labels_and_annotations(job);
    workload::owner(job, page);
    spec(job, page);
    times(job, page);
    pods(job, page);
    pod::template(&job["spec"]["template"], page);
    subject.events(page);
}

fn selector(selector: &Value, page: &mut Page) {
    match dig::selector(selector) {
        Ok(text) => page.field(0, "Selector", text),
        Err(error) => page.field(0, "Selector", format!("Failed to get selector: {error}")),
    }
}

fn spec(job: &Value, page: &mut Page) {
    for (title, field, missing) in [
        ("Parallelism", "parallelism", None),
        ("Completions", "completions", Some("<unset>")),
        ("Completion Mode", "completionMode", None),
        ("Suspend", "suspend", None),
        ("Backoff Limit", "backoffLimit", None),
        ("TTL Seconds After Finished", "ttlSecondsAfterFinished", None),
    ] {
        optional(&job["spec"], 0, title, field, missing, page);
    }
}

/// A field that is left out, or said to be missing, when it is.
fn optional(object: &Value, level: usize, title: &str, field: &str, missing: Option<&str>, page: &mut Page) {
    match (&object[field], missing) {
        (Value::Null, None) => {}
        (Value::Null, Some(missing)) => page.field(level, title, missing),
        (value, _) => page.field(level, title, dig::int_or_string(value)),
    }
}

fn times(job: &Value, page: &mut Page) {
    for (title, path) in [("Start Time", "status.startTime"), ("Completed At", "status.completionTime")] {
        if dig::has(job, path) {
            page.field(0, title, dig::date(job, path));
        }
    }
    if let (Some(from), Some(to)) =
        (dig::moment(job, "status.startTime"), dig::moment(job, "status.completionTime"))
    {
        page.field(0, "Duration", machinery::time::human_duration(dig::between(from, to)));
    }
    deadline(&job["spec"], "Active Deadline Seconds", "activeDeadlineSeconds", None, page);
}

fn deadline(spec: &Value, title: &str, field: &str, missing: Option<&str>, page: &mut Page) {
    match (spec[field].as_i64(), missing) {
        (Some(seconds), _) => page.field(0, title, format!("{seconds}s")),
        (None, Some(missing)) => page.field(0, title, missing),
        (None, None) => {}
    }
}

fn pods(job: &Value, page: &mut Page) {
    let number = |field| dig::int(&job["status"], field);
    let ready = match job["status"]["ready"].as_i64() {
        Some(ready) => format!(" ({ready} Ready)"),
        None => String::new(),
    };
    let (active, succeeded, failed) = (number("active"), number("succeeded"), number("failed"));
    page.field(
        0,
        "Pods Statuses",
        format!("{active} Active{ready} / {succeeded} Succeeded / {failed} Failed"),
    );
    if dig::text(job, "spec.completionMode") == "Indexed" {
        page.field(0, "Completed Indexes", indexes(dig::text(job, "status.completedIndexes")));
    }
}

fn indexes(indexes: &str) -> String {
    if indexes.is_empty() {
        return "<none>".into();
    }
    match indexes.get(INDEXES_SHOWN..).and_then(|rest| rest.find(',')) {
        Some(comma) => format!("{}...", &indexes[..=INDEXES_SHOWN + comma]),
        None => indexes.into(),
    }
}

/// Writes a cron job.
pub fn cron_page(subject: &Subject, page: &mut Page) {
    let cron = &subject.object;
    let spec = &cron["spec"];
    page.name(cron);
    page.namespace(cron);
    page.labels_and_annotations(cron);
    page.field(0, "Schedule", dig::text(spec, "schedule"));
    page.field(0, "Concurrency Policy", dig::text(spec, "concurrencyPolicy"));
    page.field(0, "Suspend", dig::truth_or_unset(&spec["suspend"]));
    for (title, field) in [
        ("Time Zone", "timeZone"),
        ("Successful Job History Limit", "successfulJobsHistoryLimit"),
        ("Failed Job History Limit", "failedJobsHistoryLimit"),
    ] {
        optional(spec, 0, title, field, Some("<unset>"), page);
    }
    deadline(spec, "Starting Deadline Seconds", "startingDeadlineSeconds", Some("<unset>"), page);
    template(&spec["jobTemplate"]["spec"], page);
    let last = dig::has(cron, "status.lastScheduleTime").then(|| dig::date(cron, "status.lastScheduleTime"));
    page.field(0, "Last Schedule Time", last.as_deref().unwrap_or("<unset>"));
    let active: Vec<_> = dig::items(cron, "status.active").iter().map(|job| dig::text(job, "name")).collect();
    put!(page, 0, "Active Jobs:\t{}\n", dig::or_none(&active.join(", ")));
    subject.events(page);
}

fn template(spec: &Value, page: &mut Page) {
    match spec["selector"].is_null() {
        true => page.field(0, "Selector", "<unset>"),
        false => selector(&spec["selector"], page),
    }
    optional(spec, 0, "Parallelism", "parallelism", Some("<unset>"), page);
    optional(spec, 0, "Completions", "completions", Some("<unset>"), page);
    deadline(spec, "Active Deadline Seconds", "activeDeadlineSeconds", None, page);
    pod::template(&spec["template"], page);
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_lists_of_indexes_are_cut() {
        assert_eq!(super::indexes(""), "<none>");
        assert_eq!(super::indexes("1,3-5"), "1,3-5");
        let long = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(super::indexes(&long), "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,...");
    }
}
