//! `apply`.

mod client;
mod last_applied;
mod prune;
mod server;

pub use client::plan;
pub use last_applied::{EditLast, SetLast, ViewLast};
pub(crate) use prune::{Scope, prune as run_prune};

use crate::flags::{DryRun, DryRunFlag, Validate, duration, error, usage};
use crate::output::Printer;
use crate::target::{Select, Target, finish, kit_error, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, FileArgs, Globals, out};
use serde_json::Value;

/// `apply -f FILE` and the verbs about what was applied last.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Apply {
    #[command(flatten)]
    pub flags: Flags,
    #[command(subcommand)]
    pub command: Option<ApplyCommand>,
}

/// Verbs about what was applied last.
#[derive(clap::Subcommand, Clone, Debug)]
#[allow(clippy::enum_variant_names, reason = "the names are those of the verbs")]
pub enum ApplyCommand {
    /// Edit latest last-applied-configuration annotations of a resource/object.
    EditLastApplied(EditLast),
    /// Set the last-applied-configuration annotation on a live object to match the contents of a file.
    SetLastApplied(SetLast),
    /// View the latest last-applied-configuration annotations of a resource/object.
    ViewLastApplied(ViewLast),
}

/// Flags of `apply`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[arg(hide = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Select all resources in the namespace of the specified resource types.
    #[arg(long)]
    pub all: bool,
    /// The deletion cascading strategy for dependents: "background", "orphan", or "foreground".
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    pub cascade: String,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long)]
    pub field_manager: Option<String>,
    /// If true, immediately remove resources from API and bypass graceful deletion.
    #[arg(long)]
    pub force: bool,
    /// If true, server-side apply will force the changes against conflicts.
    #[arg(long)]
    pub force_conflicts: bool,
    /// Period of time in seconds given to the resource to terminate gracefully.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// Kept for compatibility; patches are always made from the kinds' schemas.
    #[arg(long, hide = true, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub openapi_patch: bool,
    /// Automatically resolve conflicts between the modified and live configuration by using values from the modified
    /// configuration.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub overwrite: bool,
    /// Automatically delete resource objects that do not appear in the configs and were created by apply.
    #[arg(long)]
    pub prune: bool,
    /// Overwrite the default allowlist with <group/version/kind> for --prune.
    #[arg(long)]
    pub prune_allowlist: Vec<String>,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// If true, apply runs in the server instead of the client.
    #[arg(long)]
    pub server_side: bool,
    /// If specified, apply will operate on the subresource of the requested object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub subresource: String,
    /// The length of time to wait before giving up on a delete.
    #[arg(long, default_value = "0s")]
    pub timeout: String,
    #[command(flatten)]
    pub validate: Validate,
    /// If true, wait for resources to be gone before returning.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(command: Apply, globals: &Globals) -> Result<i32> {
    match command.command {
        None => apply(&command.flags, globals).await,
        Some(ApplyCommand::EditLastApplied(flags)) => last_applied::edit(&flags, globals).await,
        Some(ApplyCommand::SetLastApplied(flags)) => last_applied::set(&flags, globals).await,
        Some(ApplyCommand::ViewLastApplied(flags)) => last_applied::view(&flags, globals).await,
    }
}

/// What applying one object needs to know.
pub(crate) struct Context<'a> {
    pub flags: &'a Flags,
    pub cluster: &'a Cluster,
    pub dry: DryRun,
    pub validation: &'static str,
    pub timeout: Option<std::time::Duration>,
}

impl Flags {
    fn check(&self, dry: DryRun) -> Result<()> {
        if !self.args.is_empty() {
            return Err(usage(format!("Unexpected args: [{}]", self.args.join(" ")), "apply"));
        }
        if self.files.is_empty() {
            return Err(error("must specify one of -f and -k"));
        }
        if self.force_conflicts && !self.server_side {
            return Err(error("--force-conflicts only works with --server-side"));
        }
        if dry == DryRun::Client && self.server_side {
            return Err(error(
                "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
            ));
        }
        if self.force && self.server_side {
            return Err(error("--force cannot be used with --server-side"));
        }
        if dry == DryRun::Server && self.force {
            return Err(error("--dry-run=server cannot be used with --force"));
        }
        if self.all && !self.selector.is_empty() {
            return Err(error("cannot set --all and --selector at the same time"));
        }
        if self.prune && !self.all && self.selector.is_empty() {
            return Err(error(
                "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector",
            ));
        }
        Ok(())
    }
}

async fn apply(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?;
    flags.check(dry)?;
    let validation = flags.validate.word()?;
    let timeout = duration(&flags.timeout)?;
    let cluster = globals.connect().await?;
    let chosen =
        Select { files: Some(&flags.files), labels: &flags.selector, as_given: true, ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        return Err(error("no objects passed to apply"));
    }
    let context = Context { flags, cluster: &cluster, dry, validation, timeout };
    let (mut errors, mut done, mut scope) = (Vec::new(), Vec::new(), Scope::default());
    for target in found {
        let applied = match target {
            Ok(target) => one(&context, &printer, target, &mut scope).await.map_err(kit_error),
            Err(error) => Err(error),
        };
        match applied {
            Ok(object) => done.push(object),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() && flags.prune {
        scope.seen.extend(done.iter().map(|object| machinery::meta::uid(object).to_string()));
        run_prune(&context, &printer, &scope).await?;
    }
    printer.collected(done)?;
    finish(errors)
}

async fn one(context: &Context<'_>, printer: &Printer, target: Target, scope: &mut Scope) -> Result<Value> {
    scope.visit(target.ns());
    let (object, word) = if context.flags.server_side {
        (server::apply(context, &target).await?, "serverside-applied")
    } else {
        client::apply(context, &target).await?
    };
    warn_if_deleting(&target, &object);
    if !printer.prints_objects() {
        printer.done(&object, word)?;
    }
    Ok(object)
}

/// Changes to an object that goes away are seldom what was meant.
fn warn_if_deleting(target: &Target, object: &Value) {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        let name = target.plural_name();
        out::note(&format!("Warning: Detected changes to resource {name} which is currently being deleted."));
    }
}
