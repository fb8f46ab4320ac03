//! Jobs: at their limit, suspended, waiting between tries, or under way.

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::{self, Case};
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::workload::{PATIENT, finding, troubles};
use crate::{leaving, pod, refusal, words};

/// The first wait between failing pods and the longest, in seconds.
const BACKOFF: (i64, i64) = (10, 600);

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let done = case.int("status.succeeded");
    if case::is(case.object, "Complete", "True") {
        let when = case.ago(dig::moment(case.object, "status.completionTime"));
        return Finding::well(format!(
            "is complete since {when}: {} of {}",
            done,
            words::count(wanted(case), "completion")
        ));
    }
    if let Some(condition) = failing(case) {
        return Finding::bad("has failed", vec![failed(case, condition)]).and(last_failure(case));
    }
    let mut reasons: Vec<Reason> = suspended(case).into_iter().chain(managed(case)).collect();
    if reasons.is_empty() {
        reasons.extend(refusal::of_events(case));
        reasons.extend(troubles(case, &active(case)));
        reasons.extend(between_tries(case));
        reasons.extend(progress(case));
    }
    let verdict = format!(
        "is not done: {done} of {}, {} active, {} failed",
        words::count(wanted(case), "completion"),
        case.int("status.active"),
        case.int("status.failed")
    );
    finding(verdict, reasons, PATIENT)
}

fn wanted(case: &Case<'_>) -> i64 {
    let spec = |field| dig::at(case.object, field).as_i64();
    spec("spec.completions").or_else(|| spec("spec.parallelism")).unwrap_or(1)
}

fn active<'a>(case: &Case<'a>) -> Vec<&'a Value> {
    let mut pods = case.facts.children("Pod", case.object);
    pods.retain(|pod| !matches!(dig::text(pod, "status.phase"), "Succeeded" | "Failed"));
    pods
}

fn failing<'a>(case: &Case<'a>) -> Option<&'a Value> {
    let found = case.condition("Failed").filter(|c| dig::text(c, "status") == "True");
    found.or_else(|| case.condition("FailureTarget").filter(|c| dig::text(c, "status") == "True"))
}

fn failed(case: &Case<'_>, condition: &Value) -> Reason {
    let (reason, message) = (dig::text(condition, "reason"), words::message(dig::text(condition, "message")));
    let number = |field: &str, usual: i64| dig::at(case.object, field).as_i64().unwrap_or(usual);
    let failed = case.int("status.failed");
    let retry = format!(
        "mend the cause, then `coxctl -n {} delete job {}` and create it again: a failed Job is not tried again",
        case.namespace(),
        case.name()
    );
    let (text, help) = match reason {
        "BackoffLimitExceeded" => (
            format!(
                "it is at its limit: {} failed and backoffLimit is {}",
                words::count(failed, "pod"),
                number("spec.backoffLimit", 6)
            ),
            retry,
        ),
        "DeadlineExceeded" => (
            format!("it ran longer than activeDeadlineSeconds ({})", number("spec.activeDeadlineSeconds", 0)),
            "raise activeDeadlineSeconds in a new Job, or make its work shorter".into(),
        ),
        "PodFailurePolicy" => (format!("its podFailurePolicy ended it: {message}"), retry),
        "MaxFailedIndexesExceeded" => (
            format!(
                "the indexes {} failed, more than maxFailedIndexes ({})",
                case.text("status.failedIndexes"),
                number("spec.maxFailedIndexes", 0)
            ),
            retry,
        ),
        "FailedIndexes" => (
            format!(
                "the indexes {} failed, each at its backoffLimitPerIndex ({})",
                case.text("status.failedIndexes"),
                number("spec.backoffLimitPerIndex", 0)
            ),
            retry,
        ),
        other => (format!("{other}: {message}"), retry),
    };
    Reason::new("job-failed", text)
        .seen("Job", case.name(), "status.conditions.Failed.reason", reason)
        .help(help)
}

/// How the last pod that failed ended.
fn last_failure(case: &Case<'_>) -> Vec<Reason> {
    let ended = |pod: &&Value| {
        dig::items(pod, "status.containerStatuses")
            .iter()
            .filter_map(|s| dig::moment(s, "state.terminated.finishedAt"))
            .max()
    };
    let mut pods = case.facts.children("Pod", case.object);
    pods.retain(|pod| dig::text(pod, "status.phase") == "Failed");
    let Some(last) = pods.into_iter().max_by_key(ended) else {
        return vec![Reason::new(
            "no-pods-left",
            "its failed pods are gone, so their exit codes can't be told",
        )];
    };
    let told = pod::explain(&case.about(last)).reasons;
    told.into_iter()
        .map(|mut reason| {
            reason.sentence = format!("its last pod {}: {}", facts::name(last), reason.sentence);
            reason
        })
        .collect()
}

fn suspended(case: &Case<'_>) -> Option<Reason> {
    dig::flag(case.object, "spec.suspend").then(|| {
        let since = case
            .condition("Suspended")
            .map(|c| case.ago(dig::moment(c, "lastTransitionTime")))
            .unwrap_or_default();
        let text = if since.is_empty() {
            "spec.suspend is true".to_string()
        } else {
            format!("spec.suspend is true, since {since}")
        };
        Reason::new("suspended", text).seen("Job", case.name(), "spec.suspend", true).help(format!(
            "`coxctl -n {} patch job {} -p '{{\"spec\":{{\"suspend\":false}}}}'`",
            case.namespace(),
            case.name()
        ))
    })
}

fn managed(case: &Case<'_>) -> Option<Reason> {
    let by = case.text("spec.managedBy");
    (!by.is_empty() && by != "kubernetes.io/job-controller").then(|| {
        Reason::new(
            "managed-by",
            format!("spec.managedBy is {by}: that controller must run it, the cluster's own leaves it alone"),
        )
        .seen("Job", case.name(), "spec.managedBy", by)
    })
}

/// No pod now, and the next try is later.
fn between_tries(case: &Case<'_>) -> Vec<Reason> {
    let failed = case.int("status.failed");
    if failed == 0 || !active(case).is_empty() {
        return Vec::new();
    }
    let last = case
        .facts
        .children("Pod", case.object)
        .iter()
        .flat_map(|pod| dig::items(pod, "status.containerStatuses"))
        .filter_map(|s| dig::moment(s, "state.terminated.finishedAt"))
        .max();
    let wait = BACKOFF.0.saturating_mul(1 << (failed - 1).clamp(0, 10)).min(BACKOFF.1);
    let left = last.map_or(wait, |at| at.as_second() + wait - case.now.as_second()).max(0);
    let limit = dig::at(case.object, "spec.backoffLimit").as_i64().unwrap_or(6);
    let text = format!(
        "{} failed ({} more may); the next try comes in about {}",
        words::count(failed, "pod"),
        (limit - failed).max(0),
        words::span(left)
    );
    let mut reasons =
        vec![Reason::new("job-backoff", text).seen("Job", case.name(), "status.failed", failed)];
    reasons.extend(last_failure(case));
    reasons
}

fn progress(case: &Case<'_>) -> Option<Reason> {
    let active = active(case).len();
    let done = case.text("status.completedIndexes");
    let indexes = if done.is_empty() { String::new() } else { format!(", indexes done: {done}") };
    (active > 0).then(|| {
        let n = i64::try_from(active).unwrap_or_default();
        let text = format!(
            "{} {} for {}{indexes}",
            words::count(n, "pod"),
            if n == 1 { "works" } else { "work" },
            case.since("status.startTime")
        );
        Reason::new("progress", text)
    })
}
