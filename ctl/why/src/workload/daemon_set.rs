//! DaemonSets: a pod on each node that fits.

use coxctl_kit::dig;
use serde_json::{Value, json};

use super::{PATIENT, finding, proving, share, troubles, unobserved};
use crate::case::Case;
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::fit::World;
use crate::{leaving, refusal, words};

/// Plugins that decide whether a node is meant at all.
const MEANT: [&str; 2] = ["NodeAffinity", "TaintToleration"];
/// What every pod of a DaemonSet tolerates.
const TOLERATED: [&str; 6] =
    ["not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"];

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    if let Some(reason) = unobserved(case, "DaemonSet") {
        return Finding::bad("does not move: its change has not been seen", vec![reason]);
    }
    let desired = case.int("status.desiredNumberScheduled");
    let (ready, available) = (case.int("status.numberReady"), case.int("status.numberAvailable"));
    let (updated, there) =
        (case.int("status.updatedNumberScheduled"), case.int("status.currentNumberScheduled"));
    let left = left_out(case);
    if available >= desired && updated >= desired && there >= desired {
        return match desired {
            0 => Finding::bad("runs nowhere: no node fits it", left.into_iter().collect()),
            n => Finding::well(format!(
                "is well: {ready} of {} ready, one on each node that fits",
                words::count(n, "pod")
            ))
            .and(left),
        };
    }
    let pods = case.facts.children("Pod", case.object);
    let mut reasons: Vec<Reason> = Vec::new();
    if there < desired {
        reasons.extend(refusal::of_events(case));
    }
    reasons.extend(troubles(case, &pods));
    reasons.extend(proving(case, ready, available));
    if updated < desired {
        reasons.extend(old(case, desired - updated, desired, available));
    }
    reasons.extend(left);
    let verdict =
        format!("is not there yet: {ready} of {} ready, {updated} up to date", words::count(desired, "pod"));
    finding(verdict, reasons, &[PATIENT, &["left-out"]].concat())
}

/// Pods of an earlier template.
fn old(case: &Case<'_>, old: i64, desired: i64, available: i64) -> Option<Reason> {
    if case.text("spec.updateStrategy.type") == "OnDelete" {
        let text = format!(
            "updateStrategy is OnDelete: {} {} the earlier template until deleted",
            words::count(old, "pod"),
            if old == 1 { "keeps" } else { "keep" }
        );
        return Some(Reason::new("on-delete", text).seen(
            "DaemonSet",
            case.name(),
            "spec.updateStrategy.type",
            "OnDelete",
        ));
    }
    let rolling = dig::at(case.object, "spec.updateStrategy.rollingUpdate");
    let (written, most) = share(dig::at(rolling, "maxUnavailable"), desired, true, "1");
    let missing = desired - available;
    let text = match missing >= most.max(1) {
        true => format!(
            "{} {} for {} that {} not available: maxUnavailable is {written}",
            words::count(old, "old pod"),
            if old == 1 { "waits" } else { "wait" },
            words::count(missing, "pod"),
            words::is(missing)
        ),
        false => format!(
            "{} {} still to be replaced, {written} at a time",
            words::count(old, "old pod"),
            words::is(old)
        ),
    };
    Some(Reason::new("old-pods", text).seen(
        "DaemonSet",
        case.name(),
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        written,
    ))
}

/// Nodes its selector or their taints leave out.
fn left_out(case: &Case<'_>) -> Option<Reason> {
    let pod = template(case);
    let world = World::new(case.facts, &pod);
    let mut out: Vec<(&str, String)> = Vec::new();
    for spot in &world.nodes {
        let obstacles = world.obstacles(spot);
        if let Some(obstacle) = obstacles.into_iter().find(|o| MEANT.contains(&o.plugin)) {
            out.push((spot.name, obstacle.text));
        }
    }
    let (first, why) = out.first()?;
    let n = i64::try_from(out.len()).unwrap_or_default();
    let text = match n {
        1 => format!("{first} is left out: it {why}"),
        _ => format!("{} are left out, such as {first}: it {why}", words::count(n, "node")),
    };
    Some(Reason::new("left-out", text).seen("Node", first, "spec", why))
}

/// A pod of the template, with the tolerations the controller adds and without what does not decide.
fn template(case: &Case<'_>) -> Value {
    let mut spec = dig::at(case.object, "spec.template.spec").clone();
    let own = dig::items(&spec, "tolerations").to_vec();
    let more =
        TOLERATED.iter().map(|key| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists"}));
    let network = json!({"key": "node.kubernetes.io/network-unavailable", "operator": "Exists"});
    let host = dig::flag(&spec, "hostNetwork").then_some(network);
    spec["tolerations"] = own.into_iter().chain(more).chain(host).collect();
    json!({"metadata": {"name": facts::name(case.object), "namespace": case.namespace(), "labels": dig::at(case.object, "spec.template.metadata.labels")}, "spec": spec})
}
