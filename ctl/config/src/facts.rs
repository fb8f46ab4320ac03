//! What the machine says of itself, where a document is silent.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use nix::net::if_::InterfaceFlags;

/// The sockets of container runtimes kubeadm looks for, in its order.
pub const KNOWN_SOCKETS: [&str; 3] = [
    "unix:///var/run/containerd/containerd.sock",
    "unix:///var/run/crio/crio.sock",
    "unix:///var/run/cri-dockerd.sock",
];

/// What the machine says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Host name, lower case.
    pub hostname: String,
    /// Address of the interface of the default route; none when there is no route.
    pub default_ip: Option<IpAddr>,
    /// Sockets of container runtimes found, as `unix://` addresses.
    pub cri_sockets: Vec<String>,
    /// The machine has cgroup v1 only.
    pub cgroup_v1: bool,
    /// The container runtime leaves cgroups to systemd (its own configuration says so, and systemd is process 1).
    pub systemd_cgroups: bool,
    /// systemd-resolved answers DNS here, so pods need its upstream list.
    pub systemd_resolved: bool,
}

impl Facts {
    /// Looks at this machine. Nothing is sent: the route's address comes from a connected, silent socket.
    pub fn gather() -> Self {
        Self {
            hostname: hostname(),
            default_ip: default_ip(),
            cri_sockets: cri_sockets(),
            cgroup_v1: !Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            systemd_cgroups: Path::new("/run/systemd/system").exists() && containerd_uses_systemd(),
            systemd_resolved: Path::new("/run/systemd/resolve/resolv.conf").exists(),
        }
    }
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().trim().to_lowercase()
}

/// The address this machine would call from; connecting a datagram socket sends nothing. A machine cut off from the world
/// has no default route: its only address will do then.
fn default_ip() -> Option<IpAddr> {
    route_source("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|| route_source("[::]:0", "[2001:db8::1]:9"))
        .or_else(|| only(interface_addresses()))
}

/// Addresses of interfaces that are up, with the interfaces' names.
fn interface_addresses() -> Vec<(String, IpAddr)> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let up = all.filter(|i| i.flags.contains(InterfaceFlags::IFF_UP));
    let address = |i: nix::ifaddrs::InterfaceAddress| {
        Some((i.interface_name, i.address?.as_sockaddr_in()?.ip().into()))
    };
    up.filter_map(address).collect()
}

/// The one address other machines may know this one by, if there is just one. Bridges of containers have none such.
fn only(addresses: Vec<(String, IpAddr)>) -> Option<IpAddr> {
    const BRIDGES: [&str; 6] = ["cni", "docker", "br-", "veth", "flannel", "virbr"];
    let fit = |(name, ip): &(String, IpAddr)| {
        let local = matches!(ip, IpAddr::V4(v4) if v4.is_link_local() || v4.is_loopback());
        !local && !BRIDGES.iter().any(|b| name.starts_with(b))
    };
    let mut fitting = addresses.into_iter().filter(fit);
    match (fitting.next(), fitting.next()) {
        (Some((_, ip)), None) => Some(ip),
        _ => None,
    }
}

fn route_source(bind: &str, towards: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(bind).ok()?;
    socket.connect(towards).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

fn cri_sockets() -> Vec<String> {
    KNOWN_SOCKETS
        .iter()
        .filter(|s| Path::new(s.trim_start_matches("unix://")).exists())
        .map(|s| s.to_string())
        .collect()
}

fn containerd_uses_systemd() -> bool {
    std::fs::read_to_string("/etc/containerd/config.toml").is_ok_and(|text| says_systemd(&text))
}

fn says_systemd(config: &str) -> bool {
    config.lines().any(|line| {
        let line: String = line.split('#').next().unwrap_or("").split_whitespace().collect();
        line.eq_ignore_ascii_case("SystemdCgroup=true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_choice_of_cgroups() {
        assert!(says_systemd("[x]\n  SystemdCgroup = true # yes\n"));
        assert!(!says_systemd("# SystemdCgroup = true\nSystemdCgroup = false\n"));
    }

    #[test]
    fn an_only_address_stands_in_for_a_route() {
        let of = |list: &[(&str, &str)]| {
            only(list.iter().map(|(name, ip)| (name.to_string(), ip.parse().unwrap())).collect())
                .map(|ip| ip.to_string())
        };
        let one =
            [("lo", "127.0.0.1"), ("eth0", "10.0.0.5"), ("docker0", "172.17.0.1"), ("eth1", "169.254.3.4")];
        assert_eq!(of(&one).as_deref(), Some("10.0.0.5"));
        assert_eq!(of(&[("eth0", "10.0.0.5"), ("eth1", "10.1.0.5")]), None);
        assert_eq!(of(&[("lo", "127.0.0.1")]), None);
    }

    #[test]
    fn a_machine_has_a_name() {
        let facts = Facts::gather();
        assert_eq!(facts.hostname, facts.hostname.to_lowercase());
    }
}
