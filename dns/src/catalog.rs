//! What the cluster has: namespaces, services, endpoints, in the least space that answers need.

use std::net::IpAddr;
use std::sync::Arc;

use ahash::HashMap;
use k8s_openapi::api::core::v1::Service as ApiService;
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

/// Label of a slice that names its service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A port of a service or slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name; unnamed ports have no records.
    pub name: Box<str>,
    /// `tcp`, `udp` or `sctp`.
    pub proto: &'static str,
    /// Number.
    pub port: u16,
}

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// By its own addresses.
    Cluster(Vec<IpAddr>),
    /// By its endpoints' addresses.
    Headless,
    /// By another name.
    External(Box<str>),
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How it is reached.
    pub form: Form,
    /// Ports.
    pub ports: Vec<Port>,
    /// Whether endpoints count before they are ready.
    pub publish: bool,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// First address.
    pub addr: IpAddr,
    /// Host name, if the pod has one in this service.
    pub host: Option<Box<str>>,
    /// Condition ready; absent counts as ready.
    pub ready: bool,
}

impl Endpoint {
    /// Its label below the service's name: the host name, or the address with dashes.
    pub fn label(&self) -> String {
        self.host.as_deref().map_or_else(|| dashed(self.addr), str::to_owned)
    }

    /// Whether a label means this endpoint.
    pub fn is_called(&self, label: &str) -> bool {
        match &self.host {
            Some(host) => host.eq_ignore_ascii_case(label),
            None => undashed(label) == Some(self.addr),
        }
    }
}

/// An address as a label: `10-244-0-7`, `fd00--1`.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// Reads what [`dashed`] writes.
pub fn undashed(label: &str) -> Option<IpAddr> {
    if !label.contains('-') {
        return None;
    }
    let v4 = label.replace('-', ".").parse::<std::net::Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<std::net::Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// A slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name, unique in the namespace.
    pub name: Box<str>,
    /// Ports of its endpoints.
    pub ports: Vec<Port>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Default)]
struct Namespace {
    exists: bool,
    services: HashMap<Box<str>, Service>,
    slices: HashMap<Box<str>, Vec<Slice>>,
    owners: HashMap<Box<str>, Box<str>>,
}

impl Namespace {
    fn is_empty(&self) -> bool {
        !self.exists && self.services.is_empty() && self.slices.is_empty()
    }
}

/// A service's namespace and name.
pub type ServiceKey = Arc<(Box<str>, Box<str>)>;

/// The cluster.
#[derive(Debug, Default)]
pub struct Catalog {
    namespaces: HashMap<Box<str>, Namespace>,
    reverse: HashMap<IpAddr, Vec<ServiceKey>>,
}

impl Catalog {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a namespace exists.
    pub fn namespace(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some_and(|n| n.exists || !n.services.is_empty())
    }

