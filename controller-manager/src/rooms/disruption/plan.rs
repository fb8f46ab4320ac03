//! The arithmetic of budgets.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::meta::{name, scaled, until};
use crate::kit::pods;

/// An evicted pod is believed to go for this long; a mark that a pod is to be disrupted, for as long.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget needs to know how many pods there should be, beyond those there are.
pub fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// How many pods there should be, and how many of them must be healthy. `scale` is the sum of what the pods'
/// controllers want. `None` if a share cannot be read.
pub fn wanted(spec: &PodDisruptionBudgetSpec, count: i32, scale: i32) -> Option<(i32, i32)> {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => Some((scale, (scale - scaled(most, scale, true)?).max(0))),
        (None, Some(IntOrString::Int(least))) => Some((count, *least)),
        (None, Some(share)) => Some((scale, scaled(share, scale, true)?)),
        (None, None) => Some((0, 0)),
    }
}

/// What is left of the pods noted as evicted.
#[derive(Debug, Default, PartialEq)]
pub struct Disrupted<'a> {
    pub pods: BTreeMap<String, Time>,
    /// Pods that should have been deleted by now and were not.
    pub stayed: Vec<&'a Pod>,
    pub again: Option<Duration>,
}

/// Notes of evictions that still count. Unless `whole`, the pods may be older than the budget: one that is noted and
/// not among them may be yet to come, and must not count as healthy when it does.
pub fn disrupted<'a>(
    budget: &PodDisruptionBudget,
    pods: &[&'a Pod],
    whole: bool,
    now: Timestamp,
) -> Disrupted<'a> {
    let noted = budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
    let mut left = Disrupted::default();
    for (called, at) in noted {
        let pod = pods.iter().find(|p| name(&p.metadata) == called);
        let counts = pod.map_or(!whole, |p| p.metadata.deletion_timestamp.is_none());
        match at.0.checked_add(PATIENCE) {
            _ if !counts => {}
            Ok(end) if end >= now => {
                let wait = until(end, now);
                left.again = Some(left.again.map_or(wait, |a| a.min(wait)));
                left.pods.insert(called, at);
            }
            _ => left.stayed.extend(pod),
        }
    }
    left
}

/// Pods that are ready and stay.
pub fn healthy(pods: &[&Pod], disrupted: &BTreeMap<String, Time>) -> i32 {
    let stays = |p: &&&Pod| {
        p.metadata.deletion_timestamp.is_none()
            && !disrupted.contains_key(name(&p.metadata))
            && pods::ready(p)
    };
    pods.iter().filter(stays).count() as i32
}

/// The status as it should read.
pub fn status(
    budget: &PodDisruptionBudget,
    (expected, desired): (i32, i32),
    healthy: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let before = budget.status.clone().unwrap_or_default();
    // A budget without pods allows nothing: its first pods may appear before it is looked at again.
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|d| !d.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: before.conditions,
    };
    let (holds, reason) = if allowed > 0 { (true, "SufficientPods") } else { (false, "InsufficientPods") };
    set_condition(&mut status, holds, reason, "", now);
    status
}

/// The status when it could not be reckoned: nothing is allowed.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    status.current_healthy.get_or_insert(0);
    status.desired_healthy.get_or_insert(0);
    status.expected_pods.get_or_insert(0);
    set_condition(&mut status, false, "SyncFailed", why, now);
    status
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let state = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().find(|c| c.type_ == ALLOWED && c.status == state);
    let since = before.map_or(Time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.into(),
        status: state.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since,
        observed_generation: status.observed_generation,
    };
    match conditions.iter_mut().find(|c| c.type_ == ALLOWED) {
        Some(c) => *c = condition,
        None => conditions.push(condition),
    }
}

