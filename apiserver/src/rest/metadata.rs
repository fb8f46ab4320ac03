//! Rules of metadata that hold for every kind.

use machinery::field::FieldError;
use machinery::meta;
use serde_json::Value;

use crate::registry::errs::Errs;
use crate::registry::validate::meta as rules;
use crate::strategy::Strategy;

/// Checks the metadata of a new object.
pub fn validate_create(object: &Value, namespaced: bool, strategy: &dyn Strategy) -> Vec<FieldError> {
    let mut errs = Errs::default();
    rules::validate(object, &|name, prefix| strategy.validate_name(name, prefix), namespaced, &mut errs);
    errs.0
}

/// Checks the metadata of a changed object.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errs = Errs::default();
    rules::validate_update(new, old, &mut errs);
    errs.0
}

/// Drops repeated owner references (same uid); says whether there were any.
pub fn dedupe_owners(object: &mut Value) -> bool {
    let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else {
        return false;
    };
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
    let (meta, old) = (meta::metadata_mut(new), old.get("metadata"));
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        match old.and_then(|old| old.get(key)) {
            Some(value) => meta.insert(key.to_owned(), value.clone()),
            None => meta.remove(key),
        };
    }
    meta.remove("selfLink");
}
