//! Services and EndpointSlices in the compact form the proxy keeps: only what the rules of one family need.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::model::{Family, Proto, ServiceName};

/// Label that takes a service away from this proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of slices of headless services.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Label of a slice that names its service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Annotation of a slice: when the change that led to it happened.
pub const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name, which joins it to slices' ports; may be empty.
    pub name: Box<str>,
    /// Protocol.
    pub proto: Proto,
    /// Port at the service's addresses.
    pub port: u16,
    /// Port at nodes' addresses; 0 is none.
    pub node_port: u16,
}

/// What the proxy keeps of a service, for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Cluster IP of the family.
    pub cluster_ip: IpAddr,
    /// Ports.
    pub ports: Vec<PortInfo>,
    /// `externalIPs` of the family.
    pub external_ips: Vec<IpAddr>,
    /// Load balancer addresses of the family that are programmed here (ipMode VIP).
    pub vips: Vec<IpAddr>,
    /// Sources allowed to use the load balancer; empty is everybody.
    pub sources: Vec<IpNet>,
    /// Whether source ranges were given, even if none is of this family.
    pub restricted: bool,
    /// Seconds of client affinity, 0 none.
    pub sticky: u32,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `healthCheckNodePort` of a load balancer with external policy Local; 0 is none.
    pub health_port: u16,
}

impl ServiceInfo {
    /// Whether a port can be reached from outside the cluster.
    pub fn external(&self, port: &PortInfo) -> bool {
        port.node_port != 0 || !self.external_ips.is_empty() || !self.vips.is_empty()
    }
}

/// One endpoint of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointInfo {
    /// First address.
    pub addr: IpAddr,
    /// Condition ready (absent is true).
    pub ready: bool,
    /// Condition serving (absent is true).
    pub serving: bool,
    /// Condition terminating.
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    /// Hints by zone, as seen from this node.
    pub zone: Hint,
    /// Hints by node, as seen from this node.
    pub node: Hint,
}

/// What a topology hint says about this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// No hint of this sort.
    Absent,
    /// For others only.
    Other,
    /// For this node.
    Here,
}

/// What the proxy keeps of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceInfo {
    /// Ports with name, protocol and number.
    pub ports: Vec<(Box<str>, Proto, u16)>,
    /// Endpoints.
    pub endpoints: Vec<EndpointInfo>,
}

/// This node as far as endpoints are judged by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Node name.
    pub node: String,
    /// Label `topology.kubernetes.io/zone`, empty when absent.
    pub zone: String,
}

/// `namespace/name` of an object.
pub fn name_of(namespace: Option<&str>, name: Option<&str>) -> ServiceName {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()).into()
}

/// Reads a service; nothing when it has no cluster IP of this family or belongs to another proxy.
pub fn service(svc: &Service, family: Family) -> Option<ServiceInfo> {
    let spec = svc.spec.as_ref()?;
    let foreign = svc.metadata.labels.as_ref().is_some_and(|l| l.contains_key(PROXY_NAME_LABEL));
    if foreign || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let cluster_ip = cluster_ip(svc, family)?;
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let (sources, restricted) = sources(svc, family);
    Some(ServiceInfo {
        cluster_ip,
        ports: spec.ports.iter().flatten().filter_map(port).collect(),
        external_ips: addresses(spec.external_ips.iter().flatten(), family),
        vips: vips(svc, family),
        sources,
        restricted,
        sticky: sticky(svc),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local,
        health_port: spec.health_check_node_port.filter(|_| external_local).map_or(0, |p| p as u16),
    })
}

fn cluster_ip(svc: &Service, family: Family) -> Option<IpAddr> {
    let spec = svc.spec.as_ref()?;
    let all = spec.cluster_ips.as_ref().filter(|v| !v.is_empty());
    let single = spec.cluster_ip.as_slice();
    let ips = all.map_or(single, Vec::as_slice);
    ips.iter().filter_map(|s| s.parse::<IpAddr>().ok()).find(|ip| Family::of(*ip) == family)
}

fn port(p: &ServicePort) -> Option<PortInfo> {
    Some(PortInfo {
        name: p.name.as_deref().unwrap_or_default().into(),
        proto: Proto::parse(p.protocol.as_deref().unwrap_or_default())?,
        port: u16::try_from(p.port).ok()?,
        node_port: p.node_port.and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
    })
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>, family: Family) -> Vec<IpAddr> {
    texts.filter_map(|s| s.trim().parse::<IpAddr>().ok()).filter(|ip| Family::of(*ip) == family).collect()
}

fn vips(svc: &Service, family: Family) -> Vec<IpAddr> {
    let status = svc.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.and_then(|l| l.ingress.as_ref()).into_iter().flatten();
    let programmed = ingress.filter(|i| i.ip_mode.as_deref().is_none_or(|m| m == "VIP"));
    addresses(programmed.filter_map(|i| i.ip.as_ref()), family)
}

/// Source ranges of the family. A range of everything lifts the restriction.
fn sources(svc: &Service, family: Family) -> (Vec<IpNet>, bool) {
    let listed = svc.spec.as_ref().and_then(|s| s.load_balancer_source_ranges.as_ref()).into_iter().flatten();
    let nets: Vec<IpNet> = listed.filter_map(|s| s.trim().parse().ok()).collect();
    let of_family: Vec<IpNet> = nets.iter().filter(|n| Family::of(n.addr()) == family).copied().collect();
    if of_family.iter().any(|n| n.prefix_len() == 0) {
        return (Vec::new(), false);
    }
    (of_family, !nets.is_empty())
}

fn sticky(svc: &Service) -> u32 {
    let Some(spec) = svc.spec.as_ref().filter(|s| s.session_affinity.as_deref() == Some("ClientIP")) else {
        return 0;
    };
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    config
        .and_then(|c| c.timeout_seconds)
        .and_then(|t| u32::try_from(t).ok())
        .filter(|t| *t > 0)
        .unwrap_or(10800)
}

