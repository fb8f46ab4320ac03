//! VolumeZone: volumes that carry zone and region labels are reached only from nodes there.

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View, own};
use crate::model::labels::Labels;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

const CONFLICT: &str = "node(s) had no available volume zone";

/// Labels that say where, each with the newer name.
const WHERE: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Refuses nodes in other zones than the pod's volumes.
pub struct VolumeZone;

/// A label, its newer name, and the values that will do.
type Places = Vec<(&'static str, &'static str, Vec<String>)>;

fn places(labels: &Labels) -> Places {
    let found = WHERE.iter().filter_map(|(key, newer)| Some((*key, *newer, labels.get(*key)?)));
    found.map(|(key, newer, values)| (key, newer, values.split("__").map(String::from).collect())).collect()
}

fn reaches(node: &Labels, places: &Places) -> bool {
    if !WHERE.iter().any(|(key, _)| node.contains_key(*key)) {
        return true;
    }
    places.iter().all(|(key, newer, values)| {
        node.get(*key).or_else(|| node.get(*newer)).is_some_and(|v| values.contains(v))
    })
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        let claims = pod.volumes.iter().flat_map(|v| &v.claims);
        let claims = claims.filter_map(|c| all.storage.claim(&pod.namespace, &c.name));
        let volumes = claims.filter_map(|c| all.storage.volume(&c.volume));
        let places: Places = volumes.flat_map(|v| places(&v.labels)).collect();
        if places.is_empty() { Before::Skip } else { Before::ask(places) }
    }

    fn filter(&self, prepared: &Prepared, _pod: &PodInfo, at: &View<'_>) -> Verdict {
        match own::<Places>(prepared) {
            Some(places) if !reaches(&at.node.spec.labels, places) => Verdict::never(CONFLICT),
            _ => Verdict::Fits,
        }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::ClassChanged, Kind::ClaimChanged, Kind::VolumeChanged, Kind::NodeAdded, Kind::NodeLabels]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        super::volume_binding::concerns(pod, what)
    }
}
