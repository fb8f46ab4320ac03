//! `taint`.

use crate::flags::{DryRun, DryRunFlag, Validate, error, usage, write};
use crate::output::Printer;
use crate::taints::{self, Changes};
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, Globals, PatchType};
use serde_json::{Value, json};

/// Flags of `taint`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// node NAME KEY=VALUE:EFFECT… KEY:EFFECT-… KEY-…
    pub args: Vec<String>,
    /// Select all nodes in the cluster.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-taint")]
    pub field_manager: String,
    /// If true, allow taints to be overwritten.
    #[arg(long)]
    pub overwrite: bool,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    #[command(flatten)]
    pub validate: Validate,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, DryRun::None)?.typed();
    let at = flags.args.iter().position(|a| taints::is_taint(a)).unwrap_or(flags.args.len());
    let (resources, specs) = flags.args.split_at(at);
    if let Some(stray) = specs.iter().find(|arg| !taints::is_taint(arg)) {
        return Err(error(format!("all resources must be specified before taint changes: {stray}")));
    }
    let changes = taints::parse(specs).map_err(|e| usage(e, "taint"))?;
    check(flags, resources, &changes)?;
    let cluster = globals.connect().await?;
    let chosen = Select { args: resources, labels: &flags.selector, all: flags.all, ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    each(found, async |node| one(flags, &changes, dry, &printer, &cluster, node).await).await
}

fn check(flags: &Flags, resources: &[String], changes: &Changes) -> Result<()> {
    let kind = resources.first().map(|r| r.split('/').next().unwrap_or(r).to_lowercase()).unwrap_or_default();
    if resources.is_empty() {
        return Err(error("one or more resources must be specified as <resource> <name>"));
    }
    if !matches!(kind.as_str(), "node" | "nodes" | "no") {
        return Err(error(format!("invalid resource type {kind}, only node types are supported")));
    }
    if flags.all && !flags.selector.is_empty() {
        return Err(error("setting 'all' parameter with a non-empty selector is prohibited"));
    }
    if changes.set.is_empty() && changes.remove.is_empty() {
        return Err(error("at least one taint update is required"));
    }
    let both = changes.contradictions();
    if !both.is_empty() {
        let text = both.join(", ");
        return Err(error(format!(
            "can not both modify and remove the following taint(s) in the same command: {text}"
        )));
    }
    Ok(())
}

async fn one(
    flags: &Flags,
    changes: &Changes,
    dry: DryRun,
    printer: &Printer,
    cluster: &Cluster,
    node: Target,
) -> Result<()> {
    let current = node.object["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let (after, word) = changes.apply(&node.name, &current, flags.overwrite)?;
    let mut object = node.object.clone();
    object["spec"]["taints"] = Value::Array(after.clone());
    if dry != DryRun::Client {
        // Taints share keys, so that the list is replaced as a whole instead of merged by key.
        let mut list = vec![json!({"$patch": "replace"})];
        list.extend(after);
        let patch = json!({"spec": {"taints": list}});
        let write = write(&flags.field_manager, dry, Some(flags.validate.word()?));
        object =
            cluster.patch(&node.kind, None, &node.name, None, PatchType::Strategic, &patch, &write).await?;
    }
    printer.done(&object, word)
}
