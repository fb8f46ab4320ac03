//! What to do about a claim and about a volume, without touching either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::quantity::Quantity;

/// On a claim: who is to make its volume, by the new name and by the old.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// On a claim: the node whose pod waits for it.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: it is held until its directory is gone.
pub const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// Label of a volume: the node whose instance looks after it.
pub const NODE_LABEL: &str = "local-path.coxswain.io/node";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Of a claim's name in that of its directory: a name of 255 bytes has to hold the UID too.
const NAME_PART: usize = 200;
const LABEL_LIMIT: usize = 63;

/// Who and where this instance is.
#[derive(Clone, Debug)]
pub struct Here {
    /// The provisioner's name.
    pub provisioner: String,
    /// The node's name.
    pub node: String,
    /// The node's label `kubernetes.io/hostname`.
    pub hostname: String,
    /// The directory of volumes.
    pub root: PathBuf,
}

/// What to do about a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ForClaim {
    /// Nothing here, because.
    Nothing(&'static str),
    /// It can't be had here or anywhere.
    Refuse(String),
    /// A directory of this name, then this volume.
    Make { directory: String, volume: Box<PersistentVolume> },
}

/// What to do about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForVolume {
    /// Nothing, because.
    Nothing(&'static str),
    /// It claims to be ours and is not as we make them: nothing of it is deleted.
    Refuse(String),
    /// Delete the directory of this name, then the volume.
    Delete { directory: String },
    /// The volume is going and its data are to stay: only let go of it.
    LetGo,
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The value of [`NODE_LABEL`] for a node: its name, cut to what a label may hold.
pub fn node_label(node: &str) -> String {
    if node.len() <= LABEL_LIMIT {
        return node.to_owned();
    }
    // FNV-1a, so that two long names that begin alike stay two.
    let hash = node
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{}-{hash:016x}", cut(node, LABEL_LIMIT - 17).trim_end_matches(['-', '.']))
}

fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A UID as the API server makes them; nothing else is to become part of a path.
fn is_uid(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The name of a claim's volume.
pub fn volume_name(uid: &str) -> String {
    format!("pvc-{uid}")
}

/// The name of a claim's directory.
pub fn directory(claim: &str, uid: &str) -> String {
    let plain = claim.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let name = if plain { cut(claim, NAME_PART).trim_start_matches('.') } else { "" };
    format!("{name}-{uid}")
}

/// Whether a claim is for this instance: its provisioner is ours, and its pod was sent here.
pub fn is_ours(claim: &PersistentVolumeClaim, here: &Here) -> bool {
    let asked = PROVISIONER.iter().find_map(|key| annotation(&claim.metadata, key));
    asked == Some(&here.provisioner) && annotation(&claim.metadata, SELECTED_NODE) == Some(&here.node)
}

/// Plans for a claim of `class`.
pub fn claim(claim: &PersistentVolumeClaim, class: Option<&StorageClass>, here: &Here) -> ForClaim {
    let Some(spec) = &claim.spec else { return ForClaim::Nothing("it has no spec") };
    if !is_ours(claim, here) {
        return ForClaim::Nothing("it is another's");
    }
    if spec.volume_name.as_deref().is_some_and(|v| !v.is_empty()) {
        return ForClaim::Nothing("it has its volume");
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return ForClaim::Nothing("it is being deleted");
    }
    let Some(class) = class else { return ForClaim::Refuse("its storage class does not exist".into()) };
    if let Some(why) = objection(claim, class) {
        return ForClaim::Refuse(why.into());
    }
    let (name, uid) = (claim.metadata.name.as_deref(), claim.metadata.uid.as_deref());
    let Some((name, uid)) = name.zip(uid.filter(|u| is_uid(u))) else {
        return ForClaim::Refuse("it has no usable name or UID".into());
    };
    let directory = directory(name, uid);
    let volume = Box::new(volume_of(claim, class, here, &directory, uid));
    ForClaim::Make { directory, volume }
}

fn objection(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<&'static str> {
    let spec = claim.spec.as_ref()?;
    let single = |m: &String| m == "ReadWriteOnce" || m == "ReadWriteOncePod";
    if !spec.access_modes.iter().flatten().all(single) {
        return Some("only the access modes ReadWriteOnce and ReadWriteOncePod are supported");
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("volumeMode Block is not supported");
    }
    if spec.selector.is_some() {
        return Some("claim.spec.selector is not supported");
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("claim.spec.dataSource is not supported");
    }
    class.mount_options.as_ref().is_some_and(|o| !o.is_empty()).then_some("mountOptions are not supported")
}

fn volume_of(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    here: &Here,
    directory: &str,
    uid: &str,
) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|r| r.requests).unwrap_or_default();
    let size = requests.get("storage").cloned().into_iter().map(|q| ("storage".to_owned(), q));
    let map = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(volume_name(uid)),
            annotations: map(PROVISIONED_BY, &here.provisioner),
            labels: map(NODE_LABEL, &node_label(&here.node)),
            finalizers: Some(vec![FINALIZER.into()]),
            ..Default::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some(size.collect()),
            claim_ref: Some(reference(claim)),
            local: Some(LocalVolumeSource {
                path: here.root.join(directory).display().to_string(),
                fs_type: None,
            }),
            node_affinity: Some(only_on(&here.hostname)),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or("Delete".into())),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".into()),
            ..Default::default()
        }),
        status: None,
    }
}

