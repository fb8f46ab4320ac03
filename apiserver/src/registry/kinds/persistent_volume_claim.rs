//! Persistent volume claims.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{
    at, entries, get, keep, members, obj_mut, s, s_at, same, same_at, set, strs, sub,
};
use crate::registry::validate::labels;
use crate::registry::validate::resources::quantity;
use machinery::names;
use machinery::quantity::{Format, Quantity};
use serde_json::{Value, json};

/// Persistent volume claims.
pub const KIND: Kind = Kind {
    status: true,
    prepare_create: |new| {
        members(new).insert("status".into(), json!({"phase": "Pending"}));
        data_sources(new);
    },
    prepare_update: |new, _| data_sources(new),
    validate: |new, _, errs| claim_spec(get(new, "spec").unwrap_or(&Value::Null), &At::ROOT.f("spec"), errs),
    validate_update,
    validate_status: |new, _, errs| {
        let status = get(new, "status").unwrap_or(&Value::Null);
        for which in ["capacity", "allocatedResources"] {
            for (name, value) in entries(status, which) {
                if quantity(value).is_some_and(|q| q.sign() < 0) {
                    errs.invalid(
                        &At::ROOT.f("status").f(which).k(name),
                        value.clone(),
                        "must be greater than or equal to 0",
                    );
                }
            }
        }
    },
    warnings: |new, _, out| {
        if at(new, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]).is_some() {
            out.push("metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead".into());
        }
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        super::pod_warnings::claim_sizes(spec, &At::ROOT.f("spec.resources"), out);
    },
    ..Kind::core("persistentvolumeclaims")
};

/// The old and the new way to say where the data comes from follow each other.
fn data_sources(claim: &mut Value) {
    let Some(spec) = obj_mut(claim, "spec") else { return };
    if let Some(reference) =
        spec.get_mut("dataSourceRef").filter(|r| r.get("namespace").is_some_and(|n| !n.is_null()))
    {
        // References across namespaces are behind a gate that is off.
        *reference = Value::Null;
    }
    spec.retain(|k, v| k != "dataSourceRef" || !v.is_null());
    let given = |spec: &crate::registry::val::Obj, key: &str| spec.get(key).filter(|v| !v.is_null()).cloned();
    match (given(spec, "dataSource"), given(spec, "dataSourceRef")) {
        (Some(source), None) if known_source(&source) => {
            spec.insert("dataSourceRef".into(), source);
        }
        (Some(_), None) => {
            spec.remove("dataSource");
        }
        (None, Some(reference)) => {
            spec.insert("dataSource".into(), reference);
        }
        _ => {}
    }
}

fn known_source(source: &Value) -> bool {
    matches!(
        (s(source, "apiGroup"), s(source, "kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Ways to be mounted, of a volume or a claim.
pub fn access_modes(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let path = path.f("accessModes");
    let modes: Vec<&str> = strs(spec, "accessModes").collect();
    if modes.is_empty() {
        errs.required(&path, "at least 1 access mode is required");
    }
    for mode in modes.iter().filter(|m| !MODES.contains(m)) {
        errs.not_supported(&path, *mode, &MODES);
    }
    if modes.len() > 1 && modes.contains(&"ReadWriteOncePod") {
        errs.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a claim, on its own or in a template.
pub fn claim_spec(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    access_modes(spec, path, errs);
    labels::selector_in(spec, "selector", path, errs);
    match at(spec, &["resources", "requests", "storage"]) {
        None => errs.required(&path.f("resources").k("storage"), ""),
        Some(value) if quantity(value).is_none_or(|q| q.sign() <= 0) => {
            errs.invalid(&path.f("resources").k("storage"), value.clone(), "must be greater than zero");
        }
        Some(_) => {}
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        if !s(spec, key).is_empty() {
            errs.invalid_each(&path.f(key), s(spec, key), names::is_dns1123_subdomain(s(spec, key)));
        }
    }
    if set(spec, "volumeMode") {
        errs.one_of(&path.f("volumeMode"), s(spec, "volumeMode"), &["Block", "Filesystem"]);
    }
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = get(spec, key) {
            data_source(source, &path.f(key), errs);
        }
    }
    if set(spec, "dataSource")
        && set(spec, "dataSourceRef")
        && !same(spec.get("dataSource"), spec.get("dataSourceRef"))
    {
        errs.invalid(path, spec.get("dataSource").cloned().unwrap_or_default(), "must match dataSourceRef");
    }
}

fn data_source(source: &Value, path: &At<'_>, errs: &mut Errs) {
    for key in ["name", "kind"].into_iter().filter(|k| s(source, k).is_empty()) {
        errs.required(&path.f(key), "");
    }
    let group = s(source, "apiGroup");
    if group.is_empty() && s(source, "kind") != "PersistentVolumeClaim" {
        errs.invalid(
            path,
            s(source, "kind"),
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        );
    }
    if !group.is_empty() {
        errs.invalid_each(&path.f("apiGroup"), group, names::is_dns1123_subdomain(group));
    }
}

fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (get(new, "spec").unwrap_or(&Value::Null), get(old, "spec").unwrap_or(&Value::Null));
    let path = At::ROOT.f("spec");
    let bound = s_at(old, &["status", "phase"]) == "Bound";
    let mut munged = a.clone();
    if s(b, "volumeName").is_empty() {
        keep(&mut munged, b, "volumeName");
    }
    if !set(b, "storageClassName") {
        keep(&mut munged, b, "storageClassName");
    }
    if bound || at(old, &["spec", "volumeAttributesClassName"]).is_none() {
        keep(&mut munged, b, "volumeAttributesClassName");
    }
    if bound {
        storage_as_before(&mut munged, b);
    }
    if !same(Some(&munged), Some(b)) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errs.forbidden(&path, why);
    }
    shrink(a, b, old, &path, errs);
    if !same_at(a, b, "volumeMode") {
        errs.immutable(&At::ROOT.f("volumeMode"), a.get("volumeMode"), b.get("volumeMode"));
    }
}

fn storage_as_before(munged: &mut Value, old: &Value) {
    let Some(before) = at(old, &["resources", "requests", "storage"]).cloned() else { return };
    let requests = sub(sub(members(munged), "resources"), "requests");
    requests.insert("storage".into(), before);
}

fn shrink(new: &Value, old: &Value, claim: &Value, path: &At<'_>, errs: &mut Errs) {
    let size = |v: &Value| at(v, &["resources", "requests", "storage"]).and_then(quantity);
    let (Some(a), Some(b)) = (size(new), size(old)) else { return };
    let capacity = at(claim, &["status", "capacity", "storage"])
        .and_then(quantity)
        .unwrap_or(Quantity::zero(Format::DecimalSi));
    if a < b && a <= capacity {
        errs.forbidden(&path.f("resources.requests.storage"), "field can not be less than status.capacity");
    }
}
