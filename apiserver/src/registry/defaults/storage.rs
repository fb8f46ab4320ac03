//! Defaults of volumes, claims and storage classes.

use super::{Fill, pod::round_up};
use crate::registry::val::{Obj, if_nil, if_zero, sub};
use serde_json::json;

/// The defaults of one type of this area.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    Some(match (group, kind) {
        ("io.k8s.api.core.v1", "PersistentVolume") => volume,
        ("io.k8s.api.core.v1", "PersistentVolumeSpec") => |m| round_up(m.get_mut("capacity")),
        ("io.k8s.api.core.v1", "PersistentVolumeClaim") => |m| if_zero(sub(m, "status"), "phase", "Pending"),
        ("io.k8s.api.core.v1", "PersistentVolumeClaimSpec") => |m| if_nil(m, "volumeMode", "Filesystem"),
        ("io.k8s.api.core.v1", "PersistentVolumeClaimStatus") => claim_status,
        ("io.k8s.api.storage.v1", "StorageClass") => class,
        ("io.k8s.api.storage.v1", "CSIDriver") => driver,
        _ => return None,
    })
}

fn volume(m: &mut Obj) {
    if_zero(sub(m, "status"), "phase", "Pending");
    let spec = sub(m, "spec");
    if_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
    if_nil(spec, "volumeMode", "Filesystem");
}

fn claim_status(m: &mut Obj) {
    for list in ["capacity", "allocatedResources"] {
        round_up(m.get_mut(list));
    }
}

fn class(m: &mut Obj) {
    if_nil(m, "reclaimPolicy", "Delete");
    if_nil(m, "volumeBindingMode", "Immediate");
}

fn driver(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_nil(spec, "attachRequired", true);
    for flag in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        if_nil(spec, flag, false);
    }
    if_nil(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if_zero(spec, "volumeLifecycleModes", json!(["Persistent"]));
}
