//! The flags of the upgrade commands, and the document that may say the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use coxctl_config::{Patches, UpgradeConfiguration, default_upgrade, read_upgrade, validate_upgrade};
use coxctl_machine::bundle::{self, Bundle};

use crate::args::{check, refuse};
use crate::{paths, say};

/// What can be left out of an upgrade; the names are those of kubeadm's phases.
const PHASES: [&str; 5] = ["preflight", "upload-config", "kubelet-config", "bootstrap-token", "addon"];

/// Flags of the upgrade commands.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UpgradeArgs {
    /// Version to go to, of those installed here (instead of --bundle)
    pub version: Option<String>,
    /// Configuration file (kubeadm.k8s.io/v1beta4)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Programs and images from this bundle
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Go on though a check advises against it
    #[arg(short, long)]
    pub force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Renew the certificates on the way [default: true]
    #[arg(long)]
    pub certificate_renewal: Option<bool>,
    /// Upgrade etcd too, if its program differs [default: true]
    #[arg(long)]
    pub etcd_upgrade: Option<bool>,
    /// Directory of patches [default: those this machine was made with]
    #[arg(long)]
    pub patches: Option<String>,
    /// Phases to leave out
    #[arg(long, value_delimiter = ',')]
    pub skip_phases: Vec<String>,
    /// Print the cluster's configuration
    #[arg(long)]
    pub print_config: bool,
    /// Accepted for kubeadm's sake: the bundle says what it is
    #[arg(long, hide = true)]
    pub allow_experimental_upgrades: bool,
    /// Accepted for kubeadm's sake: the bundle says what it is
    #[arg(long, hide = true)]
    pub allow_release_candidate_upgrades: bool,
    /// Lines around each change that diff shows [default: 3]
    #[arg(short, long)]
    pub context_lines: Option<usize>,
    /// Show what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Checks whose errors are warnings (`all`: every one)
    #[arg(long, value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// Kubeconfig for talking to the cluster
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// How much is printed
    #[arg(short, long, default_value_t = 0)]
    pub v: u8,
}

/// Which part of the document counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `upgrade plan`
    Plan,
    /// `upgrade diff`
    Diff,
    /// `upgrade apply`
    Apply,
    /// `upgrade node`
    Node,
}

impl UpgradeArgs {
    /// The flags with what the configuration file says.
    ///
    /// # Errors
    /// When the file is wrong, contradicts a flag, or a phase is unknown.
    pub fn settled(mut self, command: Command) -> Result<Self> {
        if let Some(file) = self.config.clone() {
            self.refuse_mixed()?;
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let (mut document, warnings) = read_upgrade(&text).with_context(|| file.display().to_string())?;
            warnings.iter().for_each(|w| say::warn("config", w));
            default_upgrade(&mut document);
            check(validate_upgrade(&document))?;
            self.take(document, command);
        }
        match self.skip_phases.iter().find(|p| !PHASES.contains(&p.as_str())) {
            Some(unknown) => {
                bail!("invalid phase name: {unknown}; what can be left out is {}", PHASES.join(", "))
            }
            None => Ok(self),
        }
    }

    fn refuse_mixed(&self) -> Result<()> {
        refuse(&[
            ("certificate-renewal", self.certificate_renewal.is_some()),
            ("etcd-upgrade", self.etcd_upgrade.is_some()),
            ("patches", self.patches.is_some()),
            ("allow-experimental-upgrades", self.allow_experimental_upgrades),
            ("allow-release-candidate-upgrades", self.allow_release_candidate_upgrades),
            ("context-lines", self.context_lines.is_some()),
        ])
    }

    fn take(&mut self, document: UpgradeConfiguration, command: Command) {
        let (version, ignore, skip, patches, dry) = match command {
            Command::Plan => {
                let p = document.plan;
                self.print_config |= p.print_config == Some(true);
                (p.kubernetes_version, p.ignore_preflight_errors, Vec::new(), None, p.dry_run)
            }
            Command::Diff => {
                self.context_lines = document.diff.context_lines.and_then(|n| usize::try_from(n).ok());
                (document.diff.kubernetes_version, Vec::new(), Vec::new(), None, None)
            }
            Command::Apply => {
                let a = document.apply;
                (self.certificate_renewal, self.etcd_upgrade) = (a.certificate_renewal, a.etcd_upgrade);
                self.force |= a.force_upgrade == Some(true);
                self.print_config |= a.print_config == Some(true);
                (a.kubernetes_version, a.ignore_preflight_errors, a.skip_phases, a.patches, a.dry_run)
            }
            Command::Node => {
                let n = document.node;
                (self.certificate_renewal, self.etcd_upgrade) = (n.certificate_renewal, n.etcd_upgrade);
                (String::new(), n.ignore_preflight_errors, n.skip_phases, n.patches, n.dry_run)
            }
        };
        if self.version.is_none() && !version.is_empty() {
            self.version = Some(version);
        }
        self.ignore_preflight_errors.extend(ignore);
        self.skip_phases.extend(skip);
        self.patches = patches.map(|p| p.directory);
        self.dry_run |= dry == Some(true);
    }

