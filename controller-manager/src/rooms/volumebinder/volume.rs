//! What to do about a volume: its phase, and what becomes of it when its claim is gone.

use std::sync::Arc;

use control::events::{Kind, reference};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::matching::modes_differ;
use crate::kit::meta::{annotation, name, namespace, uid};
use crate::kit::storage::{BOUND_BY_CONTROLLER, PROVISIONED_BY, claim_ref, volume_name};
use crate::kit::{Plan, Write};

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The write that gives a volume a phase, unless it has it.
pub fn with_phase(volume: &PersistentVolume, wanted: &str, message: Option<&str>) -> Option<Write> {
    if phase(volume) == wanted {
        return None;
    }
    let mut changed = volume.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some(wanted.into());
    status.message = message.map(str::to_string);
    Some(Write::update_status(&changed).note(wanted))
}

fn in_phase(volume: &PersistentVolume, wanted: &str, why: &str) -> Plan {
    let mut plan = Plan::because(why);
    if let Some(write) = with_phase(volume, wanted, None) {
        plan.write(write);
    }
    plan
}

/// Plans for a volume; `claim` is what its reference leads to, read live where the cache knew none of that UID.
pub fn plan(volume: &PersistentVolume, claim: Option<&Arc<PersistentVolumeClaim>>) -> Plan {
    let Some(reference) = claim_ref(volume) else { return in_phase(volume, "Available", "nobody has it") };
    let owner = reference.uid.as_deref().unwrap_or_default();
    if owner.is_empty() {
        return in_phase(volume, "Available", "it is set aside for a claim that is yet to be bound");
    }
    let Some(claim) = claim.filter(|c| uid(&c.metadata) == owner) else { return released(volume) };
    match volume_name(claim) {
        "" => unfinished(volume, claim),
        own if own == name(&volume.metadata) => in_phase(volume, "Bound", "its claim names it"),
        _ => elsewhere(volume),
    }
}

/// Its claim does not name it yet; that is the claim's next step, if it can be.
fn unfinished(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Plan {
    let mut plan = Plan::because("its claim does not name it yet");
    if modes_differ(volume, claim) {
        let (ns, claimed, own) = (namespace(&claim.metadata), name(&claim.metadata), name(&volume.metadata));
        let to_volume = format!(
            "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{ns}/{claimed}\" due to incompatible volumeMode."
        );
        let to_claim = format!(
            "Cannot bind PersistentVolume {own:?} to requested PersistentVolumeClaim {claimed:?} due to incompatible volumeMode."
        );
        plan.event(reference(volume), Kind::Warning, "VolumeMismatch", to_volume);
        plan.event(reference(claim), Kind::Warning, "VolumeMismatch", to_claim);
    }
    plan
}

/// Its claim is bound to another volume.
fn elsewhere(volume: &PersistentVolume) -> Plan {
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy == Some("Delete") {
        return released(volume);
    }
    let mut changed = volume.clone();
    let ours = annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some();
    if let Some(notes) = &mut changed.metadata.annotations {
        notes.remove(BOUND_BY_CONTROLLER);
    }
    if let Some(spec) = &mut changed.spec {
        match &mut spec.claim_ref {
            Some(reference) if !ours => reference.uid = None,
            reference => *reference = None,
        }
    }
    let mut plan = Plan::because("its claim has another volume");
    plan.write(Write::update(&changed).note("unbound"));
    plan
}

/// Its claim is gone for good.
fn released(volume: &PersistentVolume) -> Plan {
    if !matches!(phase(volume), "Released" | "Failed") {
        return in_phase(volume, "Released", "its claim is gone");
    }
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    match policy.unwrap_or("Retain") {
        "Retain" => Plan::nothing("it is kept for somebody to look at"),
        "Delete" if annotation(&volume.metadata, PROVISIONED_BY).is_some() => {
            Plan::nothing("who made it deletes it")
        }
        "Delete" => {
            let own = name(&volume.metadata);
            let why = format!(
                "error getting deleter volume plugin for volume {own:?}: no deletable volume plugin matched"
            );
            failed(volume, "VolumeFailedDelete", &why)
        }
        "Recycle" => failed(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!"),
        _ => failed(
            volume,
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy",
        ),
    }
}

fn failed(volume: &PersistentVolume, reason: &'static str, why: &str) -> Plan {
    let mut plan = Plan::because("nobody here can reclaim it");
    if let Some(write) = with_phase(volume, "Failed", Some(why)) {
        plan.write(write);
        plan.event(reference(volume), Kind::Warning, reason, why);
    }
    plan
}
