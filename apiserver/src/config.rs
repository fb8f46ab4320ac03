//! The command line, with upstream's flags.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

/// Flags of the API server. Names, defaults and meaning are upstream's.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "kube-apiserver",
    about = "Serves the Kubernetes API from etcd.",
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Config {
    /// Log verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub v: u8,

    /// Address that members of the cluster reach this server at; the default is the address of the default route.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Serving certificate (with its chain).
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Where a self-signed pair is kept when no certificate is given.
    #[arg(long, default_value = "/var/run/kubernetes")]
    pub cert_dir: PathBuf,
    /// CA of client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,

    /// etcd endpoints.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// CA of etcd.
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd.
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for etcd.
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys begin with.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// How often old revisions are compacted; 0 never.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub etcd_compaction_interval: Duration,
    /// Deadline of the etcd health check.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub etcd_healthcheck_timeout: Duration,
    /// How long events are kept.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub event_ttl: Duration,

    /// Addresses of services, one IPv4 and or one IPv6 range.
    #[arg(long, default_value = "10.0.0.0/24", value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<ipnet::IpNet>,
    /// Node ports of services.
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: (u16, u16),
    /// Node port of the `kubernetes` service; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub kubernetes_service_node_port: u16,

    /// Issuers of service account tokens; the first signs.
    #[arg(long)]
    pub service_account_issuer: Vec<String>,
    /// Keys (public or private) that verify service account tokens.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Key that signs service account tokens.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// URL of the key set in the discovery document.
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    /// Longest life of a requested token; 0 for no limit.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub service_account_max_token_expiration: Duration,
    /// Give projected tokens of an hour a year, with a warning claim.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub service_account_extend_token_expiration: bool,
    /// Tokens are valid only while their objects exist.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub service_account_lookup: bool,
    /// Audiences of this API; the default is the issuers.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,

    /// Client certificate towards kubelets.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// CA of kubelets' serving certificates.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Which of a node's addresses to use, best first.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub kubelet_preferred_address_types: Vec<String>,
    /// Deadline of calls to kubelets.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub kubelet_timeout: Duration,
    /// Client certificate towards aggregated API servers.
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,

    /// Reach aggregated API servers by their endpoints rather than by the service's address.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_aggregator_routing: bool,
    /// Refuse redirects that aggregated API servers answer with.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub aggregator_reject_forwarding_redirect: bool,

    /// CA of the front proxy.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of the front proxy; any when empty.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers with the user name.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    /// Headers with groups.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    /// Headers with the user's uid.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    /// Prefixes of headers with further attributes.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,

    /// Authorisation modes in order; the default is AlwaysAllow.
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    /// Plugins to turn on beside the default ones.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Plugins to turn off.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// Accept bootstrap tokens.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_bootstrap_token_auth: bool,
    /// Let requests without credentials in as system:anonymous.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub anonymous_auth: bool,
    /// CSV file of static tokens: token,user,uid,"group1,group2".
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Allow privileged containers.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allow_privileged: bool,
    /// Seconds of the not-ready toleration added to pods.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// Seconds of the unreachable toleration added to pods.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,

    /// Group versions and resources to turn on or off, e.g. `api/all=true`.
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Vec<String>,
    /// How the `kubernetes` endpoints are kept: lease or none.
    #[arg(long, default_value = "lease")]
    pub endpoint_reconciler_type: String,

    /// Reads in flight at a time; 0 for no limit.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Writes in flight at a time; 0 for no limit.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Deadline of requests that do not run on.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub request_timeout: Duration,
    /// Shortest life of a watch without a timeout of its own, in seconds.
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: u64,
    /// How long to go on serving after the signal to stop, with /readyz failing.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub shutdown_delay_duration: Duration,
}

