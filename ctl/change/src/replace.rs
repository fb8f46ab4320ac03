//! `replace`.

use crate::annotation::annotated;
use crate::delete::{Deletion, delete_and_wait, propagation};
use crate::flags::{DryRun, DryRunFlag, Validate, duration, error, usage, write};
use crate::output::Printer;
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Call, Cluster, Error, FileArgs, Globals, out};
use http::Method;
use serde_json::Value;

/// Flags of `replace`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[arg(hide = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// The deletion cascading strategy for dependents: "background", "orphan", or "foreground".
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    pub cascade: String,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-replace")]
    pub field_manager: String,
    /// If true, delete the objects and make them anew.
    #[arg(long)]
    pub force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// Raw URI to PUT to the server.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub raw: String,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    /// If specified, replace will operate on the subresource of the requested object.
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
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?;
    check(flags, dry)?;
    let cluster = globals.connect().await?;
    if !flags.raw.is_empty() {
        let [file] = flags.files.filename.as_slice() else {
            return Err(usage("--raw can only use a single local file or stdin", "replace"));
        };
        let body = crate::create::read_file(file)?;
        let answer = cluster.send(Call::new(Method::PUT, &flags.raw).body("application/json", body)).await?;
        out::put(&answer.text());
        return Ok(0);
    }
    let chosen = Select { files: Some(&flags.files), as_given: true, ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        return Err(error("no objects passed to replace"));
    }
    let found = if flags.force { remove_all(flags, &cluster, &printer, found).await? } else { found };
    each(found, async |target| {
        let object = if flags.save_config { annotated(&target.object) } else { target.object.clone() };
        match flags.force {
            true => anew(flags, &cluster, &printer, &target, &object).await,
            false => one(flags, &cluster, &printer, dry, &target, object).await,
        }
    })
    .await
}

fn check(flags: &Flags, dry: DryRun) -> Result<()> {
    if flags.grace_period >= 0 && !flags.force {
        return Err(error("--grace-period must have --force specified"));
    }
    if flags.timeout != "0s" && !flags.force {
        return Err(error("--timeout must have --force specified"));
    }
    if flags.files.is_empty() {
        return Err(error("must specify one of -f and -k"));
    }
    if flags.force && dry != DryRun::None {
        return Err(error("--dry-run can not be used when --force is set"));
    }
    flags.validate.word().map(|_| ())
}

async fn one(
    flags: &Flags,
    cluster: &Cluster,
    printer: &Printer,
    dry: DryRun,
    target: &Target,
    mut object: Value,
) -> Result<()> {
    if dry == DryRun::Client {
        return printer.done(&object, "replaced");
    }
    let sub = Some(flags.subresource.as_str()).filter(|s| !s.is_empty());
    let source = &target.source;
    if machinery::meta::resource_version(&object).is_empty() {
        // Whatever keeps the live version from being read, the server says it better about the update itself.
        if let Ok(live) = cluster.get(&target.kind, target.ns(), &target.name, sub).await {
            object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
    }
    let write = write(&flags.field_manager, dry, Some(flags.validate.word()?));
    let replaced = cluster.update(&target.kind, target.ns(), &target.name, sub, &object, &write).await;
    printer.done(&replaced.map_err(|e| e.when("replacing", source))?, "replaced")
}

/// `--force`: all old objects go first.
async fn remove_all(
    flags: &Flags,
    cluster: &Cluster,
    printer: &Printer,
    found: Vec<Result<Target, Error>>,
) -> Result<Vec<Result<Target, Error>>> {
    let options = Deletion {
        propagation: propagation(&flags.cascade)?,
        grace: Some(flags.grace_period).filter(|g| *g >= 0),
    };
    let word = if flags.grace_period == 0 { "force deleted" } else { "deleted" };
    for target in found.iter().flatten() {
        if cluster.find(&target.kind, target.ns(), &target.name).await?.is_none() {
            continue;
        }
        let place = target.ns().map(|ns| format!(" from {ns} namespace")).unwrap_or_default();
        delete_and_wait(cluster, target, &options, duration(&flags.timeout)?).await?;
        if !printer.prints_objects() {
            out::line(&format!("{} {:?} {word}{place}", target.kind.printed(), target.name));
        }
    }
    Ok(found)
}

async fn anew(
    flags: &Flags,
    cluster: &Cluster,
    printer: &Printer,
    target: &Target,
    object: &Value,
) -> Result<()> {
    let write = write(&flags.field_manager, DryRun::None, Some(flags.validate.word()?));
    let created = cluster.create(&target.kind, target.ns(), object, &write).await;
    printer.done(&created?, "replaced")
}
