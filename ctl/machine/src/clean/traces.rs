//! What daemons will make by themselves once they run, recorded before they are installed.

use std::path::Path;

use anyhow::Result;

use crate::{Daemon, Made};

/// Settings the network agent and the proxy write.
const NETWORK_SETTINGS: [&str; 4] = [
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv6.conf.all.forwarding",
    "net.bridge.bridge-nf-call-ip6tables",
];
const PROXY_SETTINGS: [&str; 6] = [
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
];

/// Records what the daemon will leave.
///
/// # Errors
/// When the manifest can't be written.
pub fn expect(made: &mut Made, daemon: &Daemon) -> Result<()> {
    match daemon.name.as_str() {
        "kubelet" => {
            for dir in ["/var/lib/kubelet", "/var/log/pods", "/var/log/containers"] {
                made.contents(Path::new(dir))?;
            }
        }
        "kube-proxy" => {
            for name in NETWORK_SETTINGS[..2].iter().chain(&PROXY_SETTINGS) {
                made.setting(name)?;
            }
        }
        "coxswain-network" => {
            let conf = flag(daemon, "--cni-conf-dir=").unwrap_or("/etc/cni/net.d");
            made.file(&Path::new(conf).join("10-coxswain.conflist"))?;
            made.contents(Path::new("/var/lib/cni"))?;
            for name in NETWORK_SETTINGS {
                made.setting(name)?;
            }
        }
        "coxswain-balancer" => made.contents(Path::new("/var/lib/coxswain/balancer"))?,
        _ => {}
    }
    Ok(())
}

fn flag<'a>(daemon: &'a Daemon, name: &str) -> Option<&'a str> {
    daemon.args.iter().rev().find_map(|a| a.strip_prefix(name))
}
