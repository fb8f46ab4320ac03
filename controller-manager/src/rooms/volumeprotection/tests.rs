use expect_test::expect;
use serde_json::json;

use super::*;
use crate::testing::time;

fn claim(owner: &str) -> PersistentVolumeClaim {
    let owners = match owner {
        "" => json!([]),
        uid => json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]),
    };
    let meta = json!({"name": "p-v", "namespace": "ns", "ownerReferences": owners});
    serde_json::from_value(json!({"metadata": meta})).unwrap()
}

/// A pod of the namespace `ns` that uses the claim `p-v`: `[node] [ephemeral] [phase] [stopped]`.
fn pod(text: &str) -> Pod {
    let mut volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
    let mut pod = crate::testing::pod("p Running");
    for word in text.split_whitespace() {
        match word {
            "node" => pod.spec.as_mut().unwrap().node_name = Some("n".into()),
            "ephemeral" => volume = json!({"name": "v", "ephemeral": {}}),
            "stopped" => {
                pod.metadata.deletion_timestamp = Some(time("2026-01-01T10:00:00Z"));
                pod.metadata.deletion_grace_period_seconds = Some(0);
            }
            "elsewhere" => pod.metadata.namespace = Some("other".into()),
            phase => pod.status.as_mut().unwrap().phase = Some(phase.into()),
        }
    }
    pod.spec.as_mut().unwrap().volumes = Some(vec![serde_json::from_value(volume).unwrap()]);
    pod
}

#[test]
fn who_keeps_a_claim() {
    let table = "
        node | | true
        node Succeeded | | true
        node stopped | | true
         | | false
        node elsewhere | | false
        node ephemeral | uid-p | true
        node ephemeral | other | false
        node ephemeral stopped | uid-p | false";
    for line in table.lines().filter(|l| !l.trim().is_empty()) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        assert_eq!(keeps(&pod(cells[0]), &claim(cells[1])).to_string(), cells[2], "{line}");
    }
}

#[test]
fn volumes() {
    let volume = |finalizers: &[&str], deleting: bool, phase: &str| {
        let mut meta = json!({"name": "v", "finalizers": finalizers});
        if deleting {
            meta["deletionTimestamp"] = json!("2026-01-01T10:00:00Z");
        }
        serde_json::from_value::<PersistentVolume>(json!({"metadata": meta, "status": {"phase": phase}}))
            .unwrap()
    };
    let lines = [
        volume(&[], false, "Bound"),
        volume(&[OF_VOLUMES], false, "Bound"),
        volume(&[OF_VOLUMES, "x"], true, "Bound"),
        volume(&[OF_VOLUMES, "x"], true, "Released"),
        volume(&["x"], true, "Available"),
    ];
    let text: String = lines.iter().map(|v| volume_plan(v).to_string()).collect();
    expect![[r#"
        why: it is to be protected
        update persistentvolumes v: protect
        why: it is as it should be
        why: a claim has it
        why: no claim has it
        update persistentvolumes v: let go
        why: it is as it should be
    "#]]
    .assert_eq(&text);
}
