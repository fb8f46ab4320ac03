//! The verbs that change things: create, run, apply, diff, edit, patch, replace, delete, label, annotate, taint, set,
//! scale, autoscale, expose, rollout, cordon, uncordon, drain. Grammar, messages and exit codes are kubectl's.
//!
//! What is decided (generated objects, patches, edits, which pods may go) are functions over JSON values; what is sent
//! goes through the kit.

mod annotation;
mod apply;
mod autoscale;
mod create;
mod delete;
mod diff;
mod edit;
mod editor;
mod expose;
mod flags;
mod gojson;
mod label;
mod labels;
mod nodes;
mod output;
mod overrides;
mod patch_verb;
mod replace;
mod rollout;
mod run_pod;
mod scale;
mod set;
mod taint;
mod taints;
mod target;
mod template;
mod typed;

pub use run_pod::{Attach, Attachment};

use anyhow::Result;
use coxctl_kit::Globals;

/// The verbs.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Update the annotations on a resource.
    Annotate(label::Flags),
    /// Apply a configuration to a resource by file name or stdin.
    Apply(apply::Apply),
    /// Auto-scale a deployment, replica set, stateful set, or replication controller.
    Autoscale(autoscale::Flags),
    /// Mark node as unschedulable.
    Cordon(nodes::Flags),
    /// Create a resource from a file or from stdin.
    Create(create::Create),
    /// Delete resources by file names, stdin, resources and names, or by resources and label selector.
    Delete(delete::Flags),
    /// Diff the live version against a would-be applied version.
    Diff(diff::Flags),
    /// Drain node in preparation for maintenance.
    Drain(nodes::Drain),
    /// Edit a resource on the server.
    Edit(edit::Flags),
    /// Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service.
    Expose(expose::Flags),
    /// Update the labels on a resource.
    Label(label::Flags),
    /// Update fields of a resource.
    Patch(patch_verb::Flags),
    /// Replace a resource by file name or stdin.
    Replace(replace::Flags),
    /// Manage the rollout of a resource.
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// Run a particular image on the cluster.
    Run(run_pod::Flags),
    /// Set a new size for a deployment, replica set, or replication controller.
    Scale(scale::Flags),
    /// Set specific features on objects.
    #[command(subcommand)]
    Set(set::Set),
    /// Update the taints on one or more nodes.
    Taint(taint::Flags),
    /// Mark node as schedulable.
    Uncordon(nodes::Flags),
}

/// Runs a verb; `run` can't attach to what it starts.
///
/// # Errors
/// What [`coxctl_kit::report`] prints.
pub async fn run(command: Command, globals: &Globals) -> Result<i32> {
    run_with(command, globals, None).await
}

/// Runs a verb; `run` attaches through the given function.
///
/// # Errors
/// What [`coxctl_kit::report`] prints.
pub async fn run_with(command: Command, globals: &Globals, attach: Option<&Attach>) -> Result<i32> {
    // `--user` of these is whom a binding is for, not who asks.
    let without_user = Globals { user: None, ..globals.clone() };
    match command {
        Command::Create(flags) if flags.names_users() => Box::pin(create::run(flags, &without_user)).await,
        Command::Set(flags @ set::Set::Subject(_)) => Box::pin(set::run(flags, &without_user)).await,
        Command::Annotate(flags) => label::run(label::Verb::Annotate, &flags, globals).await,
        Command::Apply(flags) => Box::pin(apply::run(flags, globals)).await,
        Command::Autoscale(flags) => autoscale::run(&flags, globals).await,
        Command::Cordon(flags) => nodes::cordon(&flags, true, globals).await,
        Command::Create(flags) => Box::pin(create::run(flags, globals)).await,
        Command::Delete(flags) => delete::run(&flags, globals).await,
        Command::Diff(flags) => diff::run(&flags, globals).await,
        Command::Drain(flags) => nodes::drain(&flags, globals).await,
        Command::Edit(flags) => edit::run(&flags, globals).await,
        Command::Expose(flags) => expose::run(&flags, globals).await,
        Command::Label(flags) => label::run(label::Verb::Label, &flags, globals).await,
        Command::Patch(flags) => patch_verb::run(&flags, globals).await,
        Command::Replace(flags) => replace::run(&flags, globals).await,
        Command::Rollout(flags) => Box::pin(rollout::run(flags, globals)).await,
        Command::Run(flags) => run_pod::run(&flags, globals, attach).await,
        Command::Scale(flags) => scale::run(&flags, globals).await,
        Command::Set(flags) => Box::pin(set::run(flags, globals)).await,
        Command::Taint(flags) => taint::run(&flags, globals).await,
        Command::Uncordon(flags) => nodes::cordon(&flags, false, globals).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        globals: coxctl_kit::Globals,
        #[command(subcommand)]
        command: super::Command,
    }

    #[test]
    fn flags_do_not_clash() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_binding_has_users_of_its_own() {
        let words = ["coxctl", "create", "rolebinding", "r", "--role=x", "--user=a", "--user=b", "-n", "ns"];
        let line = Line::try_parse_from(words).expect("parses");
        assert_eq!(line.globals.namespace.as_deref(), Some("ns"));
        assert!(matches!(line.command, super::Command::Create(_)));
    }
}
