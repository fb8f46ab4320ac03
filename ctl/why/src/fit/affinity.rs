//! NodeAffinity: the node selector and the required node affinity.

use coxctl_kit::dig;
use serde_json::Value;

use super::labels::{holds, requirement, term_holds};
use super::{Help, Obstacle, Spot, World};
use crate::finding::evidence;
use crate::words;

const REQUIRED: &str =
    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    selector(world.pod, spot).into_iter().chain(required(world.pod, spot)).collect()
}

fn selector(pod: &Value, spot: &Spot<'_>) -> Option<Obstacle> {
    let wanted = dig::strings(pod, "spec.nodeSelector");
    let missing: Vec<&(&str, &str)> =
        wanted.iter().filter(|(key, value)| spot.label(key) != Some(value)).collect();
    if missing.is_empty() {
        return None;
    }
    let labels: Vec<String> = missing.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let has: Vec<String> =
        missing.iter().filter_map(|(key, _)| Some(format!("{key}={}", spot.label(key)?))).collect();
    let but = if has.is_empty() { String::new() } else { format!(" but {}", has.join(", ")) };
    let text = format!("does not have the label {} of spec.nodeSelector{but}", words::list(&labels, 4));
    Some(Obstacle {
        plugin: "NodeAffinity",
        text,
        alike: format!("selector {labels:?}"),
        help: give(spot, &labels, "spec.nodeSelector", !has.is_empty()),
        evidence: vec![evidence("Node", spot.name, "metadata.labels", has.join(","))],
    })
}

fn give(spot: &Spot<'_>, labels: &[String], field: &str, over: bool) -> Help {
    let flag = if over { " --overwrite" } else { "" };
    let text = format!(
        "label a node that fits: `coxctl label node {} {}{flag}`, or change {field}",
        spot.name,
        labels.join(" ")
    );
    Help { gap: 0, cost: if over { 3 } else { 1 }, text }
}

fn required(pod: &Value, spot: &Spot<'_>) -> Option<Obstacle> {
    let terms = dig::items(pod, REQUIRED);
    if !dig::has(pod, REQUIRED) || terms.iter().any(|term| term_holds(term, spot)) {
        return None;
    }
    // The term with the fewest requirements that fail is the one to tell about.
    let nearest = terms.iter().map(|term| failing(term, spot)).min_by_key(Vec::len).unwrap_or_default();
    let wanted: Vec<String> = nearest.iter().map(|one| requirement(one)).collect();
    let labels: Option<Vec<String>> = nearest.iter().map(|one| label(one)).collect();
    let help = match labels.filter(|labels| !labels.is_empty()) {
        Some(labels) => give(
            spot,
            &labels,
            "the required nodeAffinity",
            nearest.iter().any(|one| spot.label(dig::text(one, "key")).is_some()),
        ),
        None => {
            Help { gap: 0, cost: 3, text: "change the required nodeAffinity, or make it preferred".into() }
        }
    };
    Some(Obstacle {
        plugin: "NodeAffinity",
        text: format!("does not meet the required nodeAffinity: {}", words::list(&wanted, 4)),
        alike: format!("affinity {wanted:?}"),
        help,
        evidence: vec![evidence("Node", spot.name, "metadata.labels", wanted.join(","))],
    })
}

fn failing<'a>(term: &'a Value, spot: &Spot<'_>) -> Vec<&'a Value> {
    let expressions = dig::items(term, "matchExpressions").iter();
    let fields = dig::items(term, "matchFields").iter();
    expressions
        .filter(|e| !holds(e, spot.label(dig::text(e, "key"))))
        .chain(fields.filter(|e| !holds(e, Some(spot.name))))
        .collect()
}

/// The label that would meet a requirement, if setting one label would.
fn label(requirement: &Value) -> Option<String> {
    let key = dig::text(requirement, "key");
    match (dig::text(requirement, "operator"), dig::texts(requirement, "values").first()) {
        ("In", Some(value)) if key != "metadata.name" => Some(format!("{key}={value}")),
        ("Exists", _) => Some(format!("{key}=true")),
        _ => None,
    }
}
