//! The chains of the table. They are few and fixed: what differs between services is data in maps, so a change of
//! services never touches a chain. The only chains made on demand choose an endpoint out of a pool of N, one per N.
//!
//! A rule is a list of [`Stmt`]. The same list becomes netlink expressions ([`crate::wire`]), text for people and golden
//! tests ([`fmt::Display`]), and steps of the packet tracer ([`crate::trace`]).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Class, Family, Set};

/// Which frontend a packet is looked up by, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Destination address, all endpoints.
    Address,
    /// Node port, all endpoints.
    NodePort,
    /// Destination address, endpoints of this node.
    LocalAddress,
    /// Node port, endpoints of this node.
    LocalNodePort,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Address, Kind::NodePort, Kind::LocalAddress, Kind::LocalNodePort];

    /// Whether the key has the unspecified address instead of the packet's.
    pub fn node_port(self) -> bool {
        matches!(self, Kind::NodePort | Kind::LocalNodePort)
    }

    /// The map from frontend to pool.
    pub fn map(self) -> Set {
        match self {
            Kind::Address | Kind::NodePort => Set::Services,
            Kind::LocalAddress | Kind::LocalNodePort => Set::LocalServices,
        }
    }

    /// Name of the verdict map from class to chain.
    pub fn dispatch(self) -> &'static str {
        match self {
            Kind::Address => "pick",
            Kind::NodePort => "pick-nodeport",
            Kind::LocalAddress => "pick-local",
            Kind::LocalNodePort => "pick-local-nodeport",
        }
    }

    /// Name of the chain that chooses in a class.
    pub fn chain(self, class: Class) -> String {
        match class.sticky {
            0 => format!("{}-{}", self.dispatch(), class.size),
            t => format!("{}-{}-sticky-{t}", self.dispatch(), class.size),
        }
    }
}

/// Name of the map from client and pool to the chosen endpoint.
pub const AFFINITY: &str = "affinity";
/// Name of the table in either family.
pub const TABLE: &str = "kube-proxy";

/// One step of a rule: a match, which ends the rule when it fails, or an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stmt {
    /// First packet of a connection.
    CtNew,
    /// The connection's destination was translated.
    CtDnat,
    /// The masquerade mark is set.
    Marked,
    /// Protocol is TCP.
    Tcp,
    /// Destination within (or, negated, outside) a network.
    Daddr(IpNet, bool),
    /// Source within (or, negated, outside) a network.
    Saddr(IpNet, bool),
    /// Destination is an address of this machine.
    DaddrLocal,
    /// Source is an address of this machine.
    SaddrLocal,
    /// Input interface has (or, negated, has not) this name, or a name with this prefix.
    Iif {
        /// Name or prefix.
        name: String,
        /// Whether it is a prefix.
        prefix: bool,
        /// Whether the match is negated.
        not: bool,
    },
    /// Destination address in a set.
    DaddrIn(Set),
    /// Frontend in a set.
    FrontIn(Kind, Set),
    /// Source and destination in the hairpin set.
    Hairpin,
    /// Source not in the list of the frontend's firewall.
    Unlisted,
    /// Set the masquerade mark.
    Mark,
    /// Clear the masquerade mark.
    Unmark,
    /// Masquerade.
    Masquerade,
    /// Drop.
    Drop,
    /// Refuse by TCP reset.
    Reset,
    /// Refuse by ICMP port unreachable.
    Unreachable,
    /// Call a chain.
    Jump(&'static str),
    /// Go on in a chain and do not come back.
    Goto(&'static str),
    /// Look the frontend up and go to the chain of its class.
    Dispatch(Kind),
    /// Go to a random endpoint of the pool.
    Random(Kind, Class),
    /// Go where this client went before, if that endpoint is still there.
    Stick(Kind, Class),
    /// Forget where this client went before.
    Forget(Kind),
    /// Go to a random endpoint and remember it.
    Remember(Kind, Class),
}

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Hook number: prerouting 0, input 1, forward 2, output 3, postrouting 4.
    pub number: u32,
    /// Priority.
    pub priority: i32,
}

