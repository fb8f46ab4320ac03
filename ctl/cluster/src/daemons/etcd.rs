//! etcd's unit.

use coxctl_config::{LocalEtcd, join_host_port};
use coxctl_machine::Daemon;

use super::{Args, ETCD, daemon};

/// A member as others name it: `(name, peer URL)`.
pub type Peer = (String, String);

/// What etcd is told of itself.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// Its name: the node's.
    pub name: &'a str,
    /// The address others reach it at.
    pub advertise: &'a str,
    /// The directory of certificates.
    pub pki: &'a str,
    /// The user's part.
    pub local: &'a LocalEtcd,
    /// All members when it joins others; empty when it begins a cluster.
    pub existing: &'a [Peer],
    /// Its version, as `(3, 4)`; later ones know further flags.
    pub version: (u32, u32),
}

/// `https://IP:2379`.
pub fn client_url(address: &str) -> String {
    format!("https://{}", join_host_port(address, 2379))
}

/// `https://IP:2380`.
pub fn peer_url(address: &str) -> String {
    format!("https://{}", join_host_port(address, 2380))
}

/// The version in the first line of `etcd --version`; 3.4 when it can't be read.
pub fn version(text: &str) -> (u32, u32) {
    let number = text.lines().next().and_then(|l| l.rsplit(' ').next()).unwrap_or_default();
    let mut parts = number.split('.').map(|p| p.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => (3, 4),
    }
}

/// etcd of one control plane.
pub fn unit(member: &Member<'_>) -> Daemon {
    let args = args(member).with(&member.local.extra_args);
    daemon(ETCD, "etcd", args.list(), &member.local.extra_envs, &[])
}

fn args(m: &Member<'_>) -> Args {
    let (client, peer) = (client_url(m.advertise), peer_url(m.advertise));
    let pki = |file: &str| format!("{}/etcd/{file}", m.pki);
    let loopback = if m.advertise.contains(':') { "[::1]" } else { "127.0.0.1" };
    let args = Args::default()
        .set("name", m.name)
        .set("data-dir", &m.local.data_dir)
        .set("advertise-client-urls", &client)
        .set("listen-client-urls", format!("https://{loopback}:2379,{client}"))
        .set("initial-advertise-peer-urls", &peer)
        .set("listen-peer-urls", &peer)
        .set("listen-metrics-urls", format!("http://{loopback}:2381"))
        .set("cert-file", pki("server.crt"))
        .set("key-file", pki("server.key"))
        .set("trusted-ca-file", pki("ca.crt"))
        .set("client-cert-auth", true)
        .set("peer-cert-file", pki("peer.crt"))
        .set("peer-key-file", pki("peer.key"))
        .set("peer-trusted-ca-file", pki("ca.crt"))
        .set("peer-client-cert-auth", true)
        .set("snapshot-count", 10000);
    by_version(membership(args, m, &peer), m.version)
}

fn membership(args: Args, m: &Member<'_>, peer: &str) -> Args {
    if m.existing.is_empty() {
        return args.set("initial-cluster", format!("{}={peer}", m.name));
    }
    let all: Vec<String> = m.existing.iter().map(|(name, url)| format!("{name}={url}")).collect();
    args.set("initial-cluster", all.join(",")).set("initial-cluster-state", "existing")
}

/// Flags whose names depend on the version.
fn by_version(args: Args, version: (u32, u32)) -> Args {
    let args = match version {
        v if v < (3, 5) => args.set("logger", "zap").set("log-outputs", "stderr"),
        _ => args,
    };
    match version {
        v if v < (3, 6) => args.set("experimental-initial-corrupt-check", true),
        _ => {
            args.set("feature-gates", "InitialCorruptCheck=true").set("watch-progress-notify-interval", "5s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit_of(existing: &[Peer], version: (u32, u32)) -> Vec<String> {
        let local = LocalEtcd { data_dir: "/var/lib/etcd".into(), ..LocalEtcd::default() };
        let member = Member { name: "a", advertise: "10.0.0.1", pki: "/p", local: &local, existing, version };
        unit(&member).args
    }

    #[test]
    fn a_first_member_and_one_that_joins() {
        let first = unit_of(&[], (3, 4));
        assert!(first.contains(&"--initial-cluster=a=https://10.0.0.1:2380".to_string()), "{first:?}");
        assert!(!first.iter().any(|a| a.starts_with("--feature-gates")));
        let peers =
            [("b".to_string(), "https://b:2380".to_string()), ("a".into(), "https://10.0.0.1:2380".into())];
        let second = unit_of(&peers, (3, 6));
        assert!(second.contains(&"--initial-cluster=b=https://b:2380,a=https://10.0.0.1:2380".to_string()));
        assert!(second.contains(&"--initial-cluster-state=existing".to_string()));
        assert!(second.contains(&"--feature-gates=InitialCorruptCheck=true".to_string()));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("etcd Version: 3.4.23\nGit SHA: x"), (3, 4));
        assert_eq!(version("etcd Version: 3.6.8"), (3, 6));
        assert_eq!(version("?"), (3, 4));
    }
}
