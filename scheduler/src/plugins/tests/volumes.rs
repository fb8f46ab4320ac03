//! The plugins about volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::verdicts;
use crate::framework::preempt::candidates;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::storage::{Capacity, Claim, Class, Volume};
use crate::plugins::volume_binding::{Step, VolumeBinding, plan};
use crate::plugins::volume_limits::NodeVolumeLimits;
use crate::plugins::volume_restrictions::VolumeRestrictions;
use crate::plugins::volume_zone::VolumeZone;
use crate::testing::{cluster, merge, node, pod, pod_with};

const ZONE: &str = "topology.kubernetes.io/zone";

fn two() -> Snapshot {
    let zone = |z: &str| json!({"metadata": {"labels": {ZONE: z}}});
    cluster(&[node("a", zone("1")), node("b", zone("2"))])
}

fn claim(all: &mut Snapshot, name: &str, over: Value) {
    let mut object = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "resources": {"requests": {"storage": "5Gi"}}}});
    merge(&mut object, over);
    let claim = Claim::of(&serde_json::from_value(object).unwrap());
    all.storage.set_claim(format!("ns/{name}"), Some(claim));
}

fn bound(volume: &str) -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": volume}})
}

fn volume(all: &mut Snapshot, name: &str, over: Value) {
    let mut object = json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "capacity": {"storage": "10Gi"}}});
    merge(&mut object, over);
    all.storage.set_volume(name.into(), Some(Volume::of(&serde_json::from_value(object).unwrap())));
}

fn class(all: &mut Snapshot, over: Value) {
    let mut object = json!({"metadata": {"name": "slow"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"});
    merge(&mut object, over);
    all.storage.set_class("slow".into(), Some(Class::of(&serde_json::from_value(object).unwrap())));
}

fn user(name: &str, claims: &[&str]) -> Arc<PodInfo> {
    let volumes: Vec<Value> =
        claims.iter().map(|c| json!({"name": c, "persistentVolumeClaim": {"claimName": c}})).collect();
    pod(name, json!({"volumes": volumes}))
}

fn on(host: &str) -> Value {
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}}})
}

#[test]
fn claims_before_any_node_is_looked_at() {
    for (over, want) in [
        (None, "refused: persistentvolumeclaim \"c\" not found"),
        (
            Some(json!({"spec": {"storageClassName": "fast"}})),
            "refused: pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            Some(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
            "refused: persistentvolumeclaim \"c\" is being deleted",
        ),
        (
            Some(json!({"status": {"phase": "Lost"}, "spec": {"volumeName": "v"}})),
            "refused: persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"",
        ),
    ] {
        let mut all = two();
        class(&mut all, json!({}));
        if let Some(over) = over {
            claim(&mut all, "c", over);
        }
        assert_eq!(verdicts(&VolumeBinding, &user("p", &["c"]), &mut all), [want]);
    }
    let ephemeral = pod("p", json!({"volumes": [{"name": "e", "ephemeral": {}}]}));
    let waiting =
        "refused: waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-e\"";
    assert_eq!(verdicts(&VolumeBinding, &ephemeral, &mut two()), [waiting]);
}

#[test]
fn bound_claims_and_claims_to_bind() {
    let none = "never: node(s) didn't find available persistent volumes to bind";
    let p = user("p", &["c"]);
    let mut all = two();
    class(&mut all, json!({}));
    claim(&mut all, "c", bound("v"));
    let gone = "never: node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [gone, gone]);
    volume(&mut all, "v", on("b"));
    let away = "never: node(s) didn't match PersistentVolume's node affinity";
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [away, "ok"]);
    claim(&mut all, "c", json!({}));
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [none, "ok"]);
    for unfit in [
        json!({"spec": {"capacity": {"storage": "1Gi"}}}),
        json!({"spec": {"storageClassName": "other"}}),
        json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"claimRef": {"namespace": "ns", "name": "other", "uid": "u"}}}),
        json!({"status": {"phase": "Released"}}),
    ] {
        volume(&mut all, "v", unfit.clone());
        assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [none, none], "{unfit}");
    }
}

