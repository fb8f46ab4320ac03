//! Which endpoints a service port uses, after the rules of the API: readiness, termination, topology and policies.

use std::collections::BTreeMap;

use crate::model::{Backend, Proto};
use crate::parse::{EndpointInfo, Hint, PortInfo, ServiceInfo, SliceInfo};

/// The endpoints of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For policy Cluster, sorted. Empty when the port does not use that policy.
    pub cluster: Vec<Backend>,
    /// For policy Local, sorted. Empty when the port does not use that policy.
    pub local: Vec<Backend>,
    /// Whether any endpoint anywhere could serve; if not, traffic is refused instead of dropped.
    pub any: bool,
    /// Backends of either set that are on this node.
    pub here: Vec<Backend>,
}

/// Chooses for one port of a service out of all its slices.
pub fn select<'a>(
    svc: &ServiceInfo,
    port: &PortInfo,
    slices: impl Iterator<Item = &'a SliceInfo>,
) -> Selection {
    let all = merge(port, slices);
    let external = svc.external(port);
    let mut chosen = Selection { any: all.values().any(usable), ..Selection::default() };
    if !svc.internal_local || external {
        chosen.cluster = cluster(&all);
    }
    if svc.internal_local || (svc.external_local && external) {
        chosen.local = local(&all);
    }
    let used =
        all.iter().filter(|(b, e)| e.local && (chosen.cluster.contains(b) || chosen.local.contains(b)));
    chosen.here = used.map(|(b, _)| *b).collect();
    chosen
}

/// Ready endpoints on this node, the number a health check node port reports.
pub fn local_ready<'a>(svc: &ServiceInfo, slices: impl Iterator<Item = &'a SliceInfo> + Clone) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    for port in &svc.ports {
        let all = merge(port, slices.clone());
        seen.extend(all.iter().filter(|(_, e)| e.local && e.ready).map(|(b, _)| b.addr));
    }
    seen.len()
}

fn usable(e: &EndpointInfo) -> bool {
    e.ready || draining(e)
}

fn draining(e: &EndpointInfo) -> bool {
    e.serving && e.terminating
}

/// Joins slices by port name and protocol. Where two slices have one address, the one not terminating wins.
fn merge<'a>(
    port: &PortInfo,
    slices: impl Iterator<Item = &'a SliceInfo>,
) -> BTreeMap<Backend, EndpointInfo> {
    let mut all = BTreeMap::new();
    for slice in slices {
        let Some(number) = number_of(slice, &port.name, port.proto) else { continue };
        for e in &slice.endpoints {
            let backend = Backend { addr: e.addr, port: number };
            if !e.terminating || all.get(&backend).is_none_or(|x: &EndpointInfo| x.terminating) {
                all.insert(backend, *e);
            }
        }
    }
    all
}

fn number_of(slice: &SliceInfo, name: &str, proto: Proto) -> Option<u16> {
    slice.ports.iter().find(|(n, p, _)| **n == *name && *p == proto).map(|(_, _, number)| *number)
}

fn cluster(all: &BTreeMap<Backend, EndpointInfo>) -> Vec<Backend> {
    let near = nearness(all);
    let ready = pick(all, |e| e.ready && near(e));
    if ready.is_empty() { pick(all, draining) } else { ready }
}

fn local(all: &BTreeMap<Backend, EndpointInfo>) -> Vec<Backend> {
    let ready = pick(all, |e| e.local && e.ready);
    if ready.is_empty() { pick(all, |e| e.local && draining(e)) } else { ready }
}

/// Topology counts only when every ready endpoint has a hint and one of them is for this node.
fn nearness(all: &BTreeMap<Backend, EndpointInfo>) -> fn(&EndpointInfo) -> bool {
    let applies = |hint: fn(&EndpointInfo) -> Hint| {
        let mut ready = all.values().filter(|e| e.ready).map(hint);
        ready.clone().all(|h| h != Hint::Absent) && ready.any(|h| h == Hint::Here)
    };
    if applies(|e| e.node) {
        |e| e.node == Hint::Here
    } else if applies(|e| e.zone) {
        |e| e.zone == Hint::Here
    } else {
        |_| true
    }
}

