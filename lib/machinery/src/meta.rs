//! Object metadata over `serde_json::Value`: getters that never fail, setters that create what is missing.

use serde_json::{Map, Value};

fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata` for writing; made when missing. A value that is no object becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    member_mut(object, "metadata")
}

/// A member that is an object, for writing; made when missing or of another type.
pub fn member_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let slot = as_map(object).entry(key.to_string()).or_insert(Value::Null);
    as_map(slot)
}

/// The value as an object, made one if it is not.
fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
}

/// `metadata.deletionTimestamp`; `None` for objects that are not being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    metadata(object)?.get("deletionTimestamp")?.as_str()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period(object: &Value) -> Option<i64> {
    metadata(object)?.get("deletionGracePeriodSeconds")?.as_i64()
}

/// `metadata.generation`, 0 when unset.
pub fn generation(object: &Value) -> i64 {
    metadata(object).and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("labels")?.as_object()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("annotations")?.as_object()
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = metadata(object).and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// True when the finalizer is set.
pub fn has_finalizer(object: &Value, name: &str) -> bool {
    finalizers(object).contains(&name)
}

/// `metadata.ownerReferences`.
pub fn owner_refs(object: &Value) -> &[Value] {
    let list = metadata(object).and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

/// The owner with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_refs(object).iter().find(|r| r.get("controller").and_then(Value::as_bool) == Some(true))
}

/// Sets a string of the metadata; an empty text removes it.
fn set_text(object: &mut Value, key: &str, value: &str) {
    let map = metadata_mut(object);
    match value.is_empty() {
        true => map.remove(key),
        false => map.insert(key.to_string(), Value::from(value)),
    };
}

/// Sets `apiVersion` and `kind`.
pub fn set_type(object: &mut Value, api_version: &str, kind: &str) {
    let map = as_map(object);
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
}

/// Sets `metadata.name`.
pub fn set_name(object: &mut Value, name: &str) {
    set_text(object, "name", name);
}

/// Sets `metadata.namespace`.
pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_text(object, "namespace", namespace);
}

/// Sets `metadata.uid`.
pub fn set_uid(object: &mut Value, uid: &str) {
    set_text(object, "uid", uid);
}

/// Sets `metadata.resourceVersion`.
pub fn set_resource_version(object: &mut Value, version: &str) {
    set_text(object, "resourceVersion", version);
}

/// Sets `metadata.creationTimestamp`.
pub fn set_creation_timestamp(object: &mut Value, at: &str) {
    set_text(object, "creationTimestamp", at);
}

/// Sets `metadata.deletionTimestamp` and `deletionGracePeriodSeconds`.
pub fn set_deletion(object: &mut Value, at: &str, grace_seconds: i64) {
    set_text(object, "deletionTimestamp", at);
    metadata_mut(object).insert("deletionGracePeriodSeconds".into(), grace_seconds.into());
}

/// Sets `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    let map = metadata_mut(object);
    match generation {
        0 => map.remove("generation"),
        n => map.insert("generation".into(), n.into()),
    };
}

/// Sets one label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    let slot = metadata_mut(object).entry("labels").or_insert(Value::Null);
    as_map(slot).insert(key.into(), value.into());
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    let slot = metadata_mut(object).entry("annotations").or_insert(Value::Null);
    as_map(slot).insert(key.into(), value.into());
}

/// Removes one annotation, and the map with the last one.
pub fn remove_annotation(object: &mut Value, key: &str) {
    let map = metadata_mut(object);
    let empty = match map.get_mut("annotations").and_then(Value::as_object_mut) {
        Some(annotations) => {
            annotations.remove(key);
            annotations.is_empty()
        }
        None => false,
    };
    if empty {
        map.remove("annotations");
    }
}

/// Sets `metadata.finalizers`; an empty list removes it.
pub fn set_finalizers(object: &mut Value, names: &[&str]) {
    let map = metadata_mut(object);
    match names.is_empty() {
        true => map.remove("finalizers"),
        false => map.insert("finalizers".into(), names.iter().copied().map(Value::from).collect()),
    };
}

/// The value behind a dotted path, such as `spec.nodeName`. Label keys with dots are not reachable this way.
pub fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, step| value.get(step))
}

/// The text field selectors compare: strings as they are, numbers and booleans printed, all else empty.
pub fn text_at(object: &Value, path: &str) -> String {
    match at_path(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(b)) => b.to_string(),
        Some(Value::Number(n)) => n.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn get_and_set() {
        let mut pod = json!({"metadata": {"name": "a", "labels": {"x": "y"}, "ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": true}]}});
        assert_eq!((name(&pod), namespace(&pod), label(&pod, "x")), ("a", "", Some("y")));
        assert_eq!(controller_of(&pod).and_then(|r| r["uid"].as_str()), Some("2"));
        set_namespace(&mut pod, "default");
        set_annotation(&mut pod, "k", "v");
        set_generation(&mut pod, 3);
        set_finalizers(&mut pod, &["f"]);
        assert_eq!((namespace(&pod), annotation(&pod, "k"), generation(&pod)), ("default", Some("v"), 3));
        assert!(has_finalizer(&pod, "f"));
        remove_annotation(&mut pod, "k");
        set_finalizers(&mut pod, &[]);
        assert!(annotations(&pod).is_none() && pod["metadata"].get("finalizers").is_none());
        assert_eq!(text_at(&pod, "metadata.name"), "a");
    }

    #[test]
    fn setters_survive_nonsense() {
        let mut odd = json!({"metadata": 5});
        set_name(&mut odd, "a");
        assert_eq!(odd, json!({"metadata": {"name": "a"}}));
    }
}
