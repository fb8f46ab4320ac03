//! What connects this node's pods to those of all others: routes and, for nodes that are not on the same link, a tunnel.
//! Pure: Nodes in, wanted state out; kernel's state and wanted state in, changes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::{NodeFacts, Nodes};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// How nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By routes; all nodes are on one link.
    HostGw,
    /// By VXLAN.
    Vxlan,
    /// By routes to nodes on the same link, by VXLAN to all others.
    Auto,
}

/// The overlay's numbers, the same on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
}

impl Overlay {
    /// Name of the link.
    pub fn link(&self) -> String {
        format!("{LINK_PREFIX}{}", self.vni)
    }
}

/// What the names of our links begin with.
pub const LINK_PREFIX: &str = "coxswain.";

/// A network and what it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Pods' network.
    pub to: IpNet,
    /// Their node, or its end of the tunnel.
    pub via: IpAddr,
    /// Through the tunnel.
    pub tunnel: bool,
}

/// The Ethernet address of a tunnel's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The end's address inside.
    pub ip: IpAddr,
    pub mac: Mac,
}

/// The node behind an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    pub mac: Mac,
    /// The node's address outside.
    pub node: IpAddr,
}

/// Our end of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub overlay: Overlay,
    /// Our address outside.
    pub local: IpAddr,
    pub mac: Mac,
    /// Our addresses inside.
    pub addresses: Vec<IpAddr>,
}

impl Tunnel {
    /// Bytes of the outer headers: IP, UDP, VXLAN and the inner Ethernet header.
    pub fn overhead(&self) -> u32 {
        if self.local.is_ipv4() { 50 } else { 70 }
    }
}

/// All that should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub routes: BTreeSet<Route>,
    pub neighbours: BTreeSet<Neighbour>,
    pub forwards: BTreeSet<Forward>,
    pub tunnel: Option<Tunnel>,
}

/// All of ours that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
    pub forwards: Vec<Forward>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds, or puts in place of another of the same key.
    Route(Route),
    Neighbour(Neighbour),
    Forward(Forward),
    RemoveRoute(Route),
    RemoveNeighbour(Neighbour),
    RemoveForward(Forward),
}

/// Ethernet address of the tunnel's end on the node with this address. Everyone can work it out, so nobody has to tell.
/// It is locally administered and unicast, and must never be made in another way: nodes of all versions have to agree.
pub fn mac(node: IpAddr) -> Mac {
    match node {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0x0e, 0x43, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            // FNV-1a, of which the upper bytes are well mixed
            let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            let [a, b, c, d, e, ..] = ip.octets().iter().fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes();
            [0x0a, a, b, c, d, e]
        }
    }
}

/// The node's address that tunnels lead to: IPv4 if there is one, else the first. None of another family than `like`.
fn outside(facts: &NodeFacts, like: Option<IpAddr>) -> Option<IpAddr> {
    let v4 = like.is_none_or(|l| l.is_ipv4());
    let of_family = |v4: bool| facts.ips.iter().find(|ip| ip.is_ipv4() == v4).copied();
    of_family(v4).or_else(|| of_family(false).filter(|_| like.is_none()))
}

/// What should be there, on the node named `own` whose link leads to the networks `direct`. None while too little is known
/// of this node to tell: then what is there is to be left alone.
///
/// Two nodes that claim one network (a node replaced by another, say) leave it to the first by name.
pub fn plan(nodes: &Nodes, own: &str, mode: Mode, overlay: Overlay, direct: &[IpNet]) -> Option<Plan> {
    let mut plan = Plan::default();
    let mine = nodes.get(own);
    let local = mine.and_then(|facts| outside(facts, None));
    let inside: Vec<IpAddr> = mine.into_iter().flat_map(|m| &m.cidrs).map(|cidr| cidr.network()).collect();
    if mode != Mode::HostGw && local.is_none() {
        return None;
    }
    for (cidr, facts) in claims(nodes, own) {
        let via = facts.ips.iter().find(|ip| ip.is_ipv4() == cidr.addr().is_ipv4()).copied();
        let near = |ip: IpAddr| direct.iter().any(|net| net.contains(&ip));
        let tunnel = match mode {
            Mode::HostGw => false,
            Mode::Vxlan => true,
            Mode::Auto => !via.is_some_and(near),
        };
        match (tunnel, via, outside(facts, local)) {
            // Without a network of our own our end has no address, and nobody to carry packets for
            (true, _, Some(node)) if !inside.is_empty() => plan.add_remote(cidr, node),
            (false, Some(via), _) => drop(plan.routes.insert(Route { to: cidr, via, tunnel: false })),
            _ => {}
        }
    }
    let wanted = mode == Mode::Vxlan || !plan.forwards.is_empty();
    plan.tunnel = local.filter(|_| wanted && !inside.is_empty()).map(|local| Tunnel {
        overlay,
        local,
        mac: mac(local),
        addresses: inside,
    });
    Some(plan)
}

