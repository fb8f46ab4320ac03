//! Deployments: rollouts that are stuck, paused or under way.

use coxctl_kit::dig;
use serde_json::Value;

use super::{PATIENT, finding, proving, share, troubles, unobserved, wished};
use crate::case::Case;
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::{leaving, refusal, words};

const REVISION: &str = "deployment.kubernetes.io/revision";

/// The parts of a rollout.
struct Rollout<'a> {
    newest: Option<&'a Value>,
    new: Vec<&'a Value>,
    old: Vec<&'a Value>,
    wished: i64,
    ready: i64,
    updated: i64,
    available: i64,
    all: i64,
}

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let r = rollout(case);
    if let Some(reason) = unobserved(case, "Deployment") {
        return Finding::bad("does not move: its change has not been seen", vec![reason]);
    }
    let done = r.updated >= r.wished && r.available >= r.wished && r.all <= r.wished;
    let paused = paused(case);
    if done && paused.is_none() {
        return well(case, &r);
    }
    let mut reasons: Vec<Reason> = paused.into_iter().collect();
    reasons.extend(refused(case, &r));
    reasons.extend(troubles(case, &r.new));
    reasons.extend(proving(case, r.ready, r.available));
    reasons.extend(old_pods(case, &r));
    if reasons.iter().all(|reason| reason.rule == "old-pods") {
        reasons.extend(troubles(case, &r.old));
    }
    reasons.extend(deadline(case));
    finding(verdict(case, &r), reasons, PATIENT)
}

fn rollout<'a>(case: &Case<'a>) -> Rollout<'a> {
    let mut sets = case.facts.children("ReplicaSet", case.object);
    let revision = |set: &Value| -> i64 {
        dig::at(set, "metadata.annotations")
            .get(REVISION)
            .and_then(Value::as_str)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    };
    sets.sort_by_key(|set| std::cmp::Reverse(revision(set)));
    let pods = |set: &'a Value| case.facts.children("Pod", set);
    let newest = sets.first().copied();
    Rollout {
        newest,
        new: newest.map(pods).unwrap_or_default(),
        old: sets.iter().skip(1).flat_map(|set| pods(set)).collect(),
        wished: wished(case),
        ready: case.int("status.readyReplicas"),
        updated: case.int("status.updatedReplicas"),
        available: case.int("status.availableReplicas"),
        all: case.int("status.replicas"),
    }
}

fn revision<'a>(case: &Case<'a>) -> &'a str {
    dig::at(case.object, "metadata.annotations").get(REVISION).and_then(Value::as_str).unwrap_or("?")
}

fn well(case: &Case<'_>, r: &Rollout<'_>) -> Finding {
    if r.wished == 0 {
        let text = "spec.replicas is 0";
        return Finding::well("is scaled to 0 and has no pods").and([Reason::new("scaled-to-zero", text)
            .help(format!(
                "`coxctl -n {} scale deployment {} --replicas=1`",
                case.namespace(),
                case.name()
            ))]);
    }
    let notes = r.new.iter().flat_map(|pod| crate::pod::explain(&case.about(pod)).reasons).take(2);
    Finding::well(format!(
        "is well: {} of {} ready and available at revision {}",
        r.available,
        words::count(r.wished, "pod"),
        revision(case)
    ))
    .and(notes)
}

fn verdict(case: &Case<'_>, r: &Rollout<'_>) -> String {
    let stuck = crate::case::is(case.object, "Progressing", "False");
    let lead = if stuck { "is stuck" } else { "is not there yet" };
    let revision = revision(case);
    format!(
        "{lead}: {} of {} updated to revision {revision}, {} available",
        r.updated,
        words::count(r.wished, "pod"),
        r.available
    )
}

fn paused(case: &Case<'_>) -> Option<Reason> {
    dig::flag(case.object, "spec.paused").then(|| {
        Reason::new("paused", "spec.paused is true: changes of its template are not rolled out")
            .seen("Deployment", case.name(), "spec.paused", true)
            .help(format!("`coxctl -n {} rollout resume deployment/{}`", case.namespace(), case.name()))
    })
}

fn refused(case: &Case<'_>, r: &Rollout<'_>) -> Option<Reason> {
    let missing = |set: &&Value| dig::int(set, "status.replicas") < dig::int(set, "spec.replicas");
    let by_set = r.newest.filter(missing).and_then(|set| {
        let set = case.about(set);
        refusal::of_condition(&set).or_else(|| refusal::of_events(&set))
    });
    by_set.or_else(|| refusal::of_condition(case))
}

/// Why pods of earlier revisions still run.
fn old_pods(case: &Case<'_>, r: &Rollout<'_>) -> Option<Reason> {
    let staying = r.old.iter().filter(|pod| !dig::has(pod, "metadata.deletionTimestamp")).count();
    let staying = i64::try_from(staying).unwrap_or_default();
    if r.old.is_empty() {
        return None;
    }
    if case.text("spec.strategy.type") == "Recreate" {
        let names: Vec<&str> = r.old.iter().map(|pod| facts::name(pod)).collect();
        let text = format!(
            "its strategy is Recreate: new pods come when {} {} ended",
            words::list(&names, 3),
            if names.len() == 1 { "has" } else { "have" }
        );
        return Some(Reason::new("old-pods", text));
    }
    if staying == 0 {
        return None;
    }
    let rolling = dig::at(case.object, "spec.strategy.rollingUpdate");
    let (unavailable, fewer) = share(dig::at(rolling, "maxUnavailable"), r.wished, false, "25%");
    let (surge, more) = share(dig::at(rolling, "maxSurge"), r.wished, true, "25%");
    let text = format!(
        "{} of an earlier revision {} until new ones are available: maxUnavailable {unavailable} lets {fewer} of {} be missing, maxSurge {surge} lets {more} be extra",
        words::count(staying, "pod"),
        if staying == 1 { "stays" } else { "stay" },
        r.wished
    );
    Some(Reason::new("old-pods", text).seen(
        "Deployment",
        case.name(),
        "spec.strategy.rollingUpdate",
        format!("maxUnavailable={unavailable},maxSurge={surge}"),
    ))
}

fn deadline(case: &Case<'_>) -> Option<Reason> {
    let condition = case.condition("Progressing").filter(|c| dig::text(c, "status") == "False")?;
    let seconds = dig::at(case.object, "spec.progressDeadlineSeconds").as_i64().unwrap_or(600);
    let since = case.ago(dig::moment(condition, "lastTransitionTime"));
    let text = match dig::text(condition, "reason") {
        "ProgressDeadlineExceeded" => format!(
            "it has made no progress within progressDeadlineSeconds ({seconds}), which was noted {since} ago"
        ),
        reason => {
            format!("it does not progress ({reason}): {}", words::message(dig::text(condition, "message")))
        }
    };
    let back = format!(
        "go back to what worked: `coxctl -n {} rollout undo deployment/{}`",
        case.namespace(),
        case.name()
    );
    let reason = Reason::new("progress-deadline", text).seen(
        "Deployment",
        case.name(),
        "status.conditions.Progressing",
        dig::text(condition, "reason"),
    );
    Some(if revision(case) == "1" { reason } else { reason.help(back) })
}
