//! `apply view-last-applied|set-last-applied|edit-last-applied`.

use crate::annotation::{LAST_APPLIED, last_applied, remembered};
use crate::flags::{DryRun, DryRunFlag, error, write};
use crate::output::{Printer, named};
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::print::{PrintArgs, json, yaml};
use coxctl_kit::{FileArgs, Globals, PatchType, out};
use serde_json::Value;

/// Flags of `apply view-last-applied`.
#[derive(clap::Args, Clone, Debug)]
pub struct ViewLast {
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Select all resources in the namespace of the specified resource types.
    #[arg(long)]
    pub all: bool,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Output format. Must be one of (yaml, json).
    #[arg(short, long, default_value = "yaml")]
    pub output: String,
}

/// Prints what was applied last.
pub async fn view(flags: &ViewLast, globals: &Globals) -> Result<i32> {
    if !matches!(flags.output.as_str(), "yaml" | "json" | "") {
        let text = format!(
            "Unexpected -o output mode: {}, the flag 'output' must be one of yaml|json",
            flags.output
        );
        return Err(crate::flags::usage(text, "apply view-last-applied"));
    }
    let cluster = globals.connect().await?;
    let chosen = Select {
        args: &flags.args,
        files: Some(&flags.files),
        labels: &flags.selector,
        all: flags.all,
        ..Select::default()
    };
    let found = select(&cluster, &chosen).await?;
    each(found, async |target| {
        // An object without it says nothing, here as in kubectl.
        let Some(text) = last_applied(&target.object) else { return Ok(()) };
        let object: Value = serde_json::from_str(text)?;
        match flags.output.as_str() {
            "json" => out::put(&indented(&object)),
            _ => out::put(&yaml::document(&object)),
        }
        Ok(())
    })
    .await
}

/// JSON with two spaces, as this verb alone prints it.
fn indented(object: &Value) -> String {
    let text = json::pretty(object);
    let half = |line: &str| {
        let rest = line.trim_start_matches(' ');
        format!("{}{rest}", " ".repeat((line.len() - rest.len()) / 2))
    };
    text.lines().map(half).collect::<Vec<_>>().join("\n") + "\n"
}

/// Flags of `apply set-last-applied`.
#[derive(clap::Args, Clone, Debug)]
pub struct SetLast {
    #[command(flatten)]
    pub files: FileArgs,
    /// Will create 'last-applied-configuration' annotations if current objects doesn't have one.
    #[arg(long)]
    pub create_annotation: bool,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Makes a file's content what was applied last, and changes nothing else.
pub async fn set(flags: &SetLast, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?;
    let cluster = globals.connect().await?;
    let chosen = Select { files: Some(&flags.files), as_given: true, ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    each(found, async |target| {
        let live = cluster.find(&target.kind, target.ns(), &target.name).await?;
        let live = live.ok_or_else(|| error(format!("{} {:?} not found", target.kind.group_resource(), target.name)))?;
        if last_applied(&live).is_none() && !flags.create_annotation {
            return Err(error(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                target.name
            )));
        }
        let text = remembered(&target.object);
        if last_applied(&live) == Some(text.as_str()) {
            out::line(&format!("set-last-applied {}: no changes required.", target.name));
            return Ok(());
        }
        let patched = send(&cluster, &target, dry, &text, None, &live).await?;
        printer.done(&patched, "configured")
    })
    .await
}

async fn send(
    cluster: &coxctl_kit::Cluster,
    target: &Target,
    dry: DryRun,
    text: &str,
    manager: Option<&str>,
    live: &Value,
) -> Result<Value> {
    let patch = serde_json::json!({"metadata": {"annotations": {LAST_APPLIED: text}}});
    if dry == DryRun::Client {
        return Ok(live.clone());
    }
    let write = write(manager.unwrap_or_default(), dry, None);
    Ok(cluster.patch(&target.kind, target.ns(), &target.name, None, PatchType::Merge, &patch, &write).await?)
}

/// Flags of `apply edit-last-applied`.
#[derive(clap::Args, Clone, Debug)]
pub struct EditLast {
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-client-side-apply")]
    pub field_manager: String,
    #[command(flatten)]
    pub validate: crate::flags::Validate,
    /// Defaults to the line ending native to your platform.
    #[arg(long, hide = true)]
    pub windows_line_endings: bool,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Opens what was applied last in an editor.
pub async fn edit(flags: &EditLast, globals: &Globals) -> Result<i32> {
    let printer = Printer::new(&flags.out, DryRun::None)?;
    let cluster = globals.connect().await?;
    let chosen = Select { args: &flags.args, files: Some(&flags.files), ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    each(found, async |target| {
        let text = last_applied(&target.object).ok_or_else(|| {
            error("no last-applied-configuration annotation found on resources, to create the annotation, use command `coxctl apply set-last-applied --create-annotation`")
        })?;
        let before: Value = serde_json::from_str(text)?;
        let Some(after) = crate::edit::once(&before)? else { return Ok(()) };
        if after["metadata"]["name"] != before["metadata"]["name"] || after["kind"] != before["kind"] {
            return Err(error("At least one of apiVersion, kind and name was changed"));
        }
        let manager = Some(flags.field_manager.as_str());
        let patched =
            send(&cluster, &target, DryRun::None, &remembered(&after), manager, &target.object).await?;
        if printer.prints_objects() {
            return printer.done(&patched, "edited");
        }
        out::line(&format!("{} edited", named(&patched)));
        Ok(())
    })
    .await
}
