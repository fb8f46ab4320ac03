//! Objects that are being deleted, and pods that can't be evicted.

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::{self, Case};
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::fit::selects;
use crate::words;

/// Time past a pod's grace period before one worries, in seconds.
const SLACK: i64 = 10;

/// Finalizers, who takes them away, and what they wait for.
const FINALIZERS: [(&str, &str); 8] = [
    (
        "foregroundDeletion",
        "the garbage collector takes it away when everything the object owns with blockOwnerDeletion is deleted",
    ),
    ("orphan", "the garbage collector takes it away when what the object owns is released"),
    ("kubernetes.io/pvc-protection", "it goes when no pod uses the claim"),
    ("kubernetes.io/pv-protection", "it goes when no claim is bound to the volume"),
    ("batch.kubernetes.io/job-tracking", "the Job controller takes it away when the pod is counted"),
    (
        "service.kubernetes.io/load-balancer-cleanup",
        "the cloud's service controller takes it away when the load balancer is gone",
    ),
    ("kubernetes", "the namespace controller takes it away when the namespace is empty"),
    ("customresourcecleanup.apiextensions.k8s.io", "it goes when all objects of the kind are deleted"),
];

/// An object of any kind that is being deleted.
pub fn explain(case: &Case<'_>) -> Option<Finding> {
    let at = dig::moment(case.object, "metadata.deletionTimestamp")?;
    let reasons: Vec<Reason> = finalizers(case);
    let verdict = format!("is being deleted since {}", case.ago(Some(at)));
    Some(match reasons.is_empty() {
        true => Finding::waiting(verdict, Vec::new()),
        false => Finding::bad(
            format!("{verdict}, held by {}", words::count(reasons.len() as i64, "finalizer")),
            reasons,
        ),
    })
}

fn finalizers(case: &Case<'_>) -> Vec<Reason> {
    let all = dig::texts(case.object, "metadata.finalizers");
    all.iter().map(|name| finalizer(case, name)).collect()
}

fn finalizer(case: &Case<'_>, name: &str) -> Reason {
    let kind = case.kind();
    let seen =
        |text: String| Reason::new("finalizer", text).seen(kind, case.name(), "metadata.finalizers", name);
    if let Some((_, who)) = FINALIZERS.iter().find(|(known, _)| *known == name) {
        return seen(format!("the finalizer {name} is still set: {who}")).help(users(case, name));
    }
    let here = if case.namespace().is_empty() { String::new() } else { format!("-n {} ", case.namespace()) };
    let patch = format!(
        "`coxctl {here}patch {} {} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'`",
        kind.to_lowercase(),
        case.name()
    );
    seen(format!("the finalizer {name} is still set, and only whoever put it there takes it away"))
        .help(format!("see that its controller runs; if that is gone for good, take the finalizers away by hand: {patch}"))
}

/// Who keeps a well-known finalizer busy.
fn users(case: &Case<'_>, name: &str) -> String {
    let uses = |pod: &&Value| {
        dig::items(pod, "spec.volumes")
            .iter()
            .any(|v| dig::text(v, "persistentVolumeClaim.claimName") == case.name())
            && !matches!(dig::text(pod, "status.phase"), "Succeeded" | "Failed")
    };
    let users: Vec<&str> = case.facts.within("Pod", case.namespace()).filter(uses).map(facts::name).collect();
    match name {
        "kubernetes.io/pvc-protection" if !users.is_empty() => {
            format!("delete the pods that use it: {}", words::list(&users, 5))
        }
        "foregroundDeletion" => format!(
            "see what it still owns: `coxctl tree {} {} -n {}`",
            case.kind().to_lowercase(),
            case.name(),
            case.namespace()
        ),
        _ => "see that the controller named here runs: `coxctl -n kube-system get lease`".into(),
    }
}

/// A pod that is being deleted.
pub fn pod(case: &Case<'_>) -> Finding {
    let grace = case.int("metadata.deletionGracePeriodSeconds");
    // The API server adds the grace period to the moment of the request.
    let end = dig::moment(case.object, "metadata.deletionTimestamp");
    let left = end.map_or(0, |end| end.as_second() - case.now.as_second());
    let mut reasons: Vec<Reason> = disruption(case).into_iter().collect();
    reasons.extend(node(case));
    if let Some(text) = still_running(case).filter(|_| reasons.iter().all(|r| r.rule != "node-lost")) {
        reasons.push(match left {
            0.. => Reason::new(
                "grace",
                format!("{text}; its grace period of {grace}s ends in {}", words::span(left)),
            ),
            _ if left >= -SLACK => {
                Reason::new("grace", format!("{text}; its grace period of {grace}s is just over"))
            }
            _ => Reason::new(
                "grace",
                format!("{text} {} after its grace period of {grace}s", words::span(-left)),
            )
            .help(format!("see the kubelet's log on {}", case.text("spec.nodeName"))),
        });
    }
    reasons.extend(finalizers(case));
    let asked = case.ago(end.and_then(|end| end.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()));
    let verdict = format!("is being deleted since {asked}");
    match left < -SLACK
        || reasons.iter().any(|r| r.rule == "finalizer" && !r.sentence.contains("job-tracking"))
    {
        true => Finding::bad(verdict, reasons),
        false => Finding::waiting(verdict, reasons),
    }
}

