//! StatefulSets: one pod after another, and the one that holds up the rest.

use coxctl_kit::dig;
use serde_json::Value;

use super::{PATIENT, finding, proving, troubles, unobserved, wished};
use crate::case::{self, Case};
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::{leaving, refusal, words};

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    if let Some(reason) = unobserved(case, "StatefulSet") {
        return Finding::bad("does not move: its change has not been seen", vec![reason]);
    }
    let (wished, ready) = (wished(case), case.int("status.readyReplicas"));
    let (all, updated) = (case.int("status.replicas"), case.int("status.updatedReplicas"));
    let rolling = rolling(case);
    if ready == wished && all == wished && case.int("status.availableReplicas") >= wished && !rolling {
        return well(case, wished, ready);
    }
    let pods = by_ordinal(case);
    let mut reasons: Vec<Reason> = Vec::new();
    if all < wished {
        reasons.extend(refusal::of_events(case));
        reasons.extend(claims(case));
    }
    reasons.extend(troubles(case, &pods));
    reasons.extend(order(case, &pods, wished));
    reasons.extend(proving(case, ready, case.int("status.availableReplicas")));
    reasons.extend(held(case, &pods, rolling));
    let verdict = match rolling {
        true => {
            format!("is not there yet: {updated} of {} updated, {ready} ready", words::count(wished, "pod"))
        }
        false => format!("is not there yet: {ready} of {} ready", words::count(wished, "pod")),
    };
    finding(verdict, reasons, PATIENT)
}

/// Whether some pods are of another revision than the newest.
fn rolling(case: &Case<'_>) -> bool {
    let (now, new) = (case.text("status.currentRevision"), case.text("status.updateRevision"));
    !new.is_empty() && now != new && case.int("status.updatedReplicas") < case.int("status.replicas")
}

fn well(case: &Case<'_>, wished: i64, ready: i64) -> Finding {
    Finding::well(match wished {
        0 => "is scaled to 0 and has no pods".into(),
        n => format!(
            "is well: {ready} of {} ready at revision {}",
            words::count(n, "pod"),
            case.text("status.updateRevision")
        ),
    })
}

/// The set's pods with their ordinals, the smallest first.
fn by_ordinal<'a>(case: &Case<'a>) -> Vec<&'a Value> {
    let mut pods = case.facts.children("Pod", case.object);
    pods.sort_by_key(|pod| ordinal(pod));
    pods
}

fn ordinal(pod: &Value) -> i64 {
    facts::name(pod).rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(i64::MAX)
}

/// Ordered sets wait for each pod before the next.
fn order(case: &Case<'_>, pods: &[&Value], wished: i64) -> Option<Reason> {
    let missing = wished - i64::try_from(pods.len()).unwrap_or_default();
    if case.text("spec.podManagementPolicy") == "Parallel" || missing <= 0 {
        return None;
    }
    let blocker = pods.iter().find(|pod| !case::is(pod, "Ready", "True"))?;
    let text = format!(
        "podManagementPolicy is OrderedReady: {} {} made only after {} is ready",
        words::count(missing, "further pod"),
        words::is(missing),
        facts::name(blocker)
    );
    Some(Reason::new("ordered", text).seen(
        "StatefulSet",
        case.name(),
        "spec.podManagementPolicy",
        "OrderedReady",
    ))
}

/// Claims of its templates that wait, for pods that could not be made.
fn claims(case: &Case<'_>) -> Vec<Reason> {
    let templates: Vec<&str> = case.items("spec.volumeClaimTemplates").iter().map(facts::name).collect();
    let own = |claim: &&Value| {
        templates.iter().any(|t| facts::name(claim).starts_with(&format!("{t}-{}-", case.name())))
            && dig::has(claim, "metadata.deletionTimestamp")
    };
    let leaving = case.facts.within("PersistentVolumeClaim", case.namespace()).filter(own);
    leaving
        .map(|claim| {
            let text = format!(
                "the claim {} of an earlier pod is still being deleted, and the next pod waits for that",
                facts::name(claim)
            );
            Reason::new("claim-leaving", text).seen(
                "PersistentVolumeClaim",
                facts::name(claim),
                "metadata.deletionTimestamp",
                dig::text(claim, "metadata.deletionTimestamp"),
            )
        })
        .collect()
}

/// Pods that keep an earlier revision, and why.
fn held(case: &Case<'_>, pods: &[&Value], rolling: bool) -> Option<Reason> {
    if !rolling {
        return None;
    }
    let new = case.text("status.updateRevision");
    let old: Vec<&&Value> = pods
        .iter()
        .filter(|pod| {
            dig::at(pod, "metadata.labels").get("controller-revision-hash").and_then(Value::as_str)
                != Some(new)
        })
        .collect();
    let names: Vec<&str> = old.iter().map(|pod| facts::name(pod)).collect();
    let n = i64::try_from(names.len()).unwrap_or_default();
    let keep = if n == 1 { "keeps" } else { "keep" };
    if case.text("spec.updateStrategy.type") == "OnDelete" {
        let text = format!(
            "updateStrategy is OnDelete: {} {keep} the earlier revision until deleted",
            words::list(&names, 4)
        );
        return Some(
            Reason::new("on-delete", text)
                .seen("StatefulSet", case.name(), "spec.updateStrategy.type", "OnDelete")
                .help(format!("`coxctl -n {} delete pod {}`", case.namespace(), names.join(" "))),
        );
    }
    let partition = dig::int(case.object, "spec.updateStrategy.rollingUpdate.partition");
    if partition > 0 && old.iter().all(|pod| ordinal(pod) < partition) {
        let text = format!(
            "partition is {partition}: {} {keep} the earlier revision, as wished",
            words::list(&names, 4)
        );
        return Some(
            Reason::new("partition", text)
                .seen("StatefulSet", case.name(), "spec.updateStrategy.rollingUpdate.partition", partition)
                .help("lower partition to go on"),
        );
    }
    let broken = old.iter().find(|pod| !case::is(pod, "Ready", "True"));
    let text = match broken {
        Some(pod) => format!(
            "pod {} is of an earlier revision and not ready, so the rollout waits for it; it is not replaced by itself",
            facts::name(pod)
        ),
        None => format!(
            "{} {keep} the earlier revision until {} turn; one pod is replaced at a time, from the last to the first",
            words::list(&names, 4),
            if n == 1 { "its" } else { "their" }
        ),
    };
    let reason = Reason::new("old-pods", text);
    Some(match broken {
        Some(pod) => reason.help(format!("`coxctl -n {} delete pod {}`", case.namespace(), facts::name(pod))),
        None => reason,
    })
}
