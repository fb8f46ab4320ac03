//! Pods without a node: gates, claims, and each node's verdict.

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::{self, Case};
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::{claim, fit, words};

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(reason) = gated(case) {
        return Finding::bad("is Pending: its scheduling gates hold it", vec![reason]);
    }
    let claims = claims(case);
    if !claims.is_empty() {
        return Finding::bad("is Pending: its claims are not ready", claims);
    }
    if let Some(reason) = nominated(case) {
        return Finding::waiting("is Pending: room is being made for it", vec![reason]);
    }
    let world = fit::World::new(case.facts, case.object);
    let nodes = world.nodes.len();
    if nodes == 0 {
        return Finding::bad("is Pending", no_nodes(case));
    }
    let reasons = fit::explain(&world);
    if reasons.is_empty() {
        return fits(case, &world.open(), nodes);
    }
    let verdict = match nodes {
        1 => "is Pending: the only node can't take it".to_string(),
        n => format!("is Pending: none of {n} nodes can take it"),
    };
    Finding::bad(verdict, reasons).and(priority(case))
}

fn gated(case: &Case<'_>) -> Option<Reason> {
    let gates: Vec<&str> =
        case.items("spec.schedulingGates").iter().map(|gate| dig::text(gate, "name")).collect();
    (!gates.is_empty()).then(|| {
        let text = format!(
            "spec.schedulingGates has {}; the scheduler waits until that is taken away",
            words::list(&gates, 5)
        );
        Reason::new("SchedulingGates", text)
            .seen("Pod", case.name(), "spec.schedulingGates", gates.join(","))
            .help("find out which controller sets the gate and takes it away, or edit the pod to drop it")
    })
}

/// Claims that are missing or will not be bound.
fn claims(case: &Case<'_>) -> Vec<Reason> {
    if !case.facts.knows("PersistentVolumeClaim") {
        return Vec::new();
    }
    let claims = fit::pod_claims(case.facts, case.object);
    claims.into_iter().filter_map(|(name, claim)| one_claim(case, &name, claim)).collect()
}

fn one_claim(case: &Case<'_>, name: &str, found: Option<&Value>) -> Option<Reason> {
    let Some(object) = found else {
        let text = format!(
            "it mounts the claim {name}, and there is no PersistentVolumeClaim of that name in {}",
            case.namespace()
        );
        let reason = Reason::new("VolumeBinding", text).seen("Pod", case.name(), "spec.volumes", name);
        let known: Vec<&str> =
            case.facts.within("PersistentVolumeClaim", case.namespace()).map(facts::name).collect();
        return Some(reason.help(match words::nearest(name, &known) {
            Some(near) => format!("create it, or mount {near}, which exists"),
            None => "create it".into(),
        }));
    };
    if dig::has(object, "metadata.deletionTimestamp") {
        let text = format!("its claim {name} is being deleted");
        return Some(Reason::new("VolumeBinding", text).seen(
            "PersistentVolumeClaim",
            name,
            "metadata.deletionTimestamp",
            dig::text(object, "metadata.deletionTimestamp"),
        ));
    }
    match dig::text(object, "status.phase") {
        "Bound" => None,
        // Once a node is chosen the pod waits for the claim, no more the claim for the pod.
        _ if claim::waits_for_pod(case.facts, object) && claim::selected_node(object).is_none() => None,
        phase => {
            let cause = claim::explain(&case.about(object)).reasons.into_iter().next();
            let why = cause.as_ref().map(|r| format!(": {}", r.sentence)).unwrap_or_default();
            let phase = if phase.is_empty() { "Pending" } else { phase };
            let mut reason = Reason::new("VolumeBinding", format!("its claim {name} is {phase}{why}")).seen(
                "PersistentVolumeClaim",
                name,
                "status.phase",
                phase,
            );
            if let Some(cause) = cause {
                reason.evidence.extend(cause.evidence);
                reason.helps.extend(cause.helps);
            }
            Some(reason)
        }
    }
}

fn nominated(case: &Case<'_>) -> Option<Reason> {
    let node = case.text("status.nominatedNodeName");
    if node.is_empty() {
        return None;
    }
    let leaving =
        |pod: &&Value| dig::text(pod, "spec.nodeName") == node && dig::has(pod, "metadata.deletionTimestamp");
    let victims: Vec<&str> = case.facts.all("Pod").filter(leaving).map(facts::name).collect();
    if victims.is_empty() {
        return None;
    }
    let text = format!(
        "it is to go to {node} and waits until {} with lower priority {} ended",
        words::list(&victims, 3),
        if victims.len() == 1 { "has" } else { "have" }
    );
    Some(Reason::new("DefaultPreemption", text).seen("Pod", case.name(), "status.nominatedNodeName", node))
}

fn no_nodes(case: &Case<'_>) -> Vec<Reason> {
    match case.facts.refused().get("Node") {
        None => vec![Reason::new("no-nodes", "the cluster has no nodes").help("join one: `coxctl join`")],
        Some(why) => said(case)
            .into_iter()
            .chain([Reason::new("unread", format!("the nodes can't be read: {}", words::message(why)))])
            .collect(),
    }
}

/// What the scheduler itself has said last.
fn said(case: &Case<'_>) -> Option<Reason> {
    let condition = case.condition("PodScheduled").filter(|c| dig::text(c, "status") == "False");
    let message = condition
        .map(|c| dig::text(c, "message"))
        .filter(|m| !m.is_empty())
        .or_else(|| case.event(&["FailedScheduling"]).map(|event| dig::text(event, "message")))?;
    let text = format!("the scheduler says: {}", words::message(message));
    Some(Reason::new("scheduler", text).seen("Pod", case.name(), "status.conditions.PodScheduled", message))
}

/// A node would take the pod, and yet it has none.
fn fits(case: &Case<'_>, open: &[&str], nodes: usize) -> Finding {
    let fit = format!(
        "it fits on {} of {nodes} ({})",
        words::count(i64::try_from(open.len()).unwrap_or_default(), "node"),
        words::list(open, 3)
    );
    if let Some(said) = said(case) {
        let verdict = "is Pending: the scheduler has not placed it yet";
        let now = Reason::new(
            "retry",
            format!(
                "as the cluster is now, {fit}; the scheduler tries again when something it waits for changes, or within 5 minutes"
            ),
        );
        return Finding::waiting(verdict, vec![said, now]);
    }
    let scheduler = match case.text("spec.schedulerName") {
        "" => "default-scheduler",
        name => name,
    };
    let help = match scheduler {
        "default-scheduler" => {
            "see whether kube-scheduler runs and holds its Lease: `coxctl -n kube-system get lease kube-scheduler`"
        }
        _ => "run a scheduler of that name, or leave spec.schedulerName out",
    };
    let text = format!(
        "{fit}, but no scheduler named {scheduler} has looked at it for {}",
        case.since("metadata.creationTimestamp")
    );
    let reason =
        Reason::new("scheduler", text).seen("Pod", case.name(), "spec.schedulerName", scheduler).help(help);
    Finding::waiting("is Pending: no scheduler has looked at it", vec![reason])
}

/// Why room isn't made by ending pods of lower priority.
fn priority(case: &Case<'_>) -> Option<Reason> {
    (case.text("spec.preemptionPolicy") == "Never" && case::is(case.object, "PodScheduled", "False")).then(
        || {
            Reason::new(
                "DefaultPreemption",
                "its preemptionPolicy is Never, so no pod of lower priority is ended for it",
            )
            .seen("Pod", case.name(), "spec.preemptionPolicy", "Never")
        },
    )
}
