//! InterPodAffinity.

use serde_json::{Value, json};

use super::{scores, verdicts};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::plugins::inter_pod_affinity::InterPodAffinity;
use crate::testing::{cluster, merge, node, pod_with};
use std::sync::Arc;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Nodes a and b in zone 1, c in zone 2, d in none.
fn four() -> Snapshot {
    let zone = |z: &str| json!({"metadata": {"labels": {ZONE: z}}});
    cluster(&[node("a", zone("1")), node("b", zone("1")), node("c", zone("2")), node("d", json!({}))])
}

fn labelled(name: &str, app: &str, over: Value) -> Arc<PodInfo> {
    let mut all = json!({"metadata": {"labels": {"app": app}}});
    merge(&mut all, over);
    pod_with(name, all)
}

fn term(app: &str, over: Value) -> Value {
    let mut t = json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": app}}});
    merge(&mut t, over);
    t
}

fn required(kind: &str, terms: Value) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

fn preferred(kind: &str, weight: i32, term: Value) -> Value {
    let terms = json!([{"weight": weight, "podAffinityTerm": term}]);
    json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

/// By node: y fits, n is refused, N for ever.
fn says(all: &mut Snapshot, pod: &PodInfo) -> String {
    let list = verdicts(&InterPodAffinity::default(), pod, all);
    let mut named: Vec<(String, String)> = all.nodes().map(|n| n.name().to_string()).zip(list).collect();
    named.sort();
    let letter = |v: &String| match v.as_str() {
        "ok" => 'y',
        "no: node(s) didn't match pod anti-affinity rules" => 'n',
        "no: node(s) didn't satisfy existing pods anti-affinity rules" => 'e',
        "never: node(s) didn't match pod affinity rules" => 'N',
        other => panic!("{other}"),
    };
    named.iter().map(|(_, v)| letter(v)).collect()
}

#[test]
fn required_terms() {
    let (near, far) = ("podAffinity", "podAntiAffinity");
    let web_on_a = || {
        let mut all = four();
        all.add_pod("a", labelled("w", "web", json!({})));
        all
    };
    let host = json!({"topologyKey": "kubernetes.io/hostname"});
    for (name, app, over, want) in [
        ("near", "db", required(near, json!([term("web", json!({}))])), "yyNN"),
        ("near on the host", "db", required(near, json!([term("web", host.clone())])), "yNNN"),
        ("far", "db", required(far, json!([term("web", json!({}))])), "nnyy"),
        ("near nobody", "db", required(near, json!([term("none", json!({}))])), "NNNN"),
        ("first of its kind", "none", required(near, json!([term("none", json!({}))])), "yyyN"),
        ("both terms", "db", required(near, json!([term("web", json!({})), term("web", host)])), "yNNN"),
        (
            "one pod must match both terms",
            "db",
            required(near, json!([term("web", json!({})), term("db", json!({}))])),
            "NNNN",
        ),
        ("other namespace", "db", required(near, json!([term("web", json!({"namespaces": ["x"]}))])), "NNNN"),
        (
            "all namespaces",
            "db",
            required(near, json!([term("web", json!({"namespaceSelector": {}}))])),
            "yyNN",
        ),
        ("key", "db", required(near, json!([term("web", json!({"matchLabelKeys": ["app"]}))])), "NNNN"),
        (
            "not its like",
            "web",
            required(far, json!([term("web", json!({"mismatchLabelKeys": ["app"]}))])),
            "yyyy",
        ),
    ] {
        assert_eq!(says(&mut web_on_a(), &labelled("p", app, over)), want, "{name}");
    }
}

#[test]
fn pods_already_there_mind_too() {
    let mut all = four();
    let shy = required("podAntiAffinity", json!([term("web", json!({}))]));
    all.add_pod("a", labelled("shy", "db", shy));
    assert_eq!(says(&mut all, &labelled("p", "web", json!({}))), "eeyy");
    assert_eq!(says(&mut all, &labelled("p", "other", json!({}))), "yyyy");
    assert_eq!(says(&mut all, &labelled("p", "web", json!({"metadata": {"namespace": "x"}}))), "yyyy");
    all.remove_pod("a", "uid-shy");
    assert_eq!(says(&mut all, &labelled("p", "web", json!({}))), "yyyy");
}

#[test]
fn labels_of_namespaces_decide_and_may_change() {
    let by_team = json!({"namespaceSelector": {"matchLabels": {"team": "t"}}});
    let p = labelled("p", "db", required("podAffinity", json!([term("web", by_team.clone())])));
    let mut all = four();
    all.add_pod("c", labelled("w", "web", json!({"metadata": {"namespace": "x"}})));
    assert_eq!(says(&mut all, &p), "NNNN");
    all.set_namespace("x", Some([("team".to_string(), "t".to_string())].into()));
    assert_eq!(says(&mut all, &p), "NNyN");
    let shy = required("podAntiAffinity", json!([term("web", by_team)]));
    all.add_pod("a", labelled("shy", "db", shy));
    let theirs = json!({"metadata": {"namespace": "x"}});
    assert_eq!(says(&mut all, &labelled("q", "web", theirs.clone())), "eeyy");
    all.set_namespace("x", None);
    assert_eq!(says(&mut all, &labelled("q", "web", theirs)), "yyyy");
}

fn marks(all: &mut Snapshot, plugin: &InterPodAffinity, pod: &PodInfo) -> Option<Vec<i64>> {
    let list = scores(plugin, pod, all)?;
    let mut named: Vec<(String, i64)> = all.nodes().map(|n| n.name().to_string()).zip(list).collect();
    named.sort();
    Some(named.into_iter().map(|(_, s)| s).collect())
}

#[test]
fn preferences_score_both_ways() {
    let plugin = InterPodAffinity::default();
    let mut all = four();
    all.add_pod("a", labelled("w", "web", json!({})));
    all.add_pod("c", labelled("v", "web", preferred("podAntiAffinity", 3, term("db", json!({})))));
    let like = labelled("p", "db", preferred("podAffinity", 5, term("web", json!({}))));
    // Zone 1: 5; zone 2: 5 - 3; none: 0.
    assert_eq!(marks(&mut all, &plugin, &like).unwrap(), [100, 100, 40, 0]);
    let dislike = labelled("p", "other", preferred("podAntiAffinity", 5, term("web", json!({}))));
    assert_eq!(marks(&mut all, &plugin, &dislike).unwrap(), [0, 0, 0, 100]);
    let neutral = labelled("p", "db", json!({}));
    assert_eq!(marks(&mut all, &plugin, &neutral).unwrap(), [100, 100, 0, 100]);
    let ignoring = InterPodAffinity { ignore_existing: true, ..Default::default() };
    assert!(marks(&mut all, &ignoring, &neutral).is_none());
    assert!(marks(&mut all, &plugin, &labelled("p", "nobody", json!({}))).is_none());
}

#[test]
fn required_terms_of_others_count_by_the_hard_weight() {
    let mut all = four();
    all.add_pod("a", labelled("w", "web", required("podAffinity", json!([term("db", json!({}))]))));
    let p = labelled("p", "db", json!({}));
    assert_eq!(marks(&mut all, &InterPodAffinity::default(), &p).unwrap(), [100, 100, 0, 0]);
    let none = InterPodAffinity { hard_weight: 0, ..Default::default() };
    assert!(marks(&mut all, &none, &p).is_none());
}
