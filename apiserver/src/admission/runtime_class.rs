//! RuntimeClass: overhead and placement of a pod's runtime class.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{Lookup, items, text};

const CLASSES: &str = "runtimeclasses.node.k8s.io";

/// The plugin.
pub struct RuntimeClass {
    /// Where classes are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create && pods::is_pods(resource) && subresource.is_empty()
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = a.object.as_deref() else { return Ok(()) };
        let name = text(pod, "/spec/runtimeClassName").to_owned();
        if name.is_empty() {
            return Ok(());
        }
        if self.objects.get(CLASSES, "", &name).is_none() {
            a.app.reader.caught_up().await?;
        }
        let found = self.objects.get(CLASSES, "", &name);
        let class =
            found.ok_or_else(|| a.forbidden(format!("pod rejected: RuntimeClass {name:?} not found")))?;
        let Some(pod) = a.object.as_deref_mut() else { return Ok(()) };
        apply(pod, &class).map_err(|why| a.forbidden(why))
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = a.object.as_deref() else { return Ok(()) };
        let class = self.objects.get(CLASSES, "", text(pod, "/spec/runtimeClassName"));
        check_overhead(pod, class.as_deref()).map_err(|why| a.forbidden(why))
    }
}

fn fixed(class: &Value) -> Option<&Value> {
    class.pointer("/overhead/podFixed").filter(|v| v.as_object().is_some_and(|m| !m.is_empty()))
}

fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    if let Some(overhead) = fixed(class) {
        let given = pod.pointer("/spec/overhead").filter(|v| v.as_object().is_some_and(|m| !m.is_empty()));
        if given.is_some_and(|g| !same_amounts(g, overhead)) {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
        }
        machinery::meta::member_mut(pod, "spec").insert("overhead".into(), overhead.clone());
    }
    let Some(scheduling) = class.get("scheduling").filter(|s| !s.is_null()) else { return Ok(()) };
    merge_selector(pod, scheduling)?;
    merge_tolerations(pod, scheduling);
    Ok(())
}

fn merge_selector(pod: &mut Value, scheduling: &Value) -> Result<(), String> {
    let Some(wanted) = scheduling.get("nodeSelector").and_then(Value::as_object) else { return Ok(()) };
    let selector =
        machinery::meta::member_mut(pod, "spec").entry("nodeSelector").or_insert_with(|| json!({}));
    if selector.is_null() {
        *selector = Value::Object(Map::new());
    }
    let Some(selector) = selector.as_object_mut() else { return Ok(()) };
    for (key, value) in wanted {
        if selector.get(key).is_some_and(|v| v != value) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                plain(value),
                plain(&selector[key])
            ));
        }
        selector.insert(key.clone(), value.clone());
    }
    Ok(())
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn merge_tolerations(pod: &mut Value, scheduling: &Value) {
    let wanted: Vec<Value> = items(scheduling, "/tolerations").cloned().collect();
    if wanted.is_empty() {
        return;
    }
    let mut all: Vec<Value> = items(pod, "/spec/tolerations").cloned().collect();
    for toleration in wanted {
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    machinery::meta::member_mut(pod, "spec").insert("tolerations".into(), Value::Array(all));
}

/// Amounts are compared as amounts: `1` and `1000m` are the same.
fn same_amounts(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
    let amount = |v: &Value| machinery::quantity::Quantity::parse(plain(v)).ok();
    a.len() == b.len()
        && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| amount(v).is_some() && amount(v) == amount(w)))
}

fn check_overhead(pod: &Value, class: Option<&Value>) -> Result<(), String> {
    let given = pod.pointer("/spec/overhead").filter(|v| v.as_object().is_some_and(|m| !m.is_empty()));
    match (given, class.and_then(fixed)) {
        (Some(g), Some(f)) if !same_amounts(g, f) => {
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into())
        }
        (Some(_), None) => {
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_and_placement() {
        let class = json!({"overhead": {"podFixed": {"cpu": "1"}},
            "scheduling": {"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "kata"}]}});
        for (spec, good) in [
            (json!({}), true),
            (json!({"overhead": {"cpu": "1000m"}}), true),
            (json!({"overhead": {"cpu": "2"}}), false),
            (json!({"nodeSelector": {"kata": "yes", "a": "b"}}), true),
            (json!({"nodeSelector": {"kata": "no"}}), false),
        ] {
            let mut pod = json!({"spec": spec});
            assert_eq!(apply(&mut pod, &class).is_ok(), good, "{spec}");
            if good {
                assert_eq!(pod["spec"]["overhead"], json!({"cpu": "1"}));
                assert_eq!(pod["spec"]["nodeSelector"]["kata"], "yes");
                assert_eq!(pod["spec"]["tolerations"], json!([{"key": "kata"}]));
                assert!(check_overhead(&pod, Some(&class)).is_ok());
            }
        }
        assert!(check_overhead(&json!({"spec": {"overhead": {"cpu": "1"}}}), None).is_err());
        assert!(check_overhead(&json!({"spec": {}}), None).is_ok());
    }
}
