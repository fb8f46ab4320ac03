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
use Form::{Flag, Int, Joined, List, Local, Map, Or, Reference, Size, Text};

/// A source: the field it is in, its name and nature, and its lines (title, field, form).
pub struct Source {
    pub field: &'static str,
    pub kind: &'static str,
    pub lines: &'static [(&'static str, &'static str, Form)],
}

const fn source(
    field: &'static str,
    kind: &'static str,
    lines: &'static [(&'static str, &'static str, Form)],
) -> Source {
    Source { field, kind, lines }
}

const HOST_PATH: Source = source(
    "hostPath",
    "HostPath (bare host directory volume)",
    &[("Path:", "path", Text), ("HostPathType:", "type", Or("<none>"))],
);
const DISK: &[(&str, &str, Form)] = &[
    ("VolumeID:", "volumeID", Text),
    ("FSType:", "fsType", Text),
    ("Partition:", "partition", Int),
    ("ReadOnly:", "readOnly", Flag),
];
const GCE: Source = source(
    "gcePersistentDisk",
    "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)",
    &[
        ("PDName:", "pdName", Text),
        ("FSType:", "fsType", Text),
        ("Partition:", "partition", Int),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
const AWS: Source =
    source("awsElasticBlockStore", "AWSElasticBlockStore (a Persistent Disk resource in AWS)", DISK);
const NFS: Source = source(
    "nfs",
    "NFS (an NFS mount that lasts the lifetime of a pod)",
    &[("Server:", "server", Text), ("Path:", "path", Text), ("ReadOnly:", "readOnly", Flag)],
);
const ISCSI_KIND: &str =
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
const GLUSTER_KIND: &str = "Glusterfs (a Glusterfs mount on the host that shares a pod's lifetime)";
const RBD_KIND: &str = "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)";
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
const QUOBYTE: Source = source(
    "quobyte",
    "Quobyte (a Quobyte mount on the host that shares a pod's lifetime)",
    &[("Registry:", "registry", Text), ("Volume:", "volume", Text), ("ReadOnly:", "readOnly", Flag)],
);
const VSPHERE: Source = source(
    "vsphereVolume",
    "vSphereVolume (a Persistent Disk resource in vSphere)",
    &[
        ("VolumePath:", "volumePath", Text),
        ("FSType:", "fsType", Text),
        ("StoragePolicyName:", "storagePolicyName", Text),
    ],
);
const CINDER_KIND: &str = "Cinder (a Persistent Disk resource in OpenStack)";
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
const AZURE_DISK: Source = source(
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
const PHOTON: Source = source(
    "photonPersistentDisk",
    "PhotonPersistentDisk (a Persistent Disk resource in photon platform)",
    &[("PdID:", "pdID", Text), ("FSType:", "fsType", Text)],
);
const PORTWORX: Source = source(
    "portworxVolume",
    "PortworxVolume (a Portworx Volume resource)",
    &[("VolumeID:", "volumeID", Text)],
);
const SCALE_IO_KIND: &str = "ScaleIO (a persistent volume backed by a block device in ScaleIO)";
const CEPH_KIND: &str = "CephFS (a CephFS mount on the host that shares a pod's lifetime)";
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
const STORAGE_OS: Source = source(
    "storageos",
    "StorageOS (a StorageOS Persistent Disk resource)",
    &[
        ("VolumeName:", "volumeName", Text),
        ("VolumeNamespace:", "volumeNamespace", Text),
        ("FSType:", "fsType", Text),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
const FC: Source = source(
    "fc",
    "FC (a Fibre Channel disk)",
    &[
        ("TargetWWNs:", "targetWWNs", Joined),
        ("LUN:", "lun", Or("<none>")),
        ("FSType:", "fsType", Text),
        ("ReadOnly:", "readOnly", Flag),
    ],
);
const AZURE_FILE_KIND: &str = "AzureFile (an Azure File Service mount on the host and bind mount to the pod)";
const FLEX_KIND: &str =
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
const FLOCKER: Source = source(
    "flocker",
    "Flocker (a Flocker volume mounted by the Flocker agent)",
    &[("DatasetName:", "datasetName", Text), ("DatasetUUID:", "datasetUUID", Text)],
);
const CSI_KIND: &str = "CSI (a Container Storage Interface (CSI) volume source)";

/// Sources of the volumes of pods; the first one that is there counts.
pub const OF_PODS: &[Source] = &[
    HOST_PATH,
    source(
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium:", "medium", Text), ("SizeLimit:", "sizeLimit", Size)],
    ),
    GCE,
    AWS,
    source(
        "gitRepo",
        "GitRepo (a volume that is pulled from git when the pod is created)",
        &[("Repository:", "repository", Text), ("Revision:", "revision", Text)],
    ),
    source(
        "secret",
        "Secret (a volume populated by a Secret)",
        &[("SecretName:", "secretName", Text), ("Optional:", "optional", Flag)],
    ),
    source(
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[("Name:", "name", Text), ("Optional:", "optional", Flag)],
    ),
    NFS,
    source("iscsi", ISCSI_KIND, iscsi!(Local)),
    source(
        "glusterfs",
        GLUSTER_KIND,
        &[("EndpointsName:", "endpoints", Text), ("Path:", "path", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    source(
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName:", "claimName", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    source(
        "ephemeral",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        &[],
    ),
    source("rbd", RBD_KIND, rbd!(Local)),
    QUOBYTE,
    source("downwardAPI", "DownwardAPI (a volume populated by information about the pod)", &[]),
    AZURE_DISK,
    VSPHERE,
    source("cinder", CINDER_KIND, cinder!(Local)),
    PHOTON,
    PORTWORX,
    source(
        "scaleIO",
        SCALE_IO_KIND,
        &[
            ("Gateway:", "gateway", Text),
            ("System:", "system", Text),
            ("Protection Domain:", "protectionDomain", Text),
            ("Storage Pool:", "storagePool", Text),
            ("Storage Mode:", "storageMode", Text),
            ("VolumeName:", "volumeName", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    source("cephfs", CEPH_KIND, ceph!(Local)),
    STORAGE_OS,
    FC,
    source(
        "azureFile",
        AZURE_FILE_KIND,
        &[
            ("SecretName:", "secretName", Text),
            ("ShareName:", "shareName", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    source("flexVolume", FLEX_KIND, flex!(Local)),
    FLOCKER,
    source("projected", "Projected (a volume that contains injected data from multiple sources)", &[]),
    source(
        "csi",
        CSI_KIND,
        &[("Driver:", "driver", Text), ("FSType:", "fsType", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    source(
        "image",
        "Image (a container image or OCI artifact)",
        &[("Reference:", "reference", Text), ("PullPolicy:", "pullPolicy", Text)],
    ),
];

/// Sources of persistent volumes.
pub const OF_PERSISTENT_VOLUMES: &[Source] = &[
    HOST_PATH,
    GCE,
    AWS,
    NFS,
    source("iscsi", ISCSI_KIND, iscsi!(Reference)),
    source(
        "glusterfs",
        GLUSTER_KIND,
        &[
            ("EndpointsName:", "endpoints", Text),
            ("EndpointsNamespace:", "endpointsNamespace", Or("<unset>")),
            ("Path:", "path", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    source("rbd", RBD_KIND, rbd!(Reference)),
    QUOBYTE,
    VSPHERE,
    source("cinder", CINDER_KIND, cinder!(Reference)),
    AZURE_DISK,
    PHOTON,
    PORTWORX,
    source(
        "scaleIO",
        SCALE_IO_KIND,
        &[
            ("Gateway:", "gateway", Text),
            ("System:", "system", Text),
            ("Protection Domain:", "protectionDomain", Text),
            ("Storage Pool:", "storagePool", Text),
            ("Storage Mode:", "storageMode", Text),
            ("VolumeName:", "volumeName", Text),
            ("SecretName:", "secretRef.name", Text),
            ("SecretNamespace:", "secretRef.namespace", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    source(
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        &[("Path:", "path", Text)],
    ),
    source("cephfs", CEPH_KIND, ceph!(Reference)),
    STORAGE_OS,
    FC,
    source(
        "azureFile",
        AZURE_FILE_KIND,
        &[
            ("SecretName:", "secretName", Text),
            ("SecretNamespace:", "secretNamespace", Text),
            ("ShareName:", "shareName", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    source("flexVolume", FLEX_KIND, flex!(Reference)),
    FLOCKER,
    source(
        "csi",
        CSI_KIND,
        &[
            ("Driver:", "driver", Text),
            ("FSType:", "fsType", Text),
            ("VolumeHandle:", "volumeHandle", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
];
