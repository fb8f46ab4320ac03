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

/// What the kernel says wherever the machine has run out of something, and what helps.
const SPENT: [(&str, &str); 2] = [
    (
        "No space left on device",
        "The disk is full: free some space (df -h shows where) and run the command again",
    ),
    (
        "Too many open files",
        "The limit of open files or of inotify instances is reached: raise fs.inotify.max_user_instances (sysctl) or the limit \
         of files (ulimit -n), and run the command again",
    ),
];

fn advised(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    match SPENT.iter().find(|(sign, _)| text.contains(sign) && !text.contains("Cure:")) {
        Some((_, advice)) => anyhow::anyhow!("{text}\n{advice}"),
        None => error,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_advised() {
        let said = |text: &str| advised(anyhow::anyhow!("{text}")).to_string();
        assert!(said("writing /x: No space left on device (os error 28)").contains("\nThe disk is full"));
        assert!(said("EMFILE: Too many open files").contains("max_user_instances"));
        assert_eq!(
            said("etcd: no\nCure: free. No space left on device"),
            "etcd: no\nCure: free. No space left on device"
        );
    }
}
