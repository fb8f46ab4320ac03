//! Flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// DNS of a Kubernetes cluster
#[derive(Parser, Debug)]
#[command(name = "coxswain-dns", version)]
pub struct Flags {
    /// Kubeconfig file; without it the pod's service account is used
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Domain of the cluster
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// File that names the resolvers for all other domains
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Resolvers to ask in place of those in the file, as addresses with or without port
    #[arg(long, value_delimiter = ',', value_parser = upstream)]
    pub upstream: Vec<SocketAddr>,
    /// Own service address, never asked as a resolver
    #[arg(long, value_delimiter = ',', default_value = "10.96.0.10")]
    pub cluster_dns: Vec<IpAddr>,
    /// Address for questions, UDP and TCP
    #[arg(long, default_value = "0.0.0.0:53", value_parser = address)]
    pub listen: SocketAddr,
    /// Address of /health
    #[arg(long, default_value = "0.0.0.0:8080", value_parser = address)]
    pub health_address: SocketAddr,
    /// Address of /ready
    #[arg(long, default_value = "0.0.0.0:8181", value_parser = address)]
    pub ready_address: SocketAddr,
    /// Address of /metrics
    #[arg(long, default_value = "0.0.0.0:9153", value_parser = address)]
    pub metrics_address: SocketAddr,
    /// Seconds that answers about the cluster may be kept
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub ttl: u32,
    /// How long to go on answering after SIGTERM
    #[arg(long, default_value = "2s", value_parser = daemon::flags::duration)]
    pub lameduck: Duration,
    /// Threads, and sockets that share the UDP port; one per processor by default, but not more than four
    #[arg(long)]
    pub workers: Option<usize>,
    /// Log level
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub v: u8,
}

/// An address with port; `:53` is all addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| format!("{text:?} is no address and port"))
}

fn upstream(text: &str) -> Result<SocketAddr, String> {
    let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    plain.or_else(|_| text.parse()).map_err(|_| format!("{text:?} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address(":53").unwrap(), "0.0.0.0:53".parse().unwrap());
        assert_eq!(upstream("192.0.2.1").unwrap().port(), 53);
        assert_eq!(upstream("[::1]:5353").unwrap().port(), 5353);
        assert!(address("x").is_err() && upstream("x").is_err());
        Flags::try_parse_from(["coxswain-dns"]).unwrap();
    }
}
