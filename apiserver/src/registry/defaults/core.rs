//! Defaults of the other core kinds.

use super::{Fill, pod::round_up};
use crate::registry::val::{Obj, if_nil, if_zero, is_zero, sub};
use base64::Engine;
use serde_json::{Value, json};

/// The defaults of one type of this area.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    if group != "io.k8s.api.core.v1" {
        return None;
    }
    Some(match kind {
        "ReplicationController" => replication_controller,
        "Secret" => secret,
        "Namespace" => namespace,
        "NodeStatus" => node_status,
        "NodeSpec" => |m| one_and_many(m, "podCIDR", "podCIDRs", None),
        "PodStatus" => pod_status,
        "LimitRangeItem" => limit_range_item,
        "ResourceQuotaSpec" => |m| round_up(m.get_mut("hard")),
        "ResourceQuotaStatus" => |m| ["hard", "used"].into_iter().for_each(|k| round_up(m.get_mut(k))),
        _ => return None,
    })
}

fn replication_controller(m: &mut Obj) {
    let labels = template_labels(m);
    if let Some(labels) = labels {
        if_zero(sub(m, "spec"), "selector", labels.clone());
        if_zero(sub(m, "metadata"), "labels", labels);
    }
    if_nil(sub(m, "spec"), "replicas", 1);
}

/// The labels of the pod template, when it has any.
pub fn template_labels(m: &Obj) -> Option<Value> {
    let template = m.get("spec")?.get("template")?;
    template.get("metadata")?.get("labels").filter(|l| !is_zero(l)).cloned()
}

/// `stringData` is a way to write `data` in the clear; it is never kept.
fn secret(m: &mut Obj) {
    if let Some(Value::Object(plain)) = m.remove("stringData") {
        let data = sub(m, "data");
        for (key, value) in plain {
            let text = value.as_str().unwrap_or_default();
            data.insert(key, base64::engine::general_purpose::STANDARD.encode(text).into());
        }
    }
    if_zero(m, "type", "Opaque");
}

fn namespace(m: &mut Obj) {
    let name =
        m.get("metadata").and_then(|v| v.get("name")).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !name.is_empty() {
        sub(sub(m, "metadata"), "labels").insert("kubernetes.io/metadata.name".into(), name.into());
    }
    if_zero(sub(m, "status"), "phase", "Active");
}

fn pod_status(m: &mut Obj) {
    one_and_many(m, "podIP", "podIPs", Some("ip"));
    one_and_many(m, "hostIP", "hostIPs", Some("ip"));
}

/// Two members say the same: the first of a list, and, for older clients, that one alone. `key` is the member of the
/// list's items that holds the value, when they are objects.
fn one_and_many(m: &mut Obj, one: &str, many: &str, key: Option<&str>) {
    let first = m.get(many).and_then(|list| list.get(0)).cloned();
    match (first, m.get(one).filter(|v| !is_zero(v)).cloned()) {
        (None, Some(value)) => {
            let item = key.map_or_else(|| value.clone(), |key| json!({key: value}));
            m.insert(many.to_owned(), json!([item]));
        }
        (Some(first), None) => {
            let value = key.map_or_else(|| first.clone(), |key| first.get(key).cloned().unwrap_or_default());
            m.insert(one.to_owned(), value);
        }
        _ => {}
    }
}

fn node_status(m: &mut Obj) {
    for list in ["capacity", "allocatable"] {
        round_up(m.get_mut(list));
    }
    if let Some(capacity) = m.get("capacity").filter(|c| !is_zero(c)).cloned() {
        if_nil(m, "allocatable", capacity);
    }
}

/// For containers: no default means the maximum, no default request the default, else the minimum.
fn limit_range_item(m: &mut Obj) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        round_up(m.get_mut(list));
    }
    if m.get("type") != Some(&json!("Container")) {
        return;
    }
    fill_from(m, "default", "max");
    fill_from(m, "defaultRequest", "default");
    fill_from(m, "defaultRequest", "min");
}

fn fill_from(m: &mut Obj, to: &str, from: &str) {
    let Some(source) = m.get(from).and_then(Value::as_object).filter(|o| !o.is_empty()).cloned() else {
        return;
    };
    let target = sub(m, to);
    for (name, quantity) in source {
        target.entry(name).or_insert(quantity);
    }
}
