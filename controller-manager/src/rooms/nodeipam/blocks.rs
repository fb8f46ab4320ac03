//! The blocks of a CIDR, each free or taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use anyhow::{Result, ensure};
use ipnet::IpNet;

use super::instruments::{Instruments, Tally};
use super::number;

/// A block may be smaller than its cluster's CIDR by at most so many bits, which bounds the bitmap to 8 KB.
const MAX_BITS: u8 = 16;

/// A CIDR cut into blocks of one size.
#[derive(Debug)]
pub struct Blocks {
    cidr: IpNet,
    mask: u8,
    taken: Vec<u64>,
    count: usize,
    cursor: usize,
    tally: Option<Tally>,
}

impl Blocks {
    /// `cidr` cut into blocks of `mask` bits.
    pub fn new(cidr: IpNet, mask: u8) -> Result<Self> {
        let own = cidr.prefix_len();
        ensure!(mask >= own && mask <= cidr.max_prefix_len(), "mask /{mask} does not fit into {cidr}");
        ensure!(mask - own <= MAX_BITS, "mask /{mask} is more than {MAX_BITS} bits longer than {cidr}");
        let count = 1usize << (mask - own);
        Ok(Self {
            cidr: cidr.trunc(),
            mask,
            taken: vec![0; count.div_ceil(64)],
            count,
            cursor: 0,
            tally: None,
        })
    }

    /// Counted from now on.
    pub fn counted(mut self, instruments: &Instruments) -> Self {
        self.tally = Some(instruments.of(&self.cidr, self.count));
        self
    }

    fn bits(&self) -> u32 {
        u32::from(self.cidr.max_prefix_len() - self.mask)
    }

    /// The next free block after the one given last, now taken.
    pub fn next(&mut self) -> Option<IpNet> {
        let tries = (0..self.count).find(|i| !self.is_taken((self.cursor + i) % self.count))?;
        let index = (self.cursor + tries) % self.count;
        self.mark(index..index + 1, true);
        self.cursor = (index + 1) % self.count;
        self.tally.iter().for_each(|t| t.tries.observe(tries as f64));
        self.block(index)
    }

    fn is_taken(&self, index: usize) -> bool {
        self.taken.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn block(&self, index: usize) -> Option<IpNet> {
        let start = number(self.cidr.network()) + ((index as u128) << self.bits());
        let ip: IpAddr = match self.cidr {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(start).ok()?).into(),
            IpNet::V6(_) => Ipv6Addr::from(start).into(),
        };
        IpNet::new(ip, self.mask).ok()
    }

    /// The indices of blocks that share an address with `other`.
    fn overlap(&self, other: &IpNet) -> Range<usize> {
        if other.max_prefix_len() != self.cidr.max_prefix_len() {
            return 0..0;
        }
        let base = number(self.cidr.network());
        let (first, last) = (number(other.network()), number(other.broadcast()));
        let end = number(self.cidr.broadcast());
        if last < base || first > end {
            return 0..0;
        }
        let index = |n: u128| ((n.clamp(base, end) - base) >> self.bits()) as usize;
        index(first)..index(last) + 1
    }

    /// Whether this is one of our blocks and nobody has it.
    pub fn is_free(&self, block: &IpNet) -> bool {
        let range = self.overlap(block);
        block.prefix_len() == self.mask && range.len() == 1 && !self.is_taken(range.start)
    }

    /// Takes every block that overlaps.
    pub fn occupy(&mut self, other: &IpNet) {
        self.mark(self.overlap(other), true);
    }

    /// Frees every block that overlaps.
    pub fn release(&mut self, other: &IpNet) {
        self.mark(self.overlap(other), false);
    }

    fn mark(&mut self, range: Range<usize>, taken: bool) {
        let mut changed = 0;
        for index in range {
            let Some(word) = self.taken.get_mut(index / 64) else { continue };
            let bit = 1 << (index % 64);
            changed += u64::from((*word & bit != 0) != taken);
            *word = if taken { *word | bit } else { *word & !bit };
        }
        let Some(tally) = self.tally.as_ref().filter(|_| changed > 0) else { return };
        if taken { &tally.allocations } else { &tally.releases }.inc_by(changed);
        let all: u32 = self.taken.iter().map(|word| word.count_ones()).sum();
        tally.used(all as usize, self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_given_once_and_after_release_again() {
        let mut blocks = Blocks::new(net("10.244.0.0/22"), 24).unwrap();
        blocks.occupy(&net("10.244.1.0/24"));
        blocks.occupy(&net("192.168.0.0/16"));
        let given: Vec<String> = std::iter::from_fn(|| blocks.next()).map(|b| b.to_string()).collect();
        assert_eq!(given, ["10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        blocks.release(&net("10.244.2.0/24"));
        assert_eq!(blocks.next(), Some(net("10.244.2.0/24")));
        assert_eq!(blocks.next(), None);
        blocks.release(&net("10.244.1.0/24"));
        let asked = ["10.244.0.0/24", "10.244.1.0/25", "10.9.1.0/24", "10.244.1.0/24"];
        assert_eq!(asked.map(|t| blocks.is_free(&net(t))), [false, false, false, true]);
    }

    #[test]
    fn what_is_taken_and_freed_is_counted_once() {
        let metrics = daemon::metrics::Metrics::new();
        let mut blocks = Blocks::new(net("10.244.0.0/22"), 24).unwrap().counted(&Instruments::new(&metrics));
        blocks.occupy(&net("10.244.0.0/23"));
        blocks.occupy(&net("10.244.1.0/24"));
        assert_eq!(blocks.next(), Some(net("10.244.2.0/24")));
        blocks.release(&net("10.244.1.0/24"));
        blocks.release(&net("10.244.1.0/24"));
        let text = metrics.encode();
        for wanted in [
            "cidrset_cidrs_allocations_total{clusterCIDR=\"10.244.0.0/22\"} 3",
            "cidrset_cidrs_releases_total{clusterCIDR=\"10.244.0.0/22\"} 1",
            "cidrset_usage_cidrs{clusterCIDR=\"10.244.0.0/22\"} 0.5",
            "cirdset_max_cidrs{clusterCIDR=\"10.244.0.0/22\"} 4",
            "cidrset_allocation_tries_per_request_sum{clusterCIDR=\"10.244.0.0/22\"} 2",
        ] {
            assert!(text.contains(&format!("node_ipam_controller_{wanted}")), "{wanted}: {text}");
        }
    }

    #[test]
    fn services_inside_are_spared_and_six_works_too() {
        let mut blocks = Blocks::new(net("10.0.0.0/8"), 24).unwrap();
        blocks.occupy(&net("10.0.0.0/16"));
        assert_eq!(blocks.next(), Some(net("10.1.0.0/24")));
        let mut six = Blocks::new(net("fd00::/56"), 64).unwrap();
        assert_eq!((six.next(), six.next()), (Some(net("fd00::/64")), Some(net("fd00:0:0:1::/64"))));
        assert!(Blocks::new(net("10.0.0.0/7"), 24).is_err());
    }
}
