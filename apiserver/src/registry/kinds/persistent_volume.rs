//! Persistent volumes.

use super::persistent_volume_claim::access_modes;
use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::rules::Rule;
use crate::registry::val::{at, entries, get, members, s, s_at, same, same_at, set, sub};
use crate::registry::validate::resources::quantity;
use crate::registry::validate::volume_sources::shared_source;
use machinery::names;
use machinery::time::now_rfc3339;
use serde_json::{Value, json};

/// Persistent volumes.
pub const KIND: Kind = Kind {
    status: true,
    prepare_create: |new| {
        members(new)
            .insert("status".into(), json!({"phase": "Pending", "lastPhaseTransitionTime": now_rfc3339()}));
    },
    prepare_status,
    rules: &[
        ("spec.persistentVolumeReclaimPolicy", Rule::OneOf(&["Delete", "Recycle", "Retain"])),
        ("spec.storageClassName", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.volumeMode", Rule::OneOf(&["Block", "Filesystem"])),
        ("spec.nodeAffinity.required", Rule::Required),
        ("spec.nodeAffinity.required", Rule::NodeSelector),
        ("spec.volumeAttributesClassName", Rule::Form(names::is_dns1123_subdomain)),
    ],
    validate,
    validate_update,
    ..Kind::core("persistentvolumes")
};

fn prepare_status(new: &mut Value, old: &Value) {
    let before = at(old, &["status", "lastPhaseTransitionTime"]).cloned();
    let given = at(new, &["status", "lastPhaseTransitionTime"]).cloned();
    let changed = s_at(new, &["status", "phase"]) != s_at(old, &["status", "phase"]);
    let time = match (changed, given) {
        (true, given) if given.is_none() || given == before => Some(json!(now_rfc3339())),
        (false, None) => before,
        (_, given) => given,
    };
    if let Some(time) = time {
        sub(members(new), "status").insert("lastPhaseTransitionTime".into(), time);
    }
}

/// Every source a persistent volume can have.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    access_modes(spec, &path, errs);
    capacity(spec, &path.f("capacity"), errs);
    source(spec, &path, errs);
    if s(spec, "persistentVolumeReclaimPolicy") == "Recycle" && s_at(spec, &["hostPath", "path"]) == "/" {
        errs.forbidden(
            &path.f("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    if set(spec, "local") && !set(spec, "nodeAffinity") {
        errs.required(&path.f("nodeAffinity"), "Local volume requires node affinity");
    }
    if set(spec, "volumeAttributesClassName") && !set(spec, "csi") {
        errs.required(&path.f("csi"), "has to be specified when using volumeAttributesClassName");
    }
}

fn capacity(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    if entries(spec, "capacity").next().is_none() {
        errs.required(path, "");
    }
    for (name, value) in entries(spec, "capacity") {
        if name != "storage" {
            errs.not_supported(path, name, &["storage"]);
        } else if quantity(value).is_none_or(|q| q.sign() <= 0) {
            errs.invalid(&path.k(name), value.clone(), "must be greater than zero");
        }
    }
}

fn source(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let mut found = 0;
    for kind in SOURCES {
        let Some(source) = get(spec, kind) else { continue };
        found += 1;
        if found > 1 {
            errs.forbidden(&path.f(kind), "may not specify more than 1 volume type");
        } else {
            shared_source(kind, source, true, &path.f(kind), errs);
        }
    }
    if found == 0 {
        errs.required(path, "must specify a volume type");
    }
}

fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (get(new, "spec").unwrap_or(&Value::Null), get(old, "spec").unwrap_or(&Value::Null));
    let changed = SOURCES.iter().any(|k| !source_kept(k, a, b));
    if changed {
        errs.forbidden(
            &At::ROOT.f("spec.persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    errs.immutable(&At::ROOT.f("volumeMode"), a.get("volumeMode"), b.get("volumeMode"));
    if set(b, "nodeAffinity") && !same_at(a, b, "nodeAffinity") {
        errs.invalid(
            &At::ROOT.f("nodeAffinity"),
            a.get("nodeAffinity").cloned().unwrap_or_default(),
            "field is immutable, except for updating from beta label to GA",
        );
    }
    if set(b, "volumeAttributesClassName") && !set(a, "volumeAttributesClassName") {
        errs.forbidden(
            &At::ROOT.f("spec.volumeAttributesClassName"),
            "update from non-nil value to nil is forbidden",
        );
    }
}

/// A source stays; only the secret for growing may be added to a CSI one.
fn source_kept(kind: &str, new: &Value, old: &Value) -> bool {
    let (mut a, b) = (new.get(kind).cloned(), old.get(kind));
    if let (Some(a), Some(b)) = (a.as_mut(), b)
        && kind == "csi"
        && !set(b, "controllerExpandSecretRef")
    {
        crate::registry::val::drop_key(a, "controllerExpandSecretRef");
    }
    same(a.as_ref(), b)
}