#[test]
fn the_smallest_volume_is_taken_once_and_set_aside() {
    let mut all = two();
    class(&mut all, json!({}));
    claim(&mut all, "large", json!({"spec": {"resources": {"requests": {"storage": "20Gi"}}}}));
    claim(&mut all, "small", json!({}));
    for (name, size) in [("v10", "10Gi"), ("v20", "20Gi"), ("v30", "30Gi")] {
        volume(&mut all, name, json!({"spec": {"capacity": {"storage": size}}}));
    }
    let p = user("p", &["large", "small"]);
    let chosen = |all: &Snapshot| -> Vec<(String, String)> {
        let steps = plan(&p, &all.get("a").unwrap().spec, all);
        let pair = |s: &Step| match s {
            Step::Bind { claim, volume } => (claim.name.clone(), volume.name.clone()),
            Step::Provision { claim } => (claim.name.clone(), "new".into()),
        };
        steps.iter().map(pair).collect()
    };
    let pairs = |list: [(&str, &str); 2]| list.map(|(a, b)| (a.to_string(), b.to_string())).to_vec();
    assert_eq!(chosen(&all), pairs([("small", "v10"), ("large", "v20")]));
    all.storage.assume("v20", "ns/other");
    assert_eq!(chosen(&all), pairs([("small", "v10"), ("large", "v30")]));
    all.storage.release("v20");
    let mine =
        json!({"spec": {"capacity": {"storage": "30Gi"}, "claimRef": {"namespace": "ns", "name": "small"}}});
    volume(&mut all, "v30", mine);
    assert_eq!(chosen(&all), pairs([("small", "v30"), ("large", "v20")]));
}

#[test]
fn new_volumes_are_made_where_that_is_allowed_and_there_is_room() {
    let none = "never: node(s) didn't find available persistent volumes to bind";
    let p = user("p", &["c"]);
    let mut all = two();
    claim(&mut all, "c", json!({}));
    let in_zone = json!([{"matchLabelExpressions": [{"key": ZONE, "values": ["2"]}]}]);
    class(&mut all, json!({"provisioner": "x.y", "allowedTopologies": in_zone}));
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [none, "ok"]);
    class(&mut all, json!({"provisioner": "x.y"}));
    let driver = json!({"metadata": {"name": "x.y"}, "spec": {"storageCapacity": true}});
    all.storage.set_driver("x.y".into(), Some(&serde_json::from_value(driver).unwrap()));
    let full = "never: node(s) did not have enough free storage";
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [full, full]);
    let capacity = json!({"metadata": {"name": "k"}, "storageClassName": "slow", "capacity": "9Gi",
        "nodeTopology": {"matchLabels": {ZONE: "1"}}});
    all.storage.set_capacity("k".into(), Some(Capacity::of(&serde_json::from_value(capacity).unwrap())));
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), ["ok", full]);
    claim(&mut all, "c", json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "b"}}}));
    assert_eq!(verdicts(&VolumeBinding, &p, &mut all), [none, full]);
}

#[test]
fn zones_limits_and_disks() {
    let mut all = two();
    claim(&mut all, "c", bound("v"));
    let csi = |handle: &str| json!({"spec": {"csi": {"driver": "x.y", "volumeHandle": handle}}});
    let mut over = csi("h1");
    merge(&mut over, json!({"metadata": {"labels": {ZONE: "2__3"}}}));
    volume(&mut all, "v", over);
    let p = user("p", &["c"]);
    let zone = "never: node(s) had no available volume zone";
    assert_eq!(verdicts(&VolumeZone, &p, &mut all), [zone, "ok"]);

    all.storage.set_limits("a".into(), Some(BTreeMap::from([("x.y".into(), 1)])));
    assert_eq!(verdicts(&NodeVolumeLimits, &p, &mut all), ["ok", "ok"]);
    claim(&mut all, "d", bound("w"));
    volume(&mut all, "w", csi("h2"));
    all.add_pod("a", user("other", &["d"]));
    assert_eq!(verdicts(&NodeVolumeLimits, &p, &mut all), ["no: node(s) exceed max volume count", "ok"]);
    assert_eq!(verdicts(&NodeVolumeLimits, &user("same", &["d"]), &mut all), ["ok", "ok"]);

    let aws =
        |name| pod(name, json!({"volumes": [{"name": "d", "awsElasticBlockStore": {"volumeID": "x"}}]}));
    all.add_pod("b", aws("holder"));
    let taken = "no: node(s) had no available disk";
    assert_eq!(verdicts(&VolumeRestrictions, &aws("q"), &mut all), ["ok", taken]);
    let gce = |name, ro: bool| {
        pod(name, json!({"volumes": [{"name": "d", "gcePersistentDisk": {"pdName": "x", "readOnly": ro}}]}))
    };
    all.add_pod("a", gce("reader", true));
    assert_eq!(verdicts(&VolumeRestrictions, &gce("q", true), &mut all), ["ok", "ok"]);
    assert_eq!(verdicts(&VolumeRestrictions, &gce("q", false), &mut all), [taken, "ok"]);
}

