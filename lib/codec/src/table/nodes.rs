//! Nodes.

use super::access::{Cells, NONE, UNKNOWN, condition, text};
use serde_json::Value;

pub fn node(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        status(c).into(),
        roles(c).into(),
        c.age(),
        c.text("status.nodeInfo.kubeletVersion").into(),
        address(c, "InternalIP").into(),
        address(c, "ExternalIP").into(),
        c.text_or("status.nodeInfo.osImage", UNKNOWN).into(),
        c.text_or("status.nodeInfo.kernelVersion", UNKNOWN).into(),
        c.text_or("status.nodeInfo.containerRuntimeVersion", UNKNOWN).into(),
    ]
}

fn status(c: &Cells<'_>) -> String {
    let ready = condition(c.list("status.conditions"), "Ready");
    let mut words = vec![match ready.map(|r| text(r, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if c.bool("spec.unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

/// Roles are labels: `node-role.kubernetes.io/ROLE` and `kubernetes.io/role=ROLE`.
fn roles(c: &Cells<'_>) -> String {
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_string()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_string),
        None => None,
    };
    let mut roles: Vec<String> =
        c.map("metadata.labels").into_iter().flatten().filter_map(role).filter(|r| !r.is_empty()).collect();
    roles.sort();
    roles.dedup();
    super::access::or_none(roles.join(","))
}

fn address<'a>(c: &Cells<'a>, type_: &str) -> &'a str {
    let found = c.list("status.addresses").iter().find(|a| text(a, "type") == type_);
    found.map_or(NONE, |a| text(a, "address"))
}
