//! The commands of this crate as one grammar, for the command line to list.

use anyhow::Result;

use crate::token::command::TokenCommand;
use crate::{init, join, token};

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
}

/// Runs a command; the exit code is what is returned.
///
/// # Errors
/// In a sentence for the user.
pub async fn run(command: ClusterCommand) -> Result<i32> {
    match command {
        ClusterCommand::Init(args) => init::run(*args).await,
        ClusterCommand::Join(args) => join::run(*args).await,
        ClusterCommand::Token(command) => token::command::run(command).await,
    }
}
