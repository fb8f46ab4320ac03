//! Ranges of addresses and ports, and in which order they are tried.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `IPv4` or `IPv6`.
pub fn family(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The families of some ranges, in their order, each once.
pub fn families(ranges: &[IpNet]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for range in ranges {
        let family = family(&range.addr());
        if !found.contains(&family) {
            found.push(family);
        }
    }
    found
}

/// The addresses of a range that can be given out: not the network's own, nor (IPv4) the broadcast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    first: u128,
    /// How many there are.
    pub size: u128,
    v4: bool,
}

impl Span {
    /// The usable addresses of a range.
    pub fn of(range: &IpNet) -> Self {
        let (start, bits, v4) = match range {
            IpNet::V4(n) => (u128::from(u32::from(n.network())), 32 - n.prefix_len(), true),
            IpNet::V6(n) => (u128::from(n.network()), 128 - n.prefix_len(), false),
        };
        // Larger ranges are used as if they ended after 64 bits, which is never reached.
        let all = 1u128 << bits.min(64);
        let reserved = if v4 { 2 } else { 1 };
        Self { first: start + 1, size: all.saturating_sub(reserved), v4 }
    }

    /// The address at an offset.
    pub fn address(&self, offset: u128) -> IpAddr {
        let n = self.first + offset;
        if self.v4 { IpAddr::V4(Ipv4Addr::from(n as u32)) } else { IpAddr::V6(Ipv6Addr::from(n)) }
    }

    /// Whether an address can be given out.
    pub fn contains(&self, ip: &IpAddr) -> bool {
        let n = match ip {
            IpAddr::V4(v4) if self.v4 => u128::from(u32::from(*v4)),
            IpAddr::V6(v6) if !self.v4 => u128::from(*v6),
            _ => return false,
        };
        n >= self.first && n - self.first < self.size
    }

    /// Offsets below this are left to those who ask for a certain address, as long as there are others.
    pub fn static_band(&self) -> u128 {
        band(self.size, 16, 16, 256)
    }
}

/// The part kept for explicit requests: a `step`th of the whole, within bounds; none of a range that is too small.
pub fn band(size: u128, step: u128, least: u128, most: u128) -> u128 {
    if size <= least { 0 } else { (size / step).clamp(least, most) }
}

/// The order in which offsets are tried: from a random start through the upper part, then through the lower one.
pub fn order(size: u128, band: u128, random: u128) -> impl Iterator<Item = u128> {
    let upper = size - band.min(size);
    let first = (0..upper).map(move |i| band + (random + i) % upper.max(1));
    let second = (0..band.min(size)).map(move |i| (random + i) % band.max(1));
    first.chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn span(range: &str) -> Span {
        Span::of(&range.parse().unwrap_or_else(|_| panic!("{range}")))
    }

    #[test]
    fn edges_are_left_out() {
        let s = span("10.96.0.0/24");
        assert_eq!(
            (s.size, s.address(0).to_string(), s.address(253).to_string()),
            (254, "10.96.0.1".into(), "10.96.0.254".into())
        );
        assert!(!s.contains(&"10.96.0.0".parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))));
        assert!(!s.contains(&"10.96.0.255".parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))));
        assert_eq!(span("fd00::/120").size, 255);
    }

    #[test]
    fn bands() {
        for (range, want) in [
            ("10.0.0.0/28", 0),
            ("10.0.0.0/27", 16),
            ("10.0.0.0/24", 16),
            ("10.96.0.0/16", 256),
            ("10.0.0.0/12", 256),
        ] {
            assert_eq!(span(range).static_band(), want, "{range}");
        }
        assert_eq!(band(2768, 32, 16, 128), 86);
    }

    #[test]
    fn every_offset_once_upper_part_first() {
        for random in [0, 7, 300] {
            let all: Vec<u128> = order(254, 16, random).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 254);
            assert!(all[..238].iter().all(|o| *o >= 16));
            assert!(all[238..].iter().all(|o| *o < 16));
        }
    }
}
