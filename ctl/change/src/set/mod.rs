//! `set`: one aspect of objects at a time.

pub mod env;
mod env_verb;
pub mod resources;
mod verbs;

use crate::flags::{DryRun, DryRunFlag, write};
use crate::output::Printer;
use crate::target::{Select, Target};
use anyhow::Result;
use coxctl_kit::files::FileArgs;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, Error, Globals, PatchType};
use serde_json::{Value, json};

/// What a command line that names no object is told.
pub(crate) const NOTHING_NAMED: &str = "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'";

/// `set WHAT`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Set {
    /// Update environment variables on a pod template.
    Env(env_verb::Flags),
    /// Update the image of a pod template.
    Image(verbs::Image),
    /// Update resource requests/limits on objects with pod templates.
    Resources(verbs::Resources),
    /// Set the selector on a resource.
    Selector(verbs::Selector),
    /// Update the service account of a resource.
    #[command(alias = "sa")]
    Serviceaccount(verbs::ServiceAccount),
    /// Update the user, group, or service account in a role binding or cluster role binding.
    Subject(verbs::Subject),
}

/// Flags all of them have.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    pub files: FileArgs,
    /// Select all resources, in the namespace of the specified resource types.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-set")]
    pub field_manager: String,
    /// If true, the server will NOT be contacted but run locally.
    #[arg(long)]
    pub local: bool,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

impl Common {
    fn select<'a>(&'a self, args: &'a [String]) -> Select<'a> {
        Select {
            args,
            files: Some(&self.files),
            labels: &self.selector,
            all: self.all,
            local: self.local,
            nothing: Some(NOTHING_NAMED.into()),
            ..Select::default()
        }
    }
}

/// Runs one of them.
pub async fn run(command: Set, globals: &Globals) -> Result<i32> {
    match command {
        Set::Env(flags) => env_verb::run(&flags, globals).await,
        Set::Image(flags) => verbs::image(&flags, globals).await,
        Set::Resources(flags) => verbs::resources(&flags, globals).await,
        Set::Selector(flags) => verbs::selector(&flags, globals).await,
        Set::Serviceaccount(flags) => verbs::service_account(&flags, globals).await,
        Set::Subject(flags) => verbs::subject(&flags, globals).await,
    }
}

/// What a changed object is to be called and how its failure begins.
struct Words {
    done: &'static str,
    failed: &'static str,
    /// Whether an unchanged object is passed over in silence.
    silent: bool,
}

/// Sends the difference between a target and its changed copy, and says so.
async fn finish(
    common: &Common,
    dry: DryRun,
    cluster: &Cluster,
    printer: &Printer,
    target: &Target,
    after: Value,
    words: &Words,
) -> Result<()> {
    let patch = difference(&target.object, &after)?;
    if patch == json!({}) && words.silent {
        return Ok(());
    }
    if dry == DryRun::Client || common.local {
        return printer.done(&crate::typed::canonical(&after), words.done);
    }
    let how = if target.is_builtin() { PatchType::Strategic } else { PatchType::Merge };
    let write = write(&common.field_manager, dry, None);
    let sent = cluster.patch(&target.kind, target.ns(), &target.name, None, how, &patch, &write).await;
    let patched = sent.map_err(|e| {
        if words.failed.is_empty() { e } else { Error::message(format!("{} {e}", words.failed)) }
    })?;
    printer.done(&patched, words.done)
}

/// The patch from one state to another: strategic for built-in kinds, else a merge patch.
pub(crate) fn difference(before: &Value, after: &Value) -> Result<Value> {
    Ok(match crate::typed::of(before) {
        Some(ty) => patch::threeway::strategic_between(before, after, ty)?,
        None => patch::threeway::merge_between(before, after)?,
    })
}