fn pick(all: &BTreeMap<Backend, EndpointInfo>, want: impl Fn(&EndpointInfo) -> bool) -> Vec<Backend> {
    all.iter().filter(|(_, e)| want(e)).map(|(b, _)| *b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One endpoint a word: last byte of the address, then r(eady) s(erving) t(erminating) l(ocal),
    /// z/Z zone hint other/here, n/N node hint other/here.
    fn slice(text: &str) -> SliceInfo {
        let endpoint = |word: &str| {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            let has = |c| word.contains(c);
            let hint = |other, here| {
                if has(here) {
                    Hint::Here
                } else if has(other) {
                    Hint::Other
                } else {
                    Hint::Absent
                }
            };
            EndpointInfo {
                addr: format!("10.0.0.{digits}").parse().unwrap(),
                ready: has('r'),
                serving: has('r') || has('s'),
                terminating: has('t'),
                local: has('l'),
                zone: hint('z', 'Z'),
                node: hint('n', 'N'),
            }
        };
        SliceInfo {
            ports: vec![("".into(), Proto::Tcp, 80)],
            endpoints: text.split_whitespace().map(endpoint).collect(),
        }
    }

    fn service(policy: &str) -> (ServiceInfo, PortInfo) {
        let node_port = if policy.contains('E') || policy.contains('e') { 30000 } else { 0 };
        let port = PortInfo { name: "".into(), proto: Proto::Tcp, port: 80, node_port };
        let info = ServiceInfo {
            cluster_ip: "10.96.0.1".parse().unwrap(),
            ports: vec![port.clone()],
            external_ips: vec![],
            vips: vec![],
            sources: vec![],
            restricted: false,
            sticky: 0,
            internal_local: policy.contains('I'),
            external_local: policy.contains('E'),
            health_port: 0,
        };
        (info, port)
    }

    fn words(list: &[Backend]) -> String {
        let last = |b: &Backend| b.addr.to_string().rsplit('.').next().unwrap().to_owned();
        list.iter().map(last).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn table() {
        // policy (I internal Local, e external Cluster, E external Local) | endpoints | cluster | local | any
        let table = "
            -  | 1r 2r 3        | 1 2 |     | yes
            -  | 1st 2st 3      | 1 2 |     | yes
            -  | 1st 2r         | 2   |     | yes
            -  | 1 2s           |     |     | no
            -  |                |     |     | no
            I  | 1rl 2r         |     | 1   | yes
            I  | 1r 2stl        |     | 2   | yes
            I  | 1r             |     |     | yes
            Ie | 1rl 2r         | 1 2 | 1   | yes
            E  | 1rl 2r         | 1 2 | 1   | yes
            E  | 1stl 2r        | 2   | 1   | yes
            e  | 1rl 2r         | 1 2 |     | yes
            -  | 1rZ 2rz        | 1   |     | yes
            -  | 1rZ 2r         | 1 2 |     | yes
            -  | 1rz 2rz        | 1 2 |     | yes
            -  | 1rZn 2rZN 3rzn | 2   |     | yes
            -  | 1rZn 2rZn 3rzn | 1 2 |     | yes
            -  | 1rZ 2z 3rz     | 1   |     | yes
            E  | 1rlz 2rZ       | 2   | 1   | yes";
        for line in table.lines().skip(1) {
            let cols: Vec<&str> = line.split('|').map(str::trim).collect();
            let (svc, port) = service(cols[0]);
            let slices = [slice(cols[1])];
            let got = select(&svc, &port, slices.iter());
            let any = if got.any { "yes" } else { "no" };
            assert_eq!(
                [&words(&got.cluster), &words(&got.local), any],
                [cols[2], cols[3], cols[4]],
                "{line}"
            );
        }
    }

    #[test]
    fn the_endpoint_that_stays_wins_over_its_terminating_twin() {
        let (svc, port) = service("-");
        for slices in [[slice("1st"), slice("1r")], [slice("1r"), slice("1st")]] {
            assert_eq!(words(&select(&svc, &port, slices.iter()).cluster), "1");
        }
    }

    #[test]
    fn counts_ready_endpoints_here() {
        let (svc, _) = service("E");
        assert_eq!(local_ready(&svc, [slice("1rl 2l 3r 4rl")].iter()), 2);
    }
}
