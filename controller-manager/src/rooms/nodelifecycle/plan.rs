//! What a node's silence and conditions mean. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::kit::meta::{label, name};
use crate::kit::write::Format;
use crate::kit::{Plan, Write};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions a silent kubelet can no longer vouch for.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Taints that follow conditions, other than Ready's.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The older labels and the ones they repeat.
const LABELS: [(&str, &str); 2] =
    [("beta.kubernetes.io/os", "kubernetes.io/os"), ("beta.kubernetes.io/arch", "kubernetes.io/arch")];

/// A node's condition by type.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// The status of Ready, if it was ever reported.
pub fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|c| c.status.as_str())
}

/// Conditions of a node that has been silent for `silence`: `None` while that is within the grace.
pub fn silenced(
    node: &Node,
    silence: Duration,
    grace: Duration,
    now: Timestamp,
) -> Option<Vec<NodeCondition>> {
    if silence <= grace {
        return None;
    }
    let mut conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let before = conditions.clone();
    for kind in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                c.status = "Unknown".into();
                c.reason = Some("NodeStatusUnknown".into());
                c.message = Some("Kubelet stopped posting node status.".into());
                c.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (conditions != before).then_some(conditions)
}

/// Whether the limiter lets a NoExecute taint be added now, or how the zone stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Permit {
    Granted,
    /// Ask again after this.
    Wait(Duration),
    /// All zones are down: the fault is more likely ours than the nodes'.
    AllDown,
}

/// The taint that goes with the state of Ready.
fn ready_taint(node: &Node) -> Option<&'static str> {
    match ready(node) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

/// Whether a NoExecute taint is called for that is not there, nor its twin to swap with.
pub fn needs_permit(node: &Node) -> bool {
    ready_taint(node).is_some() && !taints(node).iter().any(ready_no_execute)
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

fn ready_no_execute(taint: &Taint) -> bool {
    taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE)
}

/// The NoSchedule taints the conditions call for.
fn conditional(node: &Node) -> Vec<&'static str> {
    let mut wanted: Vec<&'static str> = ready_taint(node).into_iter().collect();
    let bad = |kind: &str| condition(node, kind).is_some_and(|c| c.status == "True");
    wanted.extend(PRESSURES.iter().filter(|(kind, _)| bad(kind)).map(|(_, key)| *key));
    if node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)) {
        wanted.push(UNSCHEDULABLE);
    }
    wanted
}

fn ours(taint: &Taint) -> bool {
    let conditional = taint.effect == "NoSchedule"
        && ([NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key));
    conditional || ready_no_execute(taint)
}

/// The taints the node should have.
fn wanted_taints(node: &Node, permit: Permit, now: Timestamp) -> Vec<Taint> {
    let present = taints(node);
    let make = |key: &str, effect: &str, added: Option<Time>| Taint {
        key: key.into(),
        effect: effect.into(),
        value: None,
        time_added: Some(added.unwrap_or(Time(now))),
    };
    let find = |key: &str, effect: &str| present.iter().find(|t| t.key == key && t.effect == effect).cloned();
    let mut wanted: Vec<Taint> = present.iter().filter(|t| !ours(t)).cloned().collect();
    for key in conditional(node) {
        wanted.push(find(key, "NoSchedule").unwrap_or_else(|| make(key, "NoSchedule", None)));
    }
    if let Some(key) = ready_taint(node).filter(|_| permit != Permit::AllDown) {
        // Changing between the two keeps the date: pods' toleration counts from when the trouble began.
        let twin = present.iter().find(|t| ready_no_execute(t));
        let same = find(key, "NoExecute");
        match (same, twin) {
            (Some(taint), _) => wanted.push(taint),
            (None, Some(twin)) => wanted.push(make(key, "NoExecute", twin.time_added.clone())),
            (None, None) if permit == Permit::Granted => wanted.push(make(key, "NoExecute", None)),
            _ => {}
        }
    }
    wanted
}

