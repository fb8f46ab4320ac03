//! What several plugins need of pods.

use machinery::kinds::Resource;
use serde_json::Value;

use crate::authn::lookup::items;

/// Annotation of pods that mirror one a node runs of its own accord.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a resource is core pods.
pub fn is_pods(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "pods"
}

/// Whether a pod is a mirror pod.
pub fn is_mirror(pod: &Value) -> bool {
    machinery::meta::annotation(pod, MIRROR).is_some()
}

/// Init, main and ephemeral containers.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"];
    lists.into_iter().flat_map(move |l| items(pod, l))
}

/// The members of a list in the spec, to be changed.
pub fn members_mut<'a>(pod: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    let list = pod.get_mut("spec").and_then(|s| s.get_mut(list)).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}
