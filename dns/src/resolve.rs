//! Names of the cluster to records: the Kubernetes DNS specification 1.1, as one pure function.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::catalog::{Catalog, Form, Port, Service, dashed, undashed};

/// Version of the specification, the answer to `dns-version`.
const SPEC_VERSION: &str = "1.1.0";
/// Priority and total weight of service records.
const WEIGHT: u16 = 100;

/// What answers depend on besides the catalog.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The cluster's domain, with the root.
    pub name: Name,
    /// Its labels, lower case.
    labels: Vec<String>,
    /// Seconds an answer may be kept.
    pub ttl: u32,
    /// The service that is this DNS, namespace and name.
    pub own: (String, String),
}

impl Zone {
    /// A zone for a cluster domain.
    pub fn new(domain: &str, ttl: u32) -> anyhow::Result<Self> {
        let mut name = Name::from_ascii(domain)?.to_lowercase();
        name.set_fqdn(true);
        let labels = name.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        Ok(Self { name, labels, ttl, own: ("kube-system".into(), "kube-dns".into()) })
    }

    /// Start of authority. The serial number has no meaning here: there are no secondaries.
    pub fn soa(&self) -> Record {
        let sub = |label: &str| self.name.prepend_label(label).unwrap_or_else(|_| self.name.clone());
        let server = sub("dns").prepend_label("ns").unwrap_or_else(|_| self.name.clone());
        let soa = SOA::new(server, sub("hostmaster"), 1, 7200, 1800, 86400, self.ttl);
        Record::from_rdata(self.name.clone(), self.ttl, RData::SOA(soa))
    }
}

/// An answer of this zone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether the name exists.
    pub exists: bool,
    /// Records asked for.
    pub answers: Vec<Record>,
    /// Addresses of the names in them.
    pub additionals: Vec<Record>,
    /// A name outside this function's knowledge that the answer goes on at.
    pub alias: Option<Name>,
}

impl Answer {
    /// Code for the response.
    pub fn code(&self) -> ResponseCode {
        if self.exists { ResponseCode::NoError } else { ResponseCode::NXDomain }
    }

    fn none() -> Self {
        Self::default()
    }

    fn with(answers: Vec<Record>) -> Self {
        Self { exists: true, answers, ..Self::default() }
    }
}

/// Answers a question; nothing when the name is not of this cluster.
pub fn resolve(catalog: &Catalog, zone: &Zone, name: &Name, kind: RecordType) -> Option<Answer> {
    let labels: Vec<String> = name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
    let ask = Ask { catalog, zone, name, kind };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let own: Vec<&str> = zone.labels.iter().map(String::as_str).collect();
    match labels.strip_suffix(own.as_slice()) {
        Some(inner) => Some(ask.inside(inner)),
        None => ask.reverse(&labels),
    }
}

struct Ask<'a> {
    catalog: &'a Catalog,
    zone: &'a Zone,
    name: &'a Name,
    kind: RecordType,
}

