//! The words the proxy thinks in: where traffic arrives (a [`Frontend`]), where it goes (a [`Backend`]), and the
//! elements of the kernel's sets and maps that join the two. Nothing here knows Kubernetes or netlink.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Largest number of endpoints one pool can hold; the size shares a 32-bit word with the affinity time.
pub const MAX_POOL: usize = 32767;

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, nftables family `ip`.
    V4,
    /// IPv6, nftables family `ip6`.
    V6,
}

impl Family {
    /// Family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The address that stands for "any of this node's own" in a [`Frontend`] of a node port.
    pub fn any(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Name in nftables' language.
    pub fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// Name as metrics label and health report.
    pub fn label(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Transport protocol, by its IP number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Proto {
    /// TCP
    Tcp = 6,
    /// UDP
    Udp = 17,
    /// SCTP
    Sctp = 132,
}

impl Proto {
    /// Reads the API's name; the empty name is TCP, as the API defaults it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TCP" | "" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Where a client knocks: a service address, protocol and port. A node port has the unspecified address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Virtual address, or unspecified for a node port.
    pub addr: IpAddr,
    /// Protocol.
    pub proto: Proto,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {} . {}", self.addr, self.proto, self.port)
    }
}

/// One endpoint: address and port that really serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// Endpoint address.
    pub addr: IpAddr,
    /// Endpoint port.
    pub port: u16,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.addr, self.port)
    }
}

/// How to choose within a pool: the number of endpoints and the seconds a client stays with one (0 is no affinity).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// Endpoints in the pool, 1 to [`MAX_POOL`].
    pub size: u32,
    /// Seconds of client affinity; 0 is none. At most 86400 by the API.
    pub sticky: u32,
}

impl Class {
    /// The word that stands for it in the kernel's maps.
    pub fn word(self) -> u32 {
        (self.size & 0x7fff) | (self.sticky.min(0x1ffff) << 15)
    }
}

/// What a frontend leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The pool.
    pub pool: u64,
    /// How to choose in it.
    pub class: Class,
}

/// A set or map of the table that holds data of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// Active cluster IPs.
    ClusterIps,
    /// Service-CIDRs: addresses in them that belong to no service are dropped.
    ServiceCidrs,
    /// Frontend → pool with every endpoint that may be used.
    Services,
    /// Frontend of external policy Local → pool of this node's endpoints.
    LocalServices,
    /// External frontends whose clients are masqueraded.
    Masquerade,
    /// External frontends of policy Local.
    LocalPolicy,
    /// Frontends without any endpoint.
    Reject,
    /// Frontends of policy Local without an endpoint here.
    Drop,
    /// Load balancer frontend → number of its list of allowed sources.
    Firewall,
    /// List number and allowed source range.
    Sources,
    /// Pool and index → backend.
    Endpoints,
    /// The same for pools with affinity.
    StickyEndpoints,
    /// Backend and pool, for pools with affinity.
    Members,
    /// Addresses of endpoints on this node, which may call themselves through a service.
    Hairpin,
}

impl Set {
    /// All of them, in the order they are created.
    pub const ALL: [Set; 14] = [
        Set::ClusterIps,
        Set::ServiceCidrs,
        Set::Services,
        Set::LocalServices,
        Set::Masquerade,
        Set::LocalPolicy,
        Set::Reject,
        Set::Drop,
        Set::Firewall,
        Set::Sources,
        Set::Endpoints,
        Set::StickyEndpoints,
        Set::Members,
        Set::Hairpin,
    ];

    /// Name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Set::ClusterIps => "cluster-ips",
            Set::ServiceCidrs => "service-cidrs",
            Set::Services => "service-ips",
            Set::LocalServices => "local-service-ips",
            Set::Masquerade => "masquerade-ips",
            Set::LocalPolicy => "local-policy-ips",
            Set::Reject => "no-endpoint-services",
            Set::Drop => "no-local-endpoint-services",
            Set::Firewall => "firewall-ips",
            Set::Sources => "firewall-sources",
            Set::Endpoints => "endpoints",
            Set::StickyEndpoints => "affinity-endpoints",
            Set::Members => "affinity-members",
            Set::Hairpin => "hairpin-connections",
        }
    }

    /// Whether two services may name the same element, so that it must be counted.
    pub fn shared(self) -> bool {
        !matches!(self, Set::Endpoints | Set::StickyEndpoints | Set::Members | Set::Sources)
    }
}

/// Key of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// An address.
    Addr(IpAddr),
    /// An address with itself, as source and destination.
    Pair(IpAddr),
    /// A frontend.
    Front(Frontend),
    /// A pool's slot.
    Slot(u64, u32),
    /// A pool's member.
    Member(u64, Backend),
    /// A numbered list's range of addresses, both ends included.
    Range(u64, IpAddr, IpAddr),
    /// A range of addresses, both ends included.
    Span(IpAddr, IpAddr),
}

/// Data of an element; sets have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// An element of a set.
    None,
    /// Frontend's target.
    Target(Target),
    /// Slot's backend.
    Backend(Backend),
    /// Number of a list.
    List(u64),
}

/// One element of one set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Element {
    /// Where it is.
    pub set: Set,
    /// Its key.
    pub key: Key,
    /// Its data.
    pub value: Value,
}

