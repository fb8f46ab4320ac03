//! Keys and values as the kernel compares them.

use std::net::IpAddr;

use crate::model::{Backend, Element, Frontend, Key, Set, Value};

pub(super) fn ranged(list: u64, ip: IpAddr) -> Vec<u8> {
    [&list.to_ne_bytes()[..], &octets(ip)].concat()
}

pub(super) fn successor(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(a) => u32::from(a).checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(a) => u128::from(a).checked_add(1).map(|n| IpAddr::V6(n.into())),
    }
}

/// An address as it stands in a packet.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn front_bytes(f: Frontend) -> Vec<u8> {
    let mut bytes = octets(f.addr);
    let [high, low] = f.port.to_be_bytes();
    bytes.extend_from_slice(&[f.proto as u8, 0, 0, 0, high, low, 0, 0]);
    bytes
}

/// A backend as the maps hold it.
pub fn backend_bytes(b: Backend) -> Vec<u8> {
    let [high, low] = b.port.to_be_bytes();
    [octets(b.addr), vec![high, low, 0, 0]].concat()
}

pub(super) fn key_bytes(key: Key) -> Vec<u8> {
    match key {
        Key::Addr(ip) | Key::Span(ip, _) => octets(ip),
        Key::Pair(ip) => [octets(ip), octets(ip)].concat(),
        Key::Front(f) => front_bytes(f),
        Key::Slot(pool, n) => [&pool.to_ne_bytes()[..], &n.to_ne_bytes()].concat(),
        Key::Member(pool, b) => [&backend_bytes(b)[..], &pool.to_ne_bytes()].concat(),
        Key::Range(list, ip, _) => ranged(list, ip),
    }
}

const PADDING: [u8; 4] = [0; 4];

pub(super) fn value_bytes(e: &Element) -> Option<Vec<u8>> {
    match e.value {
        Value::None => None,
        Value::Target(t) => {
            Some([&PADDING[..], &t.pool.to_ne_bytes(), &t.class.word().to_ne_bytes()].concat())
        }
        Value::Backend(b) if e.set == Set::StickyEndpoints => {
            Some([&PADDING[..], &backend_bytes(b)].concat())
        }
        Value::Backend(b) => Some(backend_bytes(b)),
        Value::List(n) => Some([&PADDING[..], &n.to_ne_bytes()].concat()),
    }
}
