//! Everyday verbs that read: get, tree, explain, wait, events, top, auth, api-resources, config, version, completion.

use clap::Subcommand;
use coxctl_kit::Globals;

pub mod get;

/// The reading verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Display one or many resources
    Get(get::GetArgs),
}

/// Runs a verb; the exit code is returned. `root` is the whole command line, for completion and options.
pub async fn run(command: Command, globals: &Globals, root: fn() -> clap::Command) -> anyhow::Result<i32> {
    let _ = root;
    Ok(match command {
        Command::Get(args) => get::run(&args, globals).await?,
    })
}
