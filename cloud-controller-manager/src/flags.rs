//! The command line, with upstream's flag names and defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use daemon::flags::{duration, split_accepted};

/// Flags of the daemon. Durations are in Go's form.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "cloud-controller-manager",
    version,
    args_override_self = true,
    about = "Ties the cluster's nodes, load balancers and routes to those of a cloud, or of a rack"
)]
pub struct Config {
    /// Kubeconfig file; without it the pod's service account is used
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    #[arg(long, default_value_t = 10258)]
    pub secure_port: u16,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,

    /// The provider; `coxswain` is the one built in
    #[arg(long, default_value = "")]
    pub cloud_provider: String,
    /// The provider's own configuration
    #[arg(long)]
    pub cloud_config: Option<PathBuf>,
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub allow_untagged_cloud: bool,
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub configure_cloud_routes: bool,
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<String>,
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub node_monitor_period: Duration,
    #[arg(long, value_parser = duration, default_value = "5m0s")]
    pub node_status_update_frequency: Duration,
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub route_reconciliation_period: Duration,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrent_service_syncs: u16,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrent_node_syncs: u16,
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,

    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub leader_elect: bool,
    #[arg(long, value_parser = duration, default_value = "15s")]
    pub leader_elect_lease_duration: Duration,
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub leader_elect_renew_deadline: Duration,
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub leader_elect_retry_period: Duration,
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    #[arg(long, default_value = "cloud-controller-manager")]
    pub leader_elect_resource_name: String,

    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

impl Config {
    /// Whether a controller is to run: named, or `*` and not `-NAME`. Upstream's old names count too.
    pub fn enabled(&self, name: &str, old: &str) -> bool {
        let is = |given: &str| given == name || given == old;
        if self.controllers.iter().any(|c| c.strip_prefix('-').is_some_and(is)) {
            return false;
        }
        self.controllers.iter().any(|c| c == "*" || is(c))
    }
}

/// Upstream's flags that have no effect here; those ending in `!` take no value.
const ACCEPTED: &[&str] = &[
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "authentication-skip-lookup!",
    "authentication-token-webhook-cache-ttl",
    "authentication-tolerate-lookup-failure!",
    "authorization-always-allow-paths",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "cert-dir",
    "cidr-allocator-type",
    "concurrent-node-status-updates",
    "contention-profiling!",
    "controller-start-interval",
    "disable-http2-serving!",
    "disabled-metrics",
    "emulated-version",
    "enable-leader-migration!",
    "external-cloud-volume-plugin",
    "feature-gates",
    "http2-max-streams-per-connection",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "leader-elect-resource-lock",
    "leader-migration-config",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream!",
    "log-text-info-buffer-size",
    "log-text-split-stream!",
    "logging-format",
    "master",
    "min-compatibility-version",
    "min-resync-period",
    "node-cidr-mask-size",
    "node-cidr-mask-size-ipv4",
    "node-cidr-mask-size-ipv6",
    "node-sync-period",
    "permit-address-sharing!",
    "permit-port-sharing!",
    "profiling!",
    "requestheader-allowed-names",
    "requestheader-client-ca-file",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-uid-headers",
    "requestheader-username-headers",
    "service-cluster-ip-range",
    "show-hidden-metrics-for-version",
    "tls-cipher-suites",
    "tls-curve-preferences",
    "tls-min-version",
    "tls-sni-cert-key",
    "use-service-account-credentials!",
    "vmodule",
    "webhook-bind-address",
    "webhook-cert-dir",
    "webhook-disable-http2-serving!",
    "webhook-secure-port",
    "webhook-tls-cert-file",
    "webhook-tls-cipher-suites",
    "webhook-tls-curve-preferences",
    "webhook-tls-min-version",
    "webhook-tls-private-key-file",
    "webhook-tls-sni-cert-key",
    "webhooks",
];

/// Parses the command line; on a mistake it says so and ends the process. The second part names accepted flags
/// that have no effect.
pub fn parse(args: Vec<String>) -> (Config, Vec<String>) {
    let (args, ignored) = split_accepted(args, ACCEPTED);
    (Config::parse_from(args), ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> (Config, Vec<String>) {
        parse(format!("cloud-controller-manager {line}").split_whitespace().map(String::from).collect())
    }

    #[test]
    fn a_usual_command_line() {
        let (config, ignored) = of("--cloud-provider=external --leader-elect --allocate-node-cidrs=true \
            --use-service-account-credentials --webhooks=a --node-monitor-period 7s --v=2");
        assert_eq!(
            (config.secure_port, config.leader_elect, config.allocate_node_cidrs),
            (10258, true, true)
        );
        assert_eq!(config.leader_elect_resource_name, "cloud-controller-manager");
        assert_eq!(config.node_monitor_period.as_secs(), 7);
        assert_eq!(ignored, ["use-service-account-credentials", "webhooks"]);
    }

    #[test]
    fn controllers_are_chosen_by_new_and_old_names() {
        let on = |line: &str| of(line).0.enabled("service-lb-controller", "service");
        assert!(on("") && on("--controllers=service") && on("--controllers=service-lb-controller,x"));
        assert!(!on("--controllers=*,-service") && !on("--controllers=cloud-node"));
    }
}
