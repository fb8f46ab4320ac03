use std::collections::HashMap;
use std::time::Duration;

use expect_test::expect;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::fit::{self, Fit};
use super::plan::{Observed, Plan, plan};
use crate::kit::history::POD_HASH;
use crate::kit::meta::{Labels, controller_ref, name};
use crate::testing::{now, pod};

/// `[unavailable=N] [surge=N] [ondelete] [ready=N] [host] [on=NODE] [needs=K:V] [tolerates=K] [generation=N]`
pub fn set(text: &str) -> DaemonSet {
    let mut set: DaemonSet = serde_json::from_value(json!({
        "metadata": {"name": "d", "namespace": "ns", "uid": "d", "generation": 2, "resourceVersion": "1"},
        "status": {"observedGeneration": 1, "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}},
        }
    }))
    .unwrap();
    let spec = set.spec.as_mut().unwrap();
    let inside = spec.template.spec.as_mut().unwrap();
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let strategy = spec.update_strategy.as_mut().unwrap();
        let number =
            || Some(value.parse().map_or_else(|_| IntOrString::String(value.into()), IntOrString::Int));
        match key {
            "unavailable" => strategy.rolling_update.as_mut().unwrap().max_unavailable = number(),
            "surge" => {
                let rolling = strategy.rolling_update.as_mut().unwrap();
                (rolling.max_surge, rolling.max_unavailable) = (number(), Some(IntOrString::Int(0)));
            }
            "ondelete" => (strategy.type_, strategy.rolling_update) = (Some("OnDelete".into()), None),
            "ready" => spec.min_ready_seconds = value.parse().ok(),
            "host" => inside.host_network = Some(true),
            "on" => inside.node_name = Some(value.into()),
            "needs" => {
                let (k, v) = value.split_once(':').unwrap();
                inside.node_selector = Some([(k.to_string(), v.to_string())].into());
            }
            "tolerates" => {
                let toleration = Toleration {
                    key: Some(value.into()),
                    operator: Some("Exists".into()),
                    ..Default::default()
                };
                inside.tolerations.get_or_insert_default().push(toleration);
            }
            "generation" => {
                let key = "deprecated.daemonset.template.generation".to_string();
                set.metadata.annotations = Some([(key, value.to_string())].into());
            }
            other => panic!("unknown word {other}"),
        }
    }
    set
}

/// `name [l:K=V] [taint=K:EFFECT]`
pub fn node(text: &str) -> Node {
    let mut words = text.split_whitespace();
    let (mut labels, mut taints) = (serde_json::Map::new(), Vec::new());
    let called = words.next().unwrap();
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        match key.strip_prefix("l:") {
            Some(key) => drop(labels.insert(key.into(), value.into())),
            None => {
                let (key, effect) = value.split_once(':').unwrap();
                taints.push(json!({"key": key, "effect": effect}));
            }
        }
    }
    serde_json::from_value(
        json!({"metadata": {"name": called, "uid": called, "labels": labels}, "spec": {"taints": taints}}),
    )
    .unwrap()
}

/// `name hash` and then as [`pod`] has it, or `for=NODE` for one that is not bound yet.
fn member(set: &DaemonSet, text: &str) -> Pod {
    let mut words: Vec<_> = text.split_whitespace().collect();
    let hash = words.remove(1);
    let meant = words.iter().position(|w| w.starts_with("for=")).map(|at| words.remove(at));
    let mut made = pod(&words.join(" "));
    if let Some(node) = meant.and_then(|w| w.strip_prefix("for=")) {
        made.spec = fit::make(set, &fit::spec(set), hash, node).spec;
    }
    made.metadata.owner_references = Some(vec![controller_ref(set)]);
    let labels: Labels =
        [("app".to_string(), "d".to_string()), (POD_HASH.to_string(), hash.to_string())].into();
    made.metadata.labels.get_or_insert_default().extend(labels);
    made
}

