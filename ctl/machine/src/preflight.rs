//! Checks before a machine is touched: kubeadm's names, each with its cause and its cure.

pub mod decide;
pub mod facts;
mod kernel;
mod proxy;
mod registry;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::{Made, Services, cri};
pub use facts::Facts;

/// Which command asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `init`
    #[default]
    Init,
    /// `join`
    JoinWorker,
    /// `join --control-plane`
    JoinControlPlane,
    /// `reset`
    Reset,
    /// `upgrade apply`
    UpgradeApply,
    /// `upgrade node`
    UpgradeNode,
}

impl Command {
    /// Whether a control plane comes up here.
    pub fn makes_control_plane(self) -> bool {
        matches!(self, Self::Init | Self::JoinControlPlane)
    }

    /// Whether this machine becomes part of a cluster.
    pub fn makes_node(self) -> bool {
        matches!(self, Self::Init | Self::JoinControlPlane | Self::JoinWorker)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Is told.
    Warning,
    /// Stops the command.
    Error,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// kubeadm's name, as `Port-6443`.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// The cause.
    pub message: String,
    /// What helps.
    pub cure: String,
}

/// When to pull images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// Even when it is there.
    Always,
    /// When it isn't there.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

/// What the command is about to need of the machine. Fields that do not matter for a command stay at their defaults.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Which command asks.
    pub command: Command,
    /// The node's name.
    pub node_name: String,
    /// The API server's port (init, control-plane join).
    pub bind_port: u16,
    /// The API server's address (init), or the host of the endpoint that is joined; for the proxy checks.
    pub server: String,
    /// Service networks, as CIDRs.
    pub service_subnets: Vec<String>,
    /// Pod networks, as CIDRs.
    pub pod_subnets: Vec<String>,
    /// The data directory of an etcd on this machine; none for an external one.
    pub etcd_data_dir: Option<PathBuf>,
    /// Endpoints of an external etcd.
    pub external_etcd: Vec<String>,
    /// Version each of them answered, or what went wrong.
    pub external_etcd_versions: Vec<(String, Result<String, String>)>,
    /// CA, certificate and key for it; files that must exist.
    pub external_etcd_files: Vec<PathBuf>,
    /// The container runtime, `unix:///…`.
    pub cri_socket: String,
    /// The PKI directory.
    pub certificates_dir: PathBuf,
    /// The CA file a joining worker writes.
    pub ca_cert_path: PathBuf,
    /// Version to be run, `v1.36.2`.
    pub kubernetes_version: String,
    /// Images that will be needed, pulled where missing.
    pub images: Vec<String>,
    /// When to pull.
    pub pull: Pull,
    /// What distinguishes this configuration, as given to [`Made::begin`].
    pub fingerprint: String,
    /// The clock of the server that is joined less our own, in seconds, by its Date header.
    pub clock_skew: Option<i64>,
    /// The Kubernetes version of the bundle that is to be installed.
    pub bundled: Option<String>,
    /// What the caller found already.
    pub found: Vec<Check>,
    /// Programs that must be there, by name, resolved by [`Services::program`].
    pub programs: Vec<String>,
}

/// Gathers what is so on this machine and decides. Images are pulled last, and only when nothing else is in the way.
pub async fn run(wanted: &Wanted, made: &Made, services: &dyn Services) -> Vec<Check> {
    let facts = facts::gather(wanted, services).await;
    let mut checks = decide::all(wanted, &facts, made);
    let bad: Vec<&Check> = checks.iter().filter(|c| c.level == Level::Error).collect();
    if bad.iter().all(|c| !["CRI", "IsPrivilegedUser"].contains(&c.name.as_str())) {
        checks.extend(pull(wanted).await);
    }
    checks
}

/// Brings missing images in; a failure of each is an `ImagePull`. Of a registry that can't be reached no further image
/// is asked for.
async fn pull(wanted: &Wanted) -> Vec<Check> {
    let (mut checks, mut silent) = (Vec::new(), Vec::<&str>::new());
    for image in wanted.images.iter().filter(|_| wanted.pull != Pull::Never) {
        let (socket, registry) = (&wanted.cri_socket, registry::of(image));
        let present =
            wanted.pull == Pull::IfNotPresent && cri::has_image(socket, image).await.unwrap_or(false);
        if present {
            continue;
        }
        if silent.contains(&registry) {
            checks.push(not_pulled(image, "its registry can't be reached, as above"));
        } else if let Err(error) = registry::pull(socket, image).await {
            silent.extend(registry::is_silent(&error).then_some(registry));
            checks.push(not_pulled(image, &format!("{error:#}")));
        }
    }
    checks
}

fn not_pulled(image: &str, why: &str) -> Check {
    Check {
        name: "ImagePull".into(),
        level: Level::Error,
        message: format!("failed to pull image {image}: {why}"),
        cure: "without internet give a bundle (--bundle FILE); else look at DNS, proxy and imageRepository"
            .into(),
    }
}

/// Prints the findings as kubeadm does and fails if an error is not among the ignored names (case does not matter; `all`).
///
/// # Errors
/// When a check failed.
pub fn report(checks: &[Check], ignore: &[String]) -> Result<()> {
    let (warnings, errors) = judge(checks, ignore);
    // Who stopped reading does not stop the work.
    warnings.iter().for_each(|line| drop(writeln!(std::io::stderr(), "{line}")));
    if errors.is_empty() {
        return Ok(());
    }
    bail!(
        "[preflight] Some fatal errors occurred:\n{}\n[preflight] If you know what you are doing, you can make a check non-fatal \
         with `--ignore-preflight-errors=...`",
        errors.join("\n")
    )
}

/// The lines of warnings and of errors, in order.
fn judge(checks: &[Check], ignore: &[String]) -> (Vec<String>, Vec<String>) {
    let ignored =
        |name: &str| ignore.iter().any(|i| i.eq_ignore_ascii_case("all") || i.eq_ignore_ascii_case(name));
    let (errors, warnings): (Vec<&Check>, Vec<&Check>) =
        checks.iter().partition(|c| c.level == Level::Error && !ignored(&c.name));
    let lines = |list: Vec<&Check>, word: &str| list.iter().map(|c| line(c, word)).collect();
    (lines(warnings, "WARNING"), lines(errors, "ERROR"))
}

fn line(check: &Check, word: &str) -> String {
    let cure = if check.cure.is_empty() { String::new() } else { format!("\n\t\t{}", check.cure) };
    format!("\t[{word} {}]: {}{cure}", check.name, check.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, level: Level) -> Check {
        Check { name: name.into(), level, message: "cause".into(), cure: "cure".into() }
    }

    #[test]
    fn printed_as_kubeadm_does() {
        let checks =
            [check("Swap", Level::Warning), check("Port-6443", Level::Error), check("NumCPU", Level::Error)];
        let ignore = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (warnings, errors) = judge(&checks, &ignore(&["numcpu"]));
        assert_eq!(warnings, ["\t[WARNING Swap]: cause\n\t\tcure", "\t[WARNING NumCPU]: cause\n\t\tcure"]);
        assert_eq!(errors, ["\t[ERROR Port-6443]: cause\n\t\tcure"]);
        let error = report(&checks, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("[preflight] Some fatal errors occurred:\n\t[ERROR Port-6443]: cause"),
            "{error}"
        );
        assert!(report(&checks, &ignore(&["ALL"])).is_ok());
        assert!(report(&checks[..1], &[]).is_ok());
    }
}
