//! Flags.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Chooses a node for every pod that has none.
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-scheduler", version)]
pub struct Flags {
    /// KubeSchedulerConfiguration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// How to reach the API server
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// How to reach the API server for checking callers; by default as --kubeconfig
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// How to reach the API server for checking what callers may do; by default as --kubeconfig
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Address of the secure port
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// The secure port; 0 serves nothing
    #[arg(long, default_value_t = 10259)]
    pub secure_port: u16,
    /// Certificate of the secure port; self-signed by default
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authority of client certificates
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Stand for election before acting
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// How long others wait after the leader's last renewal
    #[arg(long, default_value = "15s", value_parser = daemon::flags::duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew
    #[arg(long, default_value = "10s", value_parser = daemon::flags::duration)]
    pub leader_elect_renew_deadline: Duration,
    /// Pause between attempts
    #[arg(long, default_value = "2s", value_parser = daemon::flags::duration)]
    pub leader_elect_retry_period: Duration,
    /// Name of the lease
    #[arg(long, default_value = "kube-scheduler")]
    pub leader_elect_resource_name: String,
    /// Namespace of the lease
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// How much to log
    #[arg(short, long, default_value_t = 0)]
    pub v: u8,
}

/// Upstream's flags that are taken without effect; `!` marks those that need no value.
pub const ACCEPTED: &[&str] = &[
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "authentication-skip-lookup!",
    "authentication-token-webhook-cache-ttl",
    "authentication-tolerate-lookup-failure!",
    "authorization-always-allow-paths",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "cert-dir",
    "contention-profiling!",
    "disable-http2-serving!",
    "disabled-metrics",
    "emulated-version",
    "feature-gates",
    "http2-max-streams-per-connection",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "leader-elect-resource-lock",
    "log-flush-frequency",
    "logging-format",
    "min-compatibility-version",
    "permit-address-sharing!",
    "permit-port-sharing!",
    "pod-max-in-unschedulable-pods-duration",
    "profiling!",
    "requestheader-allowed-names",
    "requestheader-client-ca-file",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-uid-headers",
    "requestheader-username-headers",
    "show-hidden-metrics-for-version",
    "tls-cipher-suites",
    "tls-curve-preferences",
    "tls-min-version",
    "tls-sni-cert-key",
    "vmodule",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
        let flags =
            Flags::try_parse_from(["kube-scheduler", "--leader-elect=false", "--kubeconfig=/x"]).unwrap();
        assert!(!flags.leader_elect);
    }
}
