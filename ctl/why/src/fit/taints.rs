//! TaintToleration: taints the pod does not tolerate.

use coxctl_kit::dig;
use serde_json::Value;

use super::{Help, Obstacle, Spot, World};
use crate::finding::evidence;

/// The taint of a cordoned node; the cordon is told in its place.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const OF_THE_CLUSTER: &str = "node.kubernetes.io/";
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    dig::items(spot.node, "spec.taints")
        .iter()
        .filter(|taint| dig::text(taint, "effect") != "PreferNoSchedule")
        .filter(|taint| dig::text(taint, "key") != UNSCHEDULABLE && !tolerated(world.pod, taint))
        .map(|taint| obstacle(spot, taint))
        .collect()
}

fn obstacle(spot: &Spot<'_>, taint: &Value) -> Obstacle {
    let (key, written) = (dig::text(taint, "key"), written(taint));
    let text = match key.strip_prefix(OF_THE_CLUSTER) {
        Some("not-ready" | "unreachable") => format!("is not ready (taint {written})"),
        _ => format!("has the taint {written}, which the pod does not tolerate"),
    };
    Obstacle {
        plugin: "TaintToleration",
        text,
        alike: format!("taint {written}"),
        help: help(spot, taint, &written),
        evidence: vec![evidence("Node", spot.name, "spec.taints", &written)],
    }
}

fn help(spot: &Spot<'_>, taint: &Value, written: &str) -> Help {
    let (key, effect) = (dig::text(taint, "key"), dig::text(taint, "effect"));
    if key.starts_with(OF_THE_CLUSTER) {
        let text = format!("see why the node is not well: `coxctl why node/{}`", spot.name);
        return Help { gap: 0, cost: 6, text };
    }
    let remove = format!("`coxctl taint node {} {key}:{effect}-`", spot.name);
    match CONTROL_PLANE.contains(&key) {
        true => Help { gap: 0, cost: 5, text: format!("let workloads onto the control plane: {remove}") },
        false => Help {
            gap: 0,
            cost: 2,
            text: format!("give the pod a toleration of {written}, or take the taint away: {remove}"),
        },
    }
}

/// A taint as it is written: `key=value:effect`.
pub fn written(taint: &Value) -> String {
    let (key, value, effect) =
        (dig::text(taint, "key"), dig::text(taint, "value"), dig::text(taint, "effect"));
    match value {
        "" => format!("{key}:{effect}"),
        value => format!("{key}={value}:{effect}"),
    }
}

/// Whether a pod tolerates a taint.
pub fn tolerated(pod: &Value, taint: &Value) -> bool {
    dig::items(pod, "spec.tolerations").iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |field| dig::text(toleration, field);
    let effect = text("effect").is_empty() || text("effect") == dig::text(taint, "effect");
    let key = text("key").is_empty() || text("key") == dig::text(taint, "key");
    let number = |value: &Value| dig::text(value, "value").parse::<i64>().ok();
    let value = match text("operator") {
        "Exists" => true,
        "Gt" => number(taint) > number(toleration),
        "Lt" => number(taint) < number(toleration),
        _ => !text("key").is_empty() && text("value") == dig::text(taint, "value"),
    };
    effect && key && value
}
