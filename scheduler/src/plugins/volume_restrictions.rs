//! VolumeRestrictions: disks that can't be on one node twice, and claims for a single pod.

use crate::framework::{Before, Happening, Kind, Plugin, Prepared, Verdict, View, own};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::volumes::{ClaimUse, Disk};

const DISK: &str = "node(s) had no available disk";
const SINGLE: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

/// Refuses nodes where a disk is taken, and all nodes while another pod has a claim for one pod.
pub struct VolumeRestrictions;

/// Names of the pod's claims that only one pod may use.
struct Single(Vec<String>);

fn uses(pod: &PodInfo, claim: &str) -> bool {
    pod.volumes.iter().flat_map(|v| &v.claims).any(|c| c.name == claim)
}

fn disks(pod: &PodInfo) -> &[Disk] {
    pod.volumes.as_deref().map_or(&[], |v| &v.disks)
}

fn conflict(pod: &PodInfo, other: &PodInfo) -> bool {
    disks(pod).iter().any(|d| disks(other).iter().any(|o| d.conflicts(o)))
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        let Some(volumes) = &pod.volumes else { return Before::Skip };
        let single = |c: &&ClaimUse| {
            let claim = all.storage.claim(&pod.namespace, &c.name);
            claim.is_some_and(|c| c.modes.iter().any(|m| m == "ReadWriteOncePod"))
        };
        let single: Vec<String> = volumes.claims.iter().filter(single).map(|c| c.name.clone()).collect();
        if single.is_empty() && volumes.disks.is_empty() { Before::Skip } else { Before::ask(Single(single)) }
    }

    fn filter(&self, prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        if !disks(pod).is_empty() && at.node.pods.iter().any(|other| conflict(pod, other)) {
            return Verdict::refused(DISK);
        }
        let taken = |claim: &String| {
            let theirs = |p: &PodInfo| i64::from(p.namespace == pod.namespace && uses(p, claim));
            at.all.storage.uses(&pod.namespace, claim) as i64 + at.delta.count(theirs) > 0
        };
        if own::<Single>(prepared).is_some_and(|s| s.0.iter().any(taken)) {
            return Verdict::refused(SINGLE);
        }
        Verdict::Fits
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::PodLeft, Kind::NodeAdded, Kind::ClaimChanged]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        match what {
            Happening::Pod { pod: left, .. } => {
                let claims = left.volumes.iter().flat_map(|v| &v.claims);
                let mut shared = claims.filter(|_| left.namespace == pod.namespace).map(|c| &c.name);
                conflict(pod, left) || shared.any(|c| uses(pod, c))
            }
            Happening::Claim { namespace, name } => *namespace == pod.namespace && uses(pod, name),
            _ => true,
        }
    }
}
