//! The command line, with upstream's flag names and defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use daemon::flags::{duration, split_accepted};

/// Flags of the daemon. Durations are in Go's form.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "kube-controller-manager",
    version,
    args_override_self = true,
    about = "Moves the cluster towards what its objects ask for"
)]
pub struct Config {
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
    #[arg(long, default_value_t = 10257)]
    pub secure_port: u16,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
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
    #[arg(long, default_value = "kube-controller-manager")]
    pub leader_elect_resource_name: String,
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub use_service_account_credentials: bool,
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub controller_shutdown_timeout: Duration,

    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<String>,
    #[arg(long, default_value_t = 0)]
    pub node_cidr_mask_size: u8,
    #[arg(long, default_value_t = 0)]
    pub node_cidr_mask_size_ipv4: u8,
    #[arg(long, default_value_t = 0)]
    pub node_cidr_mask_size_ipv6: u8,

    #[arg(long, value_parser = duration, default_value = "50s")]
    pub node_monitor_grace_period: Duration,
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub node_monitor_period: Duration,
    #[arg(long, value_parser = duration, default_value = "1m0s")]
    pub node_startup_grace_period: Duration,
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f64,

    #[arg(long, value_parser = duration, default_value = "15s")]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    #[arg(long, value_parser = duration, default_value = "5m0s")]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    #[arg(long, value_parser = duration, default_value = "5m0s")]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    #[arg(long, value_parser = duration, default_value = "30s")]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    #[arg(long, default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,

    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    #[arg(long, value_parser = duration, default_value = "8760h0m0s")]
    pub cluster_signing_duration: Duration,
    /// Tokens in Secrets unused for so long are declared invalid, and deleted after as long again.
    #[arg(long, value_parser = duration, default_value = "8760h0m0s")]
    pub legacy_service_account_token_clean_up_period: Duration,

    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub enable_garbage_collector: bool,
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: i64,
    #[arg(long, default_value_t = 100)]
    pub max_endpoints_per_slice: usize,
    #[arg(long, default_value_t = 1000)]
    pub mirroring_max_endpoints_per_subset: usize,
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    #[arg(long, value_parser = duration, default_value = "5m0s")]
    pub resource_quota_sync_period: Duration,
    #[arg(long, value_parser = duration, default_value = "5m0s")]
    pub namespace_sync_period: Duration,

    /// Workers per controller: upstream's `--concurrent-<what>-syncs`, gathered.
    #[arg(skip)]
    pub concurrency: Vec<(String, usize)>,
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

impl Config {
    /// How many keys a controller works on at a time.
    pub fn workers(&self, what: &str, default: usize) -> usize {
        let set = self.concurrency.iter().rev().find(|(name, _)| name == what);
        set.map_or(default, |(_, n)| (*n).clamp(1, 1000))
    }

    /// Threads of the runtime: the work is waiting for the API server, which needs few.
    pub fn threads(&self) -> usize {
        std::thread::available_parallelism().map_or(2, |n| n.get().clamp(1, 4))
    }
}

/// Upstream's flags that have no effect here; those ending in `!` take no value.
const ACCEPTED: &[&str] = &[
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "allow-untagged-cloud!",
    "attach-detach-reconcile-sync-period",
    "authentication-skip-lookup!",
    "authentication-token-webhook-cache-ttl",
    "authentication-tolerate-lookup-failure!",
    "authorization-always-allow-paths",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "cert-dir",
    "cidr-allocator-type",
    "cloud-config",
    "cloud-provider",
    "cluster-name",
    "cluster-signing-legacy-unknown-cert-file",
    "cluster-signing-legacy-unknown-key-file",
    "configure-cloud-routes!",
    "contention-profiling!",
    "controller-start-interval",
    "disable-attach-detach-reconcile-sync!",
    "disable-force-detach-on-timeout!",
    "disable-http2-serving!",
    "disabled-metrics",
    "emulated-version",
    "enable-dynamic-provisioning!",
    "enable-hostpath-provisioner!",
    "enable-leader-migration!",
    "endpoint-updates-batch-period",
    "endpointslice-updates-batch-period",
    "external-cloud-volume-plugin",
    "feature-gates",
    "flex-volume-plugin-dir",
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
    "mirroring-endpointslice-updates-batch-period",
    "node-sync-period",
    "permit-address-sharing!",
    "permit-port-sharing!",
    "profiling!",
    "pv-recycler-increment-timeout-nfs",
    "pv-recycler-minimum-timeout-hostpath",
    "pv-recycler-minimum-timeout-nfs",
    "pv-recycler-pod-template-filepath-hostpath",
    "pv-recycler-pod-template-filepath-nfs",
    "pv-recycler-timeout-increment-hostpath",
    "pvclaimbinder-sync-period",
    "requestheader-allowed-names",
    "requestheader-client-ca-file",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-uid-headers",
    "requestheader-username-headers",
    "route-reconciliation-period",
    "show-hidden-metrics-for-version",
    "tls-cipher-suites",
    "tls-curve-preferences",
    "tls-min-version",
    "tls-sni-cert-key",
    "vmodule",
];

/// Parses the command line; on a mistake it says so and ends the process. The second part names accepted flags
/// that have no effect.
pub fn parse(args: Vec<String>) -> (Config, Vec<String>) {
    let (args, concurrency) = take_concurrency(args);
    let (mut args, ignored) = split_accepted(args, ACCEPTED);
    // An empty file name is none, as kubeadm says it where the authority's key is elsewhere.
    args.retain(|arg| !(arg.starts_with("--") && arg.ends_with("-file=")));
    let mut config = Config::parse_from(args);
    config.concurrency = concurrency;
    (config, ignored)
}

/// Takes `--concurrent-X-syncs=N` out of the arguments.
fn take_concurrency(args: Vec<String>) -> (Vec<String>, Vec<(String, usize)>) {
    let (mut rest, mut found) = (Vec::new(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (flag, value) =
            arg.split_once('=').map_or((arg.as_str(), None), |(f, v)| (f, Some(v.to_string())));
        let name =
            flag.strip_prefix("--concurrent-").and_then(|n| n.strip_suffix("-syncs")).map(str::to_string);
        match name {
            None => rest.push(arg),
            Some(name) => {
                let value = value.or_else(|| args.next()).unwrap_or_default();
                found.extend(value.parse().ok().map(|n| (name, n)));
            }
        }
    }
    (rest, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_command_line() {
        let line = "kube-controller-manager --allocate-node-cidrs=true --bind-address=127.0.0.1 \
            --controllers=*,bootstrap-signer-controller,-job --cluster-cidr=10.244.0.0/16 --leader-elect=false \
            --use-service-account-credentials=true --concurrent-deployment-syncs 9 --vmodule=a=1 --v=2 \
            --requestheader-client-ca-file=/etc/x --cluster-signing-cert-file= --cluster-signing-key-file=";
        let (config, ignored) = parse(line.split_whitespace().map(String::from).collect());
        assert!(config.allocate_node_cidrs && config.use_service_account_credentials && !config.leader_elect);
        assert_eq!(config.controllers, ["*", "bootstrap-signer-controller", "-job"]);
        assert_eq!((config.workers("deployment", 5), config.workers("job", 5)), (9, 5));
        assert_eq!(config.node_monitor_grace_period.as_secs(), 50);
        assert_eq!(config.cluster_signing_cert_file, None);
        assert_eq!(ignored, ["vmodule", "requestheader-client-ca-file"]);
    }
}
