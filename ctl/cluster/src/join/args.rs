//! The flags of `join`, kubeadm's and ours, and how they become configuration.

use anyhow::{Context, Result, bail};
use coxctl_config::{
    BootstrapTokenDiscovery, Facts, FileDiscovery, Join, JoinControlPlane, default_join, join_host_port,
    read_join, split_host_port, validate_join,
};

use crate::args::{MachineArgs, check};

/// Flags of `join`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct JoinArgs {
    /// HOST:PORT of the control plane
    pub endpoint: Option<String>,
    /// Run one phase alone: `phase NAME [PART]`
    #[command(subcommand)]
    pub phase: Option<PhaseCommand>,
    #[command(flatten)]
    pub machine: MachineArgs,
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
    /// Become a control plane
    #[arg(long, global = true)]
    pub control_plane: bool,
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
        let mut join: Join = self.machine.read(&self.given(), read_join)?;
        self.apply(&mut join)?;
        let warnings = default_join(&mut join, facts);
        warnings.iter().for_each(|w| crate::say::warn("config", w));
        check(validate_join(&join))?;
        Ok(join)
    }

    /// Flags that say the same as a configuration file, and whether they were given.
    fn given(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("HOST:PORT", self.endpoint.is_some()),
            ("token", self.token.is_some()),
            ("discovery-token", self.discovery_token.is_some()),
            ("discovery-token-ca-cert-hash", !self.discovery_token_ca_cert_hash.is_empty()),
            ("discovery-token-unsafe-skip-ca-verification", self.discovery_token_unsafe_skip_ca_verification),
            ("discovery-file", self.discovery_file.is_some()),
            ("tls-bootstrap-token", self.tls_bootstrap_token.is_some()),
            ("control-plane", self.control_plane),
        ]
    }

    fn apply(&self, join: &mut Join) -> Result<()> {
        let own = &mut join.join;
        self.machine.register(&mut own.node_registration);
        own.skip_phases.extend(self.machine.skip_phases.iter().cloned());
        own.dry_run |= self.machine.dry_run;
        own.patches = self.machine.patches().or(own.patches.take());
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
            for (flag, _) in self.machine.of_control_planes().iter().filter(|f| f.1) {
                crate::say::warn("preflight", format_args!("--{flag} has no effect without --control-plane"));
            }
            return;
        }
        let control = join.join.control_plane.get_or_insert_with(JoinControlPlane::default);
        self.machine.control_plane(&mut control.local_api_endpoint, &mut control.certificate_key);
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
