//! NodeUnschedulable: cordoned nodes.

use coxctl_kit::dig;
use serde_json::json;

use super::{Help, Obstacle, Spot, World, taints};
use crate::finding::evidence;

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let taint = json!({"key": taints::UNSCHEDULABLE, "effect": "NoSchedule"});
    if !dig::flag(spot.node, "spec.unschedulable") || taints::tolerated(world.pod, &taint) {
        return Vec::new();
    }
    vec![Obstacle {
        plugin: "NodeUnschedulable",
        text: "is cordoned".into(),
        alike: "cordoned".into(),
        help: Help { gap: 0, cost: 0, text: format!("`coxctl uncordon {}`", spot.name) },
        evidence: vec![evidence("Node", spot.name, "spec.unschedulable", true)],
    }]
}