impl Hook {
    /// Name of the hook.
    pub fn name(self) -> &'static str {
        ["prerouting", "input", "forward", "output", "postrouting"]
            .get(self.number as usize)
            .copied()
            .unwrap_or("?")
    }
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Hook of a base chain.
    pub hook: Option<Hook>,
    /// Rules in order.
    pub rules: Vec<Vec<Stmt>>,
}

/// How traffic of this node's pods is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum LocalTraffic {
    /// Not at all: nothing is masqueraded for its origin.
    #[default]
    Unknown,
    /// Source address in a network.
    Network(IpNet),
    /// Input interface of this name.
    Bridge(String),
    /// Input interface with this prefix.
    Prefix(String),
}

impl LocalTraffic {
    /// The match, or its negation; nothing when not known.
    pub fn stmt(&self, not: bool) -> Option<Stmt> {
        match self {
            Self::Unknown => None,
            Self::Network(net) => Some(Stmt::Saddr(*net, not)),
            Self::Bridge(name) => Some(Stmt::Iif { name: name.clone(), prefix: false, not }),
            Self::Prefix(name) => Some(Stmt::Iif { name: name.clone(), prefix: true, not }),
        }
    }
}

/// What the fixed chains depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Family of the table.
    pub family: Family,
    /// This node's addresses of the family.
    pub node_ips: Vec<IpAddr>,
    /// Networks whose local addresses serve node ports; empty is the node's own addresses.
    pub node_port_nets: Vec<IpNet>,
    /// How pods of this node are recognised.
    pub local: LocalTraffic,
    /// Bit for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade everything to cluster IPs.
    pub masquerade_all: bool,
}

impl Settings {
    /// The mark.
    pub fn mark(&self) -> u32 {
        1u32.checked_shl(self.masquerade_bit.into()).unwrap_or(0x4000)
    }

    /// One match list per way a packet may come to a node port.
    fn node_port_matches(&self) -> Vec<Vec<Stmt>> {
        let loopback = IpNet::from(match self.family {
            Family::V4 => IpAddr::from([127, 0, 0, 1]),
            Family::V6 => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        });
        let loopback = if loopback.prefix_len() == 32 { widen(loopback, 8) } else { loopback };
        if self.node_port_nets.is_empty() {
            return self.node_ips.iter().map(|ip| vec![Stmt::Daddr(IpNet::from(*ip), false)]).collect();
        }
        let of_family = self.node_port_nets.iter().filter(|n| Family::of(n.addr()) == self.family);
        of_family
            .map(|n| {
                let within = Some(Stmt::Daddr(n.trunc(), false)).filter(|_| n.prefix_len() > 0);
                let fixed = [Stmt::Daddr(loopback, true), Stmt::DaddrLocal];
                within.into_iter().chain(fixed).collect()
            })
            .collect()
    }
}

fn widen(net: IpNet, prefix: u8) -> IpNet {
    IpNet::new(net.addr(), prefix).map_or(net, |n| n.trunc())
}

/// The fixed chains, callees before callers.
pub fn fixed(s: &Settings) -> Vec<Chain> {
    let mut chains = refusing(s);
    chains.extend(translating(s));
    chains.extend(hooks());
    chains
}

fn chain(name: &str, rules: Vec<Vec<Stmt>>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules }
}

/// Chains that refuse, drop or filter.
fn refusing(s: &Settings) -> Vec<Chain> {
    use Stmt::*;
    let refuse = |kind| {
        vec![
            vec![FrontIn(kind, Set::Reject), Goto("reject-chain")],
            vec![FrontIn(kind, Set::Drop), Stmt::Drop],
        ]
    };
    let to_node_ports = s.node_port_matches().into_iter().map(|mut m| {
        m.push(Goto("nodeport-check"));
        m
    });
    vec![
        chain("reject-chain", vec![vec![Tcp, Reset], vec![Unreachable]]),
        chain("nodeport-check", refuse(Kind::NodePort)),
        chain("nodeport-endpoints-check", to_node_ports.collect()),
        chain("service-endpoints-check", refuse(Kind::Address)),
        chain(
            "cluster-ips-check",
            vec![
                vec![DaddrIn(Set::ClusterIps), Goto("reject-chain")],
                vec![DaddrIn(Set::ServiceCidrs), Stmt::Drop],
            ],
        ),
        chain("firewall-check", vec![vec![Unlisted, Stmt::Drop]]),
    ]
}

