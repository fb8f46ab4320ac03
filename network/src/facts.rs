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
}

/// All nodes by name.
pub type Nodes = BTreeMap<String, NodeFacts>;

/// Reads a Node.
pub fn read(node: &Node) -> NodeFacts {
    let status = node.status.as_ref();
    let addresses = status.and_then(|s| s.addresses.as_ref()).into_iter().flatten();
    let ips = addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok());
    let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let available = conditions.into_iter().any(|c| c.type_ == "NetworkUnavailable" && c.status == "False");
    NodeFacts { ips: ips.collect(), cidrs: cidrs(node), available }
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
    fn a_node_is_read() {
        let facts = node("172.30.0.1", "10.244.2.7/24");
        assert_eq!(facts.ips, ["172.30.0.1".parse::<IpAddr>().unwrap()]);
        let cidrs: Vec<String> = facts.cidrs.iter().map(IpNet::to_string).collect();
        assert_eq!(cidrs, ["10.244.2.0/24", "fd00:1::/64"]);
        assert!(facts.available);
        assert_eq!(read(&Node::default()), NodeFacts::default());
    }
}
