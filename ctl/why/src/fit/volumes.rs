//! VolumeBinding, VolumeZone and VolumeRestrictions: where a pod's claims can be used.

use coxctl_kit::dig;
use serde_json::Value;

use super::labels::{holds, term_holds};
use super::{Help, Obstacle, Spot, World};
use crate::claim;
use crate::facts::{self, Facts};
use crate::finding::evidence;

/// Labels of volumes that bind them to a zone.
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// The claims a pod mounts, by name, with the claim where there is one.
pub fn pod_claims<'a>(facts: &'a Facts, pod: &'a Value) -> Vec<(String, Option<&'a Value>)> {
    let named = |volume: &Value| match dig::text(volume, "persistentVolumeClaim.claimName") {
        "" if dig::has(volume, "ephemeral") => {
            Some(format!("{}-{}", facts::name(pod), dig::text(volume, "name")))
        }
        "" => None,
        name => Some(name.to_string()),
    };
    let names = dig::items(pod, "spec.volumes").iter().filter_map(named);
    names
        .map(|name| {
            let claim = facts.find("PersistentVolumeClaim", facts::namespace(pod), &name);
            (name, claim)
        })
        .collect()
}

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let claims = pod_claims(world.facts, world.pod);
    claims.iter().filter_map(|(name, claim)| one(world, spot, name, (*claim)?)).collect()
}

fn one(world: &World<'_>, spot: &Spot<'_>, name: &str, claim: &Value) -> Option<Obstacle> {
    if let Some(user) = alone(world, claim).filter(|_| dig::text(claim, "status.phase") == "Bound") {
        return Some(Obstacle {
            plugin: "VolumeRestrictions",
            text: format!("can't mount claim {name}: it is ReadWriteOncePod and pod {user} uses it"),
            alike: format!("sole use of {name}"),
            help: Help {
                gap: 0,
                cost: 4,
                text: format!("end pod {user} first, or use a claim with ReadWriteMany"),
            },
            evidence: vec![evidence("PersistentVolumeClaim", name, "spec.accessModes", "ReadWriteOncePod")],
        });
    }
    match dig::text(claim, "spec.volumeName") {
        "" => unbound(world.facts, spot, name, claim),
        volume => elsewhere(spot, name, world.facts.find("PersistentVolume", "", volume)?),
    }
}

/// Another pod that has a claim for itself.
fn alone<'a>(world: &World<'a>, claim: &Value) -> Option<&'a str> {
    if !dig::texts(claim, "spec.accessModes").contains(&"ReadWriteOncePod") {
        return None;
    }
    let uses = |pod: &&Value| {
        facts::namespace(pod) == facts::namespace(claim)
            && dig::items(pod, "spec.volumes")
                .iter()
                .any(|v| dig::text(v, "persistentVolumeClaim.claimName") == facts::name(claim))
    };
    world.nodes.iter().flat_map(|spot| spot.pods.iter().copied()).find(uses).map(facts::name)
}

/// A claim's volume that can't be used on this node.
fn elsewhere(spot: &Spot<'_>, name: &str, volume: &Value) -> Option<Obstacle> {
    let pv = facts::name(volume);
    let zone = ZONES.iter().find_map(|key| {
        let wanted = dig::at(volume, "metadata.labels").get(*key)?.as_str()?;
        let allowed: Vec<&str> = wanted.split("__").collect();
        let own = spot.label(key)?;
        (!allowed.contains(&own)).then(|| format!("{key}={wanted}"))
    });
    let terms = dig::items(volume, "spec.nodeAffinity.required.nodeSelectorTerms");
    let away = !terms.is_empty() && !terms.iter().any(|term| term_holds(term, spot));
    let wanted = match (away, zone) {
        (true, _) => places(terms),
        (false, Some(zone)) => zone,
        (false, None) => return None,
    };
    Some(Obstacle {
        plugin: if away { "VolumeBinding" } else { "VolumeZone" },
        text: format!("can't reach volume {pv} of claim {name}, which is only at {wanted}"),
        alike: format!("volume {pv}"),
        help: Help {
            gap: 0,
            cost: 6,
            text: format!("make room for the pod at {wanted}, where its volume is"),
        },
        evidence: vec![evidence("PersistentVolume", pv, "spec.nodeAffinity", &wanted)],
    })
}

fn places(terms: &[Value]) -> String {
    let expressions = terms
        .iter()
        .flat_map(|term| dig::items(term, "matchExpressions").iter().chain(dig::items(term, "matchFields")));
    expressions.map(super::labels::requirement).collect::<Vec<_>>().join(" or ")
}

/// A claim that waits for its first consumer: could it be met on this node?
fn unbound(facts: &Facts, spot: &Spot<'_>, name: &str, claim: &Value) -> Option<Obstacle> {
    let class = claim::class_of(facts, claim)?;
    if dig::text(class, "volumeBindingMode") != "WaitForFirstConsumer" {
        return None;
    }
    let bare = dig::text(class, "provisioner") == "kubernetes.io/no-provisioner";
    let reachable = |volume: &&Value| {
        let terms = dig::items(volume, "spec.nodeAffinity.required.nodeSelectorTerms");
        terms.is_empty() || terms.iter().any(|term| term_holds(term, spot))
    };
    let free = |volume: &&Value| claim::mismatches(claim, volume).is_empty() && reachable(volume);
    if facts.all("PersistentVolume").any(|volume| free(&volume)) || (!bare && allowed(class, spot)) {
        return None;
    }
    let what = if bare { "no free volume" } else { "no place for a volume of its class" };
    Some(Obstacle {
        plugin: "VolumeBinding",
        text: format!("has {what} for claim {name}"),
        alike: format!("no volume for {name}"),
        help: Help { gap: 0, cost: 5, text: format!("see `coxctl why pvc/{name}`") },
        evidence: vec![evidence(
            "StorageClass",
            facts::name(class),
            "provisioner",
            dig::text(class, "provisioner"),
        )],
    })
}

/// Whether a class makes volumes for this node.
fn allowed(class: &Value, spot: &Spot<'_>) -> bool {
    let terms = dig::items(class, "allowedTopologies");
    let met = |e: &Value| {
        let wanted = serde_json::json!({"operator": "In", "values": dig::at(e, "values")});
        holds(&wanted, spot.label(dig::text(e, "key")))
    };
    terms.is_empty() || terms.iter().any(|term| dig::items(term, "matchLabelExpressions").iter().all(met))
}
