//! The simulation's pods, nodes and budget as objects of the API.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::rules::{Others, SimNode};
use super::world::SimPod;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

pub fn node(name: &str, node: &SimNode) -> Value {
    let taints = if node.tainted { json!([{"key": "t", "effect": "NoSchedule"}]) } else { json!([]) };
    json!({
        "metadata": {"name": name, "labels": {HOST: name, ZONE: format!("z{}", node.zone), "disk": node.disk.to_string()}},
        "spec": {"unschedulable": node.cordoned, "taints": taints},
        "status": {"allocatable": {"cpu": node.cpu.to_string(), "memory": "64Gi", "pods": node.pods.to_string()}},
    })
}

pub fn budget(allowed: usize) -> Value {
    let status =
        json!({"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    json!({"metadata": {"name": "guard", "namespace": "ns"}, "status": status,
        "spec": {"selector": {"matchLabels": {"guarded": "yes"}}}})
}

fn key(zone: bool) -> &'static str {
    if zone { ZONE } else { HOST }
}

fn term(others: Option<Others>) -> Value {
    let list: Vec<Value> = others
        .iter()
        .map(|o| {
            json!({"topologyKey": key(o.zone), "labelSelector": {"matchLabels": {"group": o.group.to_string()}}})
        })
        .collect();
    json!({"requiredDuringSchedulingIgnoredDuringExecution": list})
}

fn spec(pod: &SimPod) -> Value {
    let wish = &pod.wish;
    let mut container =
        json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": wish.cpu.to_string()}}});
    if wish.port != 0 {
        container["ports"] = json!([{"containerPort": wish.port, "hostPort": wish.port}]);
    }
    let mut spec =
        json!({"containers": [container], "priority": wish.priority, "schedulerName": wish.scheduler});
    spec["affinity"] = json!({"podAntiAffinity": term(wish.shy), "podAffinity": term(wish.company)});
    if let (Some((most, zone)), Some(group)) = (wish.even, wish.group) {
        spec["topologySpreadConstraints"] = json!([{"maxSkew": most, "topologyKey": key(zone),
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"group": group.to_string()}}}]);
    }
    if wish.never {
        spec["preemptionPolicy"] = "Never".into();
    }
    if wish.tolerates {
        spec["tolerations"] = json!([{"key": "t", "operator": "Exists"}]);
    }
    if let Some(disk) = wish.disk {
        spec["nodeSelector"] = json!({"disk": disk.to_string()});
    }
    if pod.gated {
        spec["schedulingGates"] = json!([{"name": "later"}]);
    }
    if let Some(node) = &pod.node {
        spec["nodeName"] = json!(node);
    }
    spec
}

fn status(pod: &SimPod) -> Value {
    let mut conditions = Vec::new();
    if pod.disrupted {
        conditions
            .push(json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}));
    }
    if let Some(refusal) = &pod.refusal {
        conditions.push(
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": refusal}),
        );
    }
    let started = pod.started.and_then(|s| Timestamp::from_second(s).ok()).map(|t| t.to_string());
    json!({"phase": if pod.ended { "Succeeded" } else { "Pending" }, "nominatedNodeName": pod.nominated,
        "startTime": started, "conditions": conditions})
}

pub fn pod(name: &str, pod: &SimPod) -> Value {
    let wish = &pod.wish;
    let mut labels = json!({"guarded": if wish.guarded { "yes" } else { "no" }});
    if let Some(group) = wish.group {
        labels["group"] = group.to_string().into();
    }
    let mut metadata = json!({"name": name, "namespace": "ns", "uid": pod.uid, "labels": labels,
        "resourceVersion": pod.version.to_string()});
    if pod.deleting {
        // By a clock that may be anything.
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec(pod), "status": status(pod)})
}
