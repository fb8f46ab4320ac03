//! What is said of every source of volumes.

/// How a field is printed.
#[derive(Clone, Copy)]
pub enum Form {
    Text,
    /// As it is, or this if it is missing.
    Or(&'static str),
    Int,
    Flag,
    /// `[a b]`.
    List,
    /// `a, b`.
    Joined,
    Map,
    /// A quantity, `<unset>` when zero.
    Size,
    /// A reference to a secret of the same namespace.
    Local,
    /// A reference to a secret of any namespace.
    Reference,
}
use Form::{Flag, Int, Joined, Or, Text};

/// A source: the field it is in, its name and nature, and its lines (title, field, form).
pub struct Source {
    pub field: &'static str,
    pub kind: &'static str,
    pub lines: &'static [(&'static str, &'static str, Form)],
}

pub const fn source(
    field: &'static str,
    kind: &'static str,
    lines: &'static [(&'static str, &'static str, Form)],
) -> Source {
    Source { field, kind, lines }
}

pub const HOST_PATH: Source = source(
    "hostPath",
    "HostPath (bare host directory volume)",
    &[("Path:", "path", Text), ("HostPathType:", "type", Or("<none>"))],
);
pub const DISK: &[(&str, &str, Form)] = &[
    ("VolumeID:", "volumeID", Text),
    ("FSType:", "fsType", Text),
    ("Partition:", "partition", Int),
    ("ReadOnly:", "readOnly", Flag),
];
pub const GCE: Source = source(
    "gcePersistentDisk",
    "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)",
    &[
        ("PDName:", "pdName", Text),
        ("FSType:", "fsType", Text),
        ("Partition:", "partition", Int),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
pub const AWS: Source =
    source("awsElasticBlockStore", "AWSElasticBlockStore (a Persistent Disk resource in AWS)", DISK);
pub const NFS: Source = source(
    "nfs",
    "NFS (an NFS mount that lasts the lifetime of a pod)",
    &[("Server:", "server", Text), ("Path:", "path", Text), ("ReadOnly:", "readOnly", Flag)],
);
pub const ISCSI_KIND: &str =
    "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)";
macro_rules! iscsi {
    ($reference:expr) => {
        &[
            ("TargetPortal:", "targetPortal", Text),
            ("IQN:", "iqn", Text),
            ("Lun:", "lun", Int),
            ("ISCSIInterface", "iscsiInterface", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
            ("Portals:", "portals", List),
            ("DiscoveryCHAPAuth:", "chapAuthDiscovery", Flag),
            ("SessionCHAPAuth:", "chapAuthSession", Flag),
            ("SecretRef:", "secretRef", $reference),
            ("InitiatorName:", "initiatorName", Or("<none>")),
        ]
    };
}
pub const GLUSTER_KIND: &str = "Glusterfs (a Glusterfs mount on the host that shares a pod's lifetime)";
pub const RBD_KIND: &str = "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)";
macro_rules! rbd {
    ($reference:expr) => {
        &[
            ("CephMonitors:", "monitors", List),
            ("RBDImage:", "image", Text),
            ("FSType:", "fsType", Text),
            ("RBDPool:", "pool", Text),
            ("RadosUser:", "user", Text),
            ("Keyring:", "keyring", Text),
            ("SecretRef:", "secretRef", $reference),
            ("ReadOnly:", "readOnly", Flag),
        ]
    };
}
pub const QUOBYTE: Source = source(
    "quobyte",
    "Quobyte (a Quobyte mount on the host that shares a pod's lifetime)",
    &[("Registry:", "registry", Text), ("Volume:", "volume", Text), ("ReadOnly:", "readOnly", Flag)],
);
pub const VSPHERE: Source = source(
    "vsphereVolume",
    "vSphereVolume (a Persistent Disk resource in vSphere)",
    &[
        ("VolumePath:", "volumePath", Text),
        ("FSType:", "fsType", Text),
        ("StoragePolicyName:", "storagePolicyName", Text),
    ],
);
pub const CINDER_KIND: &str = "Cinder (a Persistent Disk resource in OpenStack)";
macro_rules! cinder {
    ($reference:expr) => {
        &[
            ("VolumeID:", "volumeID", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
            ("SecretRef:", "secretRef", $reference),
        ]
    };
}
pub const AZURE_DISK: Source = source(
    "azureDisk",
    "AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)",
    &[
        ("DiskName:", "diskName", Text),
        ("DiskURI:", "diskURI", Text),
        ("Kind: ", "kind", Text),
        ("FSType:", "fsType", Text),
        ("CachingMode:", "cachingMode", Text),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
pub const PHOTON: Source = source(
    "photonPersistentDisk",
    "PhotonPersistentDisk (a Persistent Disk resource in photon platform)",
    &[("PdID:", "pdID", Text), ("FSType:", "fsType", Text)],
);
pub const PORTWORX: Source = source(
    "portworxVolume",
    "PortworxVolume (a Portworx Volume resource)",
    &[("VolumeID:", "volumeID", Text)],
);
pub const SCALE_IO_KIND: &str = "ScaleIO (a persistent volume backed by a block device in ScaleIO)";
pub const CEPH_KIND: &str = "CephFS (a CephFS mount on the host that shares a pod's lifetime)";
macro_rules! ceph {
    ($reference:expr) => {
        &[
            ("Monitors:", "monitors", List),
            ("Path:", "path", Text),
            ("User:", "user", Text),
            ("SecretFile:", "secretFile", Text),
            ("SecretRef:", "secretRef", $reference),
            ("ReadOnly:", "readOnly", Flag),
        ]
    };
}
pub const STORAGE_OS: Source = source(
    "storageos",
    "StorageOS (a StorageOS Persistent Disk resource)",
    &[
        ("VolumeName:", "volumeName", Text),
        ("VolumeNamespace:", "volumeNamespace", Text),
        ("FSType:", "fsType", Text),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
pub const FC: Source = source(
    "fc",
    "FC (a Fibre Channel disk)",
    &[
        ("TargetWWNs:", "targetWWNs", Joined),
        ("LUN:", "lun", Or("<none>")),
        ("FSType:", "fsType", Text),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
pub const AZURE_FILE_KIND: &str =
    "AzureFile (an Azure File Service mount on the host and bind mount to the pod)";
pub const FLEX_KIND: &str =
    "FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)";
macro_rules! flex {
    ($reference:expr) => {
        &[
            ("Driver:", "driver", Text),
            ("FSType:", "fsType", Text),
            ("SecretRef:", "secretRef", $reference),
            ("ReadOnly:", "readOnly", Flag),
            ("Options:", "options", Map),
        ]
    };
}
pub const FLOCKER: Source = source(
    "flocker",
    "Flocker (a Flocker volume mounted by the Flocker agent)",
    &[("DatasetName:", "datasetName", Text), ("DatasetUUID:", "datasetUUID", Text)],
);
pub const CSI_KIND: &str = "CSI (a Container Storage Interface (CSI) volume source)";
pub(super) use {ceph, cinder, flex, iscsi, rbd};
