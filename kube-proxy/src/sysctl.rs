//! Kernel settings the proxy needs. What the machine forbids is logged and survived: in a network namespace some
//! are read-only, and the machine's owner may know better.

use std::fs;
use std::time::Duration;

use crate::config::Conntrack;

/// Most entries that scaling by processors gives.
const SCALED_LIMIT: u32 = 1_048_576;

/// A setting under /proc/sys and its value.
pub type Setting = (&'static str, u32);

/// The settings wanted with this many processors.
pub fn wanted(c: &Conntrack, processors: u32) -> Vec<Setting> {
    let mut list = vec![("net/ipv4/ip_forward", 1), ("net/bridge/bridge-nf-call-iptables", 1)];
    let max = entries(c, processors);
    list.extend((max > 0).then_some(("net/netfilter/nf_conntrack_max", max)));
    let times = [
        ("net/netfilter/nf_conntrack_tcp_timeout_established", c.tcp_established),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", c.tcp_close_wait),
        ("net/netfilter/nf_conntrack_udp_timeout", c.udp),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", c.udp_stream),
    ];
    list.extend(times.into_iter().filter(|t| t.1 > Duration::ZERO).map(|t| (t.0, t.1.as_secs() as u32)));
    list.extend(c.tcp_be_liberal.then_some(("net/netfilter/nf_conntrack_tcp_be_liberal", 1)));
    list
}

fn entries(c: &Conntrack, processors: u32) -> u32 {
    if c.max_per_core == 0 {
        return 0;
    }
    c.max_per_core.saturating_mul(processors).min(SCALED_LIMIT).max(c.min)
}

/// Writes what differs. A limit that is already higher than wanted for forwarding stays as it is.
pub fn apply(settings: &[Setting]) {
    for (name, value) in settings {
        if let Err(error) = set(name, *value) {
            tracing::warn!(setting = name, value, %error, "cannot set a kernel parameter, going on");
        }
    }
}

fn set(name: &str, value: u32) -> std::io::Result<()> {
    let path = format!("/proc/sys/{name}");
    if fs::read_to_string(&path)?.trim() == value.to_string() {
        return Ok(());
    }
    fs::write(path, value.to_string())
}

/// Number of processors.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// Sets the out-of-memory score of this process.
pub fn oom_score(score: i32) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(score, %error, "cannot set the out-of-memory score, going on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_scale_between_their_limits() {
        let c = |max_per_core, min| Conntrack {
            max_per_core,
            min,
            tcp_established: Duration::from_secs(1),
            tcp_close_wait: Duration::ZERO,
            tcp_be_liberal: false,
            udp: Duration::ZERO,
            udp_stream: Duration::ZERO,
        };
        assert_eq!(entries(&c(32768, 131072), 2), 131072);
        assert_eq!(entries(&c(32768, 131072), 8), 262144);
        assert_eq!(entries(&c(32768, 131072), 400), SCALED_LIMIT);
        assert_eq!(entries(&c(0, 131072), 8), 0);
        assert_eq!(wanted(&c(0, 0), 1).len(), 3);
    }
}
