//! Hints by the share of CPU each zone has (the annotation `service.kubernetes.io/topology-mode: Auto`). Pure; the
//! rules are upstream's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForZone};
use machinery::quantity::Quantity;

use crate::kit::meta::{annotation, label};

pub const ZONE: &str = "topology.kubernetes.io/zone";
const MODE: &str = "service.kubernetes.io/topology-mode";
const OLD_MODE: &str = "service.kubernetes.io/topology-aware-hints";
/// Nodes that carry no ordinary load.
const APART: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// How much more than its share a zone may have to bear.
const OVERLOAD: f64 = 0.2;

const UNKNOWN: &str =
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const ONE_ZONE: &str = "Nodes only ready in one zone";

/// The share of each zone in the CPU of all, or why that cannot be told.
pub type Shares = Result<BTreeMap<String, f64>, &'static str>;

/// Whether a Service asks for such hints.
pub fn wanted(service: &Service) -> bool {
    let asked = annotation(&service.metadata, OLD_MODE).or_else(|| annotation(&service.metadata, MODE));
    matches!(asked, Some("Auto" | "auto"))
}

/// What of a node matters here.
pub fn facts(node: &Node) -> Option<(Option<String>, i64)> {
    let apart = APART.iter().any(|l| label(&node.metadata, l).is_some());
    let status = node.status.as_ref();
    let ready = status.into_iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = ready.clone().any(|c| c.type_ == "Ready" && c.status == "True");
    if apart || !ready {
        return None;
    }
    let cpu = status.and_then(|s| s.allocatable.as_ref()).and_then(|a| a.get("cpu"));
    let cpu = cpu.and_then(|q| Quantity::parse(&q.0).ok()).map_or(0, |q| q.milli_value());
    Some((label(&node.metadata, ZONE).filter(|z| !z.is_empty()).map(str::to_string), cpu))
}

/// The shares, if there are two zones or more and every node says where it is and what it has.
pub fn shares<'a>(nodes: impl Iterator<Item = &'a Node>) -> Shares {
    let mut zones: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.filter_map(facts) {
        *zones.entry(zone.filter(|_| cpu > 0).ok_or(UNKNOWN)?).or_default() += cpu;
    }
    let total: i64 = zones.values().sum();
    match zones.len() {
        0 => Err(UNKNOWN),
        1 => Err(ONE_ZONE),
        _ => Ok(zones.into_iter().map(|(zone, cpu)| (zone, cpu as f64 / total as f64)).collect()),
    }
}

/// What a zone should have, and what it must.
struct Allotment {
    desired: f64,
    least: usize,
}

/// Gives every ready endpoint the zone that should use it: its own, unless another zone has too few. If it cannot be
/// done, none has hints, and the reason is returned.
pub fn hint(endpoints: &mut [&mut Endpoint], shares: &Shares) -> Result<(), String> {
    let outcome = allot(endpoints, shares).and_then(|allotments| assign(endpoints, &allotments));
    if outcome.is_err() {
        endpoints.iter_mut().for_each(|e| e.hints = None);
    }
    outcome
}

fn ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false)
}

fn allot(endpoints: &[&mut Endpoint], shares: &Shares) -> Result<BTreeMap<String, Allotment>, String> {
    let shares = shares.as_ref().map_err(|why| why.to_string())?;
    let count = endpoints.iter().filter(|e| ready(e)).count();
    if count < shares.len() {
        return Err(format!(
            "Insufficient number of endpoints ({count}), impossible to safely allocate proportionally"
        ));
    }
    let allotment = |share: f64| {
        let desired = share * count as f64;
        Allotment { desired, least: (desired / (1.0 + OVERLOAD)).ceil() as usize }
    };
    let all: BTreeMap<String, Allotment> =
        shares.iter().map(|(zone, share)| (zone.clone(), allotment(*share))).collect();
    if all.values().map(|a| a.least).sum::<usize>() > count {
        let text =
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
        return Err(format!("{text} ({count} endpoints, {} zones)", all.len()));
    }
    Ok(all)
}

fn assign(endpoints: &mut [&mut Endpoint], allotments: &BTreeMap<String, Allotment>) -> Result<(), String> {
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for endpoint in endpoints.iter_mut() {
        endpoint.hints = None;
        if !ready(endpoint) {
            continue;
        }
        let Some(zone) = endpoint.zone.clone().filter(|z| !z.is_empty()) else {
            return Err("One or more endpoints do not have a zone specified".into());
        };
        *held.entry(zone.clone()).or_default() += 1;
        endpoint.hints = Some(of_zone(&zone));
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allotment) in allotments {
        let difference = held.get(zone).copied().unwrap_or(0) as f64 - allotment.desired;
        if difference > 0.0 {
            giving.insert(zone.clone(), difference.floor() as usize);
        } else {
            receiving.insert(zone.clone(), (-difference).ceil() as usize);
        }
    }
    for endpoint in endpoints.iter_mut().filter(|e| ready(e)) {
        let Some(left) = endpoint.zone.as_ref().and_then(|z| giving.get_mut(z)).filter(|n| **n > 0) else {
            continue;
        };
        let Some((zone, lacks)) = receiving.iter_mut().find(|(_, n)| **n > 0) else { break };
        endpoint.hints = Some(of_zone(zone));
        (*left, *lacks) = (*left - 1, *lacks - 1);
    }
    Ok(())
}

