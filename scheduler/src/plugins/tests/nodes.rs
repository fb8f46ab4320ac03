//! Plugins that look at the node alone.

use serde_json::json;

use super::{scores, verdicts};
use crate::framework::{Before, Plugin};
use crate::plugins::{
    image_locality, node_affinity, node_name, node_ports, node_unschedulable, taint_toleration,
};
use crate::testing::{cluster, node, pod};

#[test]
fn cordons_names_ports_and_taints() {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    let mut all = cluster(&[
        node("free", json!({})),
        node("cordoned", json!({"spec": {"unschedulable": true}})),
        node("tainted", taint("NoSchedule")),
        node("leaving", taint("NoExecute")),
        node("soft", taint("PreferNoSchedule")),
    ]);
    let port = |p: i32| json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": p}]}]});
    all.add_pod("soft", pod("other", port(80)));
    let tolerating = |key: &str| json!({"tolerations": [{"key": key, "operator": "Exists"}]});
    let cordon = "never: node(s) were unschedulable";
    let tainted = "never: node(s) had untolerated taint(s)";
    let taken = "no: node(s) didn't have free ports for the requested pod ports";
    let named = "never: node(s) didn't match the requested node name";
    let table: Vec<(&dyn Plugin, _, [&str; 5])> = vec![
        (&node_unschedulable::NodeUnschedulable, json!({}), ["ok", cordon, "ok", "ok", "ok"]),
        (
            &node_unschedulable::NodeUnschedulable,
            tolerating("node.kubernetes.io/unschedulable"),
            ["ok", "ok", "ok", "ok", "ok"],
        ),
        (&taint_toleration::TaintToleration, json!({}), ["ok", "ok", tainted, tainted, "ok"]),
        (&taint_toleration::TaintToleration, tolerating("k"), ["ok", "ok", "ok", "ok", "ok"]),
        (&node_ports::NodePorts, port(80), ["ok", "ok", "ok", "ok", taken]),
        (&node_ports::NodePorts, port(81), ["ok", "ok", "ok", "ok", "ok"]),
        (&node_name::NodeName, json!({"nodeName": "free"}), ["ok", named, named, named, named]),
    ];
    for (plugin, spec, want) in table {
        let list = verdicts(plugin, &pod("p", spec.clone()), &mut all);
        assert_eq!(list, want, "{} {spec}", plugin.name());
    }
    let marks = |spec| scores(&taint_toleration::TaintToleration, &pod("p", spec), &mut all.clone()).unwrap();
    assert_eq!(marks(json!({})), [100, 100, 100, 100, 0]);
    assert_eq!(marks(tolerating("k")), [100; 5]);
}

#[test]
fn node_affinity_and_what_the_profile_adds() {
    let label = |l: &str| json!({"metadata": {"labels": {"disk": l}}});
    let mut all = cluster(&[node("a", label("ssd")), node("b", label("hdd"))]);
    let expression =
        |value: &str| json!([{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}]);
    let preference = |value: &str| json!([{"weight": 7, "preference": expression(value)[0]}]);
    let added = serde_json::from_value(json!({
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": expression("ssd")},
        "preferredDuringSchedulingIgnoredDuringExecution": preference("hdd"),
    }));
    let enforcing = node_affinity::NodeAffinity::with(added.unwrap());
    let plain = node_affinity::NodeAffinity::default();
    let (own, enforced) = (
        "never: node(s) didn't match Pod's node affinity/selector",
        "never: node(s) didn't match scheduler-enforced node affinity",
    );
    let hdd = json!({"nodeSelector": {"disk": "hdd"}});
    assert_eq!(verdicts(&plain, &pod("p", hdd.clone()), &mut all), [own, "ok"]);
    assert_eq!(verdicts(&enforcing, &pod("p", hdd), &mut all), [own, enforced]);
    assert_eq!(verdicts(&enforcing, &pod("p", json!({})), &mut all), ["ok", enforced]);
    assert_eq!(scores(&enforcing, &pod("p", json!({})), &mut all), Some(vec![0, 100]));
    assert_eq!(scores(&plain, &pod("p", json!({})), &mut all), None);
    let wants = json!({"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": preference("ssd")}}});
    assert_eq!(scores(&plain, &pod("p", wants.clone()), &mut all), Some(vec![100, 0]));
    assert_eq!(scores(&enforcing, &pod("p", wants), &mut all), Some(vec![100, 100]));
}

#[test]
fn terms_that_name_nodes() {
    let all = cluster(&[node("a", json!({})), node("b", json!({}))]);
    let field = |names: &[&str]| json!({"key": "metadata.name", "operator": "In", "values": names});
    let only = |terms| {
        let p = pod(
            "p",
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
        );
        match node_affinity::NodeAffinity::default().pre_filter(&p, &all) {
            Before::Only(slots, _) => slots.iter().map(|s| all.node(*s).name()).collect::<Vec<_>>().join(" "),
            Before::Refuse(why) => why,
            Before::Ask(_) => "all".into(),
            Before::Skip => "skip".into(),
        }
    };
    for (terms, want) in [
        (json!([{"matchFields": [field(&["b"])]}]), "b"),
        (json!([{"matchFields": [field(&["a"])]}, {"matchFields": [field(&["b", "none"])]}]), "a b"),
        (json!([{"matchFields": [field(&["a"]), field(&["b"])]}]), "pod affinity terms conflict"),
        (
            json!([{"matchFields": [field(&["a"])]}, {"matchExpressions": [{"key": "x", "operator": "Exists"}]}]),
            "all",
        ),
    ] {
        assert_eq!(only(terms.clone()), want, "{terms}");
    }
}

#[test]
fn images_count_by_size_and_spread() {
    const MIB: i64 = 1 << 20;
    let image = |names: &[&str], size: i64| json!({"names": names, "sizeBytes": size * MIB});
    let with = |name: &str, images: serde_json::Value| node(name, json!({"status": {"images": images}}));
    let (big, small) = (image(&["r.io/big@sha256:0", "r.io/big:1"], 1000), image(&["small:latest"], 200));
    let mut all = cluster(&[
        with("both", json!([big, small])),
        with("big", json!([big])),
        with("small", json!([small])),
        with("none", json!([image(&["other:1"], 5000)])),
    ]);
    let mut marks = |spec| scores(&image_locality::ImageLocality, &pod("p", spec), &mut all);
    let of = |images: &[&str]| {
        let list = images.iter().map(|i| json!({"name": i.len().to_string(), "image": i}));
        json!({"containers": list.collect::<Vec<_>>()})
    };
    // Of 1000 MiB on two of four nodes half counts: 100 * (500 - 23) / (1000 - 23).
    assert_eq!(marks(of(&["r.io/big:1"])), Some(vec![48, 48, 0, 0]));
    assert_eq!(marks(of(&["r.io/big@sha256:0"])), Some(vec![48, 48, 0, 0]), "by any of its names");
    // With two containers the most is twice as much; a name without a tag means the latest.
    assert_eq!(marks(of(&["r.io/big:1", "small"])), Some(vec![29, 24, 3, 0]));
    let mut started = of(&["small"]);
    started["initContainers"] = json!([{"name": "i", "image": "r.io/big:1"}]);
    assert_eq!(marks(started), Some(vec![29, 24, 3, 0]), "those of init containers count as well");
    let mut mounted = of(&["small"]);
    mounted["volumes"] = json!([{"name": "v", "image": {"reference": "r.io/big:1"}}]);
    assert_eq!(marks(mounted), Some(vec![29, 24, 3, 0]), "and those of volumes");
    assert_eq!(marks(of(&["r.io/big:2"])), None, "nobody has it");
}
