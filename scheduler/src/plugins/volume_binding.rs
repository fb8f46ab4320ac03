//! VolumeBinding: a pod's claims must be bound to volumes its node reaches, or it must be possible to bind or make them there.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySelectorTerm;

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View, own};
use crate::model::affinity::any_matches;
use crate::model::labels::Labels;
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::storage::{Claim, Storage, Volume, key};
use crate::model::volumes::ClaimUse;

const AFFINITY: &str = "node(s) didn't match PersistentVolume's node affinity";
const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";
/// Volumes of this class are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

/// Refuses nodes where the pod's claims can't be had.
pub struct VolumeBinding;

/// What is to be done for a claim once the pod has its node.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Set this volume aside for the claim.
    Bind { claim: Arc<Claim>, volume: Arc<Volume> },
    /// Ask for a new volume there.
    Provision { claim: Arc<Claim> },
}

/// The pod's claims.
struct Claims {
    bound: Vec<Arc<Claim>>,
    /// Smallest first.
    waiting: Vec<Arc<Claim>>,
}

/// Whether an event about storage could be about this pod's claims.
pub fn concerns(pod: &PodInfo, what: &Happening) -> bool {
    match what {
        Happening::Claim { namespace, name } => {
            let mut claims = pod.volumes.iter().flat_map(|v| &v.claims);
            *namespace == pod.namespace && claims.any(|c| c.name == *name)
        }
        _ => true,
    }
}

fn find(pod: &PodInfo, used: &ClaimUse, storage: &Storage) -> Result<Arc<Claim>, String> {
    let name = &used.name;
    let Some(claim) = storage.claim(&pod.namespace, name) else {
        return Err(match used.ephemeral {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            ),
            false => format!("persistentvolumeclaim {name:?} not found"),
        });
    };
    if claim.lost {
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
            claim.volume
        ));
    }
    if claim.deleting {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if used.ephemeral && claim.owner.as_ref() != Some(&pod.uid) {
        let owner = pod.key();
        return Err(format!(
            "PVC {}/{name} was not created for pod {owner} (pod is not owner)",
            pod.namespace
        ));
    }
    Ok(claim.clone())
}

impl Claims {
    fn of(pod: &PodInfo, storage: &Storage) -> Result<Self, String> {
        let mut all = Self { bound: Vec::new(), waiting: Vec::new() };
        for used in pod.volumes.iter().flat_map(|v| &v.claims) {
            let claim = find(pod, used, storage)?;
            let waits = claim.class.as_deref().and_then(|c| storage.class(c)).is_some_and(|c| c.waits);
            if claim.bound {
                all.bound.push(claim);
            } else if waits && claim.volume.is_empty() {
                all.waiting.push(claim);
            } else {
                return Err(UNBOUND.into());
            }
        }
        all.waiting.sort_by_key(|c| c.size);
        Ok(all)
    }

    fn plan(&self, node: &NodeSpec, storage: &Storage) -> Result<Vec<Step>, &'static str> {
        for claim in &self.bound {
            let volume = storage.volume(&claim.volume).ok_or(NO_VOLUME)?;
            if !reaches(volume, node) {
                return Err(AFFINITY);
            }
        }
        let mut taken = BTreeSet::new();
        self.waiting.iter().map(|claim| step(claim, node, storage, &mut taken)).collect()
    }
}

fn reaches(volume: &Volume, node: &NodeSpec) -> bool {
    volume.affinity.as_ref().is_none_or(|terms| any_matches(terms, &node.name, &node.labels))
}

fn step(
    claim: &Arc<Claim>,
    node: &NodeSpec,
    storage: &Storage,
    taken: &mut BTreeSet<String>,
) -> Result<Step, &'static str> {
    let chosen = claim.selected_node.as_ref();
    if chosen.is_some_and(|n| *n != node.name) {
        return Err(NONE_TO_BIND);
    }
    let fits = |v: &&Arc<Volume>| !taken.contains(&v.name) && will_do(v, claim, node, storage);
    // A volume set aside for the claim by hand goes before the smallest that is large enough.
    let mine = |v: &Arc<Volume>| v.claim.as_ref().is_some_and(|(ns, name, _)| is(claim, ns, name));
    let best = storage.volumes().filter(fits).min_by_key(|v| (!mine(v), v.size));
    if let Some(volume) = best.filter(|_| chosen.is_none()) {
        taken.insert(volume.name.clone());
        return Ok(Step::Bind { claim: claim.clone(), volume: volume.clone() });
    }
    provision(claim, node, storage)
}

fn is(claim: &Claim, namespace: &str, name: &str) -> bool {
    claim.namespace == namespace && claim.name == name
}

fn will_do(volume: &Volume, claim: &Claim, node: &NodeSpec, storage: &Storage) -> bool {
    let free = match (&volume.claim, storage.assumed_for(&volume.name)) {
        (_, Some(other)) => other == key(&claim.namespace, &claim.name),
        (Some((ns, name, uid)), None) => is(claim, ns, name) && (uid.is_empty() || *uid == claim.uid),
        (None, None) => volume.available,
    };
    free && !volume.deleting
        && volume.size >= claim.size
        && volume.block == claim.block
        && volume.class == claim.class.as_deref().unwrap_or_default()
        && claim.modes.iter().all(|m| volume.modes.contains(m))
        && claim.selector.as_ref().is_none_or(|s| s.matches(&volume.labels))
        && reaches(volume, node)
}

fn provision(claim: &Arc<Claim>, node: &NodeSpec, storage: &Storage) -> Result<Step, &'static str> {
    let name = claim.class.as_deref().unwrap_or_default();
    let class = storage.class(name).ok_or(NONE_TO_BIND)?;
    let allowed = class.topologies.is_empty() || class.topologies.iter().any(|t| topology(t, &node.labels));
    if class.provisioner.is_empty() || class.provisioner == BY_HAND || !allowed {
        return Err(NONE_TO_BIND);
    }
    if storage.is_measured(&class.provisioner) && !storage.has_room(name, claim.size, &node.labels) {
        return Err(NO_ROOM);
    }
    Ok(Step::Provision { claim: claim.clone() })
}

fn topology(term: &TopologySelectorTerm, labels: &Labels) -> bool {
    let mut all = term.match_label_expressions.iter().flatten();
    all.all(|e| labels.get(&e.key).is_some_and(|v| e.values.contains(v)))
}

/// What has to be done for the pod's claims on the chosen node.
pub fn plan(pod: &PodInfo, node: &NodeSpec, all: &Snapshot) -> Vec<Step> {
    let claims = Claims::of(pod, &all.storage).ok();
    claims.and_then(|c| c.plan(node, &all.storage).ok()).unwrap_or_default()
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        if pod.volumes.as_ref().is_none_or(|v| v.claims.is_empty()) {
            return Before::Skip;
        }
        match Claims::of(pod, &all.storage) {
            Ok(claims) => Before::ask(claims),
            Err(why) => Before::Refuse(why),
        }
    }

    fn filter(&self, prepared: &Prepared, _pod: &PodInfo, at: &View<'_>) -> Verdict {
        let Some(claims) = own::<Claims>(prepared) else { return Verdict::Fits };
        match claims.plan(&at.node.spec, &at.all.storage) {
            Ok(_) => Verdict::Fits,
            Err(why) => Verdict::never(why),
        }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[
            Kind::ClassChanged,
            Kind::ClaimChanged,
            Kind::VolumeChanged,
            Kind::CsiNodeChanged,
            Kind::CapacityChanged,
            Kind::DriverChanged,
            Kind::NodeAdded,
            Kind::NodeLabels,
        ]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        concerns(pod, what)
    }
}