impl Ask<'_> {
    fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.zone.ttl, data)
    }

    fn own(&self, data: RData) -> Record {
        self.record(self.name.clone(), data)
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    fn inside(&self, labels: &[&str]) -> Answer {
        match labels {
            [] => self.apex(),
            ["dns-version"] => self.only(RecordType::TXT, RData::TXT(TXT::new(vec![SPEC_VERSION.into()]))),
            ["svc" | "pod" | "dns"] => Answer::with(Vec::new()),
            ["ns", "dns"] => self.nameserver(),
            [namespace, "svc" | "pod"] => {
                Answer { exists: self.catalog.namespace(namespace), ..Answer::none() }
            }
            [label, namespace, "pod"] => self.pod(label, namespace),
            [service, namespace, "svc"] => self.service(namespace, service),
            [label, service, namespace, "svc"] => self.below(label, service, namespace),
            [port, proto, service, namespace, "svc"] => self.port(port, proto, service, namespace),
            _ => Answer::none(),
        }
    }

    fn only(&self, kind: RecordType, data: RData) -> Answer {
        Answer::with(self.wants(kind).then(|| self.own(data)).into_iter().collect())
    }

    fn apex(&self) -> Answer {
        let mut answers = Vec::new();
        if self.wants(RecordType::SOA) {
            answers.push(self.zone.soa());
        }
        if self.wants(RecordType::NS) {
            let server = self.child(&["ns", "dns"]);
            answers.extend(server.map(|n| self.own(RData::NS(NS(n)))));
        }
        Answer::with(answers)
    }

    fn nameserver(&self) -> Answer {
        let (namespace, name) = &self.zone.own;
        match self.catalog.service(namespace, name).map(|s| &s.form) {
            Some(Form::Cluster(ips)) => Answer::with(self.addresses(self.name, ips)),
            _ => Answer::with(Vec::new()),
        }
    }

    /// A name in the zone.
    fn child(&self, labels: &[&str]) -> Option<Name> {
        let name = Name::from_labels(labels.iter().map(|l| l.as_bytes())).ok()?;
        name.append_domain(&self.zone.name).ok()
    }

    /// Address records of the family asked for.
    fn addresses(&self, name: &Name, ips: &[IpAddr]) -> Vec<Record> {
        let of_kind = |ip: &IpAddr| match ip {
            IpAddr::V4(a) if self.wants(RecordType::A) => Some(RData::A(A(*a))),
            IpAddr::V6(a) if self.wants(RecordType::AAAA) => Some(RData::AAAA(AAAA(*a))),
            _ => None,
        };
        ips.iter().filter_map(of_kind).map(|data| self.record(name.clone(), data)).collect()
    }

    /// Address records of every family.
    fn glue(&self, name: &Name, ips: &[IpAddr]) -> Vec<Record> {
        let data = |ip: &IpAddr| match ip {
            IpAddr::V4(a) => RData::A(A(*a)),
            IpAddr::V6(a) => RData::AAAA(AAAA(*a)),
        };
        ips.iter().map(|ip| self.record(name.clone(), data(ip))).collect()
    }

    /// Every address that could be a pod's is echoed, as the specification still asks.
    fn pod(&self, label: &str, namespace: &str) -> Answer {
        match undashed(label).filter(|_| self.catalog.namespace(namespace)) {
            Some(ip) => Answer::with(self.addresses(self.name, &[ip])),
            None => Answer::none(),
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Answer {
        let Some(service) = self.catalog.service(namespace, name) else { return Answer::none() };
        match &service.form {
            Form::External(target) => self.external(target),
            Form::Cluster(_) if self.kind == RecordType::SRV => {
                self.ports(service, namespace, name, |_| true)
            }
            Form::Cluster(ips) => Answer::with(self.addresses(self.name, ips)),
            Form::Headless => {
                let mut ips: Vec<IpAddr> =
                    self.endpoints(service, namespace, name).map(|e| e.1.addr).collect();
                dedup(&mut ips);
                match (ips.is_empty(), self.kind) {
                    (true, _) => Answer::none(),
                    (_, RecordType::SRV) => self.ports(service, namespace, name, |_| true),
                    _ => Answer::with(self.addresses(self.name, &ips)),
                }
            }
        }
    }

    fn external(&self, target: &str) -> Answer {
        let Ok(mut target) = Name::from_ascii(target) else { return Answer::with(Vec::new()) };
        target.set_fqdn(true);
        let mut answer = Answer::with(vec![self.own(RData::CNAME(CNAME(target.clone())))]);
        if !matches!(self.kind, RecordType::CNAME | RecordType::ANY) {
            answer.alias = Some(target);
        }
        answer
    }

    /// Endpoints that count, each with its slice's ports.
    fn endpoints<'b>(
        &self,
        service: &'b Service,
        namespace: &str,
        name: &str,
    ) -> impl Iterator<Item = (&'b [Port], &'b crate::catalog::Endpoint)>
    where
        Self: 'b,
    {
        let slices = self.catalog.slices(namespace, name);
        let all = slices.iter().flat_map(|s| s.endpoints.iter().map(move |e| (s.ports.as_slice(), e)));
        all.filter(|(_, e)| e.ready || service.publish)
    }

    /// A label below a service: an endpoint's host, or the protocol part of a service record's name.
    fn below(&self, label: &str, name: &str, namespace: &str) -> Answer {
        let Some(service) = self.catalog.service(namespace, name) else { return Answer::none() };
        if let Some(proto) = label.strip_prefix('_') {
            let known = service.ports.iter().any(|p| p.proto == proto && !p.name.is_empty());
            return Answer { exists: known, ..Answer::none() };
        }
        let called = self.endpoints(service, namespace, name).filter(|(_, e)| e.is_called(label));
        let mut ips: Vec<IpAddr> = called.map(|(_, e)| e.addr).collect();
        dedup(&mut ips);
        if ips.is_empty() { Answer::none() } else { Answer::with(self.addresses(self.name, &ips)) }
    }

    fn port(&self, port: &str, proto: &str, name: &str, namespace: &str) -> Answer {
        let service = self.catalog.service(namespace, name);
        let (Some(port), Some(proto), Some(service)) =
            (port.strip_prefix('_'), proto.strip_prefix('_'), service)
        else {
            return Answer::none();
        };
        let is_it = |p: &Port| p.proto == proto && !p.name.is_empty() && p.name.eq_ignore_ascii_case(port);
        let found = self.ports(service, namespace, name, is_it);
        if found.answers.is_empty() {
            return Answer::none();
        }
        if self.wants(RecordType::SRV) { found } else { Answer::with(Vec::new()) }
    }

    /// Service records of some ports.
    fn ports(
        &self,
        service: &Service,
        namespace: &str,
        name: &str,
        wanted: impl Fn(&Port) -> bool,
    ) -> Answer {
        let mut targets: Vec<(u16, Name, IpAddr)> = Vec::new();
        match &service.form {
            Form::Cluster(ips) => {
                let Some(target) = self.child(&[name, namespace, "svc"]) else { return Answer::none() };
                for port in service.ports.iter().filter(|p| wanted(p)) {
                    targets.extend(ips.iter().map(|ip| (port.port, target.clone(), *ip)));
                }
            }
            Form::Headless => {
                for (ports, endpoint) in self.endpoints(service, namespace, name) {
                    let target = self.child(&[&endpoint.label(), name, namespace, "svc"]);
                    for port in ports.iter().filter(|p| wanted(p)) {
                        targets.extend(target.clone().map(|t| (port.port, t, endpoint.addr)));
                    }
                }
            }
            Form::External(_) => {}
        }
        self.service_records(&targets)
    }

    fn service_records(&self, targets: &[(u16, Name, IpAddr)]) -> Answer {
        let (mut records, mut glued) = (HashSet::new(), HashSet::new());
        let firsts: Vec<_> =
            targets.iter().filter(|(port, name, _)| records.insert((*port, name.clone()))).collect();
        let weight = (WEIGHT / u16::try_from(firsts.len().max(1)).unwrap_or(WEIGHT)).max(1);
        let answers = firsts
            .iter()
            .map(|(port, name, _)| self.own(RData::SRV(SRV::new(0, weight, *port, name.clone()))));
        let mut answer = Answer::with(answers.collect());
        for (_, name, ip) in targets {
            if glued.insert((name, ip)) {
                answer.additionals.extend(self.glue(name, &[*ip]));
            }
        }
        answer
    }

    /// Addresses of the cluster have names; others are left to the rest of the world.
    fn reverse(&self, labels: &[&str]) -> Option<Answer> {
        let ip = reversed(labels)?;
        let mut names = Vec::new();
        for key in self.catalog.by_address(ip) {
            let (namespace, name) = (&*key.0, &*key.1);
            let service = self.catalog.service(namespace, name)?;
            let labels = match service.form {
                Form::Headless => {
                    let here = self.endpoints(service, namespace, name).find(|(_, e)| e.addr == ip);
                    here.map(|(_, e)| vec![e.label(), name.into(), namespace.into(), "svc".into()])
                }
                _ => Some(vec![name.into(), namespace.into(), String::from("svc")]),
            };
            let Some(labels) = labels else { continue };
            names.extend(self.child(&labels.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        if names.is_empty() {
            return None;
        }
        let pointers = names.into_iter().map(|n| self.own(RData::PTR(PTR(n))));
        Some(Answer::with(if self.wants(RecordType::PTR) { pointers.collect() } else { Vec::new() }))
    }
}

/// Keeps the first of each, in order.
fn dedup(ips: &mut Vec<IpAddr>) {
    let mut seen = HashSet::new();
    ips.retain(|ip| seen.insert(*ip));
}

/// The address of a name under in-addr.arpa or ip6.arpa.
fn reversed(labels: &[&str]) -> Option<IpAddr> {
    match labels {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok(),
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let digits: String = nibbles.iter().rev().filter(|n| n.len() == 1).copied().collect();
            let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
            Some(IpAddr::V6(number.into()))
        }
        _ => None,
    }
}

/// A pod's name in the cluster, as [`Ask::pod`] answers it.
pub fn pod_name(ip: IpAddr, namespace: &str, domain: &str) -> String {
    format!("{}.{namespace}.pod.{domain}", dashed(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Endpoint, Slice};

    fn port(name: &str, proto: &'static str, port: u16) -> Port {
        Port { name: name.into(), proto, port }
    }

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|t| t.parse().unwrap()).collect()
    }

    fn cluster() -> Catalog {
        let mut c = Catalog::new();
        c.set_namespace("ns", true);
        c.set_namespace("empty", true);
        let mut svc = |name: &str, form, ports: Vec<Port>, publish| {
            c.set_service("ns", name, Some(Service { form, ports, publish }));
        };
        svc(
            "web",
            Form::Cluster(ips("10.96.0.20 fd00:96::20")),
            vec![port("http", "tcp", 80), port("", "tcp", 81)],
            false,
        );
        svc("v4", Form::Cluster(ips("10.96.0.21")), vec![port("dns", "udp", 53)], false);
        svc("db", Form::Headless, vec![port("sql", "tcp", 5432)], false);
        svc("early", Form::Headless, vec![port("p", "tcp", 1)], true);
        svc("none", Form::Headless, vec![port("p", "tcp", 1)], false);
        svc("ext", Form::External("Example.com".into()), vec![], false);
        svc("inner", Form::External("web.ns.svc.cluster.local".into()), vec![], false);
        let endpoint = |ip: &str, host: &str, ready| Endpoint {
            addr: ip.parse().unwrap(),
            host: Some(host).filter(|h| !h.is_empty()).map(Into::into),
            ready,
        };
        let mut slice = |owner: &str, name: &str, ports, endpoints| {
            c.set_slice("ns", name, Some((owner.into(), Slice { name: name.into(), ports, endpoints })));
        };
        let sql = || vec![port("sql", "tcp", 15432)];
        slice(
            "db",
            "db-1",
            sql(),
            vec![
                endpoint("10.244.0.2", "db-0", true),
                endpoint("10.244.0.3", "", true),
                endpoint("10.244.0.4", "db-2", false),
            ],
        );
        slice("db", "db-2", sql(), vec![endpoint("fd00::2", "db-0", true)]);
        slice("early", "early-1", vec![port("p", "tcp", 1)], vec![endpoint("10.244.0.9", "e", false)]);
        c
    }

    /// Code, then the answers' data in order, then `+` and the additionals.
    fn show(answer: Option<Answer>) -> String {
        let Some(a) = answer else { return "elsewhere".into() };
        let mut words = vec![match a.code() {
            ResponseCode::NoError => "ok".to_owned(),
            _ => "nxdomain".to_owned(),
        }];
        words.extend(a.answers.iter().map(|r| format!("{} {}", r.record_type(), r.data)));
        if !a.additionals.is_empty() {
            words.push("+".into());
            words.extend(a.additionals.iter().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)));
        }
        words.extend(a.alias.map(|n| format!("=> {n}")));
        words.join(" | ")
    }

    #[test]
    fn table() {
        let table = "
            A     web.ns.svc.cluster.local            ok | A 10.96.0.20
            AAAA  web.ns.svc.cluster.local            ok | AAAA fd00:96::20
            A     WEB.Ns.sVc.cluster.LOCAL            ok | A 10.96.0.20
            AAAA  v4.ns.svc.cluster.local             ok
            TXT   v4.ns.svc.cluster.local             ok
            A     nope.ns.svc.cluster.local           nxdomain
            A     web.nope.svc.cluster.local          nxdomain
            A     ns.svc.cluster.local                ok
            A     empty.svc.cluster.local             ok
            A     nope.svc.cluster.local              nxdomain
            A     svc.cluster.local                   ok
            A     cluster.local                       ok
            A     other.cluster.local                 nxdomain
            A     x.web.ns.svc.cluster.local          nxdomain
            A     a.b.c.d.e.svc.cluster.local         nxdomain
            A     web.ns.svc.cluster.local.ns.svc.cluster.local nxdomain
            TXT   dns-version.cluster.local           ok | TXT 1.1.0
            A     dns-version.cluster.local           ok
            SRV   _http._tcp.web.ns.svc.cluster.local ok | SRV 0 100 80 web.ns.svc.cluster.local. | + | web.ns.svc.cluster.local. A 10.96.0.20 | web.ns.svc.cluster.local. AAAA fd00:96::20
            SRV   _dns._udp.v4.ns.svc.cluster.local   ok | SRV 0 100 53 v4.ns.svc.cluster.local. | + | v4.ns.svc.cluster.local. A 10.96.0.21
            A     _dns._udp.v4.ns.svc.cluster.local   ok
            SRV   _dns._tcp.v4.ns.svc.cluster.local   nxdomain
            SRV   __tcp.web.ns.svc.cluster.local      nxdomain
            SRV   _tcp.web.ns.svc.cluster.local       ok
            A     db.ns.svc.cluster.local             ok | A 10.244.0.2 | A 10.244.0.3
            AAAA  db.ns.svc.cluster.local             ok | AAAA fd00::2
            A     db-0.db.ns.svc.cluster.local        ok | A 10.244.0.2
            AAAA  db-0.db.ns.svc.cluster.local        ok | AAAA fd00::2
            A     10-244-0-3.db.ns.svc.cluster.local  ok | A 10.244.0.3
            AAAA  10-244-0-3.db.ns.svc.cluster.local  ok
            A     db-2.db.ns.svc.cluster.local        nxdomain
            SRV   _sql._tcp.db.ns.svc.cluster.local   ok | SRV 0 50 15432 db-0.db.ns.svc.cluster.local. | SRV 0 50 15432 10-244-0-3.db.ns.svc.cluster.local. | + | db-0.db.ns.svc.cluster.local. A 10.244.0.2 | 10-244-0-3.db.ns.svc.cluster.local. A 10.244.0.3 | db-0.db.ns.svc.cluster.local. AAAA fd00::2
            A     early.ns.svc.cluster.local          ok | A 10.244.0.9
            A     e.early.ns.svc.cluster.local        ok | A 10.244.0.9
            A     none.ns.svc.cluster.local           nxdomain
            A     ext.ns.svc.cluster.local            ok | CNAME Example.com. | => Example.com.
            CNAME ext.ns.svc.cluster.local            ok | CNAME Example.com.
            A     inner.ns.svc.cluster.local          ok | CNAME web.ns.svc.cluster.local. | => web.ns.svc.cluster.local.
            A     10-244-0-7.ns.pod.cluster.local     ok | A 10.244.0.7
            AAAA  fd00--7.ns.pod.cluster.local        ok | AAAA fd00::7
            A     10-244-0-7.nope.pod.cluster.local   nxdomain
            A     web.ns.pod.cluster.local            nxdomain
            PTR   20.0.96.10.in-addr.arpa             ok | PTR web.ns.svc.cluster.local.
            A     20.0.96.10.in-addr.arpa             ok
            PTR   2.0.244.10.in-addr.arpa             ok | PTR db-0.db.ns.svc.cluster.local.
            PTR   3.0.244.10.in-addr.arpa             ok | PTR 10-244-0-3.db.ns.svc.cluster.local.
            PTR   4.0.244.10.in-addr.arpa             elsewhere
            PTR   2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa ok | PTR db-0.db.ns.svc.cluster.local.
            PTR   9.9.9.9.in-addr.arpa                elsewhere
            A     example.com                         elsewhere
            A     local                               elsewhere";
        let (catalog, zone) = (cluster(), Zone::new("cluster.local", 5).unwrap());
        for line in table.lines().skip(1) {
            let mut words = line.split_whitespace();
            let kind: RecordType = words.next().unwrap().parse().unwrap();
            let name = Name::from_ascii(format!("{}.", words.next().unwrap())).unwrap();
            let want = words.collect::<Vec<_>>().join(" ");
            let got = show(resolve(&catalog, &zone, &name, kind));
            assert_eq!(got.replace('"', ""), want, "{line}");
        }
    }

    #[test]
    fn authority() {
        let zone = Zone::new("Cluster.Local.", 5).unwrap();
        let soa = zone.soa();
        assert_eq!((soa.name.to_string().as_str(), soa.ttl), ("cluster.local.", 5));
        let answer = resolve(&cluster(), &zone, &zone.name, RecordType::SOA).unwrap();
        assert_eq!(answer.answers, [soa]);
    }
}
