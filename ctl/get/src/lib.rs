//! Everyday verbs that read: get, tree, explain, wait, events, top, auth, api-resources, config, version, completion.

use clap::Subcommand;
use coxctl_kit::Globals;

pub mod auth;
pub mod certificate;
pub mod cluster_info;
pub mod config;
pub mod events;
pub mod explain;
pub mod get;
pub mod resources;
pub mod shell;
pub mod top;
pub mod tree;
pub mod version;
pub mod wait;

/// The reading verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Display one or many resources
    Get(get::GetArgs),
    /// Show an object with its owners and what it owns, and how each is
    Tree(tree::TreeArgs),
    /// Get documentation for a resource
    Explain(explain::ExplainArgs),
    /// Experimental: Wait for a specific condition on one or many resources
    Wait(wait::WaitArgs),
    /// List events
    Events(events::EventsArgs),
    /// Display resource (CPU/memory) usage
    #[command(subcommand)]
    Top(top::TopCommand),
    /// Inspect authorization
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Modify certificate resources
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Print the supported API resources on the server
    ApiResources(resources::ResourcesArgs),
    /// Print the supported API versions on the server, in the form of "group/version"
    ApiVersions(resources::VersionsArgs),
    /// Modify kubeconfig files
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the client and server version information
    Version(version::VersionArgs),
    /// Display cluster information
    ClusterInfo(cluster_info::ClusterInfoArgs),
    /// Output shell completion code for the specified shell (bash, zsh, fish, or powershell)
    Completion(shell::CompletionArgs),
    /// Print the list of flags inherited by all commands
    Options,
    /// Provides utilities for interacting with plugins
    #[command(subcommand)]
    Plugin(shell::PluginCommand),
}

/// Runs a verb; the exit code is returned. `root` is the whole command line, for options.
pub async fn run(command: Command, globals: &Globals, root: fn() -> clap::Command) -> anyhow::Result<i32> {
    Ok(match command {
        Command::Get(args) => get::run(&args, globals).await?,
        Command::Tree(args) => tree::run(&args, globals).await?,
        Command::Explain(args) => explain::run(&args, globals).await?,
        Command::Wait(args) => wait::run(&args, globals).await?,
        Command::Events(args) => events::run(&args, globals).await?,
        Command::Top(command) => top::run(&command, globals).await?,
        Command::Auth(command) => auth::run(&command, globals).await?,
        Command::Certificate(command) => certificate::run(&command, globals).await?,
        Command::ApiResources(args) => resources::resources(&args, globals).await?,
        Command::ApiVersions(args) => resources::versions(&args, globals).await?,
        Command::Config(command) => config::run(&command, globals)?,
        Command::Version(args) => version::run(&args, globals).await?,
        Command::ClusterInfo(args) => cluster_info::run(&args, globals).await?,
        Command::Completion(args) => shell::completion(&args),
        Command::Options => shell::options(root()),
        Command::Plugin(command) => shell::plugins(&command)?,
    })
}