/// Flags of upstream that have no effect here, with whether they take a value.
const IGNORED: &[(&str, bool)] = &[
    ("admission-control", true),
    ("admission-control-config-file", true),
    ("allow-metric-labels", true),
    ("allow-metric-labels-manifest", true),
    ("apiserver-count", true),
    ("audit-log-batch-buffer-size", true),
    ("audit-log-batch-max-size", true),
    ("audit-log-batch-max-wait", true),
    ("audit-log-batch-throttle-burst", true),
    ("audit-log-batch-throttle-enable", false),
    ("audit-log-batch-throttle-qps", true),
    ("audit-log-compress", false),
    ("audit-log-format", true),
    ("audit-log-maxage", true),
    ("audit-log-maxbackup", true),
    ("audit-log-maxsize", true),
    ("audit-log-mode", true),
    ("audit-log-path", true),
    ("audit-log-truncate-enabled", false),
    ("audit-log-truncate-max-batch-size", true),
    ("audit-log-truncate-max-event-size", true),
    ("audit-log-version", true),
    ("audit-policy-file", true),
    ("audit-webhook-batch-buffer-size", true),
    ("audit-webhook-batch-initial-backoff", true),
    ("audit-webhook-batch-max-size", true),
    ("audit-webhook-batch-max-wait", true),
    ("audit-webhook-batch-throttle-burst", true),
    ("audit-webhook-batch-throttle-enable", false),
    ("audit-webhook-batch-throttle-qps", true),
    ("audit-webhook-config-file", true),
    ("audit-webhook-initial-backoff", true),
    ("audit-webhook-mode", true),
    ("audit-webhook-truncate-enabled", false),
    ("audit-webhook-truncate-max-batch-size", true),
    ("audit-webhook-truncate-max-event-size", true),
    ("audit-webhook-version", true),
    ("contention-profiling", false),
    ("coordinated-leadership-lease-duration", true),
    ("coordinated-leadership-renew-deadline", true),
    ("coordinated-leadership-retry-period", true),
    ("cors-allowed-origins", true),
    ("debug-socket-path", true),
    ("default-watch-cache-size", true),
    ("delete-collection-workers", true),
    ("disable-http2-serving", false),
    ("disabled-metrics", true),
    ("egress-selector-config-file", true),
    ("emulated-version", true),
    ("emulation-forward-compatible", false),
    ("enable-garbage-collector", false),
    ("enable-logs-handler", false),
    ("enable-priority-and-fairness", false),
    ("etcd-count-metric-poll-period", true),
    ("etcd-db-metric-poll-interval", true),
    ("etcd-readycheck-timeout", true),
    ("etcd-servers-overrides", true),
    ("external-hostname", true),
    ("feature-gates", true),
    ("goaway-chance", true),
    ("http2-max-streams-per-connection", true),
    ("kubelet-port", true),
    ("kubelet-read-only-port", true),
    ("lease-reuse-duration-seconds", true),
    ("livez-grace-period", true),
    ("log-flush-frequency", true),
    ("log-json-info-buffer-size", true),
    ("log-json-split-stream", false),
    ("log-text-info-buffer-size", true),
    ("log-text-split-stream", false),
    ("logging-format", true),
    ("max-connection-bytes-per-sec", true),
    ("min-compatibility-version", true),
    ("peer-advertise-ip", true),
    ("peer-advertise-port", true),
    ("peer-ca-file", true),
    ("permit-address-sharing", false),
    ("permit-port-sharing", false),
    ("profiling", false),
    ("runtime-config-emulation-forward-compatible", false),
    ("show-hidden-metrics-for-version", true),
    ("shutdown-send-retry-after", false),
    ("shutdown-watch-termination-grace-period", true),
    ("storage-backend", true),
    ("storage-initialization-timeout", true),
    ("storage-media-type", true),
    ("strict-transport-security-directives", true),
    ("tls-cipher-suites", true),
    ("tls-curve-preferences", true),
    ("tls-min-version", true),
    ("tracing-config-file", true),
    ("vmodule", true),
    ("watch-cache", false),
    ("watch-cache-sizes", true),
];

/// Flags of upstream whose function is security and is not here: refused rather than ignored.
const REFUSED: &[&str] = &[
    "authentication-config",
    "authentication-token-webhook-config-file",
    "authorization-config",
    "authorization-policy-file",
    "authorization-webhook-config-file",
    "encryption-provider-config",
    "oidc-issuer-url",
];

/// Parses a command line; the flags that were set and mean nothing here come beside it.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<(Config, Vec<String>), clap::Error> {
    let (kept, ignored) = split_ignored(args);
    if let Some(flag) = kept.iter().find_map(|arg| refused(arg)) {
        let text = format!("--{flag} is not supported\n");
        return Err(clap::Error::raw(clap::error::ErrorKind::UnknownArgument, text));
    }
    Ok((Config::try_parse_from(kept)?, ignored))
}

fn refused(arg: &str) -> Option<&'static str> {
    let name = arg.strip_prefix("--")?.split('=').next()?;
    REFUSED.iter().find(|r| **r == name).copied()
}

fn split_ignored(args: impl IntoIterator<Item = String>) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut ignored) = (Vec::new(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let name = arg.strip_prefix("--").unwrap_or("").split('=').next().unwrap_or("");
        match IGNORED.iter().find(|(n, _)| *n == name) {
            None => kept.push(arg),
            Some((_, takes_value)) => {
                if *takes_value && !arg.contains('=') {
                    args.next();
                }
                ignored.push(name.to_owned());
            }
        }
    }
    (kept, ignored)
}

/// Parses a duration as Go writes it: `1h30m`, `2s`, `100ms`, `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || format!("invalid duration {text:?}");
    let (mut rest, mut total) = (text, 0f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        total += number * unit_seconds(&rest[digits..unit_end]).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    Ok(Duration::from_secs_f64(total))
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let bad = || format!("invalid port range {text:?}");
    let parse = |part: &str| part.trim().parse::<u16>().map_err(|_| bad());
    let range = match (text.split_once('-'), text.split_once('+')) {
        (Some((from, to)), _) => (parse(from)?, parse(to)?),
        (_, Some((from, more))) => (parse(from)?, parse(from)?.saturating_add(parse(more)?)),
        _ => (parse(text)?, parse(text)?),
    };
    if range.0 > range.1 { Err(bad()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("1h0m30s"), Ok(Duration::from_secs(3630)));
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("5").is_err());
        assert!(duration("abc").is_err());
    }

    #[test]
    fn flags() {
        let line = "kube-apiserver --etcd-servers=https://a:2379,https://b:2379 --profiling=false --logging-format json --anonymous-auth=false --service-cluster-ip-range 10.96.0.0/16";
        let (config, ignored) = parse(line.split(' ').map(str::to_owned)).expect("parses");
        assert_eq!(config.etcd_servers.len(), 2);
        assert!(!config.anonymous_auth);
        assert_eq!(ignored, ["profiling", "logging-format"]);
        assert!(parse(["x".into(), "--oidc-issuer-url=https://x".into()]).is_err());
        assert!(parse(["x".into(), "--no-such-flag".into()]).is_err());
    }
}
