//! Kinds that are served in more versions than they are stored in.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Map, Value, json};

use super::Target;

/// Whether the target's version is not the stored one.
pub fn is_foreign(target: &Target) -> bool {
    let stored = target.collection.as_ref().map(|c| &c.stored);
    stored.is_some_and(|s| s.version != target.resource.version || s.group != target.resource.group)
}

/// Turns a stored object into the target's version.
pub fn from_stored(object: &mut Value, target: &Target) -> Result<(), Status> {
    if is_foreign(target) {
        convert(object, &target.resource.api_version(), &target.resource.kind);
    }
    Ok(())
}

/// Turns an object of the target's version into the stored one.
pub fn to_stored(object: &mut Value, target: &Target) -> Result<(), Status> {
    if let Some(collection) = target.collection.as_ref().filter(|_| is_foreign(target)) {
        convert(object, &collection.stored.api_version(), &collection.stored.kind);
    }
    Ok(())
}

/// Turns an object into another version of its kind.
pub fn convert(object: &mut Value, api_version: &str, kind: &str) {
    let from = meta::api_version(object).to_owned();
    match (from.as_str(), api_version, kind) {
        ("v1", "events.k8s.io/v1", "Event") => rename(object, &EVENT, true),
        ("events.k8s.io/v1", "v1", "Event") => rename(object, &EVENT, false),
        ("autoscaling/v2", "autoscaling/v1", "HorizontalPodAutoscaler") => scaler_to_v1(object),
        ("autoscaling/v1", "autoscaling/v2", "HorizontalPodAutoscaler") => scaler_to_v2(object),
        _ => {}
    }
    meta::set_type(object, api_version, kind);
}

/// Members of Event: core name, events.k8s.io name.
const EVENT: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, names: &[(&str, &str)], forward: bool) {
    let Some(map) = object.as_object_mut() else { return };
    for (core, new) in names {
        let (from, to) = if forward { (core, new) } else { (new, core) };
        if let Some(value) = map.remove(*from) {
            map.insert((*to).to_owned(), value);
        }
    }
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// v1 knows the utilisation of CPU alone; the rest goes into annotations.
fn scaler_to_v1(object: &mut Value) {
    let take = |object: &mut Value, part: &str, key: &str| {
        object.get_mut(part).and_then(Value::as_object_mut).and_then(|m| m.remove(key))
    };
    let mut notes = Map::new();
    if let Some(Value::Array(metrics)) = take(object, "spec", "metrics") {
        let (cpu, rest): (Vec<_>, Vec<_>) = metrics
            .into_iter()
            .partition(|m| is_cpu_utilization(m) && m["resource"]["target"]["type"] == "Utilization");
        if let Some(percent) = cpu.first().map(|m| m["resource"]["target"]["averageUtilization"].clone()) {
            object["spec"]["targetCPUUtilizationPercentage"] = percent;
        }
        if !rest.is_empty() {
            notes.insert(METRICS.into(), Value::Array(rest).to_string().into());
        }
    }
    if let Some(Value::Array(current)) = take(object, "status", "currentMetrics") {
        if let Some(cpu) = current.iter().find(|m| is_cpu_utilization(m)) {
            object["status"]["currentCPUUtilizationPercentage"] =
                cpu["resource"]["current"]["averageUtilization"].clone();
        }
        notes.insert(CURRENT.into(), Value::Array(current).to_string().into());
    }
    for (part, key, note) in [("spec", "behavior", BEHAVIOR), ("status", "conditions", CONDITIONS)] {
        if let Some(value) = take(object, part, key) {
            notes.insert(note.into(), value.to_string().into());
        }
    }
    for (key, value) in notes {
        meta::set_annotation(object, &key, value.as_str().unwrap_or_default());
    }
}

fn scaler_to_v2(object: &mut Value) {
    let note = |object: &mut Value, key: &str| -> Option<Value> {
        let text = meta::annotation(object, key)?.to_owned();
        meta::remove_annotation(object, key);
        serde_json::from_str(&text).ok()
    };
    let mut metrics = match note(object, METRICS) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    for (part, key, annotation) in [
        ("spec", "behavior", BEHAVIOR),
        ("status", "conditions", CONDITIONS),
        ("status", "currentMetrics", CURRENT),
    ] {
        if let Some(value) = note(object, annotation) {
            object[part][key] = value;
        }
    }
    let percent = object
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .and_then(|m| m.remove("targetCPUUtilizationPercentage"));
    if let Some(percent) = percent.filter(|p| !p.is_null()) {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !metrics.is_empty() {
        object["spec"]["metrics"] = metrics.into();
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentCPUUtilizationPercentage");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_there_and_back() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 2, "reportingComponent": "c"});
        let mut event = core.clone();
        convert(&mut event, "events.k8s.io/v1", "Event");
        assert_eq!(
            (&event["regarding"]["name"], &event["note"], &event["deprecatedCount"]),
            (&json!("p"), &json!("m"), &json!(2))
        );
        convert(&mut event, "v1", "Event");
        assert_eq!(event, core);
    }

    #[test]
    fn scalers_there_and_back() {
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": [memory, cpu]}});
        let mut v1 = v2.clone();
        convert(&mut v1, "autoscaling/v1", "HorizontalPodAutoscaler");
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 80);
        assert!(meta::annotation(&v1, METRICS).is_some_and(|m| m.contains("memory")));
        convert(&mut v1, "autoscaling/v2", "HorizontalPodAutoscaler");
        assert_eq!(v1["spec"], v2["spec"]);
    }
}
