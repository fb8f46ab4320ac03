//! What to do about a claim. Each look writes an object at most once, over the state it saw; the next step follows when
//! the caches show the last. So a crash at any moment leaves nothing that the next look would not finish.

use std::sync::Arc;

use control::events::{Kind, reference};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{best, objection};
use super::volume::with_phase;
use crate::kit::meta::{annotation, name, namespace, uid};
use crate::kit::storage::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, OLD_PROVISIONER, PROVISIONER, SELECTED_NODE, claim_class, claim_ref,
    default_class, is_for, volume_name, waits,
};
use crate::kit::{Plan, Write};

/// How the note of a write begins that gives a claim the class that became the default after it was made.
pub const RETROACTIVE: &str = "class ";

/// A claim and what is around it.
pub struct Observed<'a> {
    pub claim: &'a PersistentVolumeClaim,
    /// Volumes set aside for it, and free ones of its class.
    pub candidates: Vec<Arc<PersistentVolume>>,
    /// The volume it names.
    pub named: Option<Arc<PersistentVolume>>,
    pub classes: &'a [Arc<StorageClass>],
    /// Pods that use it and have no node yet.
    pub pods: Vec<String>,
}

/// Plans for a claim.
pub fn plan(o: &Observed<'_>) -> Plan {
    if annotation(&o.claim.metadata, BIND_COMPLETED).is_some() {
        return bound(o);
    }
    if o.claim.metadata.deletion_timestamp.is_some() {
        return Plan::nothing("it is being deleted and was never bound");
    }
    match volume_name(o.claim) {
        "" => choose(o),
        _ => wished(o),
    }
}

/// A claim that names no volume.
fn choose(o: &Observed<'_>) -> Plan {
    let class_name = claim_class(o.claim).unwrap_or_default();
    let class = o.classes.iter().find(|c| name(&c.metadata) == class_name && !class_name.is_empty());
    let waiting = class.is_some_and(|c| waits(c));
    if let Some(volume) = best(o.claim, &o.candidates, waiting) {
        return bind(volume, o.claim);
    }
    if claim_class(o.claim).is_none()
        && let Some(class) = default_class(o.classes)
    {
        return give_class(o.claim, name(&class.metadata));
    }
    let mut plan = Plan::because("no volume does for it");
    if waiting && annotation(&o.claim.metadata, SELECTED_NODE).is_none() {
        let (reason, message) = wait_words(&o.pods);
        plan.event(reference(o.claim), Kind::Normal, reason, message);
    } else if !class_name.is_empty() {
        provision(o.claim, class_name, class, &mut plan);
    } else {
        let message = "no persistent volumes available for this claim and no storage class is set";
        plan.event(reference(o.claim), Kind::Normal, "FailedBinding", message);
    }
    pending(o.claim, plan)
}

