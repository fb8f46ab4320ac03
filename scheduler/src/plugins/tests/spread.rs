//! PodTopologySpread.

use serde_json::{Value, json};

use super::{scores, verdicts};
use crate::model::labels::{Labels, Selector};
use crate::model::snapshot::Snapshot;
use crate::plugins::topology_spread::TopologySpread;
use crate::testing::{cluster, merge, node, pod_with};

const ZONE: &str = "topology.kubernetes.io/zone";
const UNEVEN: &str = "no: node(s) didn't match pod topology spread constraints";

fn zone(z: &str) -> Value {
    json!({"metadata": {"labels": {ZONE: z}}})
}

/// Nodes a and b in zone 1, c in zone 2, with so many pods of app=web on each.
fn three(pods: [usize; 3]) -> Snapshot {
    let mut all = cluster(&[node("a", zone("1")), node("b", zone("1")), node("c", zone("2"))]);
    all.refresh();
    for (n, count) in ["a", "b", "c"].into_iter().zip(pods) {
        for i in 0..count {
            all.add_pod(n, pod_with(&format!("{n}{i}"), json!({"metadata": {"labels": {"app": "web"}}})));
        }
    }
    all
}

fn by_name(all: &Snapshot, list: Vec<String>) -> Vec<String> {
    let mut named: Vec<(String, String)> = all.nodes().map(|n| n.name().to_string()).zip(list).collect();
    named.sort();
    named.into_iter().map(|(_, v)| v.replace(UNEVEN, "uneven")).collect()
}

