//! Which volume does for a claim.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::kit::meta::{name, selects};
use crate::kit::storage::{capacity, claim_class, claim_ref, is_for, requested, volume_class};

/// A volume's or claim's mode; what says nothing is a file system.
fn mode(given: Option<&String>) -> &str {
    given.map(String::as_str).filter(|m| !m.is_empty()).unwrap_or("Filesystem")
}

/// Whether one is a block device and the other a file system.
pub fn modes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let ours = volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    let theirs = claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    mode(ours) != mode(theirs)
}

fn access(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default()
}

fn accessible(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let mut wanted = claim.spec.iter().flat_map(|s| s.access_modes.iter().flatten());
    wanted.all(|mode| access(volume).contains(mode))
}

fn attributes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of = |name: Option<&String>| name.cloned().unwrap_or_default();
    of(volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()))
        != of(claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()))
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether the volume could carry the claim's data at all.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    volume.metadata.deletion_timestamp.is_none()
        && capacity(volume) >= requested(claim)
        && !modes_differ(volume, claim)
        && !attributes_differ(volume, claim)
        && accessible(volume, claim)
}

/// Whether the volume is there for the taking, and what the claim describes.
fn free(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    claim_ref(volume).is_none()
        && phase(volume) == "Available"
        && selector.is_none_or(|s| selects(s, volume.metadata.labels.as_ref()))
        && volume_class(volume) == claim_class(claim).unwrap_or_default()
}

/// The volume for a claim: one set aside for it, else the one with the fewest access modes too many, of those the
/// smallest. With `waiting` others than set aside ones are the scheduler's to choose.
pub fn best<'a>(
    claim: &PersistentVolumeClaim,
    candidates: &'a [Arc<PersistentVolume>],
    waiting: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let suitable = || candidates.iter().filter(|v| suits(v, claim));
    let own = suitable().filter(|v| is_for(v, claim)).min_by_key(|v| name(&v.metadata));
    if own.is_some() || waiting {
        return own;
    }
    suitable().filter(|v| free(v, claim)).min_by(|a, b| {
        let modes = access(a).len().cmp(&access(b).len());
        modes
            .then_with(|| capacity(a).cmp(&capacity(b)))
            .then_with(|| name(&a.metadata).cmp(name(&b.metadata)))
    })
}

/// Why a volume the claim names can't be its volume.
pub fn objection(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion {:?}", name(&volume.metadata)));
    }
    let rules = [
        (capacity(volume) < requested(claim), "requested PV is too small"),
        (volume_class(volume) != claim_class(claim).unwrap_or_default(), "storageClassName does not match"),
        (attributes_differ(volume, claim), "VolumeAttributesClassName does not match"),
        (modes_differ(volume, claim), "incompatible volumeMode"),
        (!accessible(volume, claim), "incompatible accessMode"),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why.to_string())
}