/// Chains that find the service and masquerade.
fn translating(s: &Settings) -> Vec<Chain> {
    use Stmt::*;
    let to_node_ports = s.node_port_matches().into_iter().map(|mut m| {
        m.push(Goto("nodeports"));
        m
    });
    let masquerade_internal: Option<Vec<Stmt>> = if s.masquerade_all {
        Some(vec![DaddrIn(Set::ClusterIps), Mark])
    } else {
        s.local.stmt(true).map(|outside| vec![outside, DaddrIn(Set::ClusterIps), Mark])
    };
    let mut services: Vec<Vec<Stmt>> = masquerade_internal.into_iter().collect();
    services.extend(external(Kind::Address, "local-policy"));
    services.extend(to_node_ports);
    vec![
        chain("to-address", vec![vec![Dispatch(Kind::Address)]]),
        chain("to-nodeport", vec![vec![Dispatch(Kind::NodePort)]]),
        local_policy(s, "local-policy", "to-address", Kind::LocalAddress),
        local_policy(s, "local-policy-nodeport", "to-nodeport", Kind::LocalNodePort),
        chain("nodeports", external(Kind::NodePort, "local-policy-nodeport")),
        chain("services", services),
        chain("masquerading", vec![vec![Marked, Unmark, Masquerade], vec![CtDnat, Hairpin, Masquerade]]),
    ]
}

/// External frontends are masqueraded (policy Cluster) or take their own way (policy Local); then all are looked up.
fn external(kind: Kind, local_policy: &'static str) -> Vec<Vec<Stmt>> {
    vec![
        vec![Stmt::FrontIn(kind, Set::LocalPolicy), Stmt::Goto(local_policy)],
        vec![Stmt::FrontIn(kind, Set::Masquerade), Stmt::Mark],
        vec![Stmt::Dispatch(kind)],
    ]
}

/// External policy Local: this node's pods and the node itself use every endpoint, others only those of this node.
fn local_policy(s: &Settings, name: &str, everywhere: &'static str, here: Kind) -> Chain {
    let mut rules = Vec::new();
    rules.extend(s.local.stmt(false).map(|inside| vec![inside, Stmt::Goto(everywhere)]));
    rules.push(vec![Stmt::SaddrLocal, Stmt::Mark, Stmt::Goto(everywhere)]);
    rules.push(vec![Stmt::Dispatch(here)]);
    chain(name, rules)
}

