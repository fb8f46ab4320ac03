//! Which addresses the node goes by.

use crate::config::Config;
use k8s_openapi::api::core::v1::NodeAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A name server that does not answer keeps no node from starting.
const RESOLVING: Duration = Duration::from_secs(1);

/// Addresses of the host, primary first: --node-ip, else what the host name resolves to, else the source address
/// of the default route.
pub async fn find(config: &Config) -> Vec<IpAddr> {
    let given = given(config);
    if !given.is_empty() {
        return given;
    }
    if let Ok(ip) = config.node_name.parse() {
        return vec![ip];
    }
    let lookup = tokio::net::lookup_host((config.node_name.as_str(), 0));
    let resolved = tokio::time::timeout(RESOLVING, lookup).await;
    let resolved: Vec<IpAddr> =
        resolved.ok().and_then(Result::ok).map(|all| all.map(|a| a.ip()).collect()).unwrap_or_default();
    let wants_v6 = config.node_ips.first().is_some_and(IpAddr::is_ipv6);
    pick(&resolved, wants_v6).or_else(|| outgoing(wants_v6)).into_iter().collect()
}

fn pick(resolved: &[IpAddr], wants_v6: bool) -> Option<IpAddr> {
    let good =
        |ip: &&IpAddr| !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified() && !link_local(ip);
    resolved.iter().filter(good).find(|ip| ip.is_ipv6() == wants_v6).copied()
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The address the kernel would send from. Connecting a UDP socket sends nothing.
fn outgoing(v6: bool) -> Option<IpAddr> {
    let (from, to): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let socket = std::net::UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Whose business status.addresses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The kubelet's own.
    #[default]
    Kubelet,
    /// A cloud controller's. Until it has said its own, those given by --node-ip count, if there are any.
    Cloud { given: bool },
}

impl Source {
    /// By the flags.
    pub fn of(config: &Config) -> Self {
        match config.external_cloud {
            true => Self::Cloud { given: !given(config).is_empty() },
            false => Self::Kubelet,
        }
    }

    /// status.addresses as they should be; `None` to leave them to the cloud controller.
    pub fn choose(
        self,
        had: Option<Vec<NodeAddress>>,
        own: &[IpAddr],
        hostname: &str,
    ) -> Option<Vec<NodeAddress>> {
        let had = had.filter(|had| !had.is_empty());
        match self {
            Self::Cloud { .. } if had.is_some() => had,
            Self::Cloud { given: false } => None,
            _ => Some(render(own, hostname)),
        }
    }
}

/// What --node-ip names.
pub fn given(config: &Config) -> Vec<IpAddr> {
    config.node_ips.iter().copied().filter(|ip| !ip.is_unspecified()).collect()
}

/// status.addresses: InternalIP each, then Hostname.
pub fn render(addresses: &[IpAddr], hostname: &str) -> Vec<NodeAddress> {
    let one = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    let mut out: Vec<NodeAddress> = addresses.iter().map(|ip| one("InternalIP", ip.to_string())).collect();
    out.push(one("Hostname", hostname.to_owned()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fit_address_is_taken() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let all = [ip("127.0.1.1"), ip("::1"), ip("fe80::1"), ip("10.0.0.5"), ip("fd00::5")];
        assert_eq!(pick(&all, false), Some(ip("10.0.0.5")));
        assert_eq!(pick(&all, true), Some(ip("fd00::5")));
        assert_eq!(pick(&all[..2], false), None);
    }

    #[tokio::test]
    async fn node_ip_wins() {
        let config = Config { node_ips: vec!["10.1.1.1".parse().unwrap()], ..Default::default() };
        let found = find(&config).await;
        assert_eq!(found, config.node_ips);
        let rendered = render(&found, "h");
        assert_eq!((rendered[0].type_.as_str(), rendered[1].address.as_str()), ("InternalIP", "h"));
    }

    #[test]
    fn a_cloud_controller_has_the_last_word() {
        let one = |kind: &str, address: &str| NodeAddress { type_: kind.into(), address: address.into() };
        let own = ["10.0.0.1".parse().unwrap()];
        let theirs = Some(vec![one("ExternalIP", "1.2.3.4")]);
        let rendered = Some(vec![one("InternalIP", "10.0.0.1"), one("Hostname", "h")]);
        for (source, had, want) in [
            (Source::Kubelet, theirs.clone(), rendered.clone()),
            (Source::Cloud { given: true }, theirs.clone(), theirs.clone()),
            (Source::Cloud { given: true }, None, rendered.clone()),
            (Source::Cloud { given: false }, theirs.clone(), theirs),
            (Source::Cloud { given: false }, Some(vec![]), None),
        ] {
            assert_eq!(source.choose(had, &own, "h"), want);
        }
    }
}
