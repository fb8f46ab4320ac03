//! `config`: kubeconfig files.

mod change;
mod property;
mod store;
mod view;

use clap::{Args, Subcommand};
use coxctl_kit::{Globals, PrintArgs, Result};

use store::Section;

/// What `config` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Display merged kubeconfig settings or a specified kubeconfig file
    View(ViewArgs),
    /// Display the current-context
    CurrentContext,
    /// Describe one or many contexts
    GetContexts(ContextsArgs),
    /// Display clusters defined in the kubeconfig
    GetClusters,
    /// Display users defined in the kubeconfig
    GetUsers,
    /// Set the current-context in a kubeconfig file
    #[command(alias = "use")]
    UseContext { name: String },
    /// Set a context entry in kubeconfig
    SetContext(SetContextArgs),
    /// Set a cluster entry in kubeconfig
    SetCluster(SetClusterArgs),
    /// Set a user entry in kubeconfig
    SetCredentials(SetCredentialsArgs),
    /// Set an individual value in a kubeconfig file
    Set(SetArgs),
    /// Unset an individual value in a kubeconfig file
    Unset { property: String },
    /// Rename a context from the kubeconfig file
    RenameContext { old: String, new: String },
    /// Delete the specified context from the kubeconfig
    DeleteContext { name: String },
    /// Delete the specified cluster from the kubeconfig
    DeleteCluster { name: String },
    /// Delete the specified user from the kubeconfig
    DeleteUser { name: String },
}

#[derive(Args, Clone, Debug)]
pub struct ViewArgs {
    #[command(flatten)]
    pub print: PrintArgs,
    /// Remove all information not used by current-context from the output
    #[arg(long)]
    pub minify: bool,
    /// Flatten the resulting kubeconfig file into self-contained output
    #[arg(long)]
    pub flatten: bool,
    /// Display raw byte data and sensitive data
    #[arg(long)]
    pub raw: bool,
    /// Merge the full hierarchy of kubeconfig files
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub merge: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ContextsArgs {
    pub names: Vec<String>,
    /// Output format: name
    #[arg(short = 'o', long, default_value = "")]
    pub output: String,
    /// Don't print headers
    #[arg(long = "no-headers")]
    pub no_headers: bool,
}

/// The cluster, user and namespace come from the global flags of those names.
#[derive(Args, Clone, Debug)]
pub struct SetContextArgs {
    pub name: Option<String>,
    /// Modify the current context
    #[arg(long)]
    pub current: bool,
}

/// Server, certificate authority and the like come from the global flags of those names.
#[derive(Args, Clone, Debug)]
pub struct SetClusterArgs {
    pub name: String,
    /// Embed the certificate authority in the entry
    #[arg(long = "embed-certs")]
    pub embed_certs: bool,
    /// The proxy to use
    #[arg(long = "proxy-url")]
    pub proxy_url: Option<String>,
}

/// Token, certificate, key, username and password come from the global flags of those names.
#[derive(Args, Clone, Debug)]
pub struct SetCredentialsArgs {
    pub name: String,
    /// Embed client certificate and key in the entry
    #[arg(long = "embed-certs")]
    pub embed_certs: bool,
    /// Auth provider for the user entry
    #[arg(long = "auth-provider")]
    pub auth_provider: Option<String>,
    /// 'key=value' arguments for the auth provider
    #[arg(long = "auth-provider-arg", value_delimiter = ',')]
    pub auth_provider_arg: Vec<String>,
    /// Command for the exec credential plugin
    #[arg(long = "exec-command")]
    pub exec_command: Option<String>,
    /// API version of the exec credential plugin
    #[arg(long = "exec-api-version")]
    pub exec_api_version: Option<String>,
    /// InteractiveMode of the exec credentials plugin: Never, IfAvailable or Always
    #[arg(long = "exec-interactive-mode")]
    pub exec_interactive_mode: Option<String>,
    /// ProvideClusterInfo of the exec credentials plugin
    #[arg(long = "exec-provide-cluster-info")]
    pub exec_provide_cluster_info: bool,
    /// New arguments for the exec credential plugin command
    #[arg(long = "exec-arg", value_delimiter = ',')]
    pub exec_arg: Vec<String>,
    /// 'key=value' environment values for the exec credential plugin
    #[arg(long = "exec-env", value_delimiter = ',')]
    pub exec_env: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    pub property: String,
    pub value: String,
    /// Write binary values directly without base64 decoding
    #[arg(long = "set-raw-bytes")]
    pub set_raw_bytes: bool,
}

/// Runs the verb.
pub fn run(command: &ConfigCommand, globals: &Globals) -> Result<i32> {
    match command {
        ConfigCommand::View(args) => view::view(args, globals),
        ConfigCommand::CurrentContext => view::current(globals),
        ConfigCommand::GetContexts(args) => view::contexts(args, globals),
        ConfigCommand::GetClusters => view::names(Section::Clusters, globals),
        ConfigCommand::GetUsers => view::names(Section::Users, globals),
        ConfigCommand::UseContext { name } => change::use_context(name, globals),
        ConfigCommand::SetContext(args) => change::set_context(args, globals),
        ConfigCommand::SetCluster(args) => change::set_cluster(args, globals),
        ConfigCommand::SetCredentials(args) => change::set_credentials(args, globals),
        ConfigCommand::Set(args) => property::set(args, globals),
        ConfigCommand::Unset { property } => property::unset(property, globals),
        ConfigCommand::RenameContext { old, new } => change::rename(old, new, globals),
        ConfigCommand::DeleteContext { name } => change::delete(Section::Contexts, name, globals),
        ConfigCommand::DeleteCluster { name } => change::delete(Section::Clusters, name, globals),
        ConfigCommand::DeleteUser { name } => change::delete(Section::Users, name, globals),
    }
}
