//! The flags of `join`, kubeadm's and ours, and how they become configuration.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use coxctl_config::{
    BootstrapTokenDiscovery, Facts, FileDiscovery, Join, JoinControlPlane, Patches, default_join,
    join_host_port, read_join, split_host_port, validate_join,
};

use crate::init::args::{check, refuse, set};

/// Flags of `join`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct JoinArgs {
    /// HOST:PORT of the control plane
    pub endpoint: Option<String>,
    /// Run one phase alone: `phase NAME [PART]`
    #[command(subcommand)]
    pub phase: Option<PhaseCommand>,
    /// Configuration file (kubeadm.k8s.io/v1beta4)
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    /// Token for discovery and for the kubelet's first login
    #[arg(long, global = true)]
    pub token: Option<String>,
    /// Token for discovery
    #[arg(long, global = true)]
    pub discovery_token: Option<String>,
    /// Hash of the cluster's authority (sha256:…); may be repeated
    #[arg(long, global = true, value_delimiter = ',')]
    pub discovery_token_ca_cert_hash: Vec<String>,
    /// Trust whoever knows the token
    #[arg(long, global = true)]
    pub discovery_token_unsafe_skip_ca_verification: bool,
    /// Kubeconfig, file or https URL, that says where the cluster is
    #[arg(long, global = true)]
    pub discovery_file: Option<String>,
    /// Token for the kubelet's first login
    #[arg(long, global = true)]
    pub tls_bootstrap_token: Option<String>,
    /// The node's name [default: the host name]
    #[arg(long, global = true)]
    pub node_name: Option<String>,
    /// Socket of the container runtime
    #[arg(long, global = true)]
    pub cri_socket: Option<String>,
    /// Become a control plane
    #[arg(long, global = true)]
    pub control_plane: bool,
    /// Key of the uploaded certificates
    #[arg(long, global = true)]
    pub certificate_key: Option<String>,
    /// Address this machine's API server tells others
    #[arg(long, global = true)]
    pub apiserver_advertise_address: Option<String>,
    /// Port of this machine's API server
    #[arg(long, global = true)]
    pub apiserver_bind_port: Option<i32>,
    /// Checks whose errors are warnings (`all`: every one)
    #[arg(long, global = true, value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// Phases to leave out
    #[arg(long, global = true, value_delimiter = ',')]
    pub skip_phases: Vec<String>,
    /// Show what would be done, change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Directory of patches
    #[arg(long, global = true)]
    pub patches: Option<String>,
    /// Programs and images from this bundle
    #[arg(long, global = true)]
    pub bundle: Option<PathBuf>,
    /// Programs from this directory
    #[arg(long, global = true, hide = true)]
    pub bin_dir: Option<PathBuf>,
    /// How much is printed
    #[arg(short, long, global = true, default_value_t = 0)]
    pub v: u8,
}

/// `join phase …`
#[derive(Debug, Clone, clap::Subcommand)]
pub enum PhaseCommand {
    /// Run one phase, or one part of it, alone
    Phase {
        /// The phase and its part (`all`: every part), and HOST:PORT of the control plane
        #[arg(required = true, num_args = 1..=3)]
        name: Vec<String>,
    },
}

impl JoinArgs {
    /// The phase asked for; empty: all.
    pub fn only(&self) -> Vec<String> {
        match &self.phase {
            Some(PhaseCommand::Phase { name }) => name.iter().filter(|n| !n.contains(':')).cloned().collect(),
            None => Vec::new(),
        }
    }

    fn endpoint(&self) -> Option<&String> {
        let in_phase = match &self.phase {
            Some(PhaseCommand::Phase { name }) => name.iter().find(|n| n.contains(':')),
            None => None,
        };
        self.endpoint.as_ref().or(in_phase)
    }

    /// The whole configuration: file, flags, defaults; checked.
    ///
    /// # Errors
    /// When a file or flag is wrong, or a flag must not be mixed with a file.
    pub fn configuration(&self, facts: &Facts) -> Result<Join> {
        let mut join = match &self.config {
            Some(file) => {
                self.refuse_mixed()?;
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                let (join, warnings) = read_join(&text).with_context(|| file.display().to_string())?;
                warnings.iter().for_each(|w| crate::say::warn("config", w));
                join
            }
            None => Join::default(),
        };
        self.apply(&mut join)?;
        let warnings = default_join(&mut join, facts);
        warnings.iter().for_each(|w| crate::say::warn("config", w));
        check(validate_join(&join))?;
        Ok(join)
    }

    fn refuse_mixed(&self) -> Result<()> {
        refuse(&[
            ("HOST:PORT", self.endpoint.is_some()),
            ("token", self.token.is_some()),
            ("discovery-token", self.discovery_token.is_some()),
            ("discovery-token-ca-cert-hash", !self.discovery_token_ca_cert_hash.is_empty()),
            ("discovery-token-unsafe-skip-ca-verification", self.discovery_token_unsafe_skip_ca_verification),
            ("discovery-file", self.discovery_file.is_some()),
            ("tls-bootstrap-token", self.tls_bootstrap_token.is_some()),
            ("cri-socket", self.cri_socket.is_some()),
            ("control-plane", self.control_plane),
            ("certificate-key", self.certificate_key.is_some()),
            ("apiserver-advertise-address", self.apiserver_advertise_address.is_some()),
            ("apiserver-bind-port", self.apiserver_bind_port.is_some()),
            ("patches", self.patches.is_some()),
        ])
    }

