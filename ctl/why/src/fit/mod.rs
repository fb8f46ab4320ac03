//! Would a node take a pod? The scheduler's common filters, each with figures and with what would help.

mod affinity;
mod cordon;
mod labels;
mod limits;
mod neighbours;
mod ports;
mod resources;
mod spread;
mod taints;
mod verdict;
mod volumes;

use std::collections::HashMap;

use coxctl_kit::dig;
use serde_json::Value;

use crate::facts::{self, Facts};
use crate::finding::Evidence;

pub use labels::{selects, written};
pub use taints::written as taint_written;
pub use verdict::explain;
pub use volumes::pod_claims;

/// What would remove an obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Help {
    /// How much is changed by it: smaller is tried first.
    pub cost: u8,
    /// How much is missing, in thousandths of what is asked for; 0 where that is no amount.
    pub gap: u32,
    pub text: String,
}

/// Why a node does not take a pod.
#[derive(Clone, Debug)]
pub struct Obstacle {
    /// The scheduler's plugin that sees to it.
    pub plugin: &'static str,
    /// The end of a sentence about the node: `has the taint x:NoSchedule, which the pod does not tolerate`.
    pub text: String,
    /// Obstacles of several nodes that are alike have this in common.
    pub alike: String,
    pub help: Help,
    pub evidence: Vec<Evidence>,
}

/// A pod that looks for a node, and all the nodes with their pods.
pub struct World<'a> {
    pub facts: &'a Facts,
    pub pod: &'a Value,
    pub nodes: Vec<Spot<'a>>,
}

/// A node and the pods that hold room on it.
pub struct Spot<'a> {
    pub name: &'a str,
    pub node: &'a Value,
    pub pods: Vec<&'a Value>,
}

impl Spot<'_> {
    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        dig::at(self.node, "metadata.labels").get(key)?.as_str()
    }
}

/// One filter.
type Filter = fn(&World<'_>, &Spot<'_>) -> Vec<Obstacle>;

/// The filters, in the order their obstacles are told.
const FILTERS: &[Filter] = &[
    cordon::obstacles,
    taints::obstacles,
    affinity::obstacles,
    resources::obstacles,
    ports::obstacles,
    spread::obstacles,
    neighbours::obstacles,
    volumes::obstacles,
    limits::obstacles,
];

impl<'a> World<'a> {
    /// The world as the scheduler sees it.
    pub fn new(facts: &'a Facts, pod: &'a Value) -> World<'a> {
        let mut held: HashMap<&str, Vec<&Value>> = HashMap::new();
        for other in facts.all("Pod").filter(|other| holds_room(other) && !same(other, pod)) {
            held.entry(dig::text(other, "spec.nodeName")).or_default().push(other);
        }
        let spot = |node| {
            let name = facts::name(node);
            Spot { name, node, pods: held.remove(name).unwrap_or_default() }
        };
        World { facts, pod, nodes: facts.all("Node").map(spot).collect() }
    }

    /// What keeps the pod off a node; nothing where it fits.
    pub fn obstacles(&self, spot: &Spot<'_>) -> Vec<Obstacle> {
        FILTERS.iter().flat_map(|filter| filter(self, spot)).collect()
    }

    /// The names of the nodes that would take the pod.
    pub fn open(&self) -> Vec<&'a str> {
        self.nodes.iter().filter(|spot| self.obstacles(spot).is_empty()).map(|spot| spot.name).collect()
    }
}

/// Whether a pod holds room on a node: bound and not at its end.
pub fn holds_room(pod: &Value) -> bool {
    !dig::text(pod, "spec.nodeName").is_empty()
        && !matches!(dig::text(pod, "status.phase"), "Succeeded" | "Failed")
}

fn same(a: &Value, b: &Value) -> bool {
    facts::name(a) == facts::name(b) && facts::namespace(a) == facts::namespace(b)
}