fn hooks() -> Vec<Chain> {
    use Stmt::{CtNew, Jump};
    let base = |name: &str, kind, number, priority, calls: &[&'static str]| {
        let rule =
            |call: &&'static str| if kind == "filter" { vec![CtNew, Jump(call)] } else { vec![Jump(call)] };
        Chain {
            name: name.to_owned(),
            hook: Some(Hook { kind, number, priority }),
            rules: calls.iter().map(rule).collect(),
        }
    };
    let ends: &[&'static str] = &["service-endpoints-check", "cluster-ips-check"];
    vec![
        base("filter-prerouting-pre-dnat", "filter", 0, -110, &["firewall-check"]),
        base("filter-output-pre-dnat", "filter", 3, -110, &["firewall-check"]),
        base("filter-input", "filter", 1, 0, &["nodeport-endpoints-check", "service-endpoints-check"]),
        base("filter-forward", "filter", 2, 0, ends),
        base("filter-output", "filter", 3, 0, ends),
        base("nat-prerouting", "nat", 0, -100, &["services"]),
        base("nat-output", "nat", 3, -100, &["services"]),
        base("nat-postrouting", "nat", 4, 100, &["masquerading"]),
    ]
}

/// The chain that chooses among the endpoints of a class.
pub fn picker(kind: Kind, class: Class) -> Chain {
    let name = kind.chain(class);
    let plain = vec![Stmt::Random(kind, class)];
    if class.sticky == 0 {
        return Chain { name, hook: None, rules: vec![plain] };
    }
    let stick = vec![Stmt::Stick(kind, class)];
    let again = [vec![Stmt::Forget(kind)], vec![Stmt::Remember(kind, class)]];
    // The last rule serves a client that could not be remembered because the map is full
    Chain { name, hook: None, rules: [stick].into_iter().chain(again).chain([plain]).collect() }
}

impl fmt::Display for Stmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |n: &bool| if *n { "!= " } else { "" };
        let front = |k: &Kind| if k.node_port() { "any . proto . dport" } else { "daddr . proto . dport" };
        match self {
            Stmt::CtNew => f.write_str("ct state new"),
            Stmt::CtDnat => f.write_str("ct status dnat"),
            Stmt::Marked => f.write_str("marked"),
            Stmt::Tcp => f.write_str("tcp"),
            Stmt::Daddr(net, n) => write!(f, "daddr {}{net}", not(n)),
            Stmt::Saddr(net, n) => write!(f, "saddr {}{net}", not(n)),
            Stmt::DaddrLocal => f.write_str("daddr local"),
            Stmt::SaddrLocal => f.write_str("saddr local"),
            Stmt::Iif { name, prefix, not: n } => {
                write!(f, "iif {}{name}{}", not(n), if *prefix { "*" } else { "" })
            }
            Stmt::DaddrIn(set) => write!(f, "daddr @{}", set.name()),
            Stmt::FrontIn(kind, set) => write!(f, "{} @{}", front(kind), set.name()),
            Stmt::Hairpin => write!(f, "saddr . daddr @{}", Set::Hairpin.name()),
            Stmt::Unlisted => {
                write!(
                    f,
                    "daddr . proto . dport map @{} . saddr != @{}",
                    Set::Firewall.name(),
                    Set::Sources.name()
                )
            }
            Stmt::Mark => f.write_str("mark"),
            Stmt::Unmark => f.write_str("unmark"),
            Stmt::Masquerade => f.write_str("masquerade fully-random"),
            Stmt::Drop => f.write_str("drop"),
            Stmt::Reset => f.write_str("reject with tcp reset"),
            Stmt::Unreachable => f.write_str("reject with icmp port-unreachable"),
            Stmt::Jump(c) => write!(f, "jump {c}"),
            Stmt::Goto(c) => write!(f, "goto {c}"),
            Stmt::Dispatch(k) => write!(f, "{} map @{} vmap @{}", front(k), k.map().name(), k.dispatch()),
            Stmt::Random(k, c) => {
                let map = if c.sticky > 0 { Set::StickyEndpoints } else { Set::Endpoints };
                write!(
                    f,
                    "dnat to {} map @{} . random {} map @{}",
                    front(k),
                    k.map().name(),
                    c.size,
                    map.name()
                )
            }
            Stmt::Stick(k, c) => write!(
                f,
                "dnat to {} map @{} . saddr map @affinity, if @affinity-members, for {}s",
                front(k),
                k.map().name(),
                c.sticky
            ),
            Stmt::Forget(k) => {
                write!(f, "delete @affinity {{ {} map @{} . saddr }}", front(k), k.map().name())
            }
            Stmt::Remember(k, c) => write!(
                f,
                "dnat to {} map @{} . random {} map @affinity-endpoints, add @affinity for {}s",
                front(k),
                k.map().name(),
                c.size,
                c.sticky
            ),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {}", self.name)?;
        if let Some(h) = self.hook {
            write!(f, " ({} {} {})", h.kind, h.name(), h.priority)?;
        }
        writeln!(f)?;
        for rule in &self.rules {
            let words: Vec<String> = rule.iter().map(Stmt::to_string).collect();
            writeln!(f, "  {}", words.join(", "))?;
        }
        Ok(())
    }
}
