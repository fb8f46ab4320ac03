//! What makes pods: Deployments, ReplicaSets, StatefulSets, DaemonSets.

pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::Case;
use crate::facts;
use crate::finding::{Finding, Mood, Reason};
use crate::{pod, words};

/// How many different troubles of pods are told.
const TROUBLES: usize = 3;

/// What the pods' troubles are: the worst pod's in full, then one of each other kind.
pub fn troubles(case: &Case<'_>, pods: &[&Value]) -> Vec<Reason> {
    let mut unwell: Vec<(&Value, Finding)> = pods
        .iter()
        .map(|pod| (*pod, pod::explain(&case.about(pod))))
        .filter(|(_, finding)| finding.mood != Mood::Well && !finding.reasons.is_empty())
        .collect();
    unwell.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.mood));
    let mut kinds: Vec<(&'static str, Vec<(&Value, Finding)>)> = Vec::new();
    for one in unwell {
        let rule = one.1.reasons.first().map_or("", |reason| reason.rule);
        match kinds.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, group)) => group.push(one),
            None => kinds.push((rule, vec![one])),
        }
    }
    let groups = kinds.into_iter().take(TROUBLES).enumerate();
    groups.flat_map(|(index, (_, group))| told(group, index == 0)).collect()
}

fn told(group: Vec<(&Value, Finding)>, whole: bool) -> Vec<Reason> {
    let more = group.len().saturating_sub(1);
    let Some((pod, finding)) = group.into_iter().next() else { return Vec::new() };
    let like = match more {
        0 => String::new(),
        n => format!(" (and {} like it)", words::count(i64::try_from(n).unwrap_or_default(), "more pod")),
    };
    let mut reasons = finding.reasons.into_iter();
    let first = reasons.next().map(|mut reason| {
        reason.sentence = format!("pod {}{like} {}: {}", facts::name(pod), finding.verdict, reason.sentence);
        reason
    });
    first.into_iter().chain(reasons.filter(|_| whole)).collect()
}

/// The controller has not seen the object's latest change.
pub fn unobserved(case: &Case<'_>, controller: &str) -> Option<Reason> {
    let (generation, observed) = (case.int("metadata.generation"), case.int("status.observedGeneration"));
    if observed >= generation {
        return None;
    }
    let text =
        format!("the {controller} controller has not seen generation {generation} yet (it knows {observed})");
    Some(
        Reason::new("unobserved", text)
            .seen(case.kind(), case.name(), "status.observedGeneration", observed)
            .help("see whether kube-controller-manager runs and holds its Lease: `coxctl -n kube-system get lease kube-controller-manager`"),
    )
}

/// Pods that are ready, and must stay so for a while before they count.
pub fn proving(case: &Case<'_>, ready: i64, available: i64) -> Option<Reason> {
    let seconds = case.int("spec.minReadySeconds");
    (seconds > 0 && ready > available).then(|| {
        let n = ready - available;
        let text = format!(
            "{} {} ready and must stay so for minReadySeconds ({seconds}) before {} counted as available",
            words::count(n, "pod"),
            words::is(n),
            if n == 1 { "it is" } else { "they are" }
        );
        Reason::new("min-ready-seconds", text).seen(case.kind(), case.name(), "spec.minReadySeconds", seconds)
    })
}

/// `spec.replicas`, 1 where it is not said.
pub fn wished(case: &Case<'_>) -> i64 {
    dig::at(case.object, "spec.replicas").as_i64().unwrap_or(1)
}

/// The troubles that are more than waiting make the finding bad.
pub fn finding(verdict: String, reasons: Vec<Reason>, patient: &[&str]) -> Finding {
    let bad = reasons.iter().any(|reason| !patient.contains(&reason.rule));
    Finding { mood: if bad { Mood::Bad } else { Mood::Waiting }, verdict, reasons }
}

/// Rules that only say that something is on its way.
pub const PATIENT: &[&str] = &[
    "starting",
    "init-running",
    "probe-waiting",
    "not-ready",
    "min-ready-seconds",
    "old-pods",
    "grace",
    "progress",
    "partition",
];

/// A number or percentage of a whole, as pods.
pub fn share(value: &Value, of: i64, up: bool, usual: &str) -> (String, i64) {
    let text = if value.is_null() { usual.to_string() } else { dig::int_or_string(value) };
    let pods = match text.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok()) {
        Some(percent) => (percent * of + if up { 99 } else { 0 }) / 100,
        None => text.parse().unwrap_or_default(),
    };
    (text, pods)
}
