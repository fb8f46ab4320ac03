//! Network policies.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// What rules stand under: `To Port: 80/TCP`.
const INDENT: &str = "    ";

/// One direction of traffic: how it is written.
struct Direction {
    name: &'static str,
    rules: &'static str,
    peers: &'static str,
    peer_title: &'static str,
    peer_kind: &'static str,
}

const INGRESS: Direction = Direction {
    name: "ingress",
    rules: "spec.ingress",
    peers: "from",
    peer_title: "From",
    peer_kind: "source",
};
const EGRESS: Direction = Direction {
    name: "egress",
    rules: "spec.egress",
    peers: "to",
    peer_title: "To",
    peer_kind: "destination",
};

/// Writes a network policy.
pub fn page(subject: &Subject, page: &mut Page) {
    let policy = &subject.object;
    page.name(policy);
    page.namespace(policy);
    page.field(0, "Created on", created(policy));
    page.labels_and_annotations(policy);
    page.put(0, "Spec:\n");
    page.put(1, "PodSelector: ");
    match dig::selector(&policy["spec"]["podSelector"]) {
        Ok(text) if text.is_empty() => {
            page.put(2, "<none> (Allowing the specific traffic to all pods in this namespace)\n");
        }
        _ => put!(page, 2, "{}\n", dig::selector_or_none(&policy["spec"]["podSelector"])),
    }
    let kinds = dig::texts(policy, "spec.policyTypes");
    direction(policy, &INGRESS, kinds.contains(&"Ingress"), page);
    direction(policy, &EGRESS, kinds.contains(&"Egress"), page);
    put!(page, 1, "Policy Types: {}\n", dig::or_none(&kinds.join(", ")));
}

fn created(policy: &Value) -> String {
    match dig::moment(policy, "metadata.creationTimestamp") {
        Some(at) => at.to_zoned(dig::zone()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        None => "0001-01-01 00:00:00 +0000 UTC".into(),
    }
}

fn direction(policy: &Value, direction: &Direction, affected: bool, page: &mut Page) {
    let name = direction.name;
    if !affected {
        return put!(page, 1, "Not affecting {name} traffic\n");
    }
    put!(page, 1, "Allowing {name} traffic:\n");
    let rules = dig::items(policy, direction.rules);
    if rules.is_empty() {
        put!(page, 0, "{INDENT}<none> (Selected pods are isolated for {name} connectivity)\n");
    }
    for (number, rule) in rules.iter().enumerate() {
        ports(dig::items(rule, "ports"), page);
        peers(dig::items(rule, direction.peers), direction, page);
        if number + 1 != rules.len() {
            put!(page, 0, "{INDENT}----------\n");
        }
    }
}

fn ports(ports: &[Value], page: &mut Page) {
    if ports.is_empty() {
        put!(page, 0, "{INDENT}To Port: <any> (traffic allowed to all ports)\n");
    }
    for port in ports {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let first = if port["port"].is_null() { "<nil>".into() } else { dig::int_or_string(&port["port"]) };
        match port["endPort"].as_i64() {
            Some(last) => put!(page, 0, "{INDENT}To Port Range: {first}-{last}/{protocol}\n"),
            None => put!(page, 0, "{INDENT}To Port: {first}/{protocol}\n"),
        }
    }
}

fn peers(peers: &[Value], direction: &Direction, page: &mut Page) {
    let (title, kind) = (direction.peer_title, direction.peer_kind);
    if peers.is_empty() {
        put!(page, 0, "{INDENT}{title}: <any> (traffic not restricted by {kind})\n");
    }
    for peer in peers {
        put!(page, 0, "{INDENT}{title}:\n");
        peer_lines(peer, page);
    }
}

fn peer_lines(peer: &Value, page: &mut Page) {
    let selectors = [("NamespaceSelector", "namespaceSelector"), ("PodSelector", "podSelector")];
    let selectors: Vec<_> = selectors.into_iter().filter(|(_, field)| dig::has(peer, field)).collect();
    for (title, field) in &selectors {
        put!(page, 1, "{INDENT}{title}: {}\n", dig::selector_or_none(&peer[*field]));
    }
    if selectors.is_empty() && dig::has(peer, "ipBlock") {
        put!(page, 1, "{INDENT}IPBlock:\n");
        put!(page, 2, "{INDENT}CIDR: {}\n", dig::text(peer, "ipBlock.cidr"));
        put!(page, 2, "{INDENT}Except: {}\n", dig::texts(peer, "ipBlock.except").join(", "));
    }
}
