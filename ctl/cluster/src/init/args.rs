//! The flags of `init`, kubeadm's and ours, and how they become configuration.

use std::path::PathBuf;

use anyhow::{Context, Result};
use coxctl_config::{BootstrapToken, Facts, Init, default_init, read_init, validate_init};

use crate::args::{MachineArgs, check, duration, set};

/// Flags of `init`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InitArgs {
    /// Run one phase alone
    #[command(subcommand)]
    pub phase: Option<PhaseCommand>,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// More names and addresses for the API server's certificate
    #[arg(long, global = true, value_delimiter = ',')]
    pub apiserver_cert_extra_sans: Vec<String>,
    /// Directory of certificates [default: /etc/kubernetes/pki]
    #[arg(long, global = true)]
    pub cert_dir: Option<String>,
    /// HOST[:PORT] at which any control plane can be reached
    #[arg(long, global = true)]
    pub control_plane_endpoint: Option<String>,
    /// Feature gates, NAME=true|false,…
    #[arg(long, global = true)]
    pub feature_gates: Option<String>,
    /// Registry the images come from
    #[arg(long, global = true)]
    pub image_repository: Option<String>,
    /// Version of Kubernetes
    #[arg(long, global = true)]
    pub kubernetes_version: Option<String>,
    /// Addresses of pods [default: 10.244.0.0/16]
    #[arg(long, global = true)]
    pub pod_network_cidr: Option<String>,
    /// Addresses of services [default: 10.96.0.0/12]
    #[arg(long, global = true)]
    pub service_cidr: Option<String>,
    /// Domain of services [default: cluster.local]
    #[arg(long, global = true)]
    pub service_dns_domain: Option<String>,
    /// Do not print the certificate key
    #[arg(long, global = true)]
    pub skip_certificate_key_print: bool,
    /// Do not print the token
    #[arg(long, global = true)]
    pub skip_token_print: bool,
    /// The bootstrap token [default: a new one]
    #[arg(long, global = true)]
    pub token: Option<String>,
    /// Life of the token; 0 is for ever [default: 24h]
    #[arg(long, global = true)]
    pub token_ttl: Option<String>,
    /// Print an addon's objects (init phase addon …) in place of making them
    #[arg(long, global = true)]
    pub print_manifest: bool,
    /// Kubeconfig for talking to the cluster [default: /etc/kubernetes/admin.conf]
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Upload the control planes' certificates, encrypted
    #[arg(long, global = true)]
    pub upload_certs: bool,
    /// How nodes reach each other's pods: auto, host-gw or vxlan [default: auto]
    #[arg(long, global = true)]
    pub network_backend: Option<String>,
    /// Addresses for Services of type LoadBalancer: networks, ranges A-B, single addresses; without it there are none
    #[arg(long, global = true, value_delimiter = ',')]
    pub load_balancer_pool: Vec<String>,
}

/// `init phase …`
#[derive(Debug, Clone, clap::Subcommand)]
pub enum PhaseCommand {
    /// Run one phase, or one part of it, alone
    Phase {
        /// The phase, and its part (`all`: every part)
        #[arg(required = true, num_args = 1..=2)]
        name: Vec<String>,
    },
}

impl InitArgs {
    /// The phase asked for; empty: all.
    pub fn only(&self) -> Vec<String> {
        match &self.phase {
            Some(PhaseCommand::Phase { name }) => name.clone(),
            None => Vec::new(),
        }
    }

    /// The configuration of the provider of addresses for Services; `None` without a pool.
    ///
    /// # Errors
    /// A pool that is neither a network, nor a range, nor an address.
    pub fn load_balancer(&self) -> Result<Option<String>> {
        crate::loadbalancer::config(&self.load_balancer_pool)
    }

    /// The whole configuration: file, flags, defaults; checked.
    ///
    /// # Errors
    /// When a file or flag is wrong, or a flag must not be mixed with a file.
    pub fn configuration(&self, facts: &Facts) -> Result<Init> {
        self.load_balancer()?;
        let mut init: Init = self.machine.read(&self.given(), read_init)?;
        self.apply(&mut init)?;
        without_signer(&mut init);
        let warnings = default_init(&mut init, facts);
        warnings.iter().for_each(|w| crate::say::warn("config", w));
        check(validate_init(&init))?;
        Ok(init)
    }

