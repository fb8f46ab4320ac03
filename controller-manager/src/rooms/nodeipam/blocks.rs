//! The blocks of a CIDR, each free or taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use ipnet::IpNet;

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
}

impl Blocks {
    /// `cidr` cut into blocks of `mask` bits.
    pub fn new(cidr: IpNet, mask: u8) -> Result<Self> {
        let own = cidr.prefix_len();
        ensure!(mask >= own && mask <= cidr.max_prefix_len(), "mask /{mask} does not fit into {cidr}");
        ensure!(mask - own <= MAX_BITS, "mask /{mask} is more than {MAX_BITS} bits longer than {cidr}");
        let count = 1usize << (mask - own);
        Ok(Self { cidr: cidr.trunc(), mask, taken: vec![0; count.div_ceil(64)], count, cursor: 0 })
    }

    fn bits(&self) -> u32 {
        u32::from(self.cidr.max_prefix_len() - self.mask)
    }

    /// The next free block after the one given last, now taken.
    pub fn next(&mut self) -> Option<IpNet> {
        let index = (0..self.count).map(|i| (self.cursor + i) % self.count).find(|i| !self.is_taken(*i))?;
        self.taken[index / 64] |= 1 << (index % 64);
        self.cursor = (index + 1) % self.count;
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
    fn overlap(&self, other: &IpNet) -> std::ops::Range<usize> {
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
        for index in self.overlap(other) {
            if let Some(word) = self.taken.get_mut(index / 64) {
                *word |= 1 << (index % 64);
            }
        }
    }

    /// Frees every block that overlaps.
    pub fn release(&mut self, other: &IpNet) {
        for index in self.overlap(other) {
            if let Some(word) = self.taken.get_mut(index / 64) {
                *word &= !(1 << (index % 64));
            }
        }
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
    fn services_inside_are_spared_and_six_works_too() {
        let mut blocks = Blocks::new(net("10.0.0.0/8"), 24).unwrap();
        blocks.occupy(&net("10.0.0.0/16"));
        assert_eq!(blocks.next(), Some(net("10.1.0.0/24")));
        let mut six = Blocks::new(net("fd00::/56"), 64).unwrap();
        assert_eq!((six.next(), six.next()), (Some(net("fd00::/64")), Some(net("fd00:0:0:1::/64"))));
        assert!(Blocks::new(net("10.0.0.0/7"), 24).is_err());
    }
}
