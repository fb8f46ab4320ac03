//! What a stored role or binding lacks of its bootstrap form. Pure.

use serde_json::{Map, Value, json};

use crate::authz::rbac::Rule;
use crate::authz::rbac::rule::missing;

/// An annotation of this value `false` keeps an object as its administrator left it.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What to do about a stored object.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It is as it should be, or protected.
    Nothing,
    /// Store this in its place.
    Update(Box<Value>),
    /// Its roleRef, which cannot be changed, is another one: delete and create.
    Recreate,
}

/// Compares a stored object with its bootstrap form. Nothing is ever taken away.
pub fn step(stored: &Value, wanted: &Value) -> Step {
    if machinery::meta::annotation(stored, AUTOUPDATE) == Some("false") {
        return Step::Nothing;
    }
    if wanted.get("roleRef").is_some() && stored.get("roleRef") != wanted.get("roleRef") {
        return Step::Recreate;
    }
    let mut new = stored.clone();
    for field in ["labels", "annotations"] {
        add_missing_keys(&mut new, wanted, field);
    }
    add_missing_subjects(&mut new, wanted);
    add_missing_rules(&mut new, wanted);
    if new == *stored { Step::Nothing } else { Step::Update(Box::new(new)) }
}

fn add_missing_keys(new: &mut Value, wanted: &Value, field: &str) {
    let Some(wanted) = wanted["metadata"][field].as_object() else { return };
    let meta = machinery::meta::metadata_mut(new);
    let held = meta.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if let Some(held) = held.as_object_mut() {
        for (key, value) in wanted {
            held.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn add_missing_subjects(new: &mut Value, wanted: &Value) {
    let held: Vec<Value> = new.get("subjects").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = wanted.get("subjects").and_then(Value::as_array).into_iter().flatten();
    let lacking: Vec<Value> = wanted.filter(|s| !held.contains(s)).cloned().collect();
    if !lacking.is_empty() {
        new["subjects"] = Value::Array([held, lacking].concat());
    }
}

fn add_missing_rules(new: &mut Value, wanted: &Value) {
    let aggregated = wanted.get("aggregationRule").is_some();
    if aggregated && new.get("aggregationRule") != wanted.get("aggregationRule") {
        new["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    let held = Rule::list_of(new);
    if aggregated && !held.is_empty() {
        return;
    }
    let lacking = missing(&held, &Rule::list_of(wanted));
    if !lacking.is_empty() {
        let all: Vec<Value> = held.iter().chain(&lacking).map(Rule::to_json).collect();
        new["rules"] = json!(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::policy;

    fn wanted(name: &str, plural: &str) -> Value {
        let all = policy::all();
        all.iter().find(|o| o.name == name && o.plural == plural).expect("there").object()
    }

    #[test]
    fn missing_rules_come_back() {
        let want = wanted("system:node-proxier", "clusterroles");
        assert_eq!(step(&want, &want), Step::Nothing);
        let mut stored = want.clone();
        stored["rules"] = json!([{"verbs": ["get"], "apiGroups": ["mine"], "resources": ["things"]}]);
        let Step::Update(new) = step(&stored, &want) else { panic!("update") };
        assert!(missing(&Rule::list_of(&new), &Rule::list_of(&want)).is_empty());
        assert!(missing(&Rule::list_of(&new), &Rule::list_of(&stored)).is_empty(), "nothing is taken away");
        assert_eq!(step(&new, &want), Step::Nothing, "and then all is well");
        stored["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(step(&stored, &want), Step::Nothing);
    }

    #[test]
    fn bindings() {
        let want = wanted("cluster-admin", "clusterrolebindings");
        let mut stored = want.clone();
        stored["subjects"] = json!([]);
        let Step::Update(new) = step(&stored, &want) else { panic!("update") };
        assert_eq!(new["subjects"], want["subjects"]);
        stored["roleRef"]["name"] = json!("view");
        assert_eq!(step(&stored, &want), Step::Recreate);
    }

    #[test]
    fn aggregated_roles_are_left_to_their_controller() {
        let want = wanted("view", "clusterroles");
        let mut stored = want.clone();
        stored["rules"] = json!([{"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}]);
        assert_eq!(step(&stored, &want), Step::Nothing);
        stored["rules"] = Value::Null;
        assert!(matches!(step(&stored, &want), Step::Update(_)), "but not empty");
    }
}