    fn apply(&self, join: &mut Join) -> Result<()> {
        let own = &mut join.join;
        set(&mut own.node_registration.name, &self.node_name);
        set(&mut own.node_registration.cri_socket, &self.cri_socket);
        own.node_registration.ignore_preflight_errors.extend(self.ignore_preflight_errors.iter().cloned());
        own.skip_phases.extend(self.skip_phases.iter().cloned());
        own.dry_run |= self.dry_run;
        if let Some(directory) = &self.patches {
            own.patches = Some(Patches { directory: directory.clone() });
        }
        self.apply_discovery(join)?;
        self.apply_control_plane(join);
        Ok(())
    }

    fn apply_discovery(&self, join: &mut Join) -> Result<()> {
        let discovery = &mut join.join.discovery;
        if let Some(file) = &self.discovery_file {
            discovery.file = Some(FileDiscovery { kube_config_path: file.clone() });
        }
        let token = self.discovery_token.as_ref().or(self.token.as_ref());
        if let (Some(token), None) = (token, &self.discovery_file) {
            discovery.bootstrap_token = Some(BootstrapTokenDiscovery {
                token: token.clone(),
                api_server_endpoint: endpoint(self.endpoint())?,
                ca_cert_hashes: self.discovery_token_ca_cert_hash.clone(),
                unsafe_skip_ca_verification: self.discovery_token_unsafe_skip_ca_verification,
            });
        }
        if let Some(token) = self.tls_bootstrap_token.as_ref().or(self.token.as_ref()) {
            discovery.tls_bootstrap_token.clone_from(token);
        }
        Ok(())
    }

    fn apply_control_plane(&self, join: &mut Join) {
        if !self.control_plane {
            let useless = [
                ("certificate-key", self.certificate_key.is_some()),
                ("apiserver-advertise-address", self.apiserver_advertise_address.is_some()),
                ("apiserver-bind-port", self.apiserver_bind_port.is_some()),
            ];
            for (flag, _) in useless.iter().filter(|f| f.1) {
                crate::say::warn("preflight", format_args!("--{flag} has no effect without --control-plane"));
            }
            return;
        }
        let control = join.join.control_plane.get_or_insert_with(JoinControlPlane::default);
        set(&mut control.certificate_key, &self.certificate_key);
        set(&mut control.local_api_endpoint.advertise_address, &self.apiserver_advertise_address);
        if let Some(port) = self.apiserver_bind_port {
            control.local_api_endpoint.bind_port = port;
        }
    }
}

/// `HOST:PORT` as given, with the usual port when it has none.
fn endpoint(given: Option<&String>) -> Result<String> {
    let given = given.context("say where the control plane is: coxctl join HOST:PORT …")?;
    let text = given.trim_start_matches("https://").trim_end_matches('/');
    match split_host_port(text) {
        ("", _) => bail!("{given:?} is no HOST:PORT"),
        (host, port) => Ok(join_host_port(host, port.unwrap_or(6443))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(args_conflicts_with_subcommands = false)]
    struct Program {
        #[command(flatten)]
        args: JoinArgs,
    }

    fn parse(line: &str) -> JoinArgs {
        Program::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{e}")).args
    }

    #[test]
    fn the_usual_line() {
        let args = parse(
            "join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:aa --control-plane --certificate-key k",
        );
        let mut join = Join::default();
        args.apply(&mut join).unwrap();
        let by = join.join.discovery.bootstrap_token.unwrap();
        assert_eq!((by.api_server_endpoint.as_str(), by.ca_cert_hashes.len()), ("10.0.0.1:6443", 1));
        assert_eq!(join.join.discovery.tls_bootstrap_token, "abcdef.0123456789abcdef");
        assert_eq!(join.join.control_plane.unwrap().certificate_key, "k");
    }

    #[test]
    fn phases_may_name_the_endpoint() {
        let args = parse("join phase kubelet-start 10.0.0.1:6443 --token abcdef.0123456789abcdef");
        assert_eq!(
            (args.only(), args.endpoint().unwrap().as_str()),
            (vec!["kubelet-start".into()], "10.0.0.1:6443")
        );
    }

    #[test]
    fn endpoints_get_the_usual_port() {
        let of = |s: &str| endpoint(Some(&s.to_string())).unwrap();
        assert_eq!(
            [of("a"), of("a:1"), of("https://a:2/"), of("fd00::1")],
            ["a:6443", "a:1", "a:2", "[fd00::1]:6443"]
        );
        assert!(endpoint(None).is_err());
    }
}
