//! The sources of persistent volumes.

use super::volume_sources::Form::*;
use super::volume_sources::*;

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
