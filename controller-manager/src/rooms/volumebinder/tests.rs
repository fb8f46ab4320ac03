use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::claim::Observed;
use super::{claim, volume};
use crate::kit::Plan;
use crate::kit::meta::name;
use crate::kit::storage::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, DEFAULT_CLASS, PROVISIONED_BY, PROVISIONER, SELECTED_NODE,
    claim_ref, volume_name,
};

fn note(object: &mut Value, key: &str, value: &str) {
    object["metadata"]["annotations"][key] = json!(value);
}

/// `name [size=Q] [class=C] [mode=M,...] [block] [l:key=value] [for=ns/claim[:uid]] [phase=P] [policy=P] [by=P] [ours]
/// [deleting]`
pub fn volume_of(text: &str) -> PersistentVolume {
    let mut words = text.split_whitespace();
    let called = words.next().unwrap();
    let mut v = json!({"metadata": {"name": called, "uid": format!("uid-{called}"), "annotations": {}, "labels": {}},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"}});
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "size" => v["spec"]["capacity"]["storage"] = json!(value),
            "class" => v["spec"]["storageClassName"] = json!(value),
            "mode" => v["spec"]["accessModes"] = json!(value.split(',').collect::<Vec<_>>()),
            "block" => v["spec"]["volumeMode"] = json!("Block"),
            "for" => {
                let (path, uid) = value.split_once(':').unwrap_or((value, ""));
                let (ns, claim) = path.split_once('/').unwrap();
                v["spec"]["claimRef"] = json!({"namespace": ns, "name": claim, "uid": uid});
            }
            "phase" => v["status"]["phase"] = json!(value),
            "policy" => v["spec"]["persistentVolumeReclaimPolicy"] = json!(value),
            "by" => note(&mut v, PROVISIONED_BY, value),
            "ours" => note(&mut v, BOUND_BY_CONTROLLER, "yes"),
            "deleting" => v["metadata"]["deletionTimestamp"] = json!("2026-01-01T10:00:00Z"),
            _ if key.starts_with("l:") => v["metadata"]["labels"][&key[2..]] = json!(value),
            other => panic!("unknown word {other}"),
        }
    }
    serde_json::from_value(v).unwrap()
}

/// `name [size=Q] [class=C] [mode=M] [block] [select=key=value] [volume=V] [done] [phase=P] [node=N] [deleting]`; without
/// a `class` it leaves it open, `class=` asks for none.
pub fn claim_of(text: &str) -> PersistentVolumeClaim {
    let mut words = text.split_whitespace();
    let called = words.next().unwrap();
    let mut c = json!({"metadata": {"name": called, "namespace": "ns", "uid": format!("uid-{called}"), "annotations": {}},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Pending"}});
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "size" => c["spec"]["resources"]["requests"]["storage"] = json!(value),
            "class" => c["spec"]["storageClassName"] = json!(value),
            "mode" => c["spec"]["accessModes"] = json!([value]),
            "block" => c["spec"]["volumeMode"] = json!("Block"),
            "select" => {
                let (key, value) = value.split_once('=').unwrap();
                c["spec"]["selector"] = json!({"matchLabels": {key: value}});
            }
            "volume" => c["spec"]["volumeName"] = json!(value),
            "done" => note(&mut c, BIND_COMPLETED, "yes"),
            "phase" => c["status"]["phase"] = json!(value),
            "node" => note(&mut c, SELECTED_NODE, value),
            "asked" => note(&mut c, PROVISIONER, value),
            "deleting" => c["metadata"]["deletionTimestamp"] = json!("2026-01-01T10:00:00Z"),
            other => panic!("unknown word {other}"),
        }
    }
    serde_json::from_value(c).unwrap()
}

/// `name provisioner [waits] [default]`
pub fn class_of(text: &str) -> Arc<StorageClass> {
    let mut words = text.split_whitespace();
    let mut c = json!({"metadata": {"name": words.next(), "annotations": {}}, "provisioner": words.next()});
    for word in words {
        match word {
            "waits" => c["volumeBindingMode"] = json!("WaitForFirstConsumer"),
            "default" => note(&mut c, DEFAULT_CLASS, "true"),
            other => panic!("unknown word {other}"),
        }
    }
    Arc::new(serde_json::from_value(c).unwrap())
}

fn plan_of(claim: &PersistentVolumeClaim, volumes: &str, classes: &str, pods: &[&str]) -> Plan {
    let lines = |t: &str| {
        t.split('|').map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect::<Vec<_>>()
    };
    let all: Vec<_> = lines(volumes).iter().map(|v| Arc::new(volume_of(v))).collect();
    let named = all.iter().find(|v| name(&v.metadata) == volume_name(claim)).cloned();
    let classes: Vec<_> = lines(classes).iter().map(|c| class_of(c)).collect();
    let pods = pods.iter().map(|p| p.to_string()).collect();
    claim::plan(&Observed { claim, candidates: all, named, classes: &classes, pods })
}

