//! `create -f`.

use crate::annotation::annotated;
use crate::flags::{DryRun, DryRunFlag, Validate, error, usage, write};
use crate::output::Printer;
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Call, Cluster, FileArgs, Globals, out};
use http::Method;
use serde_json::Value;

/// Flags of `create -f`.
#[derive(clap::Args, Clone, Debug)]
pub struct FileFlags {
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Edit the API resource before creating.
    #[arg(long)]
    pub edit: bool,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-create")]
    pub field_manager: String,
    /// Raw URI to POST to the server.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub raw: String,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    #[command(flatten)]
    pub validate: Validate,
    /// Defaults to the line ending native to your platform.
    #[arg(long, hide = true)]
    pub windows_line_endings: bool,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(flags: &FileFlags, globals: &Globals) -> Result<i32> {
    if flags.files.is_empty() {
        return Err(error("must specify one of -f and -k"));
    }
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?;
    let validation = flags.validate.word()?;
    let cluster = globals.connect().await?;
    if !flags.raw.is_empty() {
        return raw(&cluster, flags).await;
    }
    let chosen =
        Select { files: Some(&flags.files), labels: &flags.selector, as_given: true, ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        return Err(error("no objects passed to create"));
    }
    if flags.edit {
        return crate::edit::on_create(found, flags, dry, &printer, &cluster).await;
    }
    let write = write(&flags.field_manager, dry, Some(validation));
    each(found, async |target| {
        let created = create(&cluster, &target, dry, flags.save_config, &write).await?;
        printer.done(&created, "created")
    })
    .await
}

/// Creates a file's object; in a dry run of the client it is only made ready.
pub async fn create(
    cluster: &Cluster,
    target: &Target,
    dry: DryRun,
    save: bool,
    write: &coxctl_kit::Write,
) -> Result<Value> {
    let object = if save { annotated(&target.object) } else { target.object.clone() };
    if dry == DryRun::Client {
        return Ok(object);
    }
    let created = cluster.create(&target.kind, target.ns(), &object, write).await;
    created.map_err(|e| e.when("creating", &target.source).into())
}

/// Sends one file as it is to a path.
async fn raw(cluster: &Cluster, flags: &FileFlags) -> Result<i32> {
    let [file] = flags.files.filename.as_slice() else {
        return Err(usage("--raw can only use a single local file or stdin", "create"));
    };
    let body = read(file)?;
    let answer = cluster.send(Call::new(Method::POST, &flags.raw).body("application/json", body)).await?;
    out::put(&answer.text());
    Ok(0)
}

/// A local file's bytes, or standard input's for `-`.
pub fn read(file: &str) -> Result<Vec<u8>> {
    use std::io::Read;
    if file != "-" {
        return std::fs::read(file)
            .map_err(|e| error(format!("open {file}: {}", coxctl_kit::files::os_text(&e))));
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}
