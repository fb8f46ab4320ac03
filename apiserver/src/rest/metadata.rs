//! Rules of metadata that hold for every kind.

use machinery::field::{FieldError, Path};
use machinery::{meta, names};
use serde_json::Value;

use crate::strategy::Strategy;

/// Bytes that the annotations of an object may have together.
const ANNOTATIONS_MAX: usize = 256 * 1024;
const FINALIZERS: [&str; 2] = ["orphan", "foregroundDeletion"];

/// Checks the metadata of a new object.
pub fn validate_create(object: &Value, namespaced: bool, strategy: &dyn Strategy) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = Vec::new();
    let prefix = meta::generate_name(object);
    if !prefix.is_empty() {
        let messages = strategy.validate_name(prefix, true);
        errors.extend(messages.iter().map(|m| FieldError::invalid(&at.child("generateName"), prefix, m.clone())));
    }
    let name = meta::name(object);
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), "name or generateName is required"));
    } else {
        let messages = strategy.validate_name(name, false);
        errors.extend(messages.iter().map(|m| FieldError::invalid(&at.child("name"), name, m.clone())));
    }
    errors.extend(validate_namespace(object, namespaced, &at));
    errors.extend(validate_common(object, &at));
    errors
}

fn validate_namespace(object: &Value, namespaced: bool, at: &Path) -> Vec<FieldError> {
    let namespace = meta::namespace(object);
    let at = at.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => vec![FieldError::required(&at, "")],
        (true, false) => {
            names::is_dns1123_label(namespace).iter().map(|m| FieldError::invalid(&at, namespace, m.clone())).collect()
        }
        (false, false) => vec![FieldError::forbidden(&at, "not allowed on this type")],
        (false, true) => Vec::new(),
    }
}

fn validate_common(object: &Value, at: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if meta::generation(object) < 0 {
        errors.push(FieldError::invalid(&at.child("generation"), meta::generation(object), "must be greater than or equal to 0"));
    }
    errors.extend(validate_labels(object, &at.child("labels")));
    errors.extend(validate_annotations(object, &at.child("annotations")));
    errors.extend(validate_owners(object, &at.child("ownerReferences")));
    errors.extend(validate_finalizers(object, &at.child("finalizers")));
    errors
}

fn validate_labels(object: &Value, at: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in meta::labels(object).into_iter().flatten() {
        errors.extend(names::is_qualified_name(key).into_iter().map(|m| FieldError::invalid(at, key.as_str(), m)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::is_label_value(value).into_iter().map(|m| FieldError::invalid(at, value, m)));
    }
    errors
}

fn validate_annotations(object: &Value, at: &Path) -> Vec<FieldError> {
    let (mut errors, mut total) = (Vec::new(), 0);
    for (key, value) in meta::annotations(object).into_iter().flatten() {
        let messages = names::is_qualified_name(&key.to_lowercase());
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(at, key.as_str(), m)));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(at, ANNOTATIONS_MAX));
    }
    errors
}

fn validate_owners(object: &Value, at: &Path) -> Vec<FieldError> {
    let (mut errors, mut controllers) = (Vec::new(), 0);
    for (index, owner) in meta::owner_refs(object).iter().enumerate() {
        let at = at.index(index);
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        for (key, why) in [("apiVersion", "version must not be empty"), ("kind", "must not be empty"), ("name", "must not be empty"), ("uid", "must not be empty")] {
            if text(key).is_empty() {
                errors.push(FieldError::invalid(&at.child(key), "", why));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            errors.push(FieldError::invalid(&at, "v1, Kind=Event", "v1, Kind=Event is disallowed from being an owner"));
        }
        controllers += usize::from(owner.get("controller").and_then(Value::as_bool).unwrap_or(false));
    }
    if controllers > 1 {
        errors.push(FieldError::invalid(at, Value::Null, "Only one reference can have Controller set to true"));
    }
    errors
}

fn validate_finalizers(object: &Value, at: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let finalizers = meta::finalizers(object);
    for (index, name) in finalizers.iter().enumerate() {
        let at = at.index(index);
        let messages = names::is_qualified_name(name);
        let plain = !name.contains('/') && !FINALIZERS.contains(name) && *name != "kubernetes";
        if plain && messages.is_empty() {
            errors.push(FieldError::invalid(&at, *name, "name is neither a standard finalizer name nor is it fully qualified"));
        }
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(&at, *name, m)));
    }
    if FINALIZERS.iter().all(|f| finalizers.contains(f)) {
        errors.push(FieldError::invalid(at, Value::from(finalizers.clone()), "finalizer orphan and foregroundDeletion cannot be both set"));
    }
    errors
}

/// Checks the metadata of a changed object.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = validate_common(new, &at);
    if meta::deletion_timestamp(old).is_some() {
        let before = meta::finalizers(old);
        let added: Vec<_> = meta::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let why = format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
            errors.push(FieldError::forbidden(&at.child("finalizers"), why));
        }
    }
    for (name, a, b) in [("name", meta::name(new), meta::name(old)), ("namespace", meta::namespace(new), meta::namespace(old)), ("uid", meta::uid(new), meta::uid(old))] {
        if a != b {
            errors.push(FieldError::invalid(&at.child(name), a, "field is immutable"));
        }
    }
    if meta::generation(new) < meta::generation(old) {
        errors.push(FieldError::invalid(&at.child("generation"), meta::generation(new), "must not be decremented"));
    }
    errors
}

/// Drops repeated owner references (same uid); says whether there were any.
pub fn dedupe_owners(object: &mut Value) -> bool {
    let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else { return false };
    let mut seen = Vec::<Value>::new();
    let before = owners.len();
    owners.retain(|owner| {
        let fresh = !seen.contains(owner);
        seen.push(owner.clone());
        fresh
    });
    owners.len() < before
}

/// Puts back what a client can't change in metadata.
pub fn keep_system_fields(new: &mut Value, old: &Value) {
    let meta = meta::metadata_mut(new);
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"] {
        match old.pointer(&format!("/metadata/{key}")) {
            Some(value) => meta.insert(key.to_owned(), value.clone()),
            None => meta.remove(key),
        };
    }
    meta.remove("selfLink");
}