/// A claim as its volume names it.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..Default::default()
    }
}

fn only_on(hostname: &str) -> VolumeNodeAffinity {
    let requirement = NodeSelectorRequirement {
        key: HOSTNAME.into(),
        operator: "In".into(),
        values: Some(vec![hostname.into()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }
}

/// Bytes a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> u64 {
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref());
    let size = requests.and_then(|r| r.get("storage")).and_then(|q| Quantity::parse(&q.0).ok());
    size.and_then(|q| u64::try_from(q.value()).ok()).unwrap_or(0)
}

/// Plans for a volume.
pub fn volume(volume: &PersistentVolume, here: &Here) -> ForVolume {
    let meta = &volume.metadata;
    let Some(spec) = &volume.spec else { return ForVolume::Nothing("it has no spec") };
    let ours = annotation(meta, PROVISIONED_BY) == Some(&here.provisioner)
        && meta.labels.as_ref().and_then(|l| l.get(NODE_LABEL)) == Some(&node_label(&here.node));
    if !ours {
        return ForVolume::Nothing("it is another's");
    }
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let delete = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    match (phase, delete, meta.deletion_timestamp.is_some()) {
        ("Released", true, _) => place(volume, spec, here),
        ("Bound", ..) => ForVolume::Nothing("a claim has it"),
        (_, false, true) if holds(meta) => ForVolume::LetGo,
        // Nobody wrote on a volume that never had a claim: it goes like any other.
        ("Available" | "Failed", true, true) => place(volume, spec, here),
        _ => ForVolume::Nothing("it is kept"),
    }
}