/// The plan in a line, without its thought.
fn line(plan: &Plan) -> String {
    let text = plan.to_string();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    lines.join("; ").replace("persistentvolumeclaims", "pvc").replace("persistentvolumes", "pv")
}

#[test]
fn which_volume() {
    // claim | volumes | the one set aside
    let table = "
        c | a size=3Gi / b size=2Gi / d size=500Mi | b
        c class= | a | a
        c | a class=x | -
        c class=x | a / b class=x | b
        c | a phase=Pending | -
        c | a deleting | -
        c | a block | -
        c block | a / b block | b
        c mode=ReadWriteMany | a / b mode=ReadWriteOnce,ReadWriteMany size=9Gi / d mode=ReadWriteMany size=10Gi | d
        c | a mode=ReadWriteOnce,ReadOnlyMany / b size=5Gi | b
        c select=k=v | a / b l:k=v size=2Gi | b
        c | a for=ns/other / b size=7Gi | b
        c | a for=ns/c size=9Gi phase=Pending class=y / b | a
        c | a for=ns/c:uid-c size=9Gi / b | a
        c | a for=ns/c:old / b | b
        c | a for=ns/c size=1Mi / b | b
        c class=wait | a class=wait | -
        c class=wait | a class=wait for=ns/c | a";
    for row in table.lines().filter(|l| !l.trim().is_empty()) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let plan = plan_of(
            &claim_of(cells[0]),
            &cells[1].replace('/', "|").replace("ns|", "ns/"),
            "wait p waits",
            &[],
        );
        let text = line(&plan);
        let mut chosen = "-";
        for (at, step) in text.split("; ").enumerate() {
            if at == 0 && step.starts_with("update pv ") && step.contains(": for c") {
                chosen = step["update pv ".len()..].split(':').next().unwrap();
            }
            // Set aside with its UID already: the next step is to say so.
            if at == 0 && step.starts_with("update pv/status ") {
                chosen = step["update pv/status ".len()..].split(':').next().unwrap();
            }
        }
        assert_eq!(chosen, cells[2], "{row}\n{text}");
    }
}

#[test]
fn claims_without_a_volume() {
    let check = |claim: &str, volumes: &str, classes: &str, pods: &[&str], wanted: &str| {
        let text = line(&plan_of(&claim_of(claim), volumes, classes, pods));
        assert!(text.starts_with(wanted), "{claim}\n{text}\n{wanted}");
        if wanted.is_empty() {
            assert_eq!(text, "");
        }
    };
    let none = "event Normal FailedBinding: no persistent volumes available for this claim and no storage class is set";
    check("c", "", "", &[], none);
    check("c class=", "", "std p default", &[], none);
    check("c", "", "std p default", &[], "update pvc c: class std");
    check("c phase=", "", "", &[], &format!("{none}; update pvc/status c: Pending"));
    check(
        "c class=x",
        "",
        "",
        &[],
        "event Warning ProvisioningFailed: storageclass.storage.k8s.io \"x\" not found",
    );
    check(
        "c class=x",
        "",
        "x kubernetes.io/no-provisioner",
        &[],
        "event Warning ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner",
    );
    check(
        "c class=x",
        "",
        "x p.io/p",
        &[],
        "update pvc c: for p.io/p; event Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'p.io/p' or manually",
    );
    check("c class=x asked=p.io/p", "", "x p.io/p", &[], "event Normal ExternalProvisioning");
    let first = "event Normal WaitForFirstConsumer: waiting for first consumer to be created before binding";
    check("c class=x", "", "x p waits", &[], first);
    check(
        "c class=x",
        "",
        "x p waits",
        &["a"],
        "event Normal WaitForPodScheduled: waiting for pod a to be scheduled",
    );
    check(
        "c class=x",
        "",
        "x p waits",
        &["a", "b"],
        "event Normal WaitForPodScheduled: waiting for pods a,b to be scheduled",
    );
    check("c class=x node=n", "", "x p waits", &[], "update pvc c: for p");
    check("c class=x deleting", "v class=x", "x p", &[], "");
}

#[test]
fn claims_that_name_their_volume() {
    let check = |claim: &str, volumes: &str, wanted: &str| {
        let text = line(&plan_of(&claim_of(claim), volumes, "", &[]));
        assert_eq!(text, wanted, "{claim} with {volumes}");
    };
    check("c volume=v", "", "");
    check("c volume=v", "v", "update pv v: for c");
    let mismatch =
        |why: &str| format!("event Warning VolumeMismatch: Cannot bind to requested volume \"v\": {why}");
    check("c volume=v", "v size=1Mi", &mismatch("requested PV is too small"));
    check("c volume=v", "v class=x", &mismatch("storageClassName does not match"));
    check("c volume=v", "v block", &mismatch("incompatible volumeMode"));
    check("c volume=v", "v mode=ReadOnlyMany", &mismatch("incompatible accessMode"));
    check("c volume=v", "v deleting", &mismatch("the volume is marked for deletion \"v\""));
    check("c volume=v", "v for=ns/c", "update pv v: for c");
    check("c volume=v", "v for=ns/c:uid-c", "update pv/status v: Bound; update pvc c: on v");
    check(
        "c volume=v",
        "v for=ns/d:uid-d",
        "event Warning FailedBinding: volume \"v\" already bound to a different claim.",
    );
}