/// How long until a pod's mark of disruption is stale; `None` if it has none, or goes after all.
pub fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if pod.metadata.deletion_timestamp.is_some() || pods::finished(pod) {
        return None;
    }
    let mark = pods::condition(pod, "DisruptionTarget").filter(|c| c.status == "True")?;
    // A kubelet may take its time before it ends a pod.
    if mark.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = mark.last_transition_time.as_ref().map_or(now, |t| t.0);
    Some(until(since.checked_add(PATIENCE).ok()?, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, pod, time};

    fn budget(spec: &str, status: &str) -> PodDisruptionBudget {
        let text = format!(
            "{{metadata: {{name: b, namespace: ns, generation: 3}}, spec: {{{spec}}}, status: {{{status}}}}}"
        );
        serde_yaml::from_str(&text).expect("a budget")
    }

    #[test]
    fn what_is_wanted() {
        // spec, matching pods, scale -> expected, desired
        let table = [
            ("minAvailable: 2", 5, 0, (5, 2)),
            ("minAvailable: 7", 5, 0, (5, 7)),
            ("minAvailable: 50%", 5, 7, (7, 4)),
            ("minAvailable: 100%", 5, 7, (7, 7)),
            ("maxUnavailable: 1", 5, 7, (7, 6)),
            ("maxUnavailable: 30%", 5, 7, (7, 4)),
            ("maxUnavailable: 9", 5, 7, (7, 0)),
            ("maxUnavailable: 0", 5, 7, (7, 7)),
            ("", 5, 7, (0, 0)),
        ];
        for (spec, count, scale, want) in table {
            let budget = budget(spec, "");
            assert_eq!(wanted(budget.spec.as_ref().unwrap(), count, scale), Some(want), "{spec}");
        }
        let needs = |spec: &str| needs_scale(budget(spec, "").spec.as_ref().unwrap());
        assert!(needs("maxUnavailable: 1") && needs("minAvailable: 5%") && !needs("minAvailable: 1"));
    }

    #[test]
    fn evicted_pods_do_not_count_for_two_minutes() {
        let noted = "disruptedPods: {a: '2026-01-01T09:59:00Z', b: '2026-01-01T09:57:00Z', c: '2026-01-01T09:59:30Z', gone: '2026-01-01T09:59:30Z'}";
        let budget = budget("minAvailable: 1", noted);
        let pods: Vec<Pod> = [
            "a Running ready",
            "b Running ready",
            "c Running ready deleting",
            "d Running ready",
            "e Running",
        ]
        .iter()
        .map(|t| pod(t))
        .collect();
        let pods: Vec<&Pod> = pods.iter().collect();
        let left = disrupted(&budget, &pods, true, now());
        assert_eq!(left.pods.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(left.stayed.iter().map(|p| name(&p.metadata)).collect::<Vec<_>>(), ["b"]);
        assert_eq!(left.again, Some(Duration::from_secs(60)));
        assert_eq!(healthy(&pods, &left.pods), 2);
        // The cache may not know yet of a pod that was evicted as soon as it was there.
        let left = disrupted(&budget, &pods, false, now());
        assert_eq!(left.pods.keys().collect::<Vec<_>>(), ["a", "gone"]);
    }

    #[test]
    fn what_is_allowed() {
        let allowed = |wanted, healthy| {
            let status = status(&budget("", ""), wanted, healthy, BTreeMap::new(), now());
            let condition = &status.conditions.as_ref().unwrap()[0];
            (status.disruptions_allowed.unwrap(), format!("{} {}", condition.status, condition.reason))
        };
        assert_eq!(allowed((5, 2), 4), (2, "True SufficientPods".into()));
        assert_eq!(allowed((5, 2), 2), (0, "False InsufficientPods".into()));
        assert_eq!(allowed((5, 2), 1), (0, "False InsufficientPods".into()));
        assert_eq!(allowed((0, 0), 3), (0, "False InsufficientPods".into()));
    }

    #[test]
    fn the_condition_keeps_its_time_while_it_holds() {
        let told = "observedGeneration: 2, disruptionsAllowed: 1, conditions: [{type: DisruptionAllowed, status: 'True', reason: SufficientPods, message: '', lastTransitionTime: '2026-01-01T08:00:00Z', observedGeneration: 2}]";
        let since =
            |s: &PodDisruptionBudgetStatus| s.conditions.as_ref().unwrap()[0].last_transition_time.clone();
        let same = status(&budget("", told), (5, 2), 4, BTreeMap::new(), now());
        assert_eq!((since(&same), same.observed_generation), (time("2026-01-01T08:00:00Z"), Some(3)));
        let failed = failed(&budget("", told), "why", now());
        assert_eq!((since(&failed), failed.disruptions_allowed), (Time(now()), Some(0)));
        assert_eq!(failed.conditions.unwrap()[0].reason, "SyncFailed");
    }

    #[test]
    fn marks_grow_stale() {
        let marked = |text: &str, reason: &str| {
            let mut pod = pod(text);
            pod.status.as_mut().unwrap().conditions = serde_yaml::from_str(&format!(
                "[{{type: DisruptionTarget, status: 'True', reason: {reason}, lastTransitionTime: '2026-01-01T09:59:00Z'}}]"
            ))
            .unwrap();
            stale_in(&pod, now()).map(|d| d.as_secs())
        };
        assert_eq!(marked("a Running", "EvictionByEvictionAPI"), Some(60));
        assert_eq!(marked("a Running", "TerminationByKubelet"), None);
        assert_eq!(marked("a Running deleting", "EvictionByEvictionAPI"), None);
        assert_eq!(marked("a Failed", "EvictionByEvictionAPI"), None);
        assert_eq!(stale_in(&pod("a Running"), now()), None);
    }
}
