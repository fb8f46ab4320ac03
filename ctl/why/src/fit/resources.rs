//! NodeResourcesFit: is there room?

use coxctl_kit::dig;
use machinery::quantity::{Format, Quantity};
use serde_json::Value;

use super::{Help, Obstacle, Spot, World};
use crate::amount::{self, Amounts, bare, named, title};
use crate::facts;
use crate::finding::evidence;

const PLUGIN: &str = "NodeResourcesFit";
/// How many of those that hold the room are named.
const NAMED: usize = 3;

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let allocatable = amount::read(dig::at(spot.node, "status.allocatable"));
    let asked = amount::requests(world.pod);
    let short = asked.iter().filter(|(_, amount)| !amount.is_zero());
    let lacks = short.filter_map(|(resource, wanted)| lack(spot, &allocatable, resource, wanted));
    places(spot, &allocatable).into_iter().chain(lacks).collect()
}

/// No place for one more pod.
fn places(spot: &Spot<'_>, allocatable: &Amounts) -> Option<Obstacle> {
    let most = allocatable.get("pods")?.value();
    let there = i64::try_from(spot.pods.len()).unwrap_or(i64::MAX);
    (there >= most).then(|| Obstacle {
        plugin: PLUGIN,
        text: format!("already runs {} of at most {most}", crate::words::count(there, "pod")),
        alike: "pods".into(),
        help: Help {
            gap: 0,
            cost: 4,
            text: format!("move pods off {}, raise its kubelet's maxPods, or add a node", spot.name),
        },
        evidence: vec![evidence("Node", spot.name, "status.allocatable.pods", most)],
    })
}

fn lack(spot: &Spot<'_>, allocatable: &Amounts, resource: &str, wanted: &Quantity) -> Option<Obstacle> {
    let zero = Quantity::zero(Format::DecimalSi);
    let all = *allocatable.get(resource).unwrap_or(&zero);
    let held = holders(spot, resource);
    let used = held.iter().fold(zero, |sum, (_, amount)| sum.add(amount));
    let free = if all < used { zero } else { all.sub(&used) };
    if *wanted <= free {
        return None;
    }
    let path = format!("status.allocatable.{resource}");
    Some(Obstacle {
        plugin: PLUGIN,
        text: told(resource, wanted, &free, &all, &held),
        alike: format!("resource {resource}"),
        help: help(spot, resource, wanted, &free, &all),
        evidence: vec![
            evidence("Node", spot.name, &path, bare(resource, &all)),
            evidence("Node", spot.name, &format!("free.{resource}"), bare(resource, &free)),
        ],
    })
}

fn told(
    resource: &str,
    wanted: &Quantity,
    free: &Quantity,
    all: &Quantity,
    held: &[(&Value, Quantity)],
) -> String {
    if all.is_zero() {
        return format!("has no {} at all, and the pod asks for {}", title(resource), bare(resource, wanted));
    }
    let mut parts: Vec<String> = held
        .iter()
        .take(NAMED)
        .map(|(pod, amount)| format!("{} asked by {}", bare(resource, amount), facts::name(pod)))
        .collect();
    let rest =
        held.iter().skip(NAMED).fold(Quantity::zero(Format::DecimalSi), |sum, (_, amount)| sum.add(amount));
    if !rest.is_zero() {
        parts.push(format!("{} by {} others", bare(resource, &rest), held.len() - NAMED));
    }
    let by = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let (wanted, free, all) = (named(resource, wanted), bare(resource, free), bare(resource, all));
    format!("has {free} of {all} {} free{by}, and the pod asks for {wanted}", title(resource))
}

fn help(spot: &Spot<'_>, resource: &str, wanted: &Quantity, free: &Quantity, all: &Quantity) -> Help {
    let title = title(resource);
    let gap = gap(wanted, free);
    let add = format!("add a node with {} free", named(resource, wanted));
    if all.is_zero() {
        return Help { gap, cost: 7, text: format!("add a node that has {title}, or do not ask for it") };
    }
    let lower = format!("lower the pod's request to {} (free on {})", named(resource, free), spot.name);
    match (free.is_zero(), wanted <= all) {
        (true, true) => Help {
            gap,
            cost: 5,
            text: format!("free {} on {}, or {add}", named(resource, wanted), spot.name),
        },
        (true, false) => Help { gap, cost: 6, text: add },
        (false, true) => Help {
            gap,
            cost: 3,
            text: format!("{lower}, free {} more there, or {add}", named(resource, &wanted.sub(free))),
        },
        (false, false) => Help { gap, cost: 4, text: format!("{lower}, or {add}") },
    }
}

/// How much of what is asked for is missing, in thousandths.
fn gap(wanted: &Quantity, free: &Quantity) -> u32 {
    let share = 1000.0 * (1.0 - free.as_f64() / wanted.as_f64().max(f64::MIN_POSITIVE));
    share.clamp(0.0, 1000.0) as u32
}

/// Who holds some of a resource, the greatest first.
fn holders<'a>(spot: &Spot<'a>, resource: &str) -> Vec<(&'a Value, Quantity)> {
    let held = |pod: &&'a Value| Some((*pod, *amount::requests(pod).get(resource)?));
    let mut all: Vec<(&Value, Quantity)> =
        spot.pods.iter().filter_map(held).filter(|(_, amount)| !amount.is_zero()).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| facts::name(a.0).cmp(facts::name(b.0))));
    all
}
