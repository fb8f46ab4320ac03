//! ARP frames and neighbour messages as bytes. Pure; what comes from the link is believed no further than its length.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A link's hardware address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Ethernet, IPv4, lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Asked for, and to replace what the asker remembers.
const SOLICITED: u8 = 0x60;
const UNSOLICITED: u8 = 0x20;

/// An ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub asks: bool,
    pub sender: (Mac, Ipv4Addr),
    pub target: Ipv4Addr,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Reads an Ethernet frame with ARP in it.
pub fn read_arp(frame: &[u8]) -> Option<Arp> {
    if array::<2>(frame, 12)? != ETHERTYPE || array::<6>(frame, 14)? != KIND || *frame.get(20)? != 0 {
        return None;
    }
    let asks = match *frame.get(21)? {
        REQUEST => true,
        REPLY => false,
        _ => return None,
    };
    let sender = (array(frame, 22)?, Ipv4Addr::from(array::<4>(frame, 28)?));
    Some(Arp { asks, sender, target: Ipv4Addr::from(array::<4>(frame, 38)?) })
}

fn arp(to: Mac, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    for part in [&to[..], &sender.0, &ETHERTYPE, &KIND, &[0, operation], &sender.0, &sender.1.octets()] {
        frame.extend_from_slice(part);
    }
    frame.extend_from_slice(&target.0);
    frame.extend_from_slice(&target.1.octets());
    frame
}

/// The answer to one who asked for `address`.
pub fn arp_reply(asked: &Arp, mac: Mac) -> Vec<u8> {
    arp(asked.sender.0, REPLY, (mac, asked.target), asked.sender)
}

/// What tells everybody on the link who has `address` now; as request and as reply, since some heed only one of them.
pub fn arp_announcements(address: Ipv4Addr, mac: Mac) -> [Vec<u8>; 2] {
    [REQUEST, REPLY].map(|operation| {
        let target = if operation == REQUEST { [0; 6] } else { BROADCAST };
        arp(BROADCAST, operation, (mac, address), (target, address))
    })
}

/// A message of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    Asks(Ipv6Addr),
    /// Tells that `mac`, if it is said, has the address.
    Tells(Ipv6Addr, Option<Mac>),
}

/// Reads an ICMPv6 message.
pub fn read_neighbour(message: &[u8]) -> Option<Neighbour> {
    let target = Ipv6Addr::from(array::<16>(message, 8)?);
    match (*message.first()?, *message.get(1)?) {
        (SOLICITATION, 0) => Some(Neighbour::Asks(target)),
        (ADVERTISEMENT, 0) => {
            let option = array::<2>(message, 24).filter(|o| *o == [2, 1]);
            Some(Neighbour::Tells(target, option.and_then(|_| array(message, 26))))
        }
        _ => None,
    }
}

/// An advertisement of `address`; the kernel fills in the checksum.
pub fn advertisement(address: Ipv6Addr, mac: Mac, asked: bool) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, if asked { SOLICITED } else { UNSOLICITED }, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    message
}

/// The group in which an address is asked for.
pub fn solicited_group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from(b) << 8 | u16::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mac = [2, 0, 0, 0, 0, 1];
    const YOU: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn a_question_is_answered_to_who_asked() {
        let (vip, you) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 2));
        let question = arp(BROADCAST, REQUEST, (YOU, you), ([0; 6], vip));
        let asked = read_arp(&question).unwrap();
        assert_eq!(asked, Arp { asks: true, sender: (YOU, you), target: vip });
        let answer = arp_reply(&asked, ME);
        assert_eq!((&answer[..6], answer.len()), (&YOU[..], 42));
        assert_eq!(read_arp(&answer), Some(Arp { asks: false, sender: (ME, vip), target: you }));
    }

    #[test]
    fn announcements_go_to_all() {
        let vip = Ipv4Addr::new(10, 0, 0, 9);
        let read: Vec<_> =
            arp_announcements(vip, ME).iter().map(|f| (f[..6].to_vec(), read_arp(f).unwrap())).collect();
        assert!(read.iter().all(|(to, a)| to[..] == BROADCAST && a.sender == (ME, vip) && a.target == vip));
        assert_eq!(read.iter().map(|(_, a)| a.asks).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn neighbours_ask_and_are_told() {
        let vip: Ipv6Addr = "fd00::12:3456".parse().unwrap();
        let mut question = vec![135, 0, 0, 0, 0, 0, 0, 0];
        question.extend_from_slice(&vip.octets());
        assert_eq!(read_neighbour(&question), Some(Neighbour::Asks(vip)));
        let answer = advertisement(vip, ME, true);
        assert_eq!((answer.len(), answer[4]), (32, 0x60));
        assert_eq!(read_neighbour(&answer), Some(Neighbour::Tells(vip, Some(ME))));
        assert_eq!(solicited_group(vip), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn anything_may_come_from_a_link() {
        let whole = arp_announcements(Ipv4Addr::LOCALHOST, ME)[0].clone();
        for cut in 0..42 {
            assert_eq!(read_arp(&whole[..cut]), None);
        }
        let message = advertisement(Ipv6Addr::LOCALHOST, ME, false);
        (0..24).for_each(|cut| assert_eq!(read_neighbour(&message[..cut]), None));
        assert_eq!(read_neighbour(&message[..26]), Some(Neighbour::Tells(Ipv6Addr::LOCALHOST, None)));
        for at in 12..22 {
            let mut odd = whole.clone();
            odd[at] ^= 0x40;
            assert_eq!(read_arp(&odd), None, "byte {at}");
        }
    }
}