#[test]
fn a_claim_for_one_pod() {
    let mut all = two();
    claim(&mut all, "c", json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}));
    assert_eq!(verdicts(&VolumeRestrictions, &user("p", &["c"]), &mut all), ["ok", "ok"]);
    all.add_pod("a", user("other", &["c"]));
    let single =
        "no: node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    assert_eq!(verdicts(&VolumeRestrictions, &user("p", &["c"]), &mut all), [single, single]);
    all.remove_pod("a", "uid-other");
    assert_eq!(verdicts(&VolumeRestrictions, &user("p", &["c"]), &mut all), ["ok", "ok"]);
}

#[test]
fn zones_and_regions_by_their_old_and_new_names() {
    const OLD: &str = "failure-domain.beta.kubernetes.io/zone";
    const REGION: &str = "topology.kubernetes.io/region";
    let labels = |l: Value| json!({"metadata": {"labels": l}});
    let mut all = cluster(&[
        node("a", labels(json!({ZONE: "1", REGION: "r"}))),
        node("b", labels(json!({ZONE: "1", REGION: "s"}))),
        node("old", labels(json!({OLD: "1"}))),
        node("bare", json!({})),
    ]);
    claim(&mut all, "c", bound("v"));
    let no = "never: node(s) had no available volume zone";
    for (places, want) in [
        (json!({}), ["ok", "ok", "ok", "ok"]),
        (json!({ZONE: "1"}), ["ok", "ok", no, "ok"]),
        (json!({OLD: "1"}), ["ok", "ok", "ok", "ok"]),
        (json!({OLD: "2"}), [no, no, no, "ok"]),
        (json!({ZONE: "0__1"}), ["ok", "ok", no, "ok"]),
        (json!({ZONE: "1", REGION: "s"}), [no, "ok", no, "ok"]),
        (json!({REGION: "r"}), ["ok", no, no, "ok"]),
    ] {
        volume(&mut all, "v", labels(places.clone()));
        assert_eq!(sorted(&VolumeZone, &user("p", &["c"]), &mut all), want, "{places}");
    }
    assert_eq!(
        sorted(&VolumeZone, &user("p", &["unknown"]), &mut all),
        ["ok"; 4],
        "that is for others to say"
    );
}

/// Verdicts in the order in which the nodes were made.
fn sorted(plugin: &dyn crate::framework::Plugin, pod: &PodInfo, all: &mut Snapshot) -> Vec<String> {
    let words = verdicts(plugin, pod, all);
    let mut pairs: Vec<(u32, String)> = all.order().iter().copied().zip(words).collect();
    pairs.sort();
    pairs.into_iter().map(|(_, word)| word).collect()
}