    /// Are certificates renewed on the way?
    pub fn certificate_renewal(&self) -> bool {
        self.certificate_renewal != Some(false)
    }

    /// Is etcd's program changed too?
    pub fn etcd_upgrade(&self) -> bool {
        self.etcd_upgrade != Some(false)
    }

    /// Is a phase left out?
    pub fn skips(&self, phase: &str) -> bool {
        self.skip_phases.iter().any(|p| p == phase)
    }

    /// The directory of patches, if one was given.
    pub fn patches(&self) -> Option<Patches> {
        self.patches.clone().map(|directory| Patches { directory })
    }

    /// The kubeconfig of this machine's own rights: the administrator's, or the kubelet's.
    pub fn kubeconfig(&self) -> PathBuf {
        let own = if Path::new(paths::ADMIN).exists() { paths::ADMIN } else { paths::KUBELET_CONF };
        self.kubeconfig.clone().unwrap_or_else(|| own.into())
    }
}

/// The version to go to.
///
/// # Errors
/// When neither a bundle nor a version is given, or they contradict each other.
pub fn target(args: &UpgradeArgs, bundle: Option<&Bundle>) -> Result<String> {
    match (bundle, &args.version) {
        (Some(bundle), None) => Ok(bundle.index.version.clone()),
        (Some(bundle), Some(wanted))
            if bundle.index.version == *wanted || bundle.index.kubernetes == *wanted =>
        {
            Ok(bundle.index.version.clone())
        }
        (Some(bundle), Some(wanted)) => bail!("the bundle is version {}, not {wanted}", bundle.index.version),
        (None, Some(version)) => Ok(version.clone()),
        (None, None) => bail!(
            "say to what: --bundle FILE, or a version installed here ({})",
            bundle::versions().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coxctl_machine::bundle::Index;

    #[test]
    fn the_target_is_the_bundles_version() {
        let index = Index { version: "0.2.0".into(), kubernetes: "v1.36.2".into(), ..Index::default() };
        let bundle = Bundle { file: "b".into(), index };
        let mut args = UpgradeArgs::default();
        assert!(target(&args, None).is_err());
        assert_eq!(target(&args, Some(&bundle)).unwrap(), "0.2.0");
        args.version = Some("v1.36.2".into());
        assert_eq!(target(&args, Some(&bundle)).unwrap(), "0.2.0");
        args.version = Some("0.3.0".into());
        assert!(target(&args, Some(&bundle)).is_err());
        assert_eq!(target(&args, None).unwrap(), "0.3.0");
    }

    #[test]
    fn a_document_says_what_flags_say() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("upgrade.yaml");
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: UpgradeConfiguration\n\
            apply: {kubernetesVersion: v1.36.2, certificateRenewal: false, skipPhases: [addon], patches: {directory: /p}}\n\
            node: {dryRun: true, etcdUpgrade: false}\ndiff: {contextLines: 1}\n";
        std::fs::write(&file, text).unwrap();
        let of = |command| {
            UpgradeArgs { config: Some(file.clone()), ..Default::default() }.settled(command).unwrap()
        };
        let apply = of(Command::Apply);
        assert!(
            !apply.certificate_renewal() && apply.etcd_upgrade() && apply.skips("addon") && !apply.dry_run
        );
        assert_eq!(
            (apply.version.as_deref(), apply.patches().unwrap().directory.as_str()),
            (Some("v1.36.2"), "/p")
        );
        let node = of(Command::Node);
        assert!(node.dry_run && !node.etcd_upgrade() && node.certificate_renewal() && node.version.is_none());
        assert_eq!(of(Command::Diff).context_lines, Some(1));
        let mixed =
            UpgradeArgs { config: Some(file.clone()), etcd_upgrade: Some(true), ..Default::default() };
        assert!(mixed.settled(Command::Apply).unwrap_err().to_string().contains("can not mix"));
        let odd = UpgradeArgs { skip_phases: vec!["x".into()], ..Default::default() };
        assert!(odd.settled(Command::Apply).unwrap_err().to_string().starts_with("invalid phase name: x"));
    }
}
