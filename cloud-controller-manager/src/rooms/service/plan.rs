//! What a Service asks of its load balancer, and which nodes it is for. Pure.

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Node, Service, ServicePort, ServiceSpec};

use crate::rooms::{label, ready, tainted};

/// Holds a Service back until its load balancer is gone.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// Nodes with this label get no traffic from load balancers.
pub const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The cluster autoscaler is about to remove the node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What is to be done for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Todo {
    Nothing,
    Ensure,
    Cleanup,
}

fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

/// Is it of type LoadBalancer?
pub fn wants(service: &Service) -> bool {
    spec(service).and_then(|s| s.type_.as_deref()) == Some("LoadBalancer")
}

/// Does it wait for us when it is deleted?
pub fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// Is its load balancer the business of a provider that looks after this class? Those without a class are everybody's.
pub fn ours(service: &Service, class: Option<&str>) -> bool {
    let asked = spec(service).and_then(|s| s.load_balancer_class.as_deref());
    asked.is_none() || asked == class
}

/// Is only a node with endpoints of its own any good?
pub fn local(service: &Service) -> bool {
    spec(service).and_then(|s| s.external_traffic_policy.as_deref()) == Some("Local")
}

/// What is to be done.
pub fn todo(service: &Service, class: Option<&str>) -> Todo {
    let going = service.metadata.deletion_timestamp.is_some();
    match (ours(service, class), wants(service) && !going, has_finalizer(service)) {
        (false, ..) => Todo::Nothing,
        (true, true, _) => Todo::Ensure,
        (true, false, true) => Todo::Cleanup,
        (true, false, false) => Todo::Nothing,
    }
}

/// Is the node one that a load balancer sends to? Whether it is Ready does not count for policy Local: there the health
/// check of the Service itself tells.
pub fn fit(node: &Node, local: bool) -> bool {
    let going = tainted(node, TO_BE_DELETED) || node.metadata.deletion_timestamp.is_some();
    !going && label(node, EXCLUDED).is_none() && (local || ready(node) == "True")
}

/// What a load balancer knows a node by.
pub fn face(node: &Node) -> (String, String) {
    let id = node.spec.as_ref().and_then(|s| s.provider_id.clone()).unwrap_or_default();
    (node.metadata.name.clone().unwrap_or_default(), id)
}

/// Does a change of a node concern load balancers?
pub fn concerns(old: Option<&Node>, new: Option<&Node>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    face(old) != face(new) || [true, false].iter().any(|&local| fit(old, local) != fit(new, local))
}

/// Does a changed Service need its load balancer to be looked at? With what there is to tell: reason and message.
pub fn changed(old: &Service, new: &Service) -> Option<Option<(&'static str, String)>> {
    let (Some(a), Some(b)) = (spec(old), spec(new)) else { return Some(None) };
    let told = |reason, was: &dyn std::fmt::Display, is: &dyn std::fmt::Display| {
        Some(Some((reason, format!("{was} -> {is}"))))
    };
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let list =
        |l: &Option<Vec<String>>| format!("[{}]", l.iter().flatten().cloned().collect::<Vec<_>>().join(" "));
    let many = |l: &Option<Vec<String>>| l.as_ref().map_or(0, Vec::len);
    match () {
        () if !wants(old) && !wants(new) => None,
        () if wants(old) != wants(new) => told("Type", &text(&a.type_), &text(&b.type_)),
        () if a.load_balancer_source_ranges != b.load_balancer_source_ranges => told(
            "LoadBalancerSourceRanges",
            &list(&a.load_balancer_source_ranges),
            &list(&b.load_balancer_source_ranges),
        ),
        () if ports(a) != ports(b) || a.session_affinity != b.session_affinity => Some(None),
        () if a.session_affinity_config != b.session_affinity_config => Some(None),
        () if a.load_balancer_ip != b.load_balancer_ip => {
            told("LoadbalancerIP", &text(&a.load_balancer_ip), &text(&b.load_balancer_ip))
        }
        () if many(&a.external_ips) != many(&b.external_ips) => {
            let message = format!("Count: {} -> {}", many(&a.external_ips), many(&b.external_ips));
            Some(Some(("ExternalIP", message)))
        }
        () if a.external_ips != b.external_ips => {
            let new = b.external_ips.iter().flatten();
            let added =
                new.zip(a.external_ips.iter().flatten()).find(|(n, o)| n != o).map(|(n, _)| n.clone());
            Some(Some(("ExternalIP", format!("Added: {}", added.unwrap_or_default()))))
        }
        () if old.metadata.annotations != new.metadata.annotations => Some(None),
        () if old.metadata.uid != new.metadata.uid => {
            told("UID", &text(&old.metadata.uid), &text(&new.metadata.uid))
        }
        () if a.external_traffic_policy != b.external_traffic_policy => told(
            "ExternalTrafficPolicy",
            &text(&a.external_traffic_policy),
            &text(&b.external_traffic_policy),
        ),
        () if a.health_check_node_port != b.health_check_node_port => told(
            "HealthCheckNodePort",
            &a.health_check_node_port.unwrap_or(0),
            &b.health_check_node_port.unwrap_or(0),
        ),
        () if many(&a.cluster_ips) != many(&b.cluster_ips)
            || many(&a.ip_families) != many(&b.ip_families) =>
        {
            Some(None)
        }
        () => None,
    }
}