    /// A service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.namespaces.get(namespace)?.services.get(name)
    }

    /// Slices of a service.
    pub fn slices(&self, namespace: &str, name: &str) -> &[Slice] {
        let found = self.namespaces.get(namespace).and_then(|n| n.slices.get(name));
        found.map_or(&[], Vec::as_slice)
    }

    /// Services that an address belongs to: as a cluster IP, or as an endpoint of a headless service.
    pub fn by_address(&self, ip: IpAddr) -> &[ServiceKey] {
        self.reverse.get(&ip).map_or(&[], Vec::as_slice)
    }

    /// A namespace came or went.
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        self.namespaces.entry(name.into()).or_default().exists = exists;
        self.tidy(name);
    }

    /// A service came, changed or went.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        self.unindex(namespace, name);
        let services = &mut self.namespaces.entry(namespace.into()).or_default().services;
        match service {
            Some(s) => drop(services.insert(name.into(), s)),
            None => drop(services.remove(name)),
        }
        self.index(namespace, name);
        self.tidy(namespace);
    }

    /// A slice came or changed (with its service), or went.
    pub fn set_slice(&mut self, namespace: &str, name: &str, slice: Option<(Box<str>, Slice)>) {
        let old = self.namespaces.get(namespace).and_then(|n| n.owners.get(name)).cloned();
        if let Some(owner) = old.filter(|o| slice.as_ref().is_none_or(|s| s.0 != *o)) {
            self.put_slice(namespace, &owner, name, None);
        }
        if let Some((owner, slice)) = slice {
            self.put_slice(namespace, &owner, name, Some(slice));
        }
        self.tidy(namespace);
    }

    fn put_slice(&mut self, namespace: &str, owner: &str, name: &str, slice: Option<Slice>) {
        self.unindex(namespace, owner);
        let n = self.namespaces.entry(namespace.into()).or_default();
        let slices = n.slices.entry(owner.into()).or_default();
        slices.retain(|s| *s.name != *name);
        match slice {
            Some(s) => {
                slices.push(s);
                n.owners.insert(name.into(), owner.into());
            }
            None => drop(n.owners.remove(name)),
        }
        if slices.is_empty() {
            n.slices.remove(owner);
        }
        self.index(namespace, owner);
    }

    fn tidy(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(namespace);
        }
    }

    fn addresses(&self, namespace: &str, name: &str) -> Vec<IpAddr> {
        match self.service(namespace, name).map(|s| &s.form) {
            Some(Form::Cluster(ips)) => ips.clone(),
            Some(Form::Headless) => {
                let slices = self.slices(namespace, name);
                slices.iter().flat_map(|s| s.endpoints.iter().map(|e| e.addr)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn index(&mut self, namespace: &str, name: &str) {
        let key: ServiceKey = Arc::new((namespace.into(), name.into()));
        for ip in self.addresses(namespace, name) {
            let list = self.reverse.entry(ip).or_default();
            if !list.contains(&key) {
                list.push(key.clone());
                list.sort();
            }
        }
    }

    fn unindex(&mut self, namespace: &str, name: &str) {
        for ip in self.addresses(namespace, name) {
            let Some(list) = self.reverse.get_mut(&ip) else { continue };
            list.retain(|k| *k.0 != *namespace || *k.1 != *name);
            if list.is_empty() {
                self.reverse.remove(&ip);
            }
        }
    }

    /// All services and all slices, by namespace and name.
    pub fn names(&self) -> (Vec<(Box<str>, Box<str>)>, Vec<(Box<str>, Box<str>)>) {
        let each = |n: &str, m: &str| (n.into(), m.into());
        let services = self.namespaces.iter().flat_map(|(n, x)| x.services.keys().map(move |m| each(n, m)));
        let slices = self.namespaces.iter().flat_map(|(n, x)| x.owners.keys().map(move |m| each(n, m)));
        (services.collect(), slices.collect())
    }

    /// Namespaces that exist.
    pub fn namespace_names(&self) -> Vec<Box<str>> {
        self.namespaces.iter().filter(|n| n.1.exists).map(|n| n.0.clone()).collect()
    }
}

fn proto(name: Option<&str>) -> &'static str {
    match name {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
}

/// Reads a service.
pub fn service(s: &ApiService) -> Option<Service> {
    let spec = s.spec.as_ref()?;
    let form = if spec.type_.as_deref() == Some("ExternalName") {
        Form::External(spec.external_name.as_deref()?.trim_end_matches('.').into())
    } else {
        let many = spec.cluster_ips.as_deref().unwrap_or_default();
        let texts = if many.is_empty() { spec.cluster_ip.as_slice() } else { many };
        let ips: Vec<IpAddr> = texts.iter().filter_map(|t| t.parse().ok()).collect();
        if ips.is_empty() { Form::Headless } else { Form::Cluster(ips) }
    };
    let ports = spec.ports.iter().flatten().map(|p| Port {
        name: p.name.as_deref().unwrap_or_default().into(),
        proto: proto(p.protocol.as_deref()),
        port: u16::try_from(p.port).unwrap_or(0),
    });
    Some(Service { form, ports: ports.collect(), publish: spec.publish_not_ready_addresses.unwrap_or(false) })
}

/// Reads a slice and the name of its service.
pub fn slice(s: &EndpointSlice) -> Option<(Box<str>, Slice)> {
    let owner = s.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    let ports = s.ports.iter().flatten().map(|p| Port {
        name: p.name.as_deref().unwrap_or_default().into(),
        proto: proto(p.protocol.as_deref()),
        port: p.port.and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
    });
    let endpoints = s.endpoints.iter().flatten().filter_map(endpoint);
    let name = s.metadata.name.as_deref()?.into();
    Some((owner.as_str().into(), Slice { name, ports: ports.collect(), endpoints: endpoints.collect() }))
}

fn endpoint(e: &ApiEndpoint) -> Option<Endpoint> {
    Some(Endpoint {
        addr: e.addresses.first()?.parse().ok()?,
        host: e.hostname.as_deref().filter(|h| !h.is_empty()).map(Into::into),
        ready: e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes() {
        for ip in ["10.244.0.7", "fd00::1", "::1", "2001:db8::a:b"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(undashed(&dashed(ip)), Some(ip));
        }
        assert_eq!(undashed("web"), None);
        assert_eq!(undashed("1-2-3"), None);
    }

    #[test]
    fn what_goes_leaves_nothing() {
        let mut c = Catalog::new();
        let ip: IpAddr = "10.244.0.7".parse().unwrap();
        let endpoints = vec![Endpoint { addr: ip, host: None, ready: true }];
        let slice = |owner: &str| {
            Some((owner.into(), Slice { name: "s1".into(), ports: vec![], endpoints: endpoints.clone() }))
        };
        c.set_slice("ns", "s1", slice("web"));
        assert!(c.by_address(ip).is_empty(), "no service yet");
        c.set_service("ns", "web", Some(Service { form: Form::Headless, ports: vec![], publish: false }));
        assert_eq!(c.by_address(ip).len(), 1);
        c.set_slice("ns", "s1", slice("other"));
        assert!(c.by_address(ip).is_empty());
        c.set_slice("ns", "s1", None);
        c.set_service("ns", "web", None);
        assert!(c.namespaces.is_empty() && c.reverse.is_empty());
    }
}
