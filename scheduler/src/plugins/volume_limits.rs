//! NodeVolumeLimits: a driver attaches only so many volumes to a node.

use std::collections::{BTreeMap, BTreeSet};

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View, own};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::storage::{Storage, key};

const FULL: &str = "node(s) exceed max volume count";

/// Refuses nodes that would have too many volumes of a driver.
pub struct NodeVolumeLimits;

/// Driver and handle; a claim without a volume yet counts by its own name.
type Volume = (String, String);

fn volumes(pod: &PodInfo, storage: &Storage) -> BTreeSet<Volume> {
    let claims = pod.volumes.iter().flat_map(|v| &v.claims);
    claims.filter_map(|c| volume(&pod.namespace, &c.name, storage)).collect()
}

fn volume(namespace: &str, name: &str, storage: &Storage) -> Option<Volume> {
    let claim = storage.claim(namespace, name)?;
    match storage.volume(&claim.volume) {
        Some(volume) => volume.csi.clone(),
        None => {
            let class = storage.class(claim.class.as_deref()?)?;
            Some((class.provisioner.clone(), key(namespace, name)))
        }
    }
}

fn counts(volumes: impl Iterator<Item = Volume>) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    volumes.for_each(|(driver, _)| *all.entry(driver).or_default() += 1);
    all
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        let mine = volumes(pod, &all.storage);
        if mine.is_empty() { Before::Skip } else { Before::ask(mine) }
    }

    fn filter(&self, prepared: &Prepared, _pod: &PodInfo, at: &View<'_>) -> Verdict {
        let Some(mine) = own::<BTreeSet<Volume>>(prepared) else { return Verdict::Fits };
        let storage = &at.all.storage;
        let Some(limits) = storage.limits(at.node.name()) else { return Verdict::Fits };
        if !mine.iter().any(|(driver, _)| limits.contains_key(driver)) {
            return Verdict::Fits;
        }
        let mut there: BTreeSet<Volume> = at.node.pods.iter().flat_map(|p| volumes(p, storage)).collect();
        there.extend(storage.attached(at.node.name()).filter_map(|v| storage.volume(v)?.csi.clone()));
        let more = counts(mine.difference(&there).cloned());
        let held = counts(there.iter().cloned());
        let over = |(driver, more): (&String, &i64)| {
            limits.get(driver).is_some_and(|limit| held.get(driver).copied().unwrap_or(0) + more > *limit)
        };
        if more.iter().any(over) { Verdict::refused(FULL) } else { Verdict::Fits }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::CsiNodeChanged, Kind::PodLeft, Kind::ClaimChanged, Kind::AttachmentGone]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        match what {
            Happening::Pod { pod: left, .. } => left.volumes.as_ref().is_some_and(|v| !v.claims.is_empty()),
            _ => super::volume_binding::concerns(pod, what),
        }
    }
}
