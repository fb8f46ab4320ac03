//! Questions about volumes, claims and classes that several rooms ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::Cache;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};

use super::meta::{annotation, created, name, namespace, uid};

/// On a claim: its binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: it was the controller that chose the other.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node whose pod waits for it.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who is to make its volume.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, by its old name.
pub const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume or a claim: its class, by an old way.
pub const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a class: claims that name none are given it.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Index of pods by the claims they use, as `namespace/name`.
pub const BY_CLAIM: &str = "claim";

/// Adds the index of pods by claim.
pub fn index_pods(pods: &Cache<Pod>) {
    pods.add_index(BY_CLAIM, |pod: &Pod| {
        let ns = namespace(&pod.metadata);
        claims_of(pod).into_iter().map(|used| format!("{ns}/{}", used.name)).collect()
    });
}

/// A claim as a pod uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The claim's name.
    pub name: String,
    /// The volume's name in the pod, if the claim is made for the pod.
    pub ephemeral: Option<String>,
}

/// The claims a pod uses.
pub fn claims_of(pod: &Pod) -> Vec<Used> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let used = volumes.filter_map(|v| {
        if let Some(claim) = &v.persistent_volume_claim {
            return Some(Used { name: claim.claim_name.clone(), ephemeral: None });
        }
        v.ephemeral.as_ref()?;
        let name = format!("{}-{}", name(&pod.metadata), v.name);
        Some(Used { name, ephemeral: Some(v.name.clone()) })
    });
    used.collect()
}

/// The class a claim names; `Some("")` asks for none, `None` leaves it open.
pub fn claim_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let field = || claim.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&claim.metadata, OLD_CLASS).or_else(field)
}

/// A volume's class, empty if it has none.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&volume.metadata, OLD_CLASS).or_else(field).unwrap_or_default()
}

/// The volume a claim names, empty if none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

/// The claim a volume is set aside for.
pub fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume is set aside for this claim, perhaps for any claim of its name.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|r| {
        r.name.as_deref() == claim.metadata.name.as_deref()
            && r.namespace.as_deref() == claim.metadata.namespace.as_deref()
            && r.uid.as_deref().is_none_or(|u| u.is_empty() || u == uid(&claim.metadata))
    })
}

/// A size of the resource `storage`; nothing counts as zero.
pub fn storage(of: Option<&BTreeMap<String, Text>>) -> Quantity {
    let text = of.and_then(|m| m.get("storage"));
    text.and_then(|t| Quantity::parse(&t.0).ok()).unwrap_or(Quantity::zero(Format::BinarySi))
}

/// What a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    storage(resources.and_then(|r| r.requests.as_ref()))
}

/// How large a volume is.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()))
}

/// The class for claims that name none: the newest of those marked, then the first by name.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let marked = |c: &&Arc<StorageClass>| annotation(&c.metadata, DEFAULT_CLASS) == Some("true");
    classes
        .iter()
        .filter(marked)
        .min_by_key(|c| (std::cmp::Reverse(created(&c.metadata)), name(&c.metadata).to_string()))
}

/// Whether a class's volumes are bound only when a pod needs them.
pub fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_of_a_pod() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "emptyDir": {}},
            {"name": "c", "ephemeral": {}}]}}))
            .unwrap();
        let used: Vec<String> = claims_of(&pod).into_iter().map(|u| u.name).collect();
        assert_eq!(used, ["data", "p-c"]);
    }

    #[test]
    fn the_newest_default_class_counts() {
        let class = |name: &str, at: &str, mark: &str| {
            Arc::new(
                serde_json::from_value::<StorageClass>(json!({"provisioner": "p", "metadata": {
                "name": name, "creationTimestamp": at, "annotations": {DEFAULT_CLASS: mark}}}))
                .unwrap(),
            )
        };
        let all = [
            class("a", "2025-01-01T00:00:00Z", "true"),
            class("c", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-01T00:00:00Z", "true"),
            class("z", "2026-06-01T00:00:00Z", "false"),
        ];
        assert_eq!(default_class(&all).map(|c| name(&c.metadata)), Some("b"));
        assert!(default_class(&all[3..]).is_none());
    }
}