fn wait_words(pods: &[String]) -> (&'static str, String) {
    match pods {
        [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".into()),
        [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
    }
}

fn give_class(claim: &PersistentVolumeClaim, class: &str) -> Plan {
    let mut changed = claim.clone();
    changed.spec.get_or_insert_default().storage_class_name = Some(class.into());
    let mut plan = Plan::because(format!("it names no class, and {class} is the default by now"));
    plan.write(Write::update(&changed).note(format!("{RETROACTIVE}{class}")));
    plan
}

/// Asks the class's provisioner for a volume. All are external: none is built in.
fn provision(claim: &PersistentVolumeClaim, name: &str, class: Option<&Arc<StorageClass>>, plan: &mut Plan) {
    let fail = |plan: &mut Plan, message: String| {
        plan.event(reference(claim), Kind::Warning, "ProvisioningFailed", message);
    };
    let Some(class) = class else {
        return fail(plan, format!("storageclass.storage.k8s.io {name:?} not found"));
    };
    let provisioner = class.provisioner.as_str();
    if provisioner.starts_with("kubernetes.io/") {
        return fail(plan, format!("no volume plugin matched name: {provisioner}"));
    }
    if annotation(&claim.metadata, PROVISIONER) != Some(provisioner) {
        let mut changed = claim.clone();
        let notes = changed.metadata.annotations.get_or_insert_default();
        notes.insert(PROVISIONER.into(), provisioner.into());
        notes.insert(OLD_PROVISIONER.into(), provisioner.into());
        plan.write(Write::update(&changed).note(format!("for {provisioner}")));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    plan.event(reference(claim), Kind::Normal, "ExternalProvisioning", message);
}

/// Says Pending, unless something else is written first.
fn pending(claim: &PersistentVolumeClaim, mut plan: Plan) -> Plan {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let writes = plan.steps.iter().any(|s| matches!(s, crate::kit::Step::Write(_)));
    if phase != Some("Pending") && !writes {
        plan.write(Write::update_status(&without_volume(claim, "Pending")).note("Pending"));
    }
    plan
}

fn without_volume(claim: &PersistentVolumeClaim, phase: &str) -> PersistentVolumeClaim {
    let mut changed = claim.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some(phase.into());
    (status.access_modes, status.capacity) = (None, None);
    changed
}

/// A claim that names its volume itself.
fn wished(o: &Observed<'_>) -> Plan {
    let Some(volume) = &o.named else {
        return pending(o.claim, Plan::because("the volume it names does not exist"));
    };
    if claim_ref(volume).is_none() {
        let Some(why) = objection(volume, o.claim) else { return bind(volume, o.claim) };
        let mut plan = Plan::because("the volume it names will not do");
        let message = format!("Cannot bind to requested volume {:?}: {why}", name(&volume.metadata));
        plan.event(reference(o.claim), Kind::Warning, "VolumeMismatch", message);
        return pending(o.claim, plan);
    }
    if is_for(volume, o.claim) {
        return bind(volume, o.claim);
    }
    let mut plan = Plan::because("the volume it names is another's");
    let message = format!("volume {:?} already bound to a different claim.", name(&volume.metadata));
    plan.event(reference(o.claim), Kind::Warning, "FailedBinding", message);
    pending(o.claim, plan)
}

/// The next steps that bind the two.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Plan {
    let mut plan = Plan::because(format!("{} is its volume", name(&volume.metadata)));
    let refers = claim_ref(volume).is_some_and(|r| r.uid.as_deref() == Some(uid(&claim.metadata)));
    if !(refers && is_for(volume, claim)) {
        plan.write(Write::update(&set_aside(volume, claim)).note(format!("for {}", name(&claim.metadata))));
        return plan;
    }
    if let Some(write) = with_phase(volume, "Bound", None) {
        plan.write(write);
    }
    if annotation(&claim.metadata, BIND_COMPLETED).is_none() || volume_name(claim).is_empty() {
        plan.write(Write::update(&completed(volume, claim)).note(format!("on {}", name(&volume.metadata))));
        return plan;
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase != Some("Bound") {
        plan.write(Write::update_status(&of_volume(volume, claim)).note("Bound"));
    }
    plan
}

fn set_aside(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut changed = volume.clone();
    if !is_for(volume, claim) {
        let notes = changed.metadata.annotations.get_or_insert_default();
        notes.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
    }
    changed.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: Some(namespace(&claim.metadata).into()),
        name: Some(name(&claim.metadata).into()),
        uid: Some(uid(&claim.metadata).into()),
        resource_version: claim.metadata.resource_version.clone(),
        ..Default::default()
    });
    changed
}

fn completed(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolumeClaim {
    let mut changed = claim.clone();
    let notes = changed.metadata.annotations.get_or_insert_default();
    if volume_name(claim).is_empty() {
        notes.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
    }
    notes.insert(BIND_COMPLETED.into(), "yes".into());
    changed.spec.get_or_insert_default().volume_name = Some(name(&volume.metadata).into());
    changed
}

fn of_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolumeClaim {
    let mut changed = claim.clone();
    let status = changed.status.get_or_insert_default();
    let spec = volume.spec.as_ref();
    status.phase = Some("Bound".into());
    status.access_modes = spec.and_then(|s| s.access_modes.clone());
    let size = spec.and_then(|s| s.capacity.as_ref()?.get("storage").cloned());
    status.capacity = size.map(|size| [("storage".to_string(), size)].into());
    status.current_volume_attributes_class_name = spec.and_then(|s| s.volume_attributes_class_name.clone());
    changed
}

/// A claim that was bound once.
fn bound(o: &Observed<'_>) -> Plan {
    if volume_name(o.claim).is_empty() {
        let words = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(o.claim, "ClaimLost", words);
    }
    let Some(volume) = &o.named else {
        let words = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost(o.claim, "ClaimLost", words);
    };
    let owner = claim_ref(volume).and_then(|r| r.uid.as_deref()).unwrap_or_default();
    if claim_ref(volume).is_none() || owner == uid(&o.claim.metadata) {
        return bind(volume, o.claim);
    }
    lost(o.claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, words: &str) -> Plan {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase == Some("Lost") {
        return Plan::nothing("it stays lost");
    }
    let mut plan = Plan::because("its volume is not its own any more");
    plan.write(Write::update_status(&without_volume(claim, "Lost")).note("Lost"));
    plan.event(reference(claim), Kind::Warning, reason, words);
    plan
}