fn planned(text: &str, nodes: &[&str], pods: &[&str], waits: &[(&str, u64)], settled: bool) -> Plan {
    let set = set(text);
    let nodes: Vec<_> = nodes.iter().map(|n| node(n)).collect();
    let pods: Vec<_> = pods.iter().map(|p| member(&set, p)).collect();
    let waits: HashMap<_, _> = waits.iter().map(|(n, s)| (n.to_string(), Duration::from_secs(*s))).collect();
    let (nodes, pods) = (nodes.iter().collect(), pods.iter().collect());
    let spec = set.spec.as_ref().unwrap();
    let o = Observed { set: &set, spec, nodes, pods, hash: "b", settled, waits };
    plan(&o, &fit::spec(&set), now())
}

/// `+node` for a pod made, `-pod` for one that goes.
fn short(plan: &Plan) -> String {
    let made = plan.create.iter().map(|n| format!("+{n}"));
    made.chain(plan.delete.iter().map(|p| format!("-{p}"))).collect::<Vec<_>>().join(" ")
}

#[test]
fn one_pod_per_node_that_fits() {
    const UP: &str = "b Running ready";
    let up = |name: &str, node: &str| format!("{name} {UP} node={node}");
    let table: Vec<(&str, Vec<&str>, Vec<String>, &str)> = vec![
        ("", vec!["n1", "n2"], vec![], "+n1 +n2"),
        ("", vec!["n1", "n2"], vec![up("p", "n1")], "+n2"),
        // Meant for a node is as good as there.
        ("", vec!["n1"], vec!["p b Pending for=n1".into()], ""),
        ("on=n2", vec!["n1", "n2"], vec![], "+n2"),
        ("needs=a:b", vec!["n1 l:a=b", "n2 l:a=c", "n3"], vec![], "+n1"),
        // Where it no longer fits, it goes.
        ("needs=a:b", vec!["n1 l:a=b", "n2 l:a=c"], vec![up("p", "n1"), up("q", "n2")], "-q"),
        ("", vec!["n1 taint=x:NoSchedule"], vec![], ""),
        ("tolerates=x", vec!["n1 taint=x:NoSchedule"], vec![], "+n1"),
        ("", vec!["n1 taint=x:PreferNoSchedule"], vec![], "+n1"),
        // NoSchedule keeps new ones out, NoExecute drives out those that are there.
        ("", vec!["n1 taint=x:NoSchedule"], vec![up("p", "n1")], ""),
        ("", vec!["n1 taint=x:NoExecute"], vec![up("p", "n1")], "-p"),
        ("", vec!["n1 taint=x:NoExecute"], vec![format!("{} deleting", up("p", "n1"))], ""),
        // Nodes in trouble keep their daemons, and get them.
        ("", vec!["n1 taint=node.kubernetes.io/not-ready:NoExecute"], vec![], "+n1"),
        ("", vec!["n1 taint=node.kubernetes.io/unschedulable:NoSchedule"], vec![], "+n1"),
        ("", vec!["n1 taint=node.kubernetes.io/network-unavailable:NoSchedule"], vec![], ""),
        ("host", vec!["n1 taint=node.kubernetes.io/network-unavailable:NoSchedule"], vec![], "+n1"),
        // Finished pods go; what is deleted and finished does not count.
        ("", vec!["n1"], vec!["p b Failed node=n1".into()], "-p"),
        ("", vec!["n1"], vec!["p b Succeeded node=n1".into()], "-p"),
        ("", vec!["n1"], vec!["p b Failed node=n1 deleting".into()], "+n1"),
        ("", vec!["n1"], vec!["p b Running node=n1 deleting".into()], ""),
        // One of several: scheduled before waiting, then the oldest.
        (
            "",
            vec!["n1"],
            vec![up("p", "n1"), format!("{} created=2026-01-01T08:00:00Z", up("q", "n1"))],
            "-p",
        ),
        ("", vec!["n1"], vec!["p b Pending for=n1 created=2026-01-01T08:00:00Z".into(), up("q", "n1")], "-p"),
        // Nodes that are gone: the unbound go, the rest is the pod collector's.
        ("", vec![], vec![up("p", "gone"), "q b Pending for=gone".into()], "-q"),
    ];
    for (text, nodes, pods, expected) in table {
        let pods: Vec<_> = pods.iter().map(String::as_str).collect();
        let plan = planned(text, &nodes, &pods, &[], true);
        assert_eq!(short(&plan), expected, "{text} {nodes:?} {pods:?}\n{plan}");
    }
}

