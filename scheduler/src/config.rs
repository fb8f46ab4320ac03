//! Flags and the KubeSchedulerConfiguration file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Deserialize;

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

/// The parts of a KubeSchedulerConfiguration that are used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    /// `kubescheduler.config.k8s.io/v1`.
    pub api_version: String,
    /// `KubeSchedulerConfiguration`.
    pub kind: String,
    /// How to reach the API server.
    pub client_connection: Connection,
    /// Whether to stand for election.
    pub leader_election: Election,
    /// Percentage of nodes to find before scoring; 0 adapts.
    pub percentage_of_nodes_to_score: Option<usize>,
    /// First pause after a refusal, seconds.
    pub pod_initial_backoff_seconds: Option<u64>,
    /// Longest pause, seconds.
    pub pod_max_backoff_seconds: Option<u64>,
    /// Profiles by scheduler name.
    pub profiles: Vec<ProfileFile>,
}

/// How to reach the API server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// A kubeconfig.
    pub kubeconfig: Option<PathBuf>,
}

/// Leader election.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Election {
    /// Whether to stand for election.
    pub leader_elect: Option<bool>,
}

/// One profile.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileFile {
    /// The name pods ask for.
    pub scheduler_name: Option<String>,
    /// Overrides the file's.
    pub percentage_of_nodes_to_score: Option<usize>,
}

impl File {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Names the field, the value and the rule.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file: Self =
            serde_yaml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        file.check().with_context(|| path.display().to_string())?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        let version = &self.api_version;
        ensure!(
            version == "kubescheduler.config.k8s.io/v1",
            "apiVersion: {version:?}: want kubescheduler.config.k8s.io/v1"
        );
        ensure!(
            self.kind == "KubeSchedulerConfiguration",
            "kind: {:?}: want KubeSchedulerConfiguration",
            self.kind
        );
        let (first, last) = self.backoff();
        ensure!(first > Duration::ZERO, "podInitialBackoffSeconds: 0: must be greater than 0");
        ensure!(
            last >= first,
            "podMaxBackoffSeconds: {}: must be greater than or equal to podInitialBackoffSeconds",
            last.as_secs()
        );
        for (i, profile) in self.profiles.iter().enumerate() {
            let p = profile.percentage_of_nodes_to_score.unwrap_or(0);
            ensure!(p <= 100, "profiles[{i}].percentageOfNodesToScore: {p}: not in valid range [0-100]");
        }
        Ok(())
    }

    /// The first and the longest pause.
    pub fn backoff(&self) -> (Duration, Duration) {
        let seconds = |s: Option<u64>, default| Duration::from_secs(s.unwrap_or(default));
        (seconds(self.pod_initial_backoff_seconds, 1), seconds(self.pod_max_backoff_seconds, 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_names_field_value_and_rule() {
        let check =
            |text: &str| serde_yaml::from_str::<File>(text).unwrap().check().map_err(|e| e.to_string());
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        assert!(check(head).is_ok());
        assert!(check("kind: KubeSchedulerConfiguration\n").unwrap_err().starts_with("apiVersion"));
        let bad = format!("{head}profiles: [{{percentageOfNodesToScore: 101}}]\n");
        assert!(check(&bad).unwrap_err().contains("profiles[0].percentageOfNodesToScore: 101"));
    }

    #[test]
    fn flags() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
        let flags =
            Flags::try_parse_from(["kube-scheduler", "--leader-elect=false", "--kubeconfig=/x"]).unwrap();
        assert!(!flags.leader_elect);
    }
}
