//! From a service and its endpoints to the elements it needs in the table. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::model::{
    Backend, Element, Frontend, Key, MAX_POOL, Pool, Rules, Set, Target, Value, assign_slots,
};
use crate::parse::{PortInfo, ServiceInfo, SliceInfo};
use crate::select::{Selection, select};

/// Addresses of this node, which a load balancer's source ranges may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The node's own addresses of the family.
    pub ips: Vec<IpAddr>,
}

/// Renders one service. `old` are the rules it had: endpoints that stay keep their slots.
pub fn render<'a>(
    name: &str,
    svc: &ServiceInfo,
    slices: impl Iterator<Item = &'a SliceInfo> + Clone,
    node: &NodeView,
    old: &Rules,
) -> Rules {
    let mut rules = Rules::default();
    rules.elements.push(Element::plain(Set::ClusterIps, Key::Addr(svc.cluster_ip)));
    for port in &svc.ports {
        let chosen = select(svc, port, slices.clone());
        let mut one = PortRules::new(name, svc, port, &chosen, node, old);
        one.internal();
        one.external();
        one.finish(&mut rules);
    }
    unique(&mut rules.elements);
    rules.elements.shrink_to_fit();
    rules
}

/// Two ports of one service may share an address or a hairpin; the first of each key stays.
fn unique(elements: &mut Vec<Element>) {
    let mut seen = ahash::HashSet::default();
    elements.retain(|e| seen.insert((e.set, e.key)));
}

struct PortRules<'a> {
    name: &'a str,
    svc: &'a ServiceInfo,
    port: &'a PortInfo,
    node: &'a NodeView,
    chosen: &'a Selection,
    cluster: Pool,
    local: Pool,
    elements: Vec<Element>,
    fronts: Vec<(Frontend, u64)>,
}

impl<'a> PortRules<'a> {
    fn new(
        name: &'a str,
        svc: &'a ServiceInfo,
        port: &'a PortInfo,
        chosen: &'a Selection,
        node: &'a NodeView,
        old: &Rules,
    ) -> Self {
        let pool = |scope: &str, wanted: &[Backend]| {
            let id = number(&format!("{name}:{}/{}/{scope}", port.name, port.proto));
            let slots = old.pool(id).map_or(&[][..], |p| &p.slots);
            let wanted = &wanted[..wanted.len().min(MAX_POOL)];
            Pool { id, sticky: svc.sticky, slots: assign_slots(slots, wanted) }
        };
        let (cluster, local) = (pool("cluster", &chosen.cluster), pool("local", &chosen.local));
        Self { name, svc, port, node, chosen, cluster, local, elements: Vec::new(), fronts: Vec::new() }
    }

    fn front(&self, addr: IpAddr, port: u16) -> Frontend {
        Frontend { addr, proto: self.port.proto, port }
    }

    fn internal(&mut self) {
        let front = self.front(self.svc.cluster_ip, self.port.port);
        let pool = if self.svc.internal_local { &self.local } else { &self.cluster };
        match (pool.target(), self.chosen.any) {
            (Some(target), _) => self.lead(Set::Services, front, target),
            (None, true) => self.mark(Set::Drop, front),
            (None, false) => self.mark(Set::Reject, front),
        }
    }

    fn external(&mut self) {
        let outer = self.svc.external_ips.iter().chain(&self.svc.vips);
        let mut fronts: Vec<_> = outer.map(|ip| self.front(*ip, self.port.port)).collect();
        if self.port.node_port != 0 {
            let any = crate::model::Family::of(self.svc.cluster_ip).any();
            fronts.push(self.front(any, self.port.node_port));
        }
        for front in fronts {
            self.external_front(front);
        }
        if self.svc.restricted {
            self.firewall();
        }
    }

    /// Policy Local: pods and the node itself still reach every endpoint, so the frontend leads to both pools, and the
    /// path through the chains decides. With nothing here, what was not translated is dropped.
    fn external_front(&mut self, front: Frontend) {
        if !self.chosen.any {
            return self.mark(Set::Reject, front);
        }
        if let Some(target) = self.cluster.target() {
            self.lead(Set::Services, front, target);
        }
        if !self.svc.external_local {
            return self.mark(Set::Masquerade, front);
        }
        self.mark(Set::LocalPolicy, front);
        match self.local.target() {
            Some(target) => self.lead(Set::LocalServices, front, target),
            None => self.mark(Set::Drop, front),
        }
    }

    /// Load balancer addresses take only the listed sources. If the node is among them, so are the addresses
    /// themselves: a node that calls one sends from it.
    fn firewall(&mut self) {
        let list = number(&format!("{}/sources", self.name));
        for vip in &self.svc.vips {
            let key = Key::Front(self.front(*vip, self.port.port));
            self.elements.push(Element { set: Set::Firewall, key, value: Value::List(list) });
        }
        let own = self.node.ips.iter().any(|ip| self.svc.sources.iter().any(|n| n.contains(ip)));
        let vips = self.svc.vips.iter().filter(|_| own).map(|ip| IpNet::from(*ip));
        for net in IpNet::aggregate(&self.svc.sources.iter().copied().chain(vips).collect()) {
            self.elements
                .push(Element::plain(Set::Sources, Key::Range(list, net.network(), net.broadcast())));
        }
    }

    fn lead(&mut self, set: Set, front: Frontend, target: Target) {
        self.elements.push(Element { set, key: Key::Front(front), value: Value::Target(target) });
        self.fronts.push((front, target.pool));
    }

    fn mark(&mut self, set: Set, front: Frontend) {
        self.elements.push(Element::plain(set, Key::Front(front)));
    }

    fn finish(self, rules: &mut Rules) {
        rules.elements.extend(self.elements);
        let hairpins = self.chosen.here.iter().map(|b| Element::plain(Set::Hairpin, Key::Pair(b.addr)));
        rules.elements.extend(hairpins);
        if self.port.proto == crate::model::Proto::Udp {
            rules.udp.extend(self.fronts);
        }
        rules.pools.extend([self.cluster, self.local].into_iter().filter(|p| !p.slots.is_empty()));
    }
}

/// A number for a name, the same on every start, so that clients' affinity survives a restart. 64 bits of a digest:
/// two of a million names meet with a chance below one in ten million.
pub fn number(name: &str) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&Sha256::digest(name.as_bytes())[..8]);
    u64::from_be_bytes(word)
}
