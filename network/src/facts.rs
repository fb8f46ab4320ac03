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

/// A network and the node it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Pods' network.
    pub to: IpNet,
    /// Their node.
    pub via: IpAddr,
}

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

/// Routes to the pods of every node but `own`, by the address of the same family. Two nodes that claim one network (a
/// node replaced by another, say) leave it to the first by name.
pub fn routes(nodes: &Nodes, own: &str) -> Vec<Route> {
    let mine = nodes.get(own).map(|f| f.cidrs.as_slice()).unwrap_or_default();
    let mut wanted: BTreeMap<IpNet, IpAddr> = BTreeMap::new();
    for facts in nodes.iter().filter(|n| n.0 != own).map(|n| n.1) {
        for cidr in facts.cidrs.iter().filter(|c| !mine.contains(c)) {
            let via = facts.ips.iter().find(|ip| ip.is_ipv4() == cidr.addr().is_ipv4());
            if let Some(via) = via {
                wanted.entry(*cidr).or_insert(*via);
            }
        }
    }
    wanted.into_iter().map(|(to, via)| Route { to, via }).collect()
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
    fn routes_lead_to_all_others() {
        let mut nodes: Nodes = [
            ("a", "172.30.0.1", "10.244.0.0/24"),
            ("b", "172.30.0.2", "10.244.1.0/24"),
            ("c", "172.30.0.3", "10.244.2.7/24"),
        ]
        .into_iter()
        .map(|(name, ip, cidr)| (name.to_owned(), node(ip, cidr)))
        .collect();
        nodes.insert("d".into(), NodeFacts::default());
        nodes
            .insert("e".into(), NodeFacts { ips: vec!["172.30.0.9".parse().unwrap()], ..nodes["b"].clone() });
        let text: Vec<String> =
            routes(&nodes, "a").iter().map(|r| format!("{} via {}", r.to, r.via)).collect();
        assert_eq!(text, ["10.244.1.0/24 via 172.30.0.2", "10.244.2.0/24 via 172.30.0.3"]);
        assert!(nodes["a"].available);
    }
}
