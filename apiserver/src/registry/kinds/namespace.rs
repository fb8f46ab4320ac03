//! Namespaces.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Deletion, Kind, Sub};
use crate::registry::val::{at, get, keep, list, members, s_at, set, strs, sub};
use crate::registry::validate::meta::{NameRule, finalizer_name};
use serde_json::{Value, json};

/// Namespaces.
pub const KIND: Kind = Kind {
    name: NameRule::Label,
    status: true,
    deletion: Deletion::Namespace,
    prepare_create: |new| {
        members(new).insert("status".into(), json!({"phase": "Active"}));
        let finalizers = sub(members(new), "spec").entry("finalizers").or_insert_with(|| json!([]));
        match finalizers.as_array_mut() {
            Some(list) if list.iter().any(|f| f == "kubernetes") => {}
            Some(list) => list.push(json!("kubernetes")),
            None => *finalizers = json!(["kubernetes"]),
        }
    },
    prepare_update: |new, old| {
        let before = at(old, &["spec", "finalizers"]).cloned();
        let spec = sub(members(new), "spec");
        match before {
            Some(finalizers) => spec.insert("finalizers".into(), finalizers),
            None => spec.remove("finalizers"),
        };
    },
    validate: finalizers,
    validate_status,
    canonicalize: |new| {
        let name = s_at(new, &["metadata", "name"]).to_owned();
        if !name.is_empty() {
            let labels = sub(sub(members(new), "metadata"), "labels");
            labels.insert("kubernetes.io/metadata.name".into(), Value::String(name));
        }
    },
    subresources: &[(
        "finalize",
        Sub {
            prepare: |new, old| {
                keep(new, old, "status");
                let wanted = at(new, &["spec", "finalizers"]).cloned();
                if let Some(finalizers) = wanted {
                    keep(new, old, "spec");
                    sub(members(new), "spec").insert("finalizers".into(), finalizers);
                }
            },
            validate: |new, _, errs| finalizers(new, None, errs),
        },
    )],
    ..Kind::core("namespaces")
};

fn finalizers(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let base = At::ROOT.f("spec.finalizers");
    for (index, name) in strs(spec, "finalizers").enumerate() {
        finalizer_name(name, &base.i(index), errs);
    }
}

fn validate_status(new: &Value, _: &Value, errs: &mut Errs) {
    let phase = s_at(new, &["status", "phase"]);
    let deleting = get(new, "metadata").is_some_and(|m| set(m, "deletionTimestamp"));
    let path = At::ROOT.f("status.Phase");
    match (deleting, phase) {
        (false, "Active") | (true, "Terminating") => {}
        (false, _) => errs.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
        (true, _) => {
            errs.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
        }
    }
}

/// Whether nothing is left to wait for before a namespace goes.
pub fn is_empty(namespace: &Value) -> bool {
    get(namespace, "spec").is_none_or(|spec| list(spec, "finalizers").is_empty())
}

/// A namespace being deleted says so.
pub fn terminate(namespace: &mut Value) {
    sub(members(namespace), "status").insert("phase".into(), json!("Terminating"));
}