#[test]
fn volumes_of_a_driver_are_counted_once_with_those_attached_and_those_to_come() {
    let mut all = two();
    let csi =
        |driver: &str, handle: &str| json!({"spec": {"csi": {"driver": driver, "volumeHandle": handle}}});
    for n in 1..5 {
        claim(&mut all, &format!("c{n}"), bound(&format!("v{n}")));
        volume(&mut all, &format!("v{n}"), csi(if n == 4 { "other" } else { "x.y" }, &format!("h{n}")));
    }
    let limit = |n: i64| Some(BTreeMap::from([("x.y".to_string(), n)]));
    let full = "no: node(s) exceed max volume count";
    let words = |all: &mut Snapshot, claims: &[&str]| verdicts(&NodeVolumeLimits, &user("p", claims), all);
    all.storage.set_limits("a".into(), limit(2));
    assert_eq!(words(&mut all, &["c1", "c2"]), ["ok", "ok"]);
    assert_eq!(words(&mut all, &["c1", "c2", "c3"]), [full, "ok"], "its own are counted together");
    assert_eq!(words(&mut all, &["c1", "c2", "c4"]), ["ok", "ok"], "those of another driver apart");
    all.add_pod("a", user("other", &["c1"]));
    assert_eq!(words(&mut all, &["c1", "c2"]), ["ok", "ok"], "one that is there is not counted twice");
    assert_eq!(words(&mut all, &["c2", "c3"]), [full, "ok"]);
    // Attached, though no pod uses it any more.
    let attachment = json!({"metadata": {"name": "t"}, "spec": {"attacher": "x.y", "nodeName": "a",
        "source": {"persistentVolumeName": "v3"}}, "status": {"attached": true}});
    all.storage.set_attachment("t".into(), Some(&serde_json::from_value(attachment).unwrap()));
    assert_eq!(words(&mut all, &["c2"]), [full, "ok"]);
    all.storage.set_attachment("t".into(), None);
    assert_eq!(words(&mut all, &["c2"]), ["ok", "ok"]);
    // A claim without a volume yet counts for its class's driver.
    class(&mut all, json!({"provisioner": "x.y"}));
    claim(&mut all, "new", json!({}));
    assert_eq!(words(&mut all, &["new"]), ["ok", "ok"]);
    assert_eq!(words(&mut all, &["c2", "new"]), [full, "ok"]);
    all.storage.set_limits("a".into(), None);
    assert_eq!(words(&mut all, &["c1", "c2", "c3", "new"]), ["ok", "ok"], "no limit is known");
}

#[test]
fn disks_that_only_readers_share() {
    let mut all = two();
    let iscsi = |name, ro: bool| {
        pod(
            name,
            json!({"volumes": [{"name": "d", "iscsi": {"iqn": "q", "lun": 0, "targetPortal": "t", "readOnly": ro}}]}),
        )
    };
    let rbd = |name, pool: Value, monitor: &str, ro: bool| {
        let mut disk = json!({"image": "i", "monitors": [monitor, "shared"], "readOnly": ro});
        merge(&mut disk, json!({"pool": pool}));
        pod(name, json!({"volumes": [{"name": "d", "rbd": disk}]}))
    };
    all.add_pod("a", iscsi("target", true));
    all.add_pod("b", rbd("image", json!("rbd"), "m", true));
    let taken = "no: node(s) had no available disk";
    for (p, want) in [
        (iscsi("p", true), ["ok", "ok"]),
        (iscsi("p", false), [taken, "ok"]),
        (rbd("p", json!("rbd"), "n", false), ["ok", taken]),
        (rbd("p", json!(null), "n", false), ["ok", taken]),
        (rbd("p", json!("rbd"), "n", true), ["ok", "ok"]),
        (rbd("p", json!("pool"), "n", false), ["ok", "ok"]),
    ] {
        assert_eq!(verdicts(&VolumeRestrictions, &p, &mut all), want);
    }
}

#[test]
fn a_claim_for_one_pod_is_its_namespaces_and_can_be_had_by_pushing_its_user_away() {
    let mut all = two();
    claim(&mut all, "c", json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}));
    let with = |name: &str, namespace: &str, priority: i32| {
        let volumes = json!([{"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]);
        pod_with(
            name,
            json!({"metadata": {"namespace": namespace}, "spec": {"priority": priority, "volumes": volumes}}),
        )
    };
    all.add_pod("a", with("elsewhere", "other", 0));
    assert_eq!(verdicts(&VolumeRestrictions, &with("p", "ns", 0), &mut all), ["ok", "ok"]);
    all.add_pod("b", with("holder", "ns", 0));
    let mut profile = crate::plugins::default_profile();
    profile.filters.retain(|p| p.name() == "VolumeRestrictions");
    let high = with("high", "ns", 5);
    let found = profile.find(&high, &mut all, 0, false);
    assert!(found.feasible.is_empty());
    let candidates = candidates(&high, &all, &found, Default::default(), 0).unwrap();
    let names: Vec<_> = candidates.iter().map(|c| (c.node.as_str(), c.victims[0].name.as_str())).collect();
    assert_eq!(names, [("b", "holder")], "on the other node nobody holds it");
}