fn constraint(over: Value) -> Value {
    let mut c = json!({"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    merge(&mut c, over);
    c
}

fn web(constraints: Value) -> Value {
    json!({"metadata": {"labels": {"app": "web", "rev": "2"}}, "spec": {"topologySpreadConstraints": constraints}})
}

#[test]
fn hard_constraints() {
    let c = constraint;
    let host = json!({"topologyKey": "kubernetes.io/hostname"});
    for (name, pods, constraints, want) in [
        ("even", [1, 0, 1], json!([c(json!({}))]), ["ok", "ok", "ok"]),
        ("zone 1 fuller", [1, 1, 1], json!([c(json!({}))]), ["uneven", "uneven", "ok"]),
        ("more skew", [1, 1, 1], json!([c(json!({"maxSkew": 2}))]), ["ok", "ok", "ok"]),
        ("hosts", [1, 0, 1], json!([c(host.clone())]), ["uneven", "ok", "uneven"]),
        ("both", [1, 0, 2], json!([c(json!({})), c(host)]), ["uneven", "ok", "uneven"]),
        ("too few domains", [0, 1, 1], json!([c(json!({"minDomains": 3}))]), ["uneven", "uneven", "uneven"]),
        ("enough domains", [1, 0, 1], json!([c(json!({"minDomains": 2}))]), ["ok", "ok", "ok"]),
        ("other revision", [2, 2, 0], json!([c(json!({"matchLabelKeys": ["rev"]}))]), ["ok", "ok", "ok"]),
        ("no selector", [2, 2, 0], json!([c(json!({"labelSelector": null}))]), ["ok", "ok", "ok"]),
        ("soft", [2, 2, 0], json!([c(json!({"whenUnsatisfiable": "ScheduleAnyway"}))]), ["ok", "ok", "ok"]),
    ] {
        let mut all = three(pods);
        let verdicts = verdicts(&TopologySpread::default(), &pod_with("p", web(constraints)), &mut all);
        assert_eq!(by_name(&all, verdicts), want, "{name}");
    }
}

#[test]
fn nodes_without_the_label_and_pods_that_go_or_are_elsewhere() {
    let mut all = three([1, 0, 1]);
    all.set_node(crate::testing::node_spec("d", json!({})));
    let p = pod_with("p", web(json!([constraint(json!({}))])));
    let list = verdicts(&TopologySpread::default(), &p, &mut all);
    let unlabelled = "never: node(s) didn't match pod topology spread constraints (missing required label)";
    assert_eq!(by_name(&all, list), ["ok", "ok", "ok", unlabelled]);
    let going = json!({"metadata": {"labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let elsewhere = json!({"metadata": {"labels": {"app": "web"}, "namespace": "other"}});
    for over in [going, elsewhere] {
        let mut all = three([1, 0, 1]);
        all.add_pod("a", pod_with("x", over));
        let list = verdicts(&TopologySpread::default(), &p, &mut all);
        assert_eq!(by_name(&all, list), ["ok", "ok", "ok"]);
    }
}

#[test]
fn which_nodes_count() {
    let affinity = json!({"kubernetes.io/hostname": "a"});
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    for (name, policy, want) in [
        ("honor affinity", json!({}), "ok"),
        ("ignore affinity", json!({"nodeAffinityPolicy": "Ignore"}), "uneven"),
    ] {
        let mut all = three([1, 0, 0]);
        let mut over = web(json!([constraint(policy)]));
        merge(&mut over, json!({"spec": {"nodeSelector": affinity}}));
        let list = verdicts(&TopologySpread::default(), &pod_with("p", over), &mut all);
        assert_eq!(by_name(&all, list)[0], want, "{name}");
    }
    for (name, policy, want) in
        [("ignore taints", json!({}), "uneven"), ("honor taints", json!({"nodeTaintsPolicy": "Honor"}), "ok")]
    {
        let mut all = three([1, 0, 0]);
        let mut over = zone("2");
        merge(&mut over, tainted.clone());
        all.set_node(crate::testing::node_spec("c", over));
        let p = pod_with("p", web(json!([constraint(policy)])));
        let list = verdicts(&TopologySpread::default(), &p, &mut all);
        assert_eq!(by_name(&all, list)[0], want, "{name}");
    }
}

fn soft_scores(all: &mut Snapshot, plugin: &TopologySpread, pod: Value) -> Option<Vec<String>> {
    let list = scores(plugin, &pod_with("p", pod), all)?;
    Some(by_name(all, list.iter().map(i64::to_string).collect()))
}

#[test]
fn soft_constraints_score() {
    let soft = |over| {
        let mut c = constraint(json!({"whenUnsatisfiable": "ScheduleAnyway"}));
        merge(&mut c, over);
        web(json!([c]))
    };
    let plugin = TopologySpread::default();
    // Two zones: weight ln 4 = 1.386. Zone 1 has 3 pods: 4.16 -> 4; zone 2 none: 0. 100 x (4 + 0 - s) / 4.
    assert_eq!(soft_scores(&mut three([2, 1, 0]), &plugin, soft(json!({}))).unwrap(), ["0", "0", "100"]);
    // Three hosts: ln 5 = 1.609; 2 pods 3.2 -> 3, one 1.6 -> 2, none 0.
    let host = json!({"topologyKey": "kubernetes.io/hostname"});
    assert_eq!(soft_scores(&mut three([2, 1, 0]), &plugin, soft(host)).unwrap(), ["0", "33", "100"]);
    assert_eq!(soft_scores(&mut three([0, 0, 0]), &plugin, soft(json!({}))).unwrap(), ["100", "100", "100"]);
    // A node without the label does not take part.
    let mut all = three([2, 1, 0]);
    all.set_node(crate::testing::node_spec("d", json!({})));
    assert_eq!(soft_scores(&mut all, &plugin, soft(json!({}))).unwrap(), ["0", "0", "100", "0"]);
    assert!(soft_scores(&mut three([1, 0, 0]), &plugin, web(json!([]))).is_none());
}

#[test]
fn pods_of_a_service_or_an_owner_are_spread_by_default() {
    let plain = json!({"metadata": {"labels": {"app": "web"}}});
    let plugin = TopologySpread::default();
    let mut all = three([2, 1, 0]);
    assert!(soft_scores(&mut all, &plugin, plain.clone()).is_none());
    let labels = Labels::from([("app".to_string(), "web".to_string())]);
    all.owners.service("ns", "web", Some(labels.clone()));
    // Hosts: ln 5 x n + 2; zones: ln 4 x n + 4: a 13.4, b 11.8, c 6 -> 13, 12, 6.
    let want = ["46", "53", "100"].map(String::from);
    assert_eq!(soft_scores(&mut all, &plugin, plain.clone()).unwrap(), want);
    all.owners.service("ns", "web", None);
    all.owners.workload("ReplicaSet", "ns", "rs", Some(Selector::exactly(&labels)));
    let reference = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}]);
    let mut owned = plain.clone();
    merge(&mut owned, json!({"metadata": {"ownerReferences": reference}}));
    assert_eq!(soft_scores(&mut all, &plugin, owned).unwrap(), want);
    assert!(soft_scores(&mut all, &plugin, plain).is_none());
}

#[test]
fn defaults_of_the_profile_may_be_hard() {
    let hard = serde_json::from_value(
        json!([{"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}]),
    );
    let plugin = TopologySpread::with(hard.unwrap());
    let mut all = three([1, 0, 0]);
    all.owners.service("ns", "web", Some([("app".to_string(), "web".to_string())].into()));
    let p = pod_with("p", json!({"metadata": {"labels": {"app": "web"}}}));
    let list = verdicts(&plugin, &p, &mut all);
    assert_eq!(by_name(&all, list), ["uneven", "uneven", "ok"]);
}
