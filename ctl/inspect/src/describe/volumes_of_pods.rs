//! The sources of volumes of pods.

use super::volume_sources::Form::*;
use super::volume_sources::*;

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
