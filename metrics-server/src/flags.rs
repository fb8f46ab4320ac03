//! Flags, upstream's by name and default.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{ArgAction, Parser};

/// Resource usage of nodes and pods, as metrics.k8s.io
#[derive(Parser, Debug)]
#[command(name = "metrics-server", version)]
pub struct Flags {
    /// Kubeconfig file for the API server and the kubelets; without it the pod's service account is used
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// How often metrics are read
    #[arg(long, default_value = "1m", value_parser = daemon::flags::duration)]
    pub metric_resolution: Duration,

    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to serve HTTPS on
    #[arg(long, default_value_t = 10250)]
    pub secure_port: u16,
    /// Directory of the serving certificate (apiserver.crt, apiserver.key); one is made in memory when it has none
    #[arg(long, default_value = "apiserver.local.config/certificates")]
    pub cert_dir: PathBuf,
    /// File with the serving certificate
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the serving certificate's key
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,

    /// Do not verify the kubelets' serving certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub kubelet_insecure_tls: bool,
    /// Use the port in the node's status; it goes before --kubelet-port
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub kubelet_use_node_status_port: bool,
    /// Port of the kubelets
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Types of node addresses, those preferred first
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub kubelet_preferred_address_types: Vec<String>,
    /// File with the authority of the kubelets' serving certificates; the cluster's by default
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// File with a client certificate for the kubelets
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// File with the client certificate's key
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// How long to wait for a kubelet
    #[arg(long, default_value = "10s", value_parser = daemon::flags::duration)]
    pub kubelet_request_timeout: Duration,
    /// Only nodes with these labels
    #[arg(short = 'l', long, default_value = "")]
    pub node_selector: String,
    /// Speak plain HTTP to the kubelets and show them no identity
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub deprecated_kubelet_completely_insecure: bool,

    /// Log level
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub v: u8,
}

/// Flags of upstream's that have no effect here. Authorities of clients come from the cluster's ConfigMap alone.
pub const IGNORED: &[&str] = &[
    "authentication-kubeconfig",
    "authentication-skip-lookup!",
    "authentication-token-webhook-cache-ttl",
    "authentication-tolerate-lookup-failure!",
    "authorization-always-allow-paths",
    "authorization-kubeconfig",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "contention-profiling!",
    "disable-http2-serving!",
    "enable-priority-and-fairness!",
    "feature-gates",
    "http2-max-streams-per-connection",
    "log-flush-frequency",
    "logging-format",
    "permit-address-sharing!",
    "permit-port-sharing!",
    "profiling!",
    "tls-cipher-suites",
    "tls-min-version",
    "tls-sni-cert-key",
    "vmodule",
];

impl Flags {
    /// What contradicts itself.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn check(&self) -> Result<()> {
        let (insecure, plain) = (self.kubelet_insecure_tls, self.deprecated_kubelet_completely_insecure);
        let (cert, key) = (self.kubelet_client_certificate.is_some(), self.kubelet_client_key.is_some());
        let authority = self.kubelet_certificate_authority.is_some();
        let both = |a: &str, b: &str| format!("cannot use both --{a} and --{b}");
        let (tls, none, ca) = (
            "kubelet-insecure-tls",
            "deprecated-kubelet-completely-insecure",
            "kubelet-certificate-authority",
        );
        ensure!(!(authority && insecure), both(ca, tls));
        ensure!(cert == key, "need both --kubelet-client-key and --kubelet-client-certificate");
        ensure!(!(key && plain), both("kubelet-client-key", none));
        ensure!(!(insecure && plain), both(tls, none));
        ensure!(!(authority && plain), both(ca, none));
        ensure!(!self.kubelet_request_timeout.is_zero(), "kubelet-request-timeout should be positive");
        ensure!(
            self.metric_resolution >= Duration::from_secs(10),
            "metric-resolution should be a time duration at least 10s, but value {:?} provided",
            self.metric_resolution
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Flags> {
        let args = std::iter::once("metrics-server").chain(line.split_whitespace());
        let (kept, _) = daemon::flags::split_accepted(args.map(String::from).collect(), IGNORED);
        let flags = Flags::try_parse_from(kept)?;
        flags.check()?;
        Ok(flags)
    }

    #[test]
    fn upstreams_manifest_is_understood() {
        let line = "--cert-dir=/tmp --secure-port=10250 --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname \
            --kubelet-use-node-status-port --metric-resolution=15s --profiling=false --tls-min-version VersionTLS12";
        let got = flags(line).unwrap();
        assert_eq!(got.kubelet_preferred_address_types, ["InternalIP", "ExternalIP", "Hostname"]);
        assert!(got.kubelet_use_node_status_port && !got.kubelet_insecure_tls);
        assert_eq!(got.metric_resolution, Duration::from_secs(15));
    }

    #[test]
    fn contradictions() {
        for (line, want) in [
            (
                "--kubelet-insecure-tls --kubelet-certificate-authority=/a",
                "cannot use both --kubelet-certificate-authority and --kubelet-insecure-tls",
            ),
            ("--kubelet-client-key=/a", "need both"),
            (
                "--kubelet-insecure-tls=true --deprecated-kubelet-completely-insecure",
                "cannot use both --kubelet-insecure-tls",
            ),
            ("--metric-resolution=5s", "at least 10s"),
            ("--kubelet-request-timeout=0", "should be positive"),
        ] {
            let said = flags(line).unwrap_err().to_string();
            assert!(said.contains(want), "{line}: {said}");
        }
    }
}
