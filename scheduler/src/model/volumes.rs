//! The volumes of a pod that decide where it can run.

use k8s_openapi::api::core::v1::{PodSpec, Volume};

/// A claim a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimUse {
    /// The claim's name, in the pod's namespace.
    pub name: String,
    /// It is made for this pod and belongs to it.
    pub ephemeral: bool,
}

/// A disk named in the pod itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// A GCE persistent disk: shared only among readers.
    Gce { name: String, read_only: bool },
    /// An AWS volume: never shared.
    Aws { id: String },
    /// An iSCSI target: shared only among readers.
    Iscsi { name: String, read_only: bool },
    /// A Ceph image: shared only among readers.
    Rbd { monitors: Vec<String>, pool: String, image: String, read_only: bool },
}

impl Disk {
    /// Whether both can't be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gce { name: a, read_only: x }, Self::Gce { name: b, read_only: y })
            | (Self::Iscsi { name: a, read_only: x }, Self::Iscsi { name: b, read_only: y }) => {
                a == b && !(*x && *y)
            }
            (Self::Aws { id: a }, Self::Aws { id: b }) => a == b,
            (
                Self::Rbd { monitors: m, pool: p, image: i, read_only: x },
                Self::Rbd { monitors: n, pool: q, image: j, read_only: y },
            ) => m.iter().any(|a| n.contains(a)) && p == q && i == j && !(*x && *y),
            _ => false,
        }
    }
}

/// Volumes that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Claims.
    pub claims: Vec<ClaimUse>,
    /// Disks.
    pub disks: Vec<Disk>,
}

impl Volumes {
    /// Takes them out of a pod's spec; `None` if there are none.
    pub fn of(spec: &PodSpec, pod: &str) -> Option<Box<Self>> {
        let mut all = Self::default();
        for volume in spec.volumes.iter().flatten() {
            all.claims.extend(claim(volume, pod));
            all.disks.extend(disk(volume));
        }
        (!all.claims.is_empty() || !all.disks.is_empty()).then(|| Box::new(all))
    }
}

fn claim(volume: &Volume, pod: &str) -> Option<ClaimUse> {
    if volume.ephemeral.is_some() {
        return Some(ClaimUse { name: format!("{pod}-{}", volume.name), ephemeral: true });
    }
    let claim = volume.persistent_volume_claim.as_ref()?;
    Some(ClaimUse { name: claim.claim_name.clone(), ephemeral: false })
}

fn disk(volume: &Volume) -> Option<Disk> {
    if let Some(v) = &volume.gce_persistent_disk {
        return Some(Disk::Gce { name: v.pd_name.clone(), read_only: v.read_only.unwrap_or(false) });
    }
    if let Some(v) = &volume.aws_elastic_block_store {
        return Some(Disk::Aws { id: v.volume_id.clone() });
    }
    if let Some(v) = &volume.iscsi {
        return Some(Disk::Iscsi { name: v.iqn.clone(), read_only: v.read_only.unwrap_or(false) });
    }
    let v = volume.rbd.as_ref()?;
    Some(Disk::Rbd {
        monitors: v.monitors.clone(),
        pool: v.pool.clone().unwrap_or_else(|| "rbd".into()),
        image: v.image.clone(),
        read_only: v.read_only.unwrap_or(false),
    })
}

/// Keeps of a volume only what is read here.
pub fn trim(volume: &mut Volume) -> bool {
    let mut kept = Volume { name: std::mem::take(&mut volume.name), ..Volume::default() };
    kept.ephemeral = volume.ephemeral.is_some().then(Default::default);
    kept.persistent_volume_claim = volume.persistent_volume_claim.take();
    kept.gce_persistent_disk = volume.gce_persistent_disk.take();
    kept.aws_elastic_block_store = volume.aws_elastic_block_store.take();
    kept.iscsi = volume.iscsi.take();
    kept.rbd = volume.rbd.take();
    kept.image = volume.image.take();
    *volume = kept;
    disk(volume).is_some() || claim(volume, "").is_some() || volume.image.is_some()
}
