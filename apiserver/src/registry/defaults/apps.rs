//! Defaults of the apps group.

use super::Fill;
use crate::registry::val::{Obj, if_nil, if_zero, is_zero, items_mut, members, sub};
use serde_json::{Value, json};

/// The defaults of one type of this area.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    if group != "io.k8s.api.apps.v1" {
        return None;
    }
    Some(match kind {
        "Deployment" => deployment,
        "DaemonSet" => daemon_set,
        "StatefulSet" => stateful_set,
        "ReplicaSet" => |m| if_nil(sub(m, "spec"), "replicas", 1),
        _ => return None,
    })
}

fn deployment(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_nil(spec, "replicas", 1);
    let strategy = sub(spec, "strategy");
    if_zero(strategy, "type", "RollingUpdate");
    if is(strategy, "RollingUpdate") {
        let rolling = sub(strategy, "rollingUpdate");
        if_nil(rolling, "maxUnavailable", "25%");
        if_nil(rolling, "maxSurge", "25%");
    }
    if_nil(spec, "revisionHistoryLimit", 10);
    if_nil(spec, "progressDeadlineSeconds", 600);
}

fn is(strategy: &Obj, kind: &str) -> bool {
    strategy.get("type").and_then(Value::as_str) == Some(kind)
}

fn daemon_set(m: &mut Obj) {
    let spec = sub(m, "spec");
    let strategy = sub(spec, "updateStrategy");
    if_zero(strategy, "type", "RollingUpdate");
    if is(strategy, "RollingUpdate") {
        let rolling = sub(strategy, "rollingUpdate");
        if_nil(rolling, "maxUnavailable", 1);
        if_nil(rolling, "maxSurge", 0);
    }
    if_nil(spec, "revisionHistoryLimit", 10);
}

fn stateful_set(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_zero(spec, "podManagementPolicy", "OrderedReady");
    stateful_update(sub(spec, "updateStrategy"));
    let retention = sub(spec, "persistentVolumeClaimRetentionPolicy");
    if_zero(retention, "whenDeleted", "Retain");
    if_zero(retention, "whenScaled", "Retain");
    if_nil(spec, "replicas", 1);
    if_nil(spec, "revisionHistoryLimit", 10);
    let mut spec = Value::Object(std::mem::take(spec));
    for claim in items_mut(&mut spec, "volumeClaimTemplates") {
        claim_template(members(claim));
    }
    m.insert("spec".into(), spec);
}

fn stateful_update(strategy: &mut Obj) {
    if strategy.get("type").is_none_or(is_zero) {
        strategy.insert("type".into(), json!("RollingUpdate"));
        if_nil(strategy, "rollingUpdate", json!({}));
    }
    if is(strategy, "RollingUpdate") && strategy.get("rollingUpdate").is_some_and(Value::is_object) {
        if_nil(sub(strategy, "rollingUpdate"), "partition", 0);
    }
}

fn claim_template(claim: &mut Obj) {
    claim.insert("apiVersion".into(), json!("v1"));
    claim.insert("kind".into(), json!("PersistentVolumeClaim"));
}
