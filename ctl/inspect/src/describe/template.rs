//! Which replica set of a deployment has the deployment's own template.

use crate::dig;
use serde_json::Value;

/// The label that tells replica sets of one deployment apart.
const HASH: &str = "pod-template-hash";

/// Replica sets of old templates, and the one of the template of now, if it is there.
pub fn old_and_new(deployment: &Value, mut sets: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    let uid = dig::text(deployment, "metadata.uid");
    sets.retain(|set| dig::controller(set).is_some_and(|owner| dig::text(owner, "uid") == uid));
    let created = |set: &Value| {
        (dig::moment(set, "metadata.creationTimestamp"), dig::text(set, "metadata.name").to_string())
    };
    let mut by_age: Vec<&Value> = sets.iter().collect();
    by_age.sort_by_key(|set| created(set));
    let wanted = bare(&deployment["spec"]["template"]);
    let new = by_age.into_iter().find(|set| bare(&set["spec"]["template"]) == wanted).cloned();
    let new_uid = new.as_ref().map(|set| dig::text(set, "metadata.uid").to_string());
    let old =
        sets.into_iter().filter(|set| new_uid.as_deref() != Some(dig::text(set, "metadata.uid"))).collect();
    (old, new.into_iter().collect())
}

/// A template without the label its replica set puts on it.
fn bare(template: &Value) -> Value {
    let mut template = template.clone();
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else { return template };
    metadata.remove("creationTimestamp");
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_set_of_the_own_template_is_new() {
        let set = |name: &str, image: &str, owner: &str| {
            json!({"metadata": {"name": name, "uid": name, "creationTimestamp": null, "ownerReferences": [{"uid": owner, "controller": true}]},
                "spec": {"template": {"metadata": {"labels": {"app": "a", HASH: name}}, "spec": {"image": image}}}})
        };
        let deployment = json!({"metadata": {"uid": "d"}, "spec": {"template": {"metadata": {"labels": {"app": "a"}}, "spec": {"image": "2"}}}});
        let (old, new) =
            old_and_new(&deployment, vec![set("x", "1", "d"), set("y", "2", "d"), set("z", "2", "other")]);
        let names = |sets: &[Value]| {
            sets.iter().map(|set| dig::text(set, "metadata.name").to_string()).collect::<Vec<_>>()
        };
        assert_eq!((names(&old), names(&new)), (vec!["x".to_string()], vec!["y".to_string()]));
    }
}