#[test]
fn rolling_updates() {
    // Pods on nodes 1, 2, ... by a letter each: o and n are an old and a new available pod, O and N such that are
    // not available, x a terminating one, - none; two letters for two pods.
    let table = [
        ("", "o o o", "-p1o"),
        ("unavailable=2", "o o o", "-p1o -p2o"),
        ("unavailable=50%", "o o o", "-p1o -p2o"),
        ("unavailable=100%", "o o o", "-p1o -p2o -p3o"),
        ("", "n o o", "-p2o"),
        ("", "N o o", ""),
        ("unavailable=2", "N o o", "-p2o"),
        // The broken old one goes whatever the budget.
        ("", "N O o", "-p2o"),
        ("", "O O o", "-p1o -p2o"),
        ("", "x o o", ""),
        ("unavailable=2", "x o o", "-p2o"),
        ("", "n n n", ""),
        ("ondelete", "o o o", ""),
        ("unavailable=0", "o o", "-p1o"),
        // Where none is, one is made first.
        ("", "- o o", "+n1"),
        ("ready=3600", "n o", "-p2o"),
        // Surging: the new beside the old.
        ("surge=1", "o o o", "+n1"),
        ("surge=2", "o o o", "+n1 +n2"),
        ("surge=50%", "o o o", "+n1 +n2"),
        ("surge=1", "oN o o", ""),
        ("surge=2", "oN o o", "+n2"),
        ("surge=1", "on o o", "-p1o"),
        ("surge=1", "n o o", "+n2"),
        ("surge=1", "O o o", "+n1 +n2"),
        ("surge=1", "O O O", "+n1 +n2 +n3"),
        ("surge=1", "ON o o", "-p1o"),
        ("surge=1", "n n n", ""),
        ("surge=1", "- o", "+n1"),
    ];
    for (text, pods, expected) in table {
        let words: Vec<_> = pods.split_whitespace().collect();
        let nodes: Vec<_> = (1..=words.len()).map(|n| format!("n{n}")).collect();
        let mut there = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let n = at + 1;
            there.extend(word.chars().filter(|c| *c != '-').map(|c| {
                let hash = if c.eq_ignore_ascii_case(&'n') { "b" } else { "a" };
                let state = match c {
                    'x' => "ready deleting",
                    c if c.is_ascii_lowercase() => "ready",
                    _ => "",
                };
                let young = if hash == "b" { "created=2026-01-01T09:30:00Z" } else { "" };
                let letter = if hash == "b" { 'n' } else { 'o' };
                format!("p{n}{letter} {hash} Running node=n{n} {state} {young}")
            }));
        }
        let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
        let there: Vec<_> = there.iter().map(String::as_str).collect();
        let plan = planned(text, &nodes, &there, &[], true);
        assert_eq!(short(&plan), expected, "{text} {pods}\n{plan}");
    }
}

#[test]
fn a_surging_set_leaves_a_node_only_when_others_have_taken_over() {
    let old = "p a Running ready node=n1";
    let gone = "n1 taint=x:NoSchedule";
    let plan = planned("surge=1", &[gone, "n2"], &[old, "q b Running node=n2"], &[], true);
    assert_eq!(short(&plan), "", "{plan}");
    let plan = planned("surge=1", &[gone, "n2"], &[old, "q b Running ready node=n2"], &[], true);
    assert_eq!(short(&plan), "-p", "{plan}");
}