    /// Flags that say the same as a configuration file, and whether they were given.
    fn given(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("apiserver-cert-extra-sans", !self.apiserver_cert_extra_sans.is_empty()),
            ("cert-dir", self.cert_dir.is_some()),
            ("control-plane-endpoint", self.control_plane_endpoint.is_some()),
            ("feature-gates", self.feature_gates.is_some()),
            ("image-repository", self.image_repository.is_some()),
            ("kubernetes-version", self.kubernetes_version.is_some()),
            ("pod-network-cidr", self.pod_network_cidr.is_some()),
            ("service-cidr", self.service_cidr.is_some()),
            ("service-dns-domain", self.service_dns_domain.is_some()),
            ("token", self.token.is_some()),
            ("token-ttl", self.token_ttl.is_some()),
        ]
    }

    fn apply(&self, init: &mut Init) -> Result<()> {
        let own = &mut init.init;
        self.machine.control_plane(&mut own.local_api_endpoint, &mut own.certificate_key);
        self.machine.register(&mut own.node_registration);
        own.skip_phases.extend(self.machine.skip_phases.iter().cloned());
        own.dry_run |= self.machine.dry_run;
        own.patches = self.machine.patches().or(own.patches.take());
        self.apply_token(init)?;
        self.apply_cluster(init)
    }

    fn apply_cluster(&self, init: &mut Init) -> Result<()> {
        let cluster = &mut init.cluster;
        cluster.api_server.cert_sans.extend(self.apiserver_cert_extra_sans.iter().cloned());
        set(&mut cluster.certificates_dir, &self.cert_dir);
        set(&mut cluster.control_plane_endpoint, &self.control_plane_endpoint);
        set(&mut cluster.image_repository, &self.image_repository);
        set(&mut cluster.kubernetes_version, &self.kubernetes_version);
        set(&mut cluster.networking.pod_subnet, &self.pod_network_cidr);
        set(&mut cluster.networking.service_subnet, &self.service_cidr);
        set(&mut cluster.networking.dns_domain, &self.service_dns_domain);
        for gate in self.feature_gates.iter().flat_map(|g| g.split(',')).filter(|g| !g.is_empty()) {
            let (name, value) = gate
                .split_once('=')
                .with_context(|| format!("--feature-gates {gate:?}: want NAME=true|false"))?;
            let value =
                value.parse().with_context(|| format!("--feature-gates {gate:?}: want NAME=true|false"))?;
            cluster.feature_gates.insert(name.into(), value);
        }
        Ok(())
    }

    fn apply_token(&self, init: &mut Init) -> Result<()> {
        if self.token.is_none() && self.token_ttl.is_none() {
            return Ok(());
        }
        let mut token = BootstrapToken::default();
        if let Some(text) = &self.token {
            token.token = coxctl_pki::token::Token::parse(text)?.to_string();
        }
        if let Some(ttl) = &self.token_ttl {
            token.ttl = Some(duration("--token-ttl", ttl)?);
        }
        init.init.bootstrap_tokens = vec![token];
        Ok(())
    }
}

/// With an external authority nobody here signs kubelets' serving certificates, so they sign their own, as with kubeadm.
fn without_signer(init: &mut Init) {
    let dir = match init.cluster.certificates_dir.as_str() {
        "" => coxctl_config::DEFAULT_CERTIFICATES_DIR,
        dir => dir,
    };
    let there = |file: &str| std::path::Path::new(dir).join(file).exists();
    if there("ca.crt") && !there("ca.key") && init.kubelet["serverTLSBootstrap"].is_null() {
        init.kubelet["serverTLSBootstrap"] = false.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use coxctl_config::GoDuration;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: InitArgs,
    }

    fn parse(line: &str) -> InitArgs {
        Program::try_parse_from(line.split(' ')).unwrap().args
    }

    #[test]
    fn phases_take_the_same_flags() {
        let args = parse("init phase certs all --cert-dir /x");
        assert_eq!((args.only(), args.cert_dir.as_deref()), (vec!["certs".into(), "all".into()], Some("/x")));
        assert!(parse("init").only().is_empty());
    }

    #[test]
    fn flags_become_configuration() {
        let args = parse(
            "init --token abcdef.0123456789abcdef --token-ttl 0 --service-cidr 10.1.0.0/16 --feature-gates A=true",
        );
        let mut init = Init::default();
        args.apply(&mut init).unwrap();
        assert_eq!(init.init.bootstrap_tokens[0].ttl, Some(GoDuration(0)));
        assert_eq!(init.cluster.networking.service_subnet, "10.1.0.0/16");
        assert_eq!(init.cluster.feature_gates.get("A"), Some(&true));
        assert!(parse("init --token nonsense").apply(&mut init).is_err());
        assert!(parse("init --feature-gates A").apply(&mut init).is_err());
    }

    #[test]
    fn kubelets_of_an_external_authority_sign_for_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let told = || {
            let mut init = Init::default();
            init.cluster.certificates_dir = dir.path().display().to_string();
            without_signer(&mut init);
            init.kubelet["serverTLSBootstrap"].as_bool()
        };
        assert_eq!(told(), None);
        std::fs::write(dir.path().join("ca.crt"), "").unwrap();
        assert_eq!(told(), Some(false));
        std::fs::write(dir.path().join("ca.key"), "").unwrap();
        assert_eq!(told(), None);
    }

    #[test]
    fn a_file_may_not_be_contradicted() {
        let read = |line: &str| {
            let args = parse(line);
            args.machine.read(&args.given(), read_init).unwrap_err().to_string()
        };
        let mixed = read("init --config /nowhere --token abcdef.0123456789abcdef --cri-socket /x");
        assert_eq!(mixed, r#"can not mix '--config' with arguments ["cri-socket", "token"]"#);
        assert_eq!(read("init --config /nowhere --node-name n --skip-phases a,b"), "reading /nowhere");
    }
}
