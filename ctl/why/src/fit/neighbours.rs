//! InterPodAffinity: which pods must be near, and which must not.

use coxctl_kit::dig;
use serde_json::Value;

use super::labels::{selects, written};
use super::{Help, Obstacle, Spot, World};
use crate::facts;
use crate::finding::{Evidence, evidence};

const PLUGIN: &str = "InterPodAffinity";
const NEAR: &str = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution";
const FAR: &str = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let far = dig::items(world.pod, FAR).iter().filter_map(|term| kept_off(world, spot, term));
    let near = dig::items(world.pod, NEAR).iter().filter_map(|term| lonely(world, spot, term));
    far.chain(near).chain(unwanted(world, spot)).collect()
}

/// The nodes in the same domain as this one.
fn domain<'a, 'w>(world: &'w World<'a>, spot: &Spot<'_>, key: &str) -> Vec<&'w Spot<'a>> {
    let Some(value) = spot.label(key) else { return Vec::new() };
    world.nodes.iter().filter(|other| other.label(key) == Some(value)).collect()
}

/// Whether a term of `pod` means `other`.
fn means(world: &World<'_>, term: &Value, pod: &Value, other: &Value) -> bool {
    let (own, named) = (facts::namespace(pod), dig::texts(term, "namespaces"));
    let selector = dig::at(term, "namespaceSelector");
    let theirs = facts::namespace(other);
    let place = match (named.is_empty(), selector.is_null()) {
        (true, true) => theirs == own,
        _ => {
            let chosen = |ns: &Value| facts::name(ns) == theirs && selects(selector, ns);
            named.contains(&theirs) || !selector.is_null() && world.facts.all("Namespace").any(chosen)
        }
    };
    let same_keys = dig::texts(term, "matchLabelKeys").iter().all(|key| {
        let label = |object: &Value| dig::at(object, "metadata.labels").get(key).cloned();
        label(pod).is_none_or(|value| label(other) == Some(value))
    });
    place && same_keys && selects(dig::at(term, "labelSelector"), other)
}

fn place(key: &str) -> String {
    match key {
        "kubernetes.io/hostname" => "there".into(),
        key => format!("in the same {key}"),
    }
}

/// The pod keeps away from a pod that is there.
fn kept_off(world: &World<'_>, spot: &Spot<'_>, term: &Value) -> Option<Obstacle> {
    let key = dig::text(term, "topologyKey");
    let near = domain(world, spot, key);
    let other = near.iter().flat_map(|spot| &spot.pods).find(|other| means(world, term, world.pod, other))?;
    let (name, selector) = (facts::name(other), written(dig::at(term, "labelSelector")));
    Some(obstacle(
        format!("is kept off by the pod's podAntiAffinity: pod {name} with {selector} is {}", place(key)),
        format!("anti-affinity {selector} {key}"),
        Help {
            gap: 0,
            cost: 4,
            text: "add a node, or make the podAntiAffinity preferred instead of required".into(),
        },
        evidence("Pod", name, "metadata.labels", selector),
    ))
}

/// A pod that is there keeps this one away.
fn unwanted(world: &World<'_>, spot: &Spot<'_>) -> Option<Obstacle> {
    for near in &world.nodes {
        for other in &near.pods {
            let same = |key: &str| near.label(key).is_some() && near.label(key) == spot.label(key);
            let mut terms = dig::items(other, FAR).iter();
            let Some(term) = terms
                .find(|term| same(dig::text(term, "topologyKey")) && means(world, term, other, world.pod))
            else {
                continue;
            };
            let (name, key) = (facts::name(other), dig::text(term, "topologyKey"));
            return Some(obstacle(
                format!("runs pod {name}, whose podAntiAffinity keeps this pod off ({key})"),
                format!("unwanted {key}"),
                Help {
                    gap: 0,
                    cost: 5,
                    text: format!("add a node, or change the podAntiAffinity of {name}"),
                },
                evidence("Pod", name, FAR, key),
            ));
        }
    }
    None
}

/// The pod wants to be near a pod that is not there.
fn lonely(world: &World<'_>, spot: &Spot<'_>, term: &Value) -> Option<Obstacle> {
    let key = dig::text(term, "topologyKey");
    let selector = written(dig::at(term, "labelSelector"));
    let anywhere = |spot: &Spot<'_>| spot.pods.iter().any(|other| means(world, term, world.pod, other));
    if domain(world, spot, key).iter().any(|spot| anywhere(spot)) {
        return None;
    }
    let somewhere: Vec<&str> =
        world.nodes.iter().filter(|spot| anywhere(spot)).map(|spot| spot.name).collect();
    // The first of a group that wants to be together may go anywhere.
    if somewhere.is_empty() && spot.label(key).is_some() && means(world, term, world.pod, world.pod) {
        return None;
    }
    let help = match somewhere.first() {
        None => format!("start a pod with {selector} first, or make the podAffinity preferred"),
        Some(node) => {
            format!("make room on {node}, where such a pod runs, or make the podAffinity preferred")
        }
    };
    Some(obstacle(
        format!("has no pod with {selector} {}, which the pod's podAffinity asks for", place(key)),
        format!("affinity {selector} {key}"),
        Help { gap: 0, cost: 4, text: help },
        evidence("Node", spot.name, key, spot.label(key).unwrap_or_default()),
    ))
}

fn obstacle(text: String, alike: String, help: Help, seen: Evidence) -> Obstacle {
    Obstacle { plugin: PLUGIN, text, alike, help, evidence: vec![seen] }
}
