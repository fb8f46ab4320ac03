//! Pods.

use super::pod_warnings;
use crate::registry::kind::{Deletion, Generation, Kind, StatusMeta, Sub};
use crate::registry::resources::qos_class;
use crate::registry::strategy::{keep_meta, name_of};
use crate::registry::val::{at, get, i, items_mut, keep, list, members, obj_mut, s, set, strs, sub};
use crate::registry::validate::{pod, pod_update};
use serde_json::{Value, json};

/// Pods.
pub const KIND: Kind = Kind {
    status: true,
    status_meta: StatusMeta::KeepOwners,
    generation: Generation::Members(&["spec"]),
    deletion: Deletion::Pod,
    prepare_create,
    prepare_status,
    validate: |new, old, errs| {
        if old.is_none() {
            pod::create(new, errs);
        }
    },
    validate_update: pod_update::update,
    validate_status: pod_update::status,
    warnings: |pod, old, out| {
        if old.is_none() {
            let spec = get(pod, "spec").unwrap_or(&Value::Null);
            pod_warnings::name(name_of(pod), out);
            pod_warnings::pod(
                get(pod, "metadata").unwrap_or(&Value::Null),
                spec,
                &crate::registry::errs::At::ROOT,
                out,
            );
        }
    },
    subresources: &[
        ("ephemeralcontainers", Sub { prepare: take_ephemeral, validate: pod_update::ephemeral }),
        ("resize", Sub { prepare: take_resize, validate: pod_update::resize }),
    ],
    ..Kind::core("pods")
};

fn prepare_create(pod: &mut Value) {
    let spec = get(pod, "spec").cloned().unwrap_or_default();
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(&spec)});
    if !list(&spec, "schedulingGates").is_empty() {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null});
        status["conditions"] = json!([condition]);
    }
    members(pod).insert("status".into(), status);
    label_keys(pod);
}

/// Keys named in spread constraints and affinity terms stand for the pod's own value of that label.
fn label_keys(pod: &mut Value) {
    let labels = at(pod, &["metadata", "labels"]).cloned().unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else { return };
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        merge_keys(constraint, "matchLabelKeys", "In", &labels);
    }
    let Some(affinity) = spec.get_mut("affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = affinity.get_mut(kind) else { continue };
        for term in items_mut(terms, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_term(term, &labels);
        }
        for weighted in items_mut(terms, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                merge_term(term, &labels);
            }
        }
    }
}

fn merge_term(term: &mut Value, labels: &Value) {
    merge_keys(term, "matchLabelKeys", "In", labels);
    merge_keys(term, "mismatchLabelKeys", "NotIn", labels);
}

fn merge_keys(of: &mut Value, keys: &str, operator: &str, labels: &Value) {
    if !set(of, "labelSelector") || list(of, keys).is_empty() {
        return;
    }
    let added: Vec<Value> = strs(of, keys)
        .filter_map(|key| Some(json!({"key": key, "operator": operator, "values": [labels.get(key)?]})))
        .collect();
    if let Some(selector) = obj_mut(of, "labelSelector") {
        let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
        if let Some(expressions) = expressions.as_array_mut() {
            expressions.extend(added);
        }
    }
}

/// What a status write leaves out is what it was.
fn prepare_status(new: &mut Value, old: &Value) {
    let before = get(old, "status").cloned().unwrap_or_default();
    let status = sub(members(new), "status");
    for key in ["qosClass", "observedGeneration"] {
        let unset = status.get(key).is_none_or(crate::registry::val::is_zero);
        if let Some(value) = before.get(key).filter(|_| unset) {
            status.insert(key.into(), value.clone());
        }
    }
}

fn take_ephemeral(new: &mut Value, old: &Value) {
    let added = at(new, &["spec", "ephemeralContainers"]).cloned();
    restore(new, old);
    let spec = sub(members(new), "spec");
    match added {
        Some(containers) => spec.insert("ephemeralContainers".into(), containers),
        None => spec.remove("ephemeralContainers"),
    };
}

/// Everything as it was, but for what belongs to the request.
fn restore(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    let meta = new.get("metadata").cloned().unwrap_or_default();
    let old_meta = kept.get("metadata").cloned().unwrap_or_default();
    let mut merged = meta;
    keep_meta(&mut merged, &old_meta);
    members(&mut kept).insert("metadata".into(), merged);
    for key in ["apiVersion", "kind"] {
        keep(&mut kept, new, key);
    }
    *new = kept;
}

fn take_resize(new: &mut Value, old: &Value) {
    let wanted = get(new, "spec").cloned().unwrap_or_default();
    let same_shape = ["containers", "initContainers"].iter().all(|k| {
        let names = |v: &Value| list(v, k).iter().map(|c| s(c, "name").to_owned()).collect::<Vec<_>>();
        names(&wanted) == names(get(old, "spec").unwrap_or(&Value::Null))
    });
    restore(new, old);
    let Some(spec) = new.get_mut("spec") else { return };
    if !same_shape {
        // Left in for validation to refuse.
        ["containers", "initContainers"].iter().for_each(|k| keep(spec, &wanted, k));
        return;
    }
    for kind in ["containers", "initContainers"] {
        for (index, container) in items_mut(spec, kind).iter_mut().enumerate() {
            if let Some(want) = list(&wanted, kind).get(index) {
                keep(container, want, "resources");
                keep(container, want, "resizePolicy");
            }
        }
    }
    keep(spec, &wanted, "resources");
}

/// Seconds a pod gets to end: what was asked, else what its spec says; none when nothing of it runs.
pub fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let spec = get(pod, "spec").unwrap_or(&Value::Null);
    let phase = at(pod, &["status", "phase"]).and_then(Value::as_str).unwrap_or_default();
    let wanted = asked.or_else(|| i(spec, "terminationGracePeriodSeconds")).unwrap_or(0);
    if s(spec, "nodeName").is_empty() || matches!(phase, "Succeeded" | "Failed") {
        0
    } else if wanted < 0 {
        1
    } else {
        wanted
    }
}