impl Element {
    /// An element without data.
    pub fn plain(set: Set, key: Key) -> Self {
        Self { set, key, value: Value::None }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Addr(a) => write!(f, "{a}"),
            Key::Pair(a) => write!(f, "{a} . {a}"),
            Key::Front(x) => write!(f, "{x}"),
            Key::Slot(pool, n) => write!(f, "{pool:#018x} . {n}"),
            Key::Member(pool, b) => write!(f, "{pool:#018x} . {b}"),
            Key::Range(list, a, b) => write!(f, "{list:#018x} . {a}-{b}"),
            Key::Span(a, b) => write!(f, "{a}-{b}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => Ok(()),
            Value::Target(t) if t.class.sticky == 0 => write!(f, " : {:#018x} . {}", t.pool, t.class.size),
            Value::Target(t) => {
                write!(f, " : {:#018x} . {} sticky {}s", t.pool, t.class.size, t.class.sticky)
            }
            Value::Backend(b) => write!(f, " : {b}"),
            Value::List(n) => write!(f, " : {n:#018x}"),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {{ {}{} }}", self.set.name(), self.key, self.value)
    }
}

/// `namespace/name` of a service.
pub type ServiceName = Arc<str>;

/// A pool: the endpoints in their slots, none empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Number, stable over restarts.
    pub id: u64,
    /// Seconds of client affinity, 0 none.
    pub sticky: u32,
    /// Endpoints by slot.
    pub slots: Vec<Backend>,
}

impl Pool {
    /// The target that leads here; nothing when there is no endpoint.
    pub fn target(&self) -> Option<Target> {
        let size = u32::try_from(self.slots.len()).ok().filter(|n| *n > 0)?;
        Some(Target { pool: self.id, class: Class { size, sticky: self.sticky } })
    }
}

/// All that one service puts into the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Small elements: addresses, frontends, hairpins, source ranges.
    pub elements: Vec<Element>,
    /// Endpoints.
    pub pools: Vec<Pool>,
    /// What conntrack must forget when UDP endpoints change: frontends and the backends that are right for them.
    pub udp: Vec<(Frontend, u64)>,
}

impl Rules {
    /// Every element, those of the pools too.
    pub fn all(&self) -> impl Iterator<Item = Element> + '_ {
        self.elements.iter().copied().chain(self.pools.iter().flat_map(pool_elements))
    }

    /// Classes of the pools in use.
    pub fn classes(&self) -> impl Iterator<Item = Class> + '_ {
        self.pools.iter().filter_map(Pool::target).map(|t| t.class)
    }

    /// The pool of a number.
    pub fn pool(&self, id: u64) -> Option<&Pool> {
        self.pools.iter().find(|p| p.id == id)
    }
}

fn pool_elements(pool: &Pool) -> impl Iterator<Item = Element> + '_ {
    let set = if pool.sticky > 0 { Set::StickyEndpoints } else { Set::Endpoints };
    let slots = pool.slots.iter().enumerate().map(move |(n, b)| Element {
        set,
        key: Key::Slot(pool.id, n as u32),
        value: Value::Backend(*b),
    });
    let members = pool
        .slots
        .iter()
        .filter(|_| pool.sticky > 0)
        .map(|b| Element::plain(Set::Members, Key::Member(pool.id, *b)));
    slots.chain(members)
}

/// Puts the wanted endpoints into slots so that as few slots as possible differ from the old ones: those that stay keep
/// their place, new ones fill gaps, and what is left over of the end moves into gaps.
pub fn assign_slots(old: &[Backend], wanted: &[Backend]) -> Vec<Backend> {
    let want: ahash::HashSet<Backend> = wanted.iter().copied().collect();
    let mut slots: Vec<Option<Backend>> = old.iter().map(|b| want.contains(b).then_some(*b)).collect();
    let kept: ahash::HashSet<Backend> = slots.iter().flatten().copied().collect();
    let mut fresh = wanted.iter().copied().filter(|b| !kept.contains(b));
    for slot in slots.iter_mut().filter(|s| s.is_none()) {
        *slot = fresh.next();
    }
    slots.extend(fresh.map(Some));
    close_gaps(slots)
}

fn close_gaps(mut slots: Vec<Option<Backend>>) -> Vec<Backend> {
    let mut n = 0;
    while n < slots.len() {
        if slots[n].is_none() {
            slots.swap_remove(n);
        } else {
            n += 1;
        }
    }
    slots.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn b(n: u8) -> Backend {
        Backend { addr: IpAddr::V4(Ipv4Addr::new(10, 244, 0, n)), port: 80 }
    }

    #[test]
    fn removing_one_endpoint_moves_only_the_last() {
        let old: Vec<_> = (0..5).map(b).collect();
        let want: Vec<_> = [0, 2, 3, 4].into_iter().map(b).collect();
        assert_eq!(assign_slots(&old, &want), [0, 4, 2, 3].map(b));
    }

    #[test]
    fn replacing_one_endpoint_touches_one_slot() {
        let old: Vec<_> = (0..5).map(b).collect();
        let want: Vec<_> = [0, 1, 9, 3, 4].into_iter().map(b).collect();
        assert_eq!(assign_slots(&old, &want), [0, 1, 9, 3, 4].map(b));
    }

    proptest! {
        #[test]
        fn slots_hold_exactly_what_is_wanted(old in prop::collection::hash_set(0u8..40, 0..20), want in prop::collection::hash_set(0u8..40, 0..20)) {
            let old: Vec<_> = old.into_iter().map(b).collect();
            let want: Vec<_> = want.into_iter().map(b).collect();
            let mut got = assign_slots(&old, &want);
            let moved = got.iter().zip(&old).filter(|(a, b)| a != b).count();
            let gone = old.iter().filter(|b| !want.contains(b)).count();
            prop_assert!(moved <= gone);
            got.sort();
            let mut want = want;
            want.sort();
            prop_assert_eq!(got, want);
        }
    }
}