/// Taints and labels that follow from the node's conditions.
pub fn plan(node: &Node, permit: Permit, now: Timestamp) -> Plan {
    let mut plan = Plan::because(format!("Ready is {}", ready(node).unwrap_or("not reported")));
    let wanted = wanted_taints(node, permit, now);
    let sorted = |list: &[Taint]| {
        let mut keys: Vec<_> = list.iter().map(|t| (t.key.clone(), t.effect.clone())).collect();
        keys.sort();
        keys
    };
    let mut body = json!({});
    if sorted(&wanted) != sorted(taints(node)) {
        body["spec"] = json!({"taints": if wanted.is_empty() { Value::Null } else { json!(wanted) }});
        body["metadata"]["resourceVersion"] = json!(node.metadata.resource_version);
    }
    for (old, new) in LABELS {
        let value = label(&node.metadata, new);
        if value.is_some() && label(&node.metadata, old) != value {
            body["metadata"]["labels"][old] = json!(value);
        }
    }
    if body != json!({}) {
        let keys: Vec<String> = wanted.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect();
        plan.write(Write::patch(node, Format::Merge, body).note(keys.join(" ")));
    }
    if let Permit::Wait(wait) = permit {
        plan.again(wait);
    }
    plan
}

/// The text of an event about a node.
pub fn status_now(node: &Node, reason: &str) -> String {
    format!("Node {} status is now: {reason}", name(&node.metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use expect_test::{Expect, expect};

    /// `Condition=Status...` and taints `key:Effect`.
    fn node(text: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some("n".into());
        for word in text.split_whitespace() {
            if let Some((kind, status)) = word.split_once('=') {
                let condition =
                    NodeCondition { type_: kind.into(), status: status.into(), ..Default::default() };
                node.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
            } else if let Some((key, effect)) = word.split_once(':') {
                let taint = Taint { key: key.into(), effect: effect.into(), ..Default::default() };
                node.spec.get_or_insert_default().taints.get_or_insert_default().push(taint);
            } else {
                node.spec.get_or_insert_default().unschedulable = Some(true);
            }
        }
        node
    }

    fn check(text: &str, permit: Permit, expected: Expect) {
        expected.assert_eq(&plan(&node(text), permit, now()).to_string());
    }

    #[test]
    fn taints_follow_conditions() {
        check(
            "Ready=True",
            Permit::Granted,
            expect![[r#"
            why: Ready is True
        "#]],
        );
        check(
            "Ready=False",
            Permit::Granted,
            expect![[r#"
            why: Ready is False
            patch nodes n: node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/not-ready:NoExecute
        "#]],
        );
        check(
            "Ready=Unknown",
            Permit::Wait(Duration::from_secs(9)),
            expect![[r#"
            why: Ready is Unknown
            patch nodes n: node.kubernetes.io/unreachable:NoSchedule
            again in 9s
        "#]],
        );
        check(
            "Ready=True MemoryPressure=True cordoned own:NoExecute",
            Permit::Granted,
            expect![[r#"
            why: Ready is True
            patch nodes n: own:NoExecute node.kubernetes.io/memory-pressure:NoSchedule node.kubernetes.io/unschedulable:NoSchedule
        "#]],
        );
        check(
            "Ready=True node.kubernetes.io/unreachable:NoExecute node.kubernetes.io/unreachable:NoSchedule",
            Permit::Granted,
            expect![[r#"
                why: Ready is True
                patch nodes n
            "#]],
        );
        check(
            "Ready=Unknown node.kubernetes.io/not-ready:NoExecute",
            Permit::Wait(Duration::from_secs(9)),
            expect![[r#"
                why: Ready is Unknown
                patch nodes n: node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute
                again in 9s
            "#]],
        );
        check(
            "Ready=Unknown node.kubernetes.io/unreachable:NoExecute",
            Permit::AllDown,
            expect![[r#"
            why: Ready is Unknown
            patch nodes n: node.kubernetes.io/unreachable:NoSchedule
        "#]],
        );
    }

    #[test]
    fn silence_is_told_after_the_grace_and_once() {
        let grace = Duration::from_secs(50);
        let mut n = node("Ready=True Other=True");
        assert_eq!(silenced(&n, Duration::from_secs(50), grace, now()), None);
        let conditions = silenced(&n, Duration::from_secs(51), grace, now()).unwrap();
        let text: Vec<String> = conditions
            .iter()
            .map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(
            text,
            [
                "Ready=Unknown NodeStatusUnknown",
                "Other=True ",
                "MemoryPressure=Unknown NodeStatusNeverUpdated",
                "DiskPressure=Unknown NodeStatusNeverUpdated",
                "PIDPressure=Unknown NodeStatusNeverUpdated"
            ]
        );
        n.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(silenced(&n, Duration::from_secs(99), grace, now()), None);
    }
}
