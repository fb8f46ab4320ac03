//! What Nodes tell of the network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// One node's addresses and pod networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// InternalIPs, in the Node's order.
    pub ips: Vec<IpAddr>,
    /// Pod networks.
    pub cidrs: Vec<IpNet>,
    /// Whether condition NetworkUnavailable is False already.
    pub available: bool,
    /// May it answer for addresses of Services?
    pub fitness: Fitness,
}

/// Whether a node may answer for addresses of Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fitness {
    /// Not Ready, going, or excluded from load balancers.
    #[default]
    Unfit,
    /// No new pods come here: only if there is no better one.
    Cordoned,
    Fit,
}

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const GOING: &str = "ToBeDeletedByClusterAutoscaler";

/// All nodes by name.
pub type Nodes = BTreeMap<String, NodeFacts>;

/// Reads a Node.
pub fn read(node: &Node) -> NodeFacts {
    let status = node.status.as_ref();
    let addresses = status.and_then(|s| s.addresses.as_ref()).into_iter().flatten();
    let ips = addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok());
    let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let available = conditions.into_iter().any(|c| c.type_ == "NetworkUnavailable" && c.status == "False");
    NodeFacts { ips: ips.collect(), cidrs: cidrs(node), available, fitness: fitness(node) }
}

fn fitness(node: &Node) -> Fitness {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let excluded = node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EXCLUDED));
    let spec = node.spec.as_ref();
    let going = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten().any(|t| t.key == GOING);
    match (ready && !excluded && !going && node.metadata.deletion_timestamp.is_none(), spec) {
        (false, _) => Fitness::Unfit,
        (true, Some(spec)) if spec.unschedulable == Some(true) => Fitness::Cordoned,
        (true, _) => Fitness::Fit,
    }
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many = spec.pod_cidrs.as_deref().unwrap_or_default();
    let all = if many.is_empty() { spec.pod_cidr.as_slice() } else { many };
    all.iter().filter_map(|c| c.parse::<IpNet>().ok()).map(|n| n.trunc()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ip: &str, cidr: &str) -> NodeFacts {
        let value = json!({"metadata": {}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr, "fd00:1::/64"]},
            "status": {"addresses": [{"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": ip}],
                       "conditions": [{"type": "NetworkUnavailable", "status": "False"}]}});
        read(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn nodes_are_fit_or_not() {
        let fitness = |labels: serde_json::Value, spec: serde_json::Value, ready: &str| {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            let node = json!({"metadata": {"labels": labels}, "spec": spec, "status": status});
            read(&serde_json::from_value(node).unwrap()).fitness
        };
        assert_eq!(fitness(json!({}), json!({}), "True"), Fitness::Fit);
        assert_eq!(fitness(json!({}), json!({"unschedulable": true}), "True"), Fitness::Cordoned);
        assert_eq!(fitness(json!({}), json!({}), "Unknown"), Fitness::Unfit);
        assert_eq!(fitness(json!({EXCLUDED: ""}), json!({}), "True"), Fitness::Unfit);
        let going = json!({"taints": [{"key": GOING, "effect": "NoSchedule"}]});
        assert_eq!(fitness(json!({}), going, "True"), Fitness::Unfit);
    }

    #[test]
    fn a_node_is_read() {
        let facts = node("172.30.0.1", "10.244.2.7/24");
        assert_eq!(facts.ips, ["172.30.0.1".parse::<IpAddr>().unwrap()]);
        let cidrs: Vec<String> = facts.cidrs.iter().map(IpNet::to_string).collect();
        assert_eq!(cidrs, ["10.244.2.0/24", "fd00:1::/64"]);
        assert!(facts.available);
        assert_eq!(read(&Node::default()), NodeFacts::default());
    }
}
