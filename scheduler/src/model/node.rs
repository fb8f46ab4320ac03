//! A node as the scheduler sees it, with the pods on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::pod::PodInfo;
use super::resources::{self, Resources};

/// A node and what is on it. Never changed in place while a snapshot holds it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What it offers.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub max_pods: i64,
    /// Sizes in bytes of the images it has, by every name.
    pub images: HashMap<String, i64>,
    /// The pods on it by uid, assumed ones included.
    pub pods: HashMap<String, Arc<PodInfo>>,
    /// What they ask for.
    pub requested: Resources,
    /// What they count for in scores.
    pub score_requested: Resources,
    /// The Node object is there; false while only its pods are known.
    pub present: bool,
}

impl NodeInfo {
    /// A node of which only the name is known, from a pod that is on it.
    pub fn unknown(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Takes over what the API's object says; the pods stay.
    pub fn update(&mut self, node: &Node) {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.taints = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
        self.unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or(false);
        self.allocatable = allocatable.map(Resources::from_list).unwrap_or_default();
        self.max_pods = allocatable.map_or(0, resources::pod_count);
        self.images = status.and_then(|s| s.images.as_ref()).into_iter().flatten().flat_map(sizes).collect();
        self.present = true;
    }

    /// Puts a pod on it; one of the same uid is replaced.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        self.requested.add(&pod.request);
        self.score_requested.add(&pod.score_request);
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Takes a pod off it; says whether it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.remove(uid) else { return false };
        self.requested.sub(&pod.request);
        self.score_requested.sub(&pod.score_request);
        true
    }

    /// Whether a change of the Node object from `old` could let a pod in that was refused.
    pub fn opens(&self, old: &Self) -> bool {
        !old.present
            || self.labels != old.labels
            || self.taints != old.taints
            || (old.unschedulable && !self.unschedulable)
            || self.allocatable != old.allocatable
            || self.max_pods != old.max_pods
    }
}

fn sizes(image: &k8s_openapi::api::core::v1::ContainerImage) -> Vec<(String, i64)> {
    let size = image.size_bytes.unwrap_or(0);
    image.names.iter().flatten().map(|n| (super::pod::with_tag(n), size)).collect()
}
