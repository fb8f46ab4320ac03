//! networking.k8s.io and discovery.k8s.io.

use super::Printer;
use super::access::{Cells, NONE, UNSET, or_none, text};
use serde_json::Value;

pub fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Ingress" => ingress,
        "IngressClass" => ingress_class,
        "NetworkPolicy" => network_policy,
        "IPAddress" => ip_address,
        "ServiceCIDR" => service_cidr,
        "EndpointSlice" => endpoint_slice,
        _ => return None,
    })
}

fn ingress(c: &Cells<'_>) -> Vec<Value> {
    let ports = if c.count("spec.tls") > 0 { "80, 443" } else { "80" };
    vec![
        c.name(),
        c.text_or("spec.ingressClassName", NONE).into(),
        hosts(c.list("spec.rules")).into(),
        super::core::load_balancer(c).into(),
        ports.into(),
        c.age(),
    ]
}

/// At most three hosts, `*` when no rule names one.
fn hosts(rules: &[Value]) -> String {
    let named: Vec<&str> = rules.iter().map(|r| text(r, "host")).filter(|h| !h.is_empty()).collect();
    match named.len() {
        0 => "*".to_string(),
        n if n > 3 => format!("{} + {} more...", named[..3].join(","), n - 3),
        _ => named.join(","),
    }
}

fn ingress_class(c: &Cells<'_>) -> Vec<Value> {
    let parameters = match c.text("spec.parameters.name") {
        "" => NONE.to_string(),
        name => {
            let kind = c.text("spec.parameters.kind");
            let group = c.text("spec.parameters.apiGroup");
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{name}")
        }
    };
    vec![c.name(), c.text("spec.controller").into(), parameters.into(), c.age()]
}

fn network_policy(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.selector("spec.podSelector"), c.age()]
}

fn ip_address(c: &Cells<'_>) -> Vec<Value> {
    let part = |name: &str| c.text(&format!("spec.parentRef.{name}"));
    let words = [part("group"), part("resource"), part("namespace"), part("name")];
    let shown: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
    let resource =
        if words[0].is_empty() { words[1].to_string() } else { format!("{}.{}", words[1], words[0]) };
    let reference = match (shown.is_empty(), words[2]) {
        (true, _) => NONE.to_string(),
        (_, "") => format!("{resource}/{}", words[3]),
        (_, namespace) => format!("{resource}/{namespace}/{}", words[3]),
    };
    vec![c.name(), reference.into()]
}

fn service_cidr(c: &Cells<'_>) -> Vec<Value> {
    let cidrs: Vec<&str> = c.list("spec.cidrs").iter().filter_map(Value::as_str).collect();
    vec![c.name(), cidrs.join(",").into(), c.age()]
}

fn endpoint_slice(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        c.text("addressType").into(),
        slice_ports(c.list("ports")).into(),
        slice_addresses(c.list("endpoints")).into(),
        c.age(),
    ]
}

fn slice_ports(ports: &[Value]) -> String {
    let shown: Vec<String> = ports
        .iter()
        .take(3)
        .map(|p| match (text(p, "name"), p.get("port").and_then(Value::as_i64)) {
            ("", None) => "*".to_string(),
            (_, Some(port)) => port.to_string(),
            (name, None) => name.to_string(),
        })
        .collect();
    more(shown, ports.len(), UNSET)
}

fn slice_addresses(endpoints: &[Value]) -> String {
    let addresses = endpoints.iter().filter_map(|e| e.get("addresses")).filter_map(Value::as_array).flatten();
    let all: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_string).collect();
    let total = all.len();
    more(all.into_iter().take(3).collect(), total, UNSET)
}

fn more(shown: Vec<String>, total: usize, unset: &str) -> String {
    match (shown.is_empty(), total.saturating_sub(shown.len())) {
        (true, _) => unset.to_string(),
        (false, 0) => or_none(shown.join(",")),
        (false, left) => format!("{} + {left} more...", shown.join(",")),
    }
}