/// Service a slice belongs to; nothing for slices the proxy does not look at.
pub fn slice_service(slice: &EndpointSlice) -> Option<ServiceName> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.contains_key(HEADLESS_LABEL) {
        return None;
    }
    Some(name_of(slice.metadata.namespace.as_deref(), Some(labels.get(SERVICE_LABEL)?)))
}

/// Reads a slice; nothing when it is of another family.
pub fn slice(slice: &EndpointSlice, family: Family, place: &Place) -> Option<SliceInfo> {
    if slice.address_type != family.label() {
        return None;
    }
    let ports = slice.ports.iter().flatten().filter_map(|p| {
        let number = p.port.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)?;
        Some((p.name.as_deref()?.into(), Proto::parse(p.protocol.as_deref().unwrap_or_default())?, number))
    });
    let mut endpoints: Vec<EndpointInfo> =
        slice.endpoints.iter().flatten().filter_map(|e| endpoint(e, place)).collect();
    endpoints.shrink_to_fit();
    Some(SliceInfo { ports: ports.collect(), endpoints })
}

fn endpoint(e: &Endpoint, place: &Place) -> Option<EndpointInfo> {
    let condition = e.conditions.as_ref();
    let zones =
        e.hints.as_ref().and_then(|h| h.for_zones.as_ref()).into_iter().flatten().map(|z| z.name.as_str());
    let nodes =
        e.hints.as_ref().and_then(|h| h.for_nodes.as_ref()).into_iter().flatten().map(|n| n.name.as_str());
    Some(EndpointInfo {
        addr: e.addresses.first()?.parse().ok()?,
        ready: condition.and_then(|c| c.ready).unwrap_or(true),
        serving: condition.and_then(|c| c.serving).unwrap_or(true),
        terminating: condition.and_then(|c| c.terminating).unwrap_or(false),
        local: e.node_name.as_deref() == Some(place.node.as_str()),
        zone: hint(zones, &place.zone),
        node: hint(nodes, &place.node),
    })
}

fn hint<'a>(names: impl Iterator<Item = &'a str>, own: &str) -> Hint {
    names.fold(Hint::Absent, |seen, name| match seen {
        Hint::Here => Hint::Here,
        _ if !own.is_empty() && name == own => Hint::Here,
        _ => Hint::Other,
    })
}

/// Reads the time that started a slice's change, as seconds since the epoch.
pub fn trigger_time(slice: &EndpointSlice) -> Option<f64> {
    let text = slice.metadata.annotations.as_ref()?.get(TRIGGER_ANNOTATION)?;
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_nanosecond() as f64 / 1e9)
}

/// Shares an object name so that many keys do not hold many copies.
pub fn shared(name: &str) -> Arc<str> {
    Arc::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn svc(spec: serde_json::Value, status: serde_json::Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn reads_a_load_balancer() {
        let s = svc(
            json!({"clusterIPs": ["10.96.0.9", "fd00::9"], "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
                   "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": [" 192.0.2.0/24", "2001:db8::/32"],
                   "externalIPs": ["198.51.100.1", "2001:db8::5"], "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
            json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "x"}]}}),
        );
        let v4 = service(&s, Family::V4).unwrap();
        assert_eq!(v4.cluster_ip.to_string(), "10.96.0.9");
        assert_eq!((v4.sticky, v4.health_port, v4.external_local, v4.restricted), (10800, 31000, true, true));
        assert_eq!(v4.vips, ["203.0.113.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(v4.sources, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
        assert_eq!(service(&s, Family::V6).unwrap().external_ips, ["2001:db8::5".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn leaves_out_what_is_not_proxied() {
        for spec in
            [json!({"clusterIP": "None"}), json!({"type": "ExternalName", "externalName": "x"}), json!({})]
        {
            assert_eq!(service(&svc(spec, json!({})), Family::V4), None);
        }
        let mut s = svc(json!({"clusterIP": "10.0.0.1"}), json!({}));
        assert!(service(&s, Family::V4).is_some());
        s.metadata.labels = Some([(PROXY_NAME_LABEL.to_owned(), "other".to_owned())].into());
        assert_eq!(service(&s, Family::V4), None);
    }

    #[test]
    fn a_range_of_everything_lifts_the_restriction() {
        let s = svc(
            json!({"clusterIP": "10.0.0.1", "loadBalancerSourceRanges": ["0.0.0.0/0", "10.0.0.0/8"]}),
            json!({}),
        );
        let info = service(&s, Family::V4).unwrap();
        assert!(info.sources.is_empty() && !info.restricted);
    }

    #[test]
    fn reads_a_slice() {
        let s: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "labels": {SERVICE_LABEL: "web"}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"port": 1}, {"name": "none"}],
            "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "n1", "hints": {"forZones": [{"name": "b"}, {"name": "a"}]}},
                          {"addresses": ["10.244.1.2"], "conditions": {"ready": false, "serving": true, "terminating": true}}]
        })).unwrap();
        let place = Place { node: "n1".into(), zone: "a".into() };
        let info = slice(&s, Family::V4, &place).unwrap();
        assert_eq!(slice_service(&s).as_deref(), Some("ns/web"));
        assert_eq!(info.ports, [("http".into(), Proto::Tcp, 8080)]);
        assert!(info.endpoints[0].local && info.endpoints[0].ready && info.endpoints[0].zone == Hint::Here);
        assert!(
            !info.endpoints[1].ready
                && info.endpoints[1].terminating
                && info.endpoints[1].zone == Hint::Absent
        );
        assert_eq!(slice(&s, Family::V6, &place), None);
    }
}