fn still_running(case: &Case<'_>) -> Option<String> {
    let running: Vec<&str> = case
        .items("status.containerStatuses")
        .iter()
        .filter(|status| dig::has(status, "state.running"))
        .map(|status| dig::text(status, "name"))
        .collect();
    (!running.is_empty()).then(|| {
        let n = i64::try_from(running.len()).unwrap_or_default();
        format!(
            "container{} {} still {}",
            if n == 1 { "" } else { "s" },
            words::list(&running, 3),
            if n == 1 { "runs" } else { "run" }
        )
    })
}

/// A node that can't say whether the pod has ended.
fn node(case: &Case<'_>) -> Option<Reason> {
    let name = case.text("spec.nodeName");
    let node = case.facts.find("Node", "", name)?;
    let ready = case::condition(node, "Ready")?;
    if dig::text(ready, "status") == "True" {
        return None;
    }
    let text = format!(
        "its node {name} does not answer since {}, so nobody can say that its containers have ended",
        case.ago(dig::moment(ready, "lastTransitionTime"))
    );
    Some(
        Reason::new("node-lost", text)
            .seen("Node", name, "status.conditions", format!("Ready={}", dig::text(ready, "status")))
            .help(format!("bring {name} back, or if the machine is off for good: `coxctl taint node {name} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`")),
    )
}

/// Who ended the pod, as its DisruptionTarget condition says.
pub fn disruption(case: &Case<'_>) -> Option<Reason> {
    let condition = case.condition("DisruptionTarget").filter(|c| dig::text(c, "status") == "True")?;
    let (reason, message) = (dig::text(condition, "reason"), words::message(dig::text(condition, "message")));
    let by = case.event(&["Preempted"]).map(|event| words::message(dig::text(event, "message")));
    let (rule, text) = match reason {
        "PreemptionByScheduler" => (
            "preempted",
            format!(
                "the scheduler ends it to make room for a pod of higher priority: {}",
                by.unwrap_or(message)
            ),
        ),
        "DeletionByTaintManager" => (
            "taint",
            format!("its node has a NoExecute taint that it does not tolerate, or not any longer: {message}"),
        ),
        "EvictionByEvictionAPI" => ("evicted", format!("it was evicted, as a drain does: {message}")),
        "DeletionByPodGC" => ("node-lost", format!("its node does not exist any more: {message}")),
        "TerminationByKubelet" => {
            ("evicted", format!("the kubelet ends it, short of a resource or for a critical pod: {message}"))
        }
        other => ("disruption", format!("it is being disrupted ({other}): {message}")),
    };
    Some(Reason::new(rule, text).seen(
        "Pod",
        case.name(),
        "status.conditions.DisruptionTarget.reason",
        reason,
    ))
}

/// A pod on a cordoned node that a budget keeps there.
pub fn held_by_budget(case: &Case<'_>) -> Option<Reason> {
    let node = case.text("spec.nodeName");
    if !case.facts.find("Node", "", node).is_some_and(|node| dig::flag(node, "spec.unschedulable")) {
        return None;
    }
    let mut budgets = case.facts.within("PodDisruptionBudget", case.namespace());
    let budget = budgets.find(|budget| {
        dig::int(budget, "status.disruptionsAllowed") == 0
            && selects(dig::at(budget, "spec.selector"), case.object)
    })?;
    Some(refused(budget, node))
}

fn refused(budget: &Value, node: &str) -> Reason {
    let name = facts::name(budget);
    let (healthy, wished) =
        (dig::int(budget, "status.currentHealthy"), dig::int(budget, "status.desiredHealthy"));
    let text = format!(
        "its node {node} is cordoned and an eviction is refused: PodDisruptionBudget {name} allows 0 disruptions ({healthy} healthy, {wished} must stay)"
    );
    Reason::new("disruption-budget", text)
        .seen("PodDisruptionBudget", name, "status.disruptionsAllowed", 0)
        .help(format!("run one more replica, or loosen {name}"))
}