#[test]
fn bound_claims() {
    let check = |claim: &str, volumes: &str, wanted: &str| {
        assert_eq!(line(&plan_of(&claim_of(claim), volumes, "", &[])), wanted, "{claim} with {volumes}");
    };
    check("c volume=v done", "v for=ns/c:uid-c phase=Bound", "update pvc/status c: Bound");
    check("c volume=v done phase=Bound", "v for=ns/c:uid-c phase=Bound", "");
    check("c volume=v done phase=Bound deleting", "v for=ns/c:uid-c phase=Bound", "");
    check("c volume=v done phase=Bound", "v", "update pv v: for c");
    check(
        "c done phase=Bound",
        "",
        "update pvc/status c: Lost; event Warning ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
    );
    check(
        "c volume=v done phase=Bound",
        "",
        "update pvc/status c: Lost; event Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
    );
    check("c volume=v done phase=Lost", "", "");
    check(
        "c volume=v done phase=Bound",
        "v for=ns/c:other",
        "update pvc/status c: Lost; event Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
    );
}

#[test]
fn what_binding_writes() {
    let claim = claim_of("c size=1Gi");
    let body = |plan: &Plan, at: usize| match &plan.steps[at] {
        crate::kit::Step::Write(write) => write.body.clone(),
        other => panic!("{other:?}"),
    };
    let plan = plan_of(&claim, "v size=5Gi", "", &[]);
    let set: PersistentVolume = serde_json::from_value(body(&plan, 0)).unwrap();
    let reference = claim_ref(&set).unwrap();
    assert_eq!((reference.name.as_deref(), reference.uid.as_deref()), (Some("c"), Some("uid-c")));
    assert_eq!(set.metadata.annotations.as_ref().unwrap()[BOUND_BY_CONTROLLER], "yes");
    let plan = plan_of(&claim, "v size=5Gi for=ns/c:uid-c", "", &[]);
    let named: PersistentVolumeClaim = serde_json::from_value(body(&plan, 1)).unwrap();
    let notes = named.metadata.annotations.as_ref().unwrap();
    assert_eq!((volume_name(&named), notes.len()), ("v", 2));
    let plan = plan_of(&named, "v size=5Gi for=ns/c:uid-c phase=Bound", "", &[]);
    let status = body(&plan, 0)["status"].clone();
    let wanted = json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"}});
    assert_eq!(status, wanted);
}

#[test]
fn volumes() {
    let check = |text: &str, claim: &str, wanted: &str| {
        let claim = (!claim.is_empty()).then(|| Arc::new(claim_of(claim)));
        assert_eq!(line(&volume::plan(&volume_of(text), claim.as_ref())), wanted, "{text}");
    };
    check("v phase=Pending", "", "update pv/status v: Available");
    check("v", "", "");
    check("v phase=Pending for=ns/c", "", "update pv/status v: Available");
    check("v for=ns/c:uid-c", "c volume=v", "update pv/status v: Bound");
    check("v for=ns/c:uid-c", "c", "");
    check("v for=ns/c:uid-c phase=Bound", "", "update pv/status v: Released");
    check("v for=ns/c:old phase=Bound", "c volume=v", "update pv/status v: Released");
    check("v for=ns/c:uid-c phase=Released", "", "");
    check("v for=ns/c:uid-c phase=Released policy=Delete by=p", "", "");
    check(
        "v for=ns/c:uid-c phase=Released policy=Delete",
        "",
        "update pv/status v: Failed; event Warning VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched",
    );
    check("v for=ns/c:uid-c phase=Failed policy=Delete", "", "");
    check(
        "v for=ns/c:uid-c phase=Released policy=Recycle",
        "",
        "update pv/status v: Failed; event Warning VolumeFailedRecycle: No recycler plugin found for the volume!",
    );
    check("v for=ns/c:uid-c ours", "c volume=w", "update pv v: unbound");
    check("v for=ns/c:uid-c phase=Bound policy=Delete by=p", "c volume=w", "update pv/status v: Released");
    check(
        "v block for=ns/c:uid-c",
        "c",
        "event Warning VolumeMismatch: Cannot bind PersistentVolume to requested PersistentVolumeClaim \"ns/c\" due to incompatible volumeMode.; event Warning VolumeMismatch: Cannot bind PersistentVolume \"v\" to requested PersistentVolumeClaim \"c\" due to incompatible volumeMode.",
    );
}
