//! PodTopologySpread: constraints that must hold.

use std::collections::BTreeMap;

use coxctl_kit::dig;
use serde_json::Value;

use super::labels::{selects, written};
use super::{Help, Obstacle, Spot, World, affinity, taints};
use crate::facts;
use crate::finding::evidence;
use crate::words;

const PLUGIN: &str = "PodTopologySpread";

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let constraints = dig::items(world.pod, "spec.topologySpreadConstraints").iter();
    constraints
        .filter(|constraint| dig::text(constraint, "whenUnsatisfiable") != "ScheduleAnyway")
        .filter_map(|constraint| broken(world, spot, constraint))
        .collect()
}

fn broken(world: &World<'_>, spot: &Spot<'_>, constraint: &Value) -> Option<Obstacle> {
    let key = dig::text(constraint, "topologyKey");
    let Some(domain) = spot.label(key) else {
        return Some(obstacle(
            format!("does not have the label {key}, which a topologySpreadConstraint asks for"),
            format!("spread without {key}"),
            Help { gap: 0, cost: 1, text: format!("`coxctl label node {} {key}=VALUE`", spot.name) },
            evidence("Node", spot.name, "metadata.labels", ""),
        ));
    };
    let counts = counts(world, constraint, key);
    let domains = i64::try_from(counts.len()).unwrap_or(i64::MAX);
    let enough = domains >= dig::int(constraint, "minDomains");
    let least = counts.values().min().copied().filter(|_| enough).unwrap_or(0);
    let there = counts.get(domain).copied().unwrap_or(0);
    let own = i64::from(selects(dig::at(constraint, "labelSelector"), world.pod));
    let most = dig::int(constraint, "maxSkew");
    if there + own - least <= most {
        return None;
    }
    let emptiest: Vec<&str> =
        counts.iter().filter(|(_, n)| **n == least).map(|(name, _)| name.as_str()).collect();
    let beside = if enough && !emptiest.is_empty() {
        format!(
            "{} {least}",
            if emptiest.len() == 1 {
                format!("{} has", emptiest.concat())
            } else {
                format!("{} have", words::list(&emptiest, 3))
            }
        )
    } else {
        format!(
            "minDomains is {} and there {} {domains}",
            dig::int(constraint, "minDomains"),
            words::is(domains)
        )
    };
    let selector = written(dig::at(constraint, "labelSelector"));
    Some(obstacle(
        format!(
            "is in {key} {domain}, which has {} with {selector} while {beside}; maxSkew is {most}",
            words::count(there, "pod")
        ),
        format!("spread {key}={domain}"),
        Help {
            gap: 0,
            cost: 4,
            text: format!(
                "make room in {key} {}, raise maxSkew, or use whenUnsatisfiable: ScheduleAnyway",
                words::list(&emptiest, 3)
            ),
        },
        evidence("Node", spot.name, key, format!("{domain}: {there}")),
    ))
}

fn obstacle(text: String, alike: String, help: Help, seen: crate::finding::Evidence) -> Obstacle {
    Obstacle { plugin: PLUGIN, text, alike, help, evidence: vec![seen] }
}

/// Matching pods in each domain of the nodes that count.
fn counts(world: &World<'_>, constraint: &Value, key: &str) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for spot in world.nodes.iter().filter(|spot| counted(world, constraint, spot)) {
        let Some(domain) = spot.label(key) else { continue };
        let matching = spot.pods.iter().filter(|pod| matching(world.pod, constraint, pod)).count();
        *counts.entry(domain.to_string()).or_default() += i64::try_from(matching).unwrap_or(i64::MAX);
    }
    counts
}

fn matching(pod: &Value, constraint: &Value, other: &Value) -> bool {
    let label = |object: &Value, key: &str| dig::at(object, "metadata.labels").get(key).cloned();
    facts::namespace(other) == facts::namespace(pod)
        && !dig::has(other, "metadata.deletionTimestamp")
        && selects(dig::at(constraint, "labelSelector"), other)
        && dig::texts(constraint, "matchLabelKeys")
            .iter()
            .all(|key| label(pod, key).is_none_or(|own| label(other, key) == Some(own)))
}

/// Whether a node counts: by its labels unless told otherwise, by its taints when told so.
fn counted(world: &World<'_>, constraint: &Value, spot: &Spot<'_>) -> bool {
    let by_labels = dig::text(constraint, "nodeAffinityPolicy") != "Ignore";
    let by_taints = dig::text(constraint, "nodeTaintsPolicy") == "Honor";
    (!by_labels || affinity::obstacles(world, spot).is_empty())
        && (!by_taints || taints::obstacles(world, spot).is_empty())
}
