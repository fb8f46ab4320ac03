//! Who is pushed away for whom.

use std::sync::Arc;

use serde_json::{Value, json};

use super::preempt::{Candidate, candidates, choose};
use super::profile::PreemptionArgs;
use crate::model::budgets::Budget;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::plugins::default_profile;
use crate::testing::{cluster, merge, node, pod_with};

fn pod(name: &str, cpu: &str, priority: i32, over: Value) -> Arc<PodInfo> {
    let requests = json!({"cpu": cpu});
    let mut all = json!({"spec": {"priority": priority, "containers": [
        {"name": "c", "image": "i", "resources": {"requests": requests}}]}});
    merge(&mut all, over);
    pod_with(name, all)
}

fn started(at: &str) -> Value {
    json!({"status": {"startTime": at}})
}

fn preempt(all: &mut Snapshot, pod: &PodInfo) -> Result<Vec<Candidate>, String> {
    let profile = default_profile();
    let found = profile.find(pod, all, 0, true);
    assert!(found.feasible.is_empty());
    candidates(pod, all, &found, PreemptionArgs::default(), 0).map_err(|no| no.words().to_string())
}

fn victims(c: &Candidate) -> Vec<&str> {
    c.victims.iter().map(|v| v.name.as_str()).collect()
}

#[test]
fn the_least_important_go_and_only_as_many_as_needed() {
    let mut all = cluster(&[node("n", json!({}))]);
    all.add_pod("n", pod("high", "1", 9, json!({})));
    all.add_pod("n", pod("old", "1", 1, started("2026-01-01T00:00:00Z")));
    all.add_pod("n", pod("young", "1", 1, started("2026-01-02T00:00:00Z")));
    all.add_pod("n", pod("mid", "1", 3, json!({})));
    let found = preempt(&mut all, &pod("p", "1", 5, json!({}))).unwrap();
    assert_eq!(victims(&found[0]), ["young"]);
    let found = preempt(&mut all, &pod("p", "2", 5, json!({}))).unwrap();
    assert_eq!(victims(&found[0]), ["old", "young"]);
    assert_eq!(
        preempt(&mut all, &pod("p", "4", 5, json!({}))).unwrap_err(),
        "preemption: 0/1 nodes are available: 1 Insufficient cpu."
    );
    assert_eq!(
        preempt(&mut all, &pod("p", "1", 0, json!({}))).unwrap_err(),
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    assert_eq!(
        preempt(&mut all, &pod("p", "9", 5, json!({}))).unwrap_err(),
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_protected_by_a_budget_is_kept_if_another_will_do() {
    let mut all = cluster(&[node("n", json!({}))]);
    all.add_pod("n", pod("guarded", "2", 1, json!({"metadata": {"labels": {"app": "db"}}})));
    all.add_pod("n", pod("free", "2", 2, json!({})));
    let budget = |allowed: i32| {
        let object = json!({"metadata": {}, "spec": {"selector": {"matchLabels": {"app": "db"}}}, "status": {
            "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
        Some(Budget::of(&serde_json::from_value(object).unwrap()))
    };
    let p = pod("p", "2", 5, json!({}));
    assert_eq!(victims(&preempt(&mut all, &p).unwrap()[0]), ["guarded"]);
    all.budgets.set("ns", "db", budget(0));
    let found = preempt(&mut all, &p).unwrap();
    assert_eq!((victims(&found[0]), found[0].violations), (vec!["free"], 0));
    let found = preempt(&mut all, &pod("p", "4", 5, json!({}))).unwrap();
    assert_eq!(found[0].violations, 1);
    all.budgets.set("ns", "db", budget(1));
    assert_eq!(preempt(&mut all, &pod("p", "4", 5, json!({}))).unwrap()[0].violations, 0);
}

#[test]
fn who_may_not_push() {
    let mut all = cluster(&[node("n", json!({}))]);
    all.add_pod("n", pod("low", "4", 1, json!({})));
    let meek = pod("p", "1", 5, json!({"spec": {"preemptionPolicy": "Never"}}));
    assert_eq!(
        preempt(&mut all, &meek).unwrap_err(),
        "preemption: not eligible due to preemptionPolicy=Never."
    );
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}});
    let mut all = cluster(&[node("n", json!({}))]);
    all.add_pod("n", pod("low", "4", 1, leaving));
    let waiting = pod("p", "1", 5, json!({"status": {"nominatedNodeName": "n"}}));
    assert_eq!(
        preempt(&mut all, &waiting).unwrap_err(),
        "preemption: not eligible due to a terminating pod on the nominated node."
    );
}

#[test]
fn anti_affinity_ends_with_the_pod_that_has_it() {
    let mut all = cluster(&[node("n", json!({})), node("m", json!({"spec": {"unschedulable": true}}))]);
    let shy = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}});
    all.add_pod("n", pod("shy", "1", 1, shy.clone()));
    all.add_pod("n", pod("other", "1", 1, json!({})));
    let web = pod("p", "1", 5, json!({"metadata": {"labels": {"app": "web"}}}));
    let found = preempt(&mut all, &web).unwrap();
    assert_eq!((found.len(), victims(&found[0])), (1, vec!["shy"]));
    // Its own anti-affinity likewise.
    let mut all = cluster(&[node("n", json!({}))]);
    all.add_pod("n", pod("web", "1", 1, json!({"metadata": {"labels": {"app": "web"}}})));
    assert_eq!(victims(&preempt(&mut all, &pod("p", "1", 5, shy)).unwrap()[0]), ["web"]);
}

#[test]
fn spreading_counts_those_who_would_be_gone() {
    let zone = |z: &str| json!({"metadata": {"labels": {"zone": z}}});
    let mut all = cluster(&[node("a", zone("1")), node("b", zone("2"))]);
    let web = json!({"metadata": {"labels": {"app": "web"}}});
    all.add_pod("a", pod("w1", "1", 1, web.clone()));
    all.add_pod("a", pod("other", "1", 1, json!({})));
    all.add_pod("b", pod("full", "4", 9, json!({})));
    let mut over = web;
    merge(
        &mut over,
        json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}}),
    );
    let found = preempt(&mut all, &pod("p", "1", 5, over)).unwrap();
    assert_eq!((found.len(), victims(&found[0])), (1, vec!["w1"]));
}

#[test]
fn where_the_least_is_lost() {
    let v = |list: &[(i32, &str)]| -> Vec<Arc<PodInfo>> {
        list.iter().map(|(priority, at)| pod("v", "1", *priority, started(at))).collect()
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let c = |node: &str, violations, victims| Candidate { node: node.into(), violations, victims };
    for (why, list) in [
        (
            "fewest broken budgets",
            vec![c("no", 1, v(&[(1, late)])), c("yes", 0, v(&[(5, early), (5, early)]))],
        ),
        ("lowest top", vec![c("no", 0, v(&[(5, late)])), c("yes", 0, v(&[(4, early), (4, early)]))]),
        (
            "lowest sum",
            vec![c("no", 0, v(&[(5, late), (4, late)])), c("yes", 0, v(&[(5, early), (3, early)]))],
        ),
        ("fewest", vec![c("no", 0, v(&[(5, late), (-2147483648, late)])), c("yes", 0, v(&[(5, early)]))]),
        ("latest start", vec![c("no", 0, v(&[(5, early)])), c("yes", 0, v(&[(5, late)]))]),
    ] {
        assert_eq!(choose(list).unwrap().node, "yes", "{why}");
    }
}
