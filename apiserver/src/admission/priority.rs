//! Priority: the number behind a pod's priority class, and one global default at most.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{Lookup, text};

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";

/// The plugin.
pub struct Priority {
    /// Where classes are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        let classes = resource.group == "scheduling.k8s.io" && resource.plural == "priorityclasses";
        matches!(op, Operation::Create | Operation::Update)
            && subresource.is_empty()
            && (classes || pods::is_pods(resource))
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !pods::is_pods(a.resource) {
            return Ok(());
        }
        let (op, old) = (a.op, a.old);
        let Some(pod) = a.object.as_deref_mut() else { return Ok(()) };
        if op == Operation::Update {
            keep(pod, old);
            return Ok(());
        }
        let result = set(pod, &*self.objects);
        result.map_err(|why| a.forbidden(why))
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        match a.object.as_deref() {
            Some(class) if !pods::is_pods(a.resource) => {
                only_default(class, &*self.objects).map_err(|why| a.forbidden(why))
            }
            _ => Ok(()),
        }
    }
}

/// A pod's priority stays what it was, even if a client leaves it out.
fn keep(pod: &mut Value, old: Option<&Value>) {
    let value =
        |p: &Value, key: &str| p.get("spec").and_then(|s| s.get(key)).filter(|v| !v.is_null()).cloned();
    for key in ["priority", "preemptionPolicy"] {
        if let (None, Some(was)) = (value(pod, key), old.and_then(|o| value(o, key))) {
            machinery::meta::member_mut(pod, "spec").insert(key.into(), was);
        }
    }
}

fn default_class(objects: &dyn Lookup) -> Option<Arc<Value>> {
    let all = objects.list(CLASSES, "");
    let defaults = all.into_iter().filter(|c| c.get("globalDefault") == Some(&json!(true)));
    // Should two have slipped in at once, the lower one counts.
    defaults.min_by_key(|class| value_of(class))
}

fn value_of(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or_default()
}

fn policy_of(class: &Value) -> &str {
    match text(class, "/preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    }
}

fn set(pod: &mut Value, objects: &dyn Lookup) -> Result<(), String> {
    let name = text(pod, "/spec/priorityClassName").to_owned();
    let class = match name.as_str() {
        "" => default_class(objects),
        name => Some(
            objects.get(CLASSES, "", name).ok_or(format!("no PriorityClass with name {name} was found"))?,
        ),
    };
    let value = class.as_deref().map(value_of).unwrap_or_default();
    let policy = class.as_deref().map_or("PreemptLowerPriority", policy_of).to_owned();
    if let Some(given) = pod.pointer("/spec/priority").and_then(Value::as_i64).filter(|g| *g != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        ));
    }
    let given = text(pod, "/spec/preemptionPolicy");
    if !given.is_empty() && given != policy.as_str() {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    let spec = machinery::meta::member_mut(pod, "spec");
    if let Some(class) = class.filter(|_| name.is_empty()) {
        spec.insert("priorityClassName".into(), json!(machinery::meta::name(&class)));
    }
    spec.insert("priority".into(), json!(value));
    spec.insert("preemptionPolicy".into(), json!(policy));
    Ok(())
}

fn only_default(class: &Value, objects: &dyn Lookup) -> Result<(), String> {
    if class.get("globalDefault") != Some(&json!(true)) {
        return Ok(());
    }
    match default_class(objects).filter(|d| machinery::meta::name(d) != machinery::meta::name(class)) {
        Some(other) => Err(format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            machinery::meta::name(&other)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::lookup::fixture::Fixed;

    fn class(name: &str, value: i64, default: bool) -> Value {
        json!({"metadata": {"name": name}, "value": value, "globalDefault": default})
    }

    fn store(default: bool) -> Fixed {
        let none = json!({"metadata": {"name": "meek"}, "value": 5, "preemptionPolicy": "Never"});
        Fixed::default()
            .with(CLASSES, class("high", 100, false))
            .with(CLASSES, class("usual", 10, default))
            .with(CLASSES, none)
    }

    #[test]
    fn numbers() {
        for (spec, default, want) in [
            (json!({}), false, Ok((0, "PreemptLowerPriority", ""))),
            (json!({}), true, Ok((10, "PreemptLowerPriority", "usual"))),
            (json!({"priorityClassName": "high"}), true, Ok((100, "PreemptLowerPriority", "high"))),
            (json!({"priorityClassName": "meek"}), true, Ok((5, "Never", "meek"))),
            (
                json!({"priorityClassName": "high", "priority": 100}),
                false,
                Ok((100, "PreemptLowerPriority", "high")),
            ),
            (json!({"priorityClassName": "gone"}), false, Err("no PriorityClass with name gone was found")),
            (json!({"priority": 7}), false, Err("the integer value of priority (7)")),
            (
                json!({"preemptionPolicy": "Never"}),
                false,
                Err("the string value of PreemptionPolicy (Never)"),
            ),
        ] {
            let mut pod = json!({"spec": spec});
            match (set(&mut pod, &store(default)), want) {
                (Ok(()), Ok((value, policy, name))) => {
                    assert_eq!(pod["spec"]["priority"], value, "{spec}");
                    assert_eq!(text(&pod, "/spec/preemptionPolicy"), policy, "{spec}");
                    assert_eq!(text(&pod, "/spec/priorityClassName"), name, "{spec}");
                }
                (Err(e), Err(w)) => assert!(e.starts_with(w), "{e}"),
                (got, want) => panic!("{spec}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn one_default() {
        assert!(only_default(&class("new", 1, true), &store(true)).is_err());
        assert!(only_default(&class("new", 1, true), &store(false)).is_ok());
        assert!(only_default(&class("new", 1, false), &store(true)).is_ok());
        assert!(only_default(&class("usual", 1, true), &store(true)).is_ok(), "it may change itself");
    }

    #[test]
    fn updates_keep_it() {
        let mut pod = json!({"spec": {}});
        keep(&mut pod, Some(&json!({"spec": {"priority": 5, "preemptionPolicy": "Never"}})));
        assert_eq!(pod["spec"], json!({"priority": 5, "preemptionPolicy": "Never"}));
    }
}
