//! `create`: from files, and one generator for each common kind.

pub mod config;
mod file;
pub(crate) mod generate;
mod generators;
pub mod ingress;
pub mod policy;
pub mod rbac;
pub mod service;
mod token;
pub mod workload;

pub use file::{FileFlags, create as create_target, read as read_file};

use anyhow::Result;
use coxctl_kit::Globals;
use generators as g;

/// `create -f FILE`, or `create KIND NAME`.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Create {
    #[command(flatten)]
    pub files: FileFlags,
    #[command(subcommand)]
    pub kind: Option<CreateKind>,
}

impl Create {
    /// Whether `--user` names subjects of a binding.
    pub fn names_users(&self) -> bool {
        matches!(self.kind, Some(CreateKind::RoleBinding(_) | CreateKind::ClusterRoleBinding(_)))
    }
}

/// What can be created without a file.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum CreateKind {
    /// Create a cluster role.
    #[command(name = "clusterrole")]
    ClusterRole(g::ClusterRole),
    /// Create a cluster role binding for a particular cluster role.
    #[command(name = "clusterrolebinding")]
    ClusterRoleBinding(g::ClusterRoleBinding),
    /// Create a config map from a local file, directory or literal value.
    #[command(name = "configmap", alias = "cm")]
    ConfigMap(g::ConfigMap),
    /// Create a cron job with the specified name.
    #[command(name = "cronjob", alias = "cj")]
    CronJob(g::CronJob),
    /// Create a deployment with the specified name.
    #[command(alias = "deploy")]
    Deployment(g::Deployment),
    /// Create an ingress with the specified name.
    #[command(alias = "ing")]
    Ingress(g::Ingress),
    /// Create a job with the specified name.
    Job(g::Job),
    /// Create a namespace with the specified name.
    #[command(alias = "ns")]
    Namespace(g::Namespace),
    /// Create a pod disruption budget with the specified name.
    #[command(name = "poddisruptionbudget", alias = "pdb")]
    PodDisruptionBudget(g::Budget),
    /// Create a priority class with the specified name.
    #[command(name = "priorityclass", alias = "pc")]
    PriorityClass(g::Priority),
    /// Create a quota with the specified name.
    #[command(alias = "resourcequota")]
    Quota(g::Quota),
    /// Create a role with single rule.
    Role(g::Role),
    /// Create a role binding for a particular role or cluster role.
    #[command(name = "rolebinding")]
    RoleBinding(g::RoleBinding),
    /// Create a secret using a specified subcommand.
    #[command(subcommand)]
    Secret(g::Secret),
    /// Create a service using a specified subcommand.
    #[command(subcommand, alias = "svc")]
    Service(g::Service),
    /// Create a service account with the specified name.
    #[command(name = "serviceaccount", alias = "sa")]
    ServiceAccount(g::ServiceAccount),
    /// Request a service account token.
    Token(token::Token),
}

/// Runs the verb.
pub async fn run(command: Create, globals: &Globals) -> Result<i32> {
    match command.kind {
        None => file::run(&command.files, globals).await,
        Some(CreateKind::Token(flags)) => token::run(&flags, globals).await,
        Some(kind) => g::run(kind, globals).await,
    }
}
