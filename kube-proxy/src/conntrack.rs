//! UDP flows outlive their endpoints in connection tracking: as long as a client keeps sending from one port, its
//! packets go where the first one went. When a UDP service's endpoints change, entries that lead elsewhere are deleted.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use crate::kernel::Kernel;
use crate::model::{Backend, Family, Frontend, Proto, Rules};
use crate::netlink::{Attributes, Buffer, flag, subsystem};
use crate::wire::family_number;

const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// Frontends whose endpoints changed, with the backends that are right for them now.
pub type Wanted = HashMap<Frontend, HashSet<Backend>>;

/// Adds a service's UDP frontends. One without endpoints is left out: its flows have nowhere else to go.
pub fn want(wanted: &mut Wanted, rules: &Rules) {
    for (front, pool) in &rules.udp {
        if let Some(pool) = rules.pool(*pool) {
            wanted.entry(*front).or_default().extend(pool.slots.iter().copied());
        }
    }
}

/// A flow, as connection tracking has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flow {
    to: Frontend,
    answered_by: Backend,
    tuple: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

/// Deletes flows to `wanted` frontends that lead to other backends. Gives back how many.
pub fn clean(kernel: &Kernel, family: Family, wanted: &Wanted) -> io::Result<usize> {
    let mut b = Buffer::default();
    b.begin(subsystem::CTNETLINK, GET, flag::DUMP, family_number(family), 0);
    b.end();
    let mut stale = Vec::new();
    kernel.dump(&b, |m| stale.extend(flow(&m).filter(|f| is_stale(f, wanted))))?;
    let mut gone = 0;
    for f in &stale {
        match kernel.request(&delete(family, f)) {
            Ok(()) => gone += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(gone)
}

fn is_stale(f: &Flow, wanted: &Wanted) -> bool {
    let node_port = Frontend { addr: Family::of(f.to.addr).any(), ..f.to };
    let right =
        wanted.get(&f.to).or_else(|| wanted.get(&node_port).filter(|_| f.to.addr != f.answered_by.addr));
    right.is_some_and(|set| !set.contains(&f.answered_by))
}

fn delete(family: Family, f: &Flow) -> Buffer {
    let mut b = Buffer::default();
    b.begin(subsystem::CTNETLINK, DELETE, flag::ACK, family_number(family), 0);
    b.attr(TUPLE_ORIGINAL | 0x8000, &f.tuple);
    f.id.iter().for_each(|id| b.attr(ID, id));
    f.zone.iter().for_each(|zone| b.attr(ZONE, zone));
    b.end();
    b
}

fn flow(m: &Attributes<'_>) -> Option<Flow> {
    let tuple = m.find(TUPLE_ORIGINAL)?;
    let (_, to) = ends(Attributes(tuple))?;
    let (from, _) = ends(m.nested(TUPLE_REPLY)?)?;
    let own = |kind| m.find(kind).map(<[u8]>::to_vec);
    Some(Flow {
        to: Frontend { addr: to.addr, proto: Proto::Udp, port: to.port },
        answered_by: from,
        tuple: tuple.to_vec(),
        id: own(ID),
        zone: own(ZONE),
    })
}

/// Source and destination of a UDP tuple.
fn ends(tuple: Attributes<'_>) -> Option<(Backend, Backend)> {
    let (ip, proto) = (tuple.nested(1)?, tuple.nested(2)?);
    if proto.find(1)? != [Proto::Udp as u8] {
        return None;
    }
    let address = |v4, v6| ip.find(v4).and_then(v4_address).or_else(|| ip.find(v6).and_then(v6_address));
    let port = |kind| proto.find(kind).and_then(|d| d.try_into().ok()).map(u16::from_be_bytes);
    let source = Backend { addr: address(1, 3)?, port: port(2)? };
    Some((source, Backend { addr: address(2, 4)?, port: port(3)? }))
}

fn v4_address(data: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(data).ok().map(IpAddr::from)
}

fn v6_address(data: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(data).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(ip: &str, port: u16) -> Frontend {
        Frontend { addr: ip.parse().unwrap(), proto: Proto::Udp, port }
    }

    fn backend(ip: &str) -> Backend {
        Backend { addr: ip.parse().unwrap(), port: 53 }
    }

    #[test]
    fn only_flows_that_lead_elsewhere_are_stale() {
        let wanted: Wanted = [
            (front("10.96.0.10", 53), [backend("10.244.0.2")].into()),
            (front("0.0.0.0", 30053), [backend("10.244.0.2")].into()),
        ]
        .into();
        let flow = |to, by| Flow { to, answered_by: backend(by), tuple: vec![], id: None, zone: None };
        assert!(is_stale(&flow(front("10.96.0.10", 53), "10.244.0.9"), &wanted));
        assert!(is_stale(&flow(front("10.96.0.10", 53), "10.96.0.10"), &wanted), "never translated");
        assert!(!is_stale(&flow(front("10.96.0.10", 53), "10.244.0.2"), &wanted));
        assert!(!is_stale(&flow(front("10.96.0.11", 53), "10.244.0.9"), &wanted));
        assert!(is_stale(&flow(front("172.30.0.1", 30053), "10.244.0.9"), &wanted));
        assert!(!is_stale(&flow(front("8.8.8.8", 30053), "8.8.8.8"), &wanted), "somebody else's port");
    }
}