#[test]
fn failed_pods_are_left_for_a_while() {
    let plan = planned("", &["n1"], &["p b Failed node=n1"], &[("n1", 7)], true);
    assert_eq!((short(&plan).as_str(), plan.again), ("", Some(Duration::from_secs(7))));
    expect![[r#"
        why: 1 pods are finished, too many, or where they should not be
        delete p
        event Warning FailedDaemonPod: Found failed daemon pod ns/p on node n1, will try to kill it
        status: 1 desired, 1 current, 0 ready, 1 updated, 0 available, 1 unavailable, 0 misscheduled
    "#]]
    .assert_eq(&planned("", &["n1"], &["p b Failed node=n1"], &[], true).to_string());
}

#[test]
fn what_the_status_says() {
    let nodes = ["n1", "n2", "n3", "n4 taint=x:NoSchedule", "n5 taint=x:NoSchedule"];
    let pods = [
        "p a Running ready node=n1",
        "q b Running ready=2026-01-01T09:59:58Z node=n2",
        "r b Running ready node=n4",
        "s b Running ready node=gone",
    ];
    let plan = planned("ready=10", &nodes, &pods, &[], true);
    assert_eq!(plan.status.observed_generation, Some(2));
    expect![[r#"
        why: 1 nodes have no pod
        create on n3
        status: 3 desired, 2 current, 2 ready, 1 updated, 1 available, 2 unavailable, 1 misscheduled
        again in 10s
    "#]]
    .assert_eq(&plan.to_string());
    // Not before earlier writes are seen: only counted, and the generation not raised.
    let plan = planned("", &["n1"], &[], &[], false);
    assert_eq!((short(&plan).as_str(), plan.status.observed_generation), ("", Some(1)));
}

#[test]
fn the_generation_of_old_clusters_counts_too() {
    let pods = ["p a Running ready node=n1 l:pod-template-generation=4"];
    assert_eq!(short(&planned("generation=4", &["n1"], &pods, &[], true)), "");
    assert_eq!(short(&planned("generation=5", &["n1"], &pods, &[], true)), "-p");
}

#[test]
fn a_pod_is_made_for_its_node() {
    let set = set("host generation=3 tolerates=x");
    let made = fit::make(&set, &fit::spec(&set), "h", "n1");
    assert_eq!(fit::target(&made), Some("n1"));
    assert_eq!(made.metadata.generate_name.as_deref(), Some("d-"));
    let labels = made.metadata.labels.as_ref().unwrap();
    assert_eq!((labels[POD_HASH].as_str(), labels["pod-template-generation"].as_str()), ("h", "3"));
    let spec = made.spec.as_ref().unwrap();
    let shown = spec.tolerations.iter().flatten().map(|t| {
        format!("{}:{}", t.key.as_deref().unwrap_or_default(), t.effect.as_deref().unwrap_or("any"))
    });
    let shown = shown.collect::<Vec<_>>().join("\n");
    expect![[r#"
        x:any
        node.kubernetes.io/not-ready:NoExecute
        node.kubernetes.io/unreachable:NoExecute
        node.kubernetes.io/disk-pressure:NoSchedule
        node.kubernetes.io/memory-pressure:NoSchedule
        node.kubernetes.io/pid-pressure:NoSchedule
        node.kubernetes.io/unschedulable:NoSchedule
        node.kubernetes.io/network-unavailable:NoSchedule"#]]
    .assert_eq(&shown);
    assert_eq!(fit::fit(spec, &node("n1")), Fit { run: true, stay: true });
    assert_eq!(fit::fit(spec, &node("n2")), Fit { run: false, stay: false });
    assert_eq!(name(&set.metadata), "d");
}
