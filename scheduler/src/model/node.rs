//! A node as the scheduler sees it, with the pods on it.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::labels::Labels;
use super::pod::PodInfo;
use super::resources::{self, Resources};

/// What the Node object says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
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
}

impl NodeSpec {
    /// Derives it from the API's object.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|s| s.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            allocatable: allocatable.map(Resources::from_list).unwrap_or_default(),
            max_pods: allocatable.map_or(0, resources::pod_count),
            images: status.and_then(|s| s.images.as_ref()).into_iter().flatten().flat_map(sizes).collect(),
        }
    }

    /// Whether it has a taint of one of these effects.
    pub fn tainted(&self, effects: &[&str]) -> bool {
        self.taints.iter().any(|t| effects.contains(&t.effect.as_str()))
    }

    /// Region and zone; nodes of one zone are spread among the others when nodes take turns.
    pub fn zone(&self) -> String {
        let label = |name: &str, old: &str| self.labels.get(name).or_else(|| self.labels.get(old));
        let region = label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
        let zone = label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
        let text = |s: Option<&String>| s.cloned().unwrap_or_default();
        format!("{}:{}", text(region), text(zone))
    }
}

/// A node and what is on it. What filters and scores read of every node comes first, on two cache lines.
#[derive(Debug, Clone, Default)]
#[repr(C, align(64))]
pub struct NodeInfo {
    /// What it offers, as in `spec`, at hand.
    pub allocatable: Resources,
    /// What the pods on it ask for.
    pub requested: Resources,
    /// What they count for in scores.
    pub score_requested: Resources,
    /// How many pods it takes.
    pub max_pods: i64,
    /// The pods on it, assumed ones included.
    pub pods: Vec<Arc<PodInfo>>,
    /// What the Node object says.
    pub spec: Arc<NodeSpec>,
    /// How many ports of the node they hold.
    pub ports: usize,
    /// Its place in the snapshot; stays as long as the node.
    pub slot: u32,
    /// The Node object is there; false while only its pods are known.
    pub present: bool,
}

impl NodeInfo {
    /// A node of which only the name is known, from a pod that is on it.
    pub fn unknown(name: &str, slot: u32) -> Self {
        let spec = Arc::new(NodeSpec { name: name.into(), ..NodeSpec::default() });
        Self { slot, spec, ..Self::default() }
    }

    /// A node by itself, with no pods.
    pub fn alone(spec: Arc<NodeSpec>) -> Self {
        let mut node = Self::default();
        node.set(spec);
        node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Takes over what the API's object says; the pods stay.
    pub fn set(&mut self, spec: Arc<NodeSpec>) {
        self.allocatable = spec.allocatable.clone();
        self.max_pods = spec.max_pods;
        self.spec = spec;
        self.present = true;
    }

    /// Puts a pod on it.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.request);
        self.score_requested.add(&pod.score_request);
        self.ports += pod.host_ports.len();
        self.pods.push(pod);
    }

    /// Takes all pods off it but those wanted.
    pub fn keep_pods(&mut self, wanted: impl Fn(&PodInfo) -> bool) {
        for pod in self.pods.iter().filter(|p| !wanted(p)) {
            self.requested.sub(&pod.request);
            self.score_requested.sub(&pod.score_request);
            self.ports -= pod.host_ports.len();
        }
        self.pods.retain(|p| wanted(p));
    }

    /// Takes a pod off it.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let place = self.pods.iter().rposition(|p| p.uid == uid)?;
        let pod = self.pods.swap_remove(place);
        self.requested.sub(&pod.request);
        self.score_requested.sub(&pod.score_request);
        self.ports -= pod.host_ports.len();
        Some(pod)
    }
}

fn sizes(image: &k8s_openapi::api::core::v1::ContainerImage) -> Vec<(String, i64)> {
    let size = image.size_bytes.unwrap_or(0);
    image.names.iter().flatten().map(|n| (super::pod::with_tag(n), size)).collect()
}