/// Each network of another node, with that node.
fn claims<'a>(nodes: &'a Nodes, own: &str) -> BTreeMap<IpNet, &'a NodeFacts> {
    let mine = nodes.get(own).map(|f| f.cidrs.as_slice()).unwrap_or_default();
    let mut claims = BTreeMap::new();
    for facts in nodes.iter().filter(|(name, f)| *name != own && !f.ips.is_empty()).map(|n| n.1) {
        for cidr in facts.cidrs.iter().filter(|c| !mine.contains(c)) {
            claims.entry(*cidr).or_insert(facts);
        }
    }
    claims
}

impl Plan {
    /// A network behind the tunnel. The other end's address inside is the network's own, which no pod is given.
    fn add_remote(&mut self, cidr: IpNet, node: IpAddr) {
        let (via, mac) = (cidr.network(), mac(node));
        self.routes.insert(Route { to: cidr, via, tunnel: true });
        self.neighbours.insert(Neighbour { ip: via, mac });
        self.forwards.insert(Forward { mac, node });
    }
}

/// The steps from one to the other, in the order that never leaves a route without what it leads to.
pub fn changes(present: &Present, plan: &Plan) -> Vec<Change> {
    let mut steps = Vec::new();
    steps.extend(plan.forwards.iter().filter(|f| !present.forwards.contains(f)).map(|f| Change::Forward(*f)));
    let missing = plan.neighbours.iter().filter(|n| !present.neighbours.contains(n));
    steps.extend(missing.map(|n| Change::Neighbour(*n)));
    steps.extend(plan.routes.iter().filter(|r| !present.routes.contains(r)).map(|r| Change::Route(*r)));
    let stale = present.routes.iter().filter(|r| !plan.routes.iter().any(|w| w.to == r.to));
    steps.extend(stale.map(|r| Change::RemoveRoute(*r)));
    let stale = present.neighbours.iter().filter(|n| !plan.neighbours.iter().any(|w| w.ip == n.ip));
    steps.extend(stale.map(|n| Change::RemoveNeighbour(*n)));
    let stale = present.forwards.iter().filter(|f| !plan.forwards.iter().any(|w| w.mac == f.mac));
    steps.extend(stale.map(|f| Change::RemoveForward(*f)));
    steps
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub const OVERLAY: Overlay = Overlay { vni: 1, port: 8472 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nodes() -> Nodes {
        let node = |ips: &[&str], cidrs: &[&str]| NodeFacts {
            ips: ips.iter().map(|i| ip(i)).collect(),
            cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
            available: true,
            ..NodeFacts::default()
        };
        let list = [
            ("a", node(&["172.30.0.1", "fd00::1"], &["10.244.0.0/24", "fd01:0::/64"])),
            ("b", node(&["172.30.0.2", "fd00::2"], &["10.244.1.0/24", "fd01:0:0:1::/64"])),
            ("c", node(&["172.31.0.3"], &["10.244.2.0/24"])),
            ("claims b's", node(&["172.30.0.9"], &["10.244.1.0/24"])),
            ("new", node(&["172.30.0.4"], &[])),
        ];
        list.into_iter().map(|(name, facts)| (name.to_owned(), facts)).collect()
    }

    fn text(plan: &Plan) -> String {
        let way = |r: &Route| if r.tunnel { "~" } else { "-" };
        let mut lines: Vec<String> =
            plan.routes.iter().map(|r| format!("{} {}> {}", r.to, way(r), r.via)).collect();
        lines.extend(plan.neighbours.iter().map(|n| format!("{} at {}", n.ip, show(n.mac))));
        lines.extend(plan.forwards.iter().map(|f| format!("{} on {}", show(f.mac), f.node)));
        lines.extend(plan.tunnel.iter().map(|t| format!("{} {} {:?}", t.local, show(t.mac), t.addresses)));
        lines.join("\n")
    }

    fn show(mac: Mac) -> String {
        mac.map(|b| format!("{b:02x}")).join(":")
    }

    fn planned(mode: Mode) -> Plan {
        let direct = ["172.30.0.0/24", "fd00::/64"].map(|n| n.parse().unwrap());
        plan(&nodes(), "a", mode, OVERLAY, &direct).unwrap()
    }

    #[test]
    fn on_one_link() {
        expect_test::expect![[r#"
            10.244.1.0/24 -> 172.30.0.2
            10.244.2.0/24 -> 172.31.0.3
            fd01:0:0:1::/64 -> fd00::2"#]]
        .assert_eq(&text(&planned(Mode::HostGw)));
    }

    #[test]
    fn through_the_tunnel() {
        expect_test::expect![[r#"
            10.244.1.0/24 ~> 10.244.1.0
            10.244.2.0/24 ~> 10.244.2.0
            fd01:0:0:1::/64 ~> fd01:0:0:1::
            10.244.1.0 at 0e:43:ac:1e:00:02
            10.244.2.0 at 0e:43:ac:1f:00:03
            fd01:0:0:1:: at 0e:43:ac:1e:00:02
            0e:43:ac:1e:00:02 on 172.30.0.2
            0e:43:ac:1f:00:03 on 172.31.0.3
            172.30.0.1 0e:43:ac:1e:00:01 [10.244.0.0, fd01::]"#]]
        .assert_eq(&text(&planned(Mode::Vxlan)));
    }

    #[test]
    fn each_as_it_is_near_or_far() {
        expect_test::expect![[r#"
            10.244.1.0/24 -> 172.30.0.2
            10.244.2.0/24 ~> 10.244.2.0
            fd01:0:0:1::/64 -> fd00::2
            10.244.2.0 at 0e:43:ac:1f:00:03
            0e:43:ac:1f:00:03 on 172.31.0.3
            172.30.0.1 0e:43:ac:1e:00:01 [10.244.0.0, fd01::]"#]]
        .assert_eq(&text(&planned(Mode::Auto)));
        let direct = ["172.16.0.0/12", "fd00::/64"].map(|n| n.parse().unwrap());
        let near = plan(&nodes(), "a", Mode::Auto, OVERLAY, &direct).unwrap();
        assert_eq!(near, planned(Mode::HostGw), "nobody is far: there is no tunnel");
    }

    #[test]
    fn a_node_that_does_not_know_itself_leaves_all_as_it_is() {
        let of = |name, mode| plan(&nodes(), name, mode, OVERLAY, &[]);
        assert_eq!((of("z", Mode::Vxlan), of("z", Mode::Auto)), (None, None));
        assert_eq!(of("new", Mode::Vxlan), Some(Plan::default()), "no addresses for its end");
        assert_eq!(of("z", Mode::HostGw).unwrap().routes.len(), 5);
    }

    #[test]
    fn macs_are_for_ever() {
        assert_eq!(show(mac(ip("172.30.0.1"))), "0e:43:ac:1e:00:01");
        assert_eq!(show(mac(ip("fd00::1"))), "0a:c3:c9:5b:9e:b8");
        assert_ne!(mac(ip("fd00::1")), mac(ip("fd00::2")));
        for address in ["10.0.0.1", "fd00::1"] {
            assert_eq!(mac(ip(address))[0] & 3, 2, "locally administered, unicast");
        }
    }

    #[test]
    fn only_what_differs_changes_and_in_order() {
        let (near, far) = (planned(Mode::HostGw), planned(Mode::Vxlan));
        let as_present = |plan: &Plan| Present {
            routes: plan.routes.iter().copied().collect(),
            neighbours: plan.neighbours.iter().copied().collect(),
            forwards: plan.forwards.iter().copied().collect(),
        };
        assert!(changes(&as_present(&far), &far).is_empty());
        let kinds = |steps: Vec<Change>| -> String {
            let letter = |c: &Change| match c {
                Change::Route(_) => 'R',
                Change::Neighbour(_) => 'N',
                Change::Forward(_) => 'F',
                Change::RemoveRoute(_) => 'r',
                Change::RemoveNeighbour(_) => 'n',
                Change::RemoveForward(_) => 'f',
            };
            steps.iter().map(letter).collect()
        };
        assert_eq!(kinds(changes(&as_present(&near), &far)), "FFNNNRRR");
        assert_eq!(kinds(changes(&as_present(&far), &near)), "RRRnnnff");
        let mut without = nodes();
        without.remove("c");
        let without = plan(&without, "a", Mode::Vxlan, OVERLAY, &[]).unwrap();
        assert_eq!(kinds(changes(&as_present(&far), &without)), "rnf");
        let mut moved = nodes();
        moved.get_mut("c").unwrap().ips = vec![ip("172.31.0.8")];
        let moved = plan(&moved, "a", Mode::Vxlan, OVERLAY, &[]).unwrap();
        assert_eq!(kinds(changes(&as_present(&far), &moved)), "FNf");
    }
}
