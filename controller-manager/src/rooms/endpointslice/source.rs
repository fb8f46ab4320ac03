//! What Services and pods say about endpoints; shared with the older Endpoints controller.

use std::net::IpAddr;

use control::{Cache, Event, Key};
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::meta::{Labels, namespace, selects_map};
use crate::kit::pods;

/// Index of Services by one pair of their selector, so that a pod finds its Services without looking at all.
pub const BY_SELECTOR: &str = "selector";
/// The mark of a Service without a cluster IP, on its endpoints.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port as an endpoint offers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub name: String,
    pub protocol: String,
    pub port: i32,
    pub app_protocol: Option<String>,
}

/// Adds the index a pod's Services are found by.
pub fn index(services: &Cache<Service>) {
    services.add_index(BY_SELECTOR, |service: &Service| {
        let ns = namespace(&service.metadata).to_string();
        let pair = selector(service).and_then(|s| s.iter().next());
        pair.map(|(k, v)| format!("{ns}/{k}={v}")).into_iter().collect()
    });
}

/// The selector of a Service whose endpoints are ours to keep.
pub fn selector(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|s| !s.is_empty())
}

/// Services whose endpoints a change of a pod may alter.
pub fn affected(services: &Cache<Service>, event: &Event<Pod>) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&event.old, &event.new)
        && says(old) == says(new)
    {
        return Vec::new();
    }
    let mut keys: Vec<Key> =
        event.old.iter().chain(&event.new).flat_map(|pod| selecting(services, pod)).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Everything of a pod that shows in endpoints.
fn says(pod: &Pod) -> impl PartialEq + '_ {
    let status = pod.status.as_ref();
    let spec = pod.spec.as_ref();
    (
        pod.metadata.labels.as_ref(),
        pods::ready(pod),
        pods::finished(pod),
        pod.metadata.deletion_timestamp.is_some(),
        status.and_then(|s| s.pod_ips.as_ref()),
        pods::node(pod),
        spec.and_then(|s| s.hostname.as_ref()),
        pod.metadata.uid.as_ref(),
    )
}

fn selecting(services: &Cache<Service>, pod: &Pod) -> Vec<Key> {
    let ns = namespace(&pod.metadata);
    let labels = pod.metadata.labels.iter().flatten();
    let candidates = labels.flat_map(|(k, v)| services.by_index(BY_SELECTOR, &format!("{ns}/{k}={v}")));
    let fits =
        candidates.filter(|s| selector(s).is_some_and(|s| selects_map(s, pod.metadata.labels.as_ref())));
    fits.map(|s| Key::of(&*s)).collect()
}

/// No cluster IP of its own.
pub fn headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// The ports of a Service as this pod offers them; a named port the pod does not have is left out.
pub fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    spec.ports.iter().flatten().filter_map(|p| resolve(p, pod).map(|number| port(p, number))).collect()
}

fn port(service: &ServicePort, number: i32) -> Port {
    Port {
        name: service.name.clone().unwrap_or_default(),
        protocol: protocol(service.protocol.as_deref()).into(),
        port: number,
        app_protocol: service.app_protocol.clone(),
    }
}

fn protocol(protocol: Option<&str>) -> &str {
    protocol.unwrap_or("TCP")
}

fn resolve(service: &ServicePort, pod: &Pod) -> Option<i32> {
    match &service.target_port {
        None | Some(IntOrString::Int(0)) => Some(service.port),
        Some(IntOrString::Int(n)) => Some(*n),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
            let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let wanted = protocol(service.protocol.as_deref());
            let fits = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
                p.name.as_deref() == Some(name) && protocol(p.protocol.as_deref()) == wanted
            };
            ports.find(fits).map(|p| p.container_port)
        }
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The word of `EndpointSlice.addressType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The family of an address.
    pub fn of(ip: &str) -> Option<Self> {
        Some(if ip.parse::<IpAddr>().ok()?.is_ipv4() { Family::V4 } else { Family::V6 })
    }
}

/// The families of a Service, the primary first.
pub fn families(service: &Service) -> Vec<Family> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let named: Vec<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .map(|f| if f == "IPv6" { Family::V6 } else { Family::V4 })
        .collect();
    if !named.is_empty() {
        return named;
    }
    vec![spec.cluster_ip.as_deref().and_then(Family::of).unwrap_or(Family::V4)]
}

/// A pod's address of a family.
pub fn address(pod: &Pod, family: Family) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    all.into_iter().find(|ip| Family::of(ip) == Some(family))
}

/// The host name DNS gives a pod of a governing Service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let governed = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|h| governed && !h.is_empty())
}