fn of_zone(zone: &str) -> EndpointHints {
    EndpointHints { for_zones: Some(vec![ForZone { name: zone.into() }]), for_nodes: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (zone, cpu) = (words[0], words[1]);
        let role = if words.contains(&"apart") { ", node-role.kubernetes.io/control-plane: ''" } else { "" };
        let zone = if zone == "-" { String::new() } else { format!("{ZONE}: {zone}{role}") };
        let ready = if words.contains(&"down") { "False" } else { "True" };
        serde_yaml::from_str(&format!(
            "{{metadata: {{labels: {{{zone}}}}}, status: {{allocatable: {{cpu: '{cpu}'}}, conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        ))
        .expect("a node")
    }

    fn shares_of(nodes: &[&str]) -> Shares {
        let nodes: Vec<Node> = nodes.iter().map(|n| node(n)).collect();
        shares(nodes.iter())
    }

    #[test]
    fn shares_of_zones() {
        let all = |nodes: &[&str]| {
            let text = |(z, s): (String, f64)| format!("{z} {s:.2}");
            shares_of(nodes).map(|s| s.into_iter().map(text).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(all(&["a 4", "b 2", "b 2"]).unwrap(), "a 0.50, b 0.50");
        assert_eq!(all(&["a 3", "b 1000m"]).unwrap(), "a 0.75, b 0.25");
        assert_eq!(all(&["a 3", "a 1"]), Err(ONE_ZONE));
        assert_eq!(all(&["a 3", "b 1", "- 1"]), Err(UNKNOWN));
        assert_eq!(all(&["a 3", "b 0"]), Err(UNKNOWN));
        assert_eq!(all(&[]), Err(UNKNOWN));
        assert_eq!(all(&["a 1", "b 1", "c 9 apart", "d 9 down"]).unwrap(), "a 0.50, b 0.50");
    }

    /// The zones of endpoints (`-` for none, `!` for one that is not ready) and the hints they get.
    fn hints(zones: &str, nodes: &[&str]) -> Result<String, String> {
        let mut endpoints: Vec<Endpoint> = zones
            .split_whitespace()
            .map(|zone| {
                let mut endpoint = Endpoint::default();
                endpoint.conditions.get_or_insert_default().ready = Some(!zone.ends_with('!'));
                endpoint.zone = Some(zone.trim_end_matches('!').to_string()).filter(|z| z != "-");
                endpoint
            })
            .collect();
        let mut all: Vec<&mut Endpoint> = endpoints.iter_mut().collect();
        hint(&mut all, &shares_of(nodes))?;
        let text = |e: &Endpoint| match e.hints.as_ref().and_then(|h| h.for_zones.as_ref()) {
            Some(zones) => zones.iter().map(|z| z.name.as_str()).collect::<Vec<_>>().join("+"),
            None => "-".into(),
        };
        Ok(endpoints.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_zone_has_its_share() {
        let even = ["a 2", "b 2"];
        assert_eq!(hints("a a b b", &even).unwrap(), "a a b b");
        assert_eq!(hints("a a a a", &even).unwrap(), "b b a a");
        assert_eq!(hints("a a a b", &even).unwrap(), "b a a b");
        assert_eq!(hints("a b! b", &even).unwrap(), "a - b");
        // Three fourths of the CPU want three fourths of the endpoints.
        assert_eq!(hints("a a b b", &["a 3", "b 1"]).unwrap(), "a a a b");
        // An endpoint in a zone without nodes that count keeps it.
        assert_eq!(hints("a a b c", &even).unwrap(), "a a b c");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let said = |zones: &str, nodes: &[&str]| hints(zones, nodes).unwrap_err();
        assert!(said("a b", &["a 2"]) == ONE_ZONE && said("a b", &["a 2", "- 2"]) == UNKNOWN);
        assert_eq!(
            said("a", &["a 2", "b 2"]),
            "Insufficient number of endpoints (1), impossible to safely allocate proportionally"
        );
        assert!(said("a b b", &["a 2", "b 2"]).starts_with("Unable to allocate minimum"));
        assert_eq!(said("a - b b", &["a 2", "b 2"]), "One or more endpoints do not have a zone specified");
    }

    #[test]
    fn who_asks_for_it() {
        let asks = |text: &str| {
            wanted(&serde_yaml::from_str(&format!("{{metadata: {{annotations: {{{text}}}}}}}")).unwrap())
        };
        assert!(asks("service.kubernetes.io/topology-mode: Auto"));
        assert!(asks("service.kubernetes.io/topology-aware-hints: auto"));
        assert!(!asks("service.kubernetes.io/topology-mode: Disabled"));
        assert!(!asks(
            "service.kubernetes.io/topology-aware-hints: Disabled, service.kubernetes.io/topology-mode: Auto"
        ));
    }
}