/// Whether the volume still waits for us.
pub fn holds(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// The directory of a volume, if all that names it agrees.
fn place(volume: &PersistentVolume, spec: &PersistentVolumeSpec, here: &Here) -> ForVolume {
    let path = spec.local.as_ref().map(|l| l.path.as_str()).unwrap_or_default();
    let claim = spec.claim_ref.as_ref();
    let uid = volume.metadata.name.as_deref().and_then(|n| n.strip_prefix("pvc-")).filter(|u| is_uid(u));
    let claimed = claim.and_then(|c| c.uid.as_deref());
    let name = claim.and_then(|c| c.name.as_deref()).unwrap_or_default();
    match uid.filter(|u| claimed == Some(*u)).map(|uid| directory(name, uid)) {
        Some(directory) if Path::new(path) == here.root.join(&directory) => ForVolume::Delete { directory },
        _ => ForVolume::Refuse(format!("{path:?} is not where a volume of this name and claim would be")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const UID: &str = "0a1b2c3d-0000-4000-8000-000000000001";

    fn here() -> Here {
        Here {
            provisioner: "coxswain.io/local-path".into(),
            node: "n1".into(),
            hostname: "h1".into(),
            root: "/data".into(),
        }
    }

    fn class() -> StorageClass {
        let text = json!({"metadata": {"name": "local-path"}, "provisioner": "coxswain.io/local-path", "reclaimPolicy": "Delete"});
        serde_json::from_value(text).unwrap()
    }

    /// A claim of ours on n1, changed by a merge of `patch`.
    fn claim_with(patch: serde_json::Value) -> PersistentVolumeClaim {
        let mut all = json!({"metadata": {"name": "data", "namespace": "ns", "uid": UID, "annotations": {
                "volume.kubernetes.io/storage-provisioner": "coxswain.io/local-path", SELECTED_NODE: "n1"}},
            "spec": {"storageClassName": "local-path", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}});
        merge(&mut all, patch);
        serde_json::from_value(all).unwrap()
    }

    fn merge(into: &mut serde_json::Value, patch: serde_json::Value) {
        match patch {
            serde_json::Value::Object(map) => map.into_iter().for_each(|(k, v)| merge(&mut into[&k], v)),
            other => *into = other,
        }
    }

    #[test]
    fn a_claim_is_given_a_directory_on_its_node() {
        let ForClaim::Make { directory, volume } = claim(&claim_with(json!({})), Some(&class()), &here())
        else {
            panic!("nothing made");
        };
        assert_eq!(directory, format!("data-{UID}"));
        let text = serde_json::to_value(&*volume).unwrap();
        let at = |p: &str| text.pointer(p).cloned().unwrap_or_default();
        assert_eq!(at("/metadata/name"), format!("pvc-{UID}"));
        assert_eq!(at("/spec/local/path"), format!("/data/data-{UID}"));
        assert_eq!(at("/spec/capacity/storage"), "1Gi");
        assert_eq!(at("/spec/claimRef/uid"), UID);
        let terms = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0";
        assert_eq!(at(terms), json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["h1"]}));
        assert_eq!(at("/metadata/labels/local-path.coxswain.io~1node"), "n1");
    }

    #[test]
    fn what_is_not_made() {
        let say = |patch| match claim(&claim_with(patch), Some(&class()), &here()) {
            ForClaim::Nothing(why) => why.to_string(),
            ForClaim::Refuse(why) => format!("refused: {why}"),
            ForClaim::Make { .. } => "made".into(),
        };
        assert_eq!(say(json!({})), "made");
        assert_eq!(say(json!({"metadata": {"annotations": {SELECTED_NODE: "n2"}}})), "it is another's");
        let other = json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": "x"}}});
        assert_eq!(say(other), "it is another's");
        assert_eq!(say(json!({"spec": {"volumeName": "v"}})), "it has its volume");
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(say(going), "it is being deleted");
        assert!(
            say(json!({"spec": {"accessModes": ["ReadWriteMany"]}})).starts_with("refused: only the access")
        );
        assert!(say(json!({"spec": {"volumeMode": "Block"}})).starts_with("refused: volumeMode"));
        assert!(
            say(json!({"spec": {"selector": {"matchLabels": {}}}}))
                .starts_with("refused: claim.spec.selector")
        );
        assert!(say(json!({"metadata": {"uid": "../../etc"}})).starts_with("refused: it has no usable"));
        let gone = claim(&claim_with(json!({})), None, &here());
        assert_eq!(gone, ForClaim::Refuse("its storage class does not exist".into()));
    }

    fn made(patch: serde_json::Value) -> PersistentVolume {
        let ForClaim::Make { volume, .. } = claim(&claim_with(json!({})), Some(&class()), &here()) else {
            panic!("nothing made");
        };
        let mut text = serde_json::to_value(&*volume).unwrap();
        merge(&mut text, json!({"status": {"phase": "Released"}}));
        merge(&mut text, patch);
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn released_volumes_go() {
        let of = |patch| volume(&made(patch), &here());
        let gone = ForVolume::Delete { directory: format!("data-{UID}") };
        assert_eq!(of(json!({})), gone);
        assert_eq!(of(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), gone);
        for phase in ["Bound", "Available", "Pending", "Failed"] {
            assert!(matches!(of(json!({"status": {"phase": phase}})), ForVolume::Nothing(_)), "{phase}");
        }
        let kept = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        assert!(matches!(of(kept), ForVolume::Nothing(_)));
        let kept = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(of(kept), ForVolume::LetGo);
        assert!(matches!(of(json!({"metadata": {"labels": {NODE_LABEL: "n2"}}})), ForVolume::Nothing(_)));
        assert!(matches!(
            of(json!({"metadata": {"annotations": {PROVISIONED_BY: "x"}}})),
            ForVolume::Nothing(_)
        ));
    }

    #[test]
    fn nothing_is_deleted_that_is_not_where_it_would_be() {
        for path in [
            "/data",
            "/data/",
            "/",
            "",
            "/etc",
            "/data/other",
            "/data/../etc",
            &format!("/data/data-{UID}/sub"),
            &format!("/data/x/../data-{UID}"),
        ] {
            let found = volume(&made(json!({"spec": {"local": {"path": path}}})), &here());
            assert!(matches!(found, ForVolume::Refuse(_)), "{path}: {found:?}");
        }
        for patch in [
            json!({"metadata": {"name": "pvc-other"}}),
            json!({"spec": {"claimRef": {"uid": "0a1b2c3d-0000-4000-8000-000000000002"}}}),
            json!({"spec": {"claimRef": {"name": "../x"}}}),
            json!({"spec": {"local": null}}),
        ] {
            let found = volume(&made(patch.clone()), &here());
            assert!(matches!(found, ForVolume::Refuse(_)), "{patch}: {found:?}");
        }
    }

    #[test]
    fn names_fit() {
        let long = "a".repeat(253);
        assert!(directory(&long, UID).len() <= 255);
        assert_eq!(directory("..", UID), format!("-{UID}"));
        assert_eq!(directory("a/b", UID), format!("-{UID}"));
        assert_eq!(node_label("n1"), "n1");
        let (a, b) = (node_label(&format!("{long}1")), node_label(&format!("{long}2")));
        assert!(a.len() <= 63 && b.len() <= 63 && a != b);
    }
}
