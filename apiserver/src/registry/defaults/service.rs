//! Defaults of services and endpoints.

use super::Fill;
use crate::registry::val::{Obj, if_nil, if_zero, is_zero, list, s, sub};
use serde_json::{Value, json};

/// The defaults of one type of this area.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    Some(match (group, kind) {
        ("io.k8s.api.core.v1", "Service") => service,
        ("io.k8s.api.core.v1", "ServicePort") => service_port,
        ("io.k8s.api.core.v1", "EndpointPort") => |m| if_zero(m, "protocol", "TCP"),
        ("io.k8s.api.discovery.v1", "EndpointPort") => slice_port,
        _ => return None,
    })
}

fn service(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_zero(spec, "sessionAffinity", "None");
    affinity(spec);
    if_zero(spec, "type", "ClusterIP");
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    traffic(spec, &kind);
    if kind == "LoadBalancer" {
        if_nil(spec, "allocateLoadBalancerNodePorts", true);
        ingress_modes(m);
    }
}

fn affinity(spec: &mut Obj) {
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => {
            spec.remove("sessionAffinityConfig");
        }
        Some("ClientIP") => {
            let client_ip = sub(sub(spec, "sessionAffinityConfig"), "clientIP");
            if_nil(client_ip, "timeoutSeconds", 10800);
        }
        _ => {}
    }
}

fn traffic(spec: &mut Obj, kind: &str) {
    let external_ips = spec.get("externalIPs").is_some_and(|v| !is_zero(v));
    if matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && external_ips {
        if_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        if_nil(spec, "internalTrafficPolicy", "Cluster");
    }
}

fn ingress_modes(service: &mut Obj) {
    let ingress =
        service.get_mut("status").and_then(|s| s.get_mut("loadBalancer")).and_then(|l| l.get_mut("ingress"));
    for entry in ingress.and_then(Value::as_array_mut).into_iter().flatten() {
        let has_ip = !s(entry, "ip").is_empty();
        if let Some(entry) = entry.as_object_mut().filter(|_| has_ip) {
            if_nil(entry, "ipMode", "VIP");
        }
    }
}

fn service_port(m: &mut Obj) {
    if_zero(m, "protocol", "TCP");
    let port = m.get("port").cloned().unwrap_or(json!(0));
    if_zero(m, "targetPort", port);
}

fn slice_port(m: &mut Obj) {
    if_nil(m, "name", "");
    if_nil(m, "protocol", "TCP");
}

/// Whether a service takes traffic from outside the cluster.
pub fn externally_accessible(service: &Value) -> bool {
    let Some(spec) = service.get("spec") else { return false };
    let kind = s(spec, "type");
    matches!(kind, "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && !list(spec, "externalIPs").is_empty()
}