/// What a load balancer needs to know of ports.
fn ports(spec: &ServiceSpec) -> Vec<(&str, &str, i32, i32)> {
    let of = |p: &'_ ServicePort| (p.port, p.node_port.unwrap_or(0));
    let all = spec.ports.iter().flatten();
    all.map(|p| {
        let (port, node_port) = of(p);
        (p.name.as_deref().unwrap_or(""), p.protocol.as_deref().unwrap_or("TCP"), port, node_port)
    })
    .collect()
}

/// The Service's status of its load balancer.
pub fn status(service: &Service) -> LoadBalancerStatus {
    service.status.as_ref().and_then(|s| s.load_balancer.clone()).unwrap_or_default()
}

/// Do two states say the same? An empty list is none.
pub fn same(a: &LoadBalancerStatus, b: &LoadBalancerStatus) -> bool {
    a.ingress.as_deref().unwrap_or_default() == b.ingress.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn held(mut service: Service, going: bool) -> Service {
        service.metadata.finalizers = Some(vec!["other".into(), FINALIZER.into()]);
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        service.metadata.deletion_timestamp =
            going.then(|| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        service
    }

    #[test]
    fn what_services_need() {
        let (balanced, plain) = (json!({"type": "LoadBalancer"}), json!({"type": "ClusterIP"}));
        let classed = |class: &str| service(json!({"type": "LoadBalancer", "loadBalancerClass": class}));
        for (service, want) in [
            (service(balanced.clone()), Todo::Ensure),
            (held(service(balanced.clone()), false), Todo::Ensure),
            (held(service(balanced), true), Todo::Cleanup),
            (service(plain.clone()), Todo::Nothing),
            (held(service(plain), false), Todo::Cleanup),
            (classed("a/mine"), Todo::Ensure),
            (classed("a/other"), Todo::Nothing),
            (held(classed("a/other"), true), Todo::Nothing),
            (held(classed("a/mine"), true), Todo::Cleanup),
        ] {
            assert_eq!(todo(&service, Some("a/mine")), want, "{service:?}");
        }
        assert_eq!(todo(&classed("a/mine"), None), Todo::Nothing);
    }

    #[test]
    fn changes_that_matter_and_what_is_told() {
        let base = json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30000}], "externalIPs": ["1.1.1.1"]});
        let with = |key: &str, value: Value| {
            let mut spec = base.clone();
            spec[key] = value;
            service(spec)
        };
        let old = service(base.clone());
        for (new, want) in [
            (old.clone(), "nothing"),
            (with("type", json!("NodePort")), "Type LoadBalancer -> NodePort"),
            (
                with("loadBalancerSourceRanges", json!(["10.0.0.0/8"])),
                "LoadBalancerSourceRanges [] -> [10.0.0.0/8]",
            ),
            (with("ports", json!([{"port": 81, "nodePort": 30000}])), "look"),
            (with("ports", json!([{"port": 80, "nodePort": 30000, "targetPort": 9}])), "nothing"),
            (with("loadBalancerIP", json!("1.2.3.4")), "LoadbalancerIP  -> 1.2.3.4"),
            (with("externalIPs", json!(["1.1.1.1", "2.2.2.2"])), "ExternalIP Count: 1 -> 2"),
            (with("externalIPs", json!(["2.2.2.2"])), "ExternalIP Added: 2.2.2.2"),
            (with("externalTrafficPolicy", json!("Local")), "ExternalTrafficPolicy  -> Local"),
            (with("healthCheckNodePort", json!(3)), "HealthCheckNodePort 0 -> 3"),
            (with("selector", json!({"a": "b"})), "nothing"),
        ] {
            let got = match changed(&old, &new) {
                None => "nothing".to_string(),
                Some(None) => "look".into(),
                Some(Some((reason, message))) => format!("{reason} {message}"),
            };
            assert_eq!(got, want);
        }
    }

    #[test]
    fn nodes_for_load_balancers() {
        let node = |ready: &str, labels: Value, taints: Value| -> Node {
            serde_json::from_value(
                json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .unwrap()
        };
        let plain = node("True", json!({}), json!([]));
        let unready = node("Unknown", json!({}), json!([]));
        let excluded = node("True", json!({EXCLUDED: ""}), json!([]));
        let going = node("True", json!({}), json!([{"key": TO_BE_DELETED, "effect": "NoSchedule"}]));
        let fits = |n: &Node| (fit(n, false), fit(n, true));
        assert_eq!(
            [&plain, &unready, &excluded, &going].map(fits),
            [(true, true), (false, true), (false, false), (false, false)]
        );
        assert!(!concerns(Some(&plain), Some(&plain)) && concerns(Some(&plain), Some(&unready)));
        assert!(concerns(None, Some(&plain)) && !concerns(Some(&excluded), Some(&excluded)));
    }
}
