//! kubeadm's configuration documents (v1beta4): read, defaulted, validated, migrated, printed.
//!
//! [`read_init`] and its siblings take the text of a file of one or more YAML or JSON documents; `default_*` fills in what
//! the file left out, from constants and from [`Facts`] about the machine; `validate_*` says what is wrong, by field.
//! Nothing here talks to the network.

pub mod command;
pub mod components;
pub mod defaults;
pub mod duration;
pub mod facts;
pub mod images;
pub mod print;
pub mod read;
mod schema;
pub mod types;
mod v1beta3;
pub mod validate;

pub use command::{ConfigCommand, Pull, run};
pub use defaults::{default_cluster, default_init, default_join, default_reset, default_upgrade};
pub use duration::GoDuration;
pub use facts::Facts;
pub use images::images;
pub use machinery::field::FieldError;
pub use print::{cluster_document, documents};
pub use read::{Error, read_cluster, read_init, read_join, read_reset, read_upgrade};
pub use types::*;
pub use validate::{validate_cluster, validate_init, validate_join, validate_reset, validate_upgrade};

use serde_json::Value;

/// Version of Kubernetes this build is.
pub const KUBERNETES_VERSION: &str = "v1.36.2";
/// Where kubeadm's files are.
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// Default directory of certificates.
pub const DEFAULT_CERTIFICATES_DIR: &str = "/etc/kubernetes/pki";

/// Something about a file that deserves a line but stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// All documents `init` reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Init {
    /// This machine's part.
    pub init: InitConfiguration,
    /// The cluster's part.
    pub cluster: ClusterConfiguration,
    /// KubeletConfiguration; null before defaulting when the file has none.
    pub kubelet: Value,
    /// KubeProxyConfiguration; null before defaulting when the file has none.
    pub proxy: Value,
    /// The file had a KubeletConfiguration (then its ConfigMap gets no hash annotation).
    pub kubelet_given: bool,
    /// The file had a KubeProxyConfiguration.
    pub proxy_given: bool,
}

/// The document `join` reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Join {
    /// The document.
    pub join: JoinConfiguration,
}

/// `HOST:PORT` clients find any API server under: controlPlaneEndpoint (its port added when it has none), else this
/// machine's own address. IPv6 addresses get brackets.
pub fn control_plane_endpoint(cluster: &ClusterConfiguration, local: &ApiEndpoint) -> String {
    match cluster.control_plane_endpoint.as_str() {
        "" => join_host_port(&local.advertise_address, local.bind_port),
        endpoint => {
            let (host, port) = split_host_port(endpoint);
            join_host_port(host, port.unwrap_or(local.bind_port))
        }
    }
}

/// `HOST:PORT` of this machine's API server.
pub fn local_endpoint(local: &ApiEndpoint) -> String {
    join_host_port(&local.advertise_address, local.bind_port)
}

/// Host and port put together; an IPv6 address gets brackets.
pub fn join_host_port(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Host and port taken apart; a host without brackets that has several colons is an IPv6 address without a port.
pub fn split_host_port(endpoint: &str) -> (&str, Option<i32>) {
    if let Some((host, rest)) = endpoint.strip_prefix('[').and_then(|e| e.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|p| p.parse().ok()));
    }
    match endpoint.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (endpoint, None),
    }
}

/// The n-th address of the first service CIDR: 1 is the API server's, 10 is DNS's. None when the CIDR is bad or too small.
pub fn service_address(cluster: &ClusterConfiguration, n: u32) -> Option<std::net::IpAddr> {
    let first = cluster.networking.service_subnet.split(',').next()?.trim();
    match first.parse::<ipnet::IpNet>().ok()? {
        ipnet::IpNet::V4(net) => {
            let ip = u32::from(net.network()).checked_add(n)?;
            Some(std::net::Ipv4Addr::from(ip).into()).filter(|_| ip <= u32::from(net.broadcast()))
        }
        ipnet::IpNet::V6(net) => {
            let ip = u128::from(net.network()).checked_add(u128::from(n))?;
            Some(std::net::Ipv6Addr::from(ip).into()).filter(|_| ip <= u128::from(net.broadcast()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_apart_and_together() {
        for (text, host, port) in [
            ("api.example", "api.example", None),
            ("api.example:8443", "api.example", Some(8443)),
            ("10.0.0.1:6443", "10.0.0.1", Some(6443)),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]:6443", "fd00::1", Some(6443)),
            ("[fd00::1]", "fd00::1", None),
        ] {
            assert_eq!(split_host_port(text), (host, port), "{text}");
        }
        assert_eq!(join_host_port("fd00::1", 6443), "[fd00::1]:6443");
    }

    #[test]
    fn the_clusters_endpoint_is_the_common_one_or_ones_own() {
        let local = ApiEndpoint { advertise_address: "10.0.0.1".into(), bind_port: 6443 };
        let mut cluster = ClusterConfiguration::default();
        assert_eq!(control_plane_endpoint(&cluster, &local), "10.0.0.1:6443");
        cluster.control_plane_endpoint = "lb.example".into();
        assert_eq!(control_plane_endpoint(&cluster, &local), "lb.example:6443");
    }

    #[test]
    fn addresses_of_services() {
        let mut cluster = ClusterConfiguration::default();
        for (cidr, n, want) in [
            ("10.96.0.0/12", 1, Some("10.96.0.1")),
            ("10.96.0.0/12,fd00::/108", 10, Some("10.96.0.10")),
            ("fd00::/108", 10, Some("fd00::a")),
            ("10.0.0.0/30", 10, None),
            ("nonsense", 1, None),
        ] {
            cluster.networking.service_subnet = cidr.into();
            assert_eq!(service_address(&cluster, n).map(|i| i.to_string()).as_deref(), want, "{cidr}");
        }
    }
}
