//! The commands of this crate as one grammar, for the command line to list.

use anyhow::Result;
use coxctl_config::ConfigCommand;
use coxctl_pki::{CertsCommand, KubeconfigCommand};

use crate::etcd::command::EtcdCommand;
use crate::token::command::TokenCommand;
use crate::upgrade::UpgradeCommand;
use crate::{etcd, init, join, reset, token, upgrade};

/// Commands about clusters.
#[derive(Debug, clap::Subcommand)]
pub enum ClusterCommand {
    /// Make this machine the first control plane of a new cluster
    Init(Box<init::InitArgs>),
    /// Make this machine a node of a cluster
    Join(Box<join::JoinArgs>),
    /// Bootstrap tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Take back what `init` or `join` made on this machine
    Reset(Box<reset::ResetArgs>),
    /// The cluster's etcd
    #[command(subcommand)]
    Etcd(EtcdCommand),
    /// Upgrade the cluster, one machine at a time
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Documents of configuration, and images
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Certificates of this control plane
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Kubeconfigs for users
    #[command(subcommand)]
    Kubeconfig(KubeconfigCommand),
}

/// Pulls one image through the container runtime.
fn pull(socket: String, image: String) -> coxctl_config::command::Pulling {
    Box::pin(async move { coxctl_machine::cri::pull(&socket, &image).await })
}

/// Runs a command; the exit code is what is returned.
///
/// # Errors
/// In a sentence for the user.
pub async fn run(command: ClusterCommand) -> Result<i32> {
    dispatch(command).await.map_err(advised)
}

/// A full disk is told in the kernel's words wherever it shows; what helps is always the same.
fn advised(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    match text.contains("No space left on device") && !text.contains("df -h") {
        true => anyhow::anyhow!(
            "{text}\nThe disk is full: free some space (df -h shows where) and run the command again"
        ),
        false => error,
    }
}

async fn dispatch(command: ClusterCommand) -> Result<i32> {
    match command {
        ClusterCommand::Init(args) => init::run(*args).await,
        ClusterCommand::Join(args) => join::run(*args).await,
        ClusterCommand::Token(command) => token::command::run(command).await,
        ClusterCommand::Reset(args) => reset::run(*args).await,
        ClusterCommand::Etcd(command) => etcd::command::run(command).await,
        ClusterCommand::Upgrade(command) => upgrade::run(command).await,
        ClusterCommand::Config(command) => coxctl_config::run(command, &pull).await,
        ClusterCommand::Certs(command) => coxctl_pki::run_certs(command).await,
        ClusterCommand::Kubeconfig(command) => coxctl_pki::run_kubeconfig(command).await,
    }
}
