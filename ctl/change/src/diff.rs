//! `diff`: what apply would change, shown by a program for differences.

use crate::annotation::bare;
use crate::apply::plan;
use crate::flags::{DryRun, error, write};
use crate::target::{Select, Target, finish, kit_error, select};
use anyhow::{Context, Result};
use coxctl_kit::print::yaml;
use coxctl_kit::{Cluster, Error, FileArgs, Globals, PatchType, Write};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::Command;

/// Flags of `diff`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[arg(hide = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Number of objects to process in parallel when diffing against the live version.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// Name of the manager used to track field ownership.
    #[arg(long)]
    pub field_manager: Option<String>,
    /// If true, server-side apply will force the changes against conflicts.
    #[arg(long)]
    pub force_conflicts: bool,
    /// Include resources that would be deleted by pruning.
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
    /// If true, include managed fields in the diff.
    #[arg(long)]
    pub show_managed_fields: bool,
}

/// Runs the verb. The exit code is 0 without differences, 1 with some, above that for failures.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    match compare(flags, globals).await {
        Ok(code) => Ok(code),
        // 1 means "differs", so that failures need another code.
        Err(e) => {
            let code = coxctl_kit::report(&e);
            Err(Error::Exit(code.max(2)).into())
        }
    }
}

async fn compare(flags: &Flags, globals: &Globals) -> Result<i32> {
    if !flags.args.is_empty() {
        return Err(crate::flags::usage(format!("Unexpected args: [{}]", flags.args.join(" ")), "diff"));
    }
    if flags.files.is_empty() {
        return Err(error("must specify one of -f and -k"));
    }
    if flags.force_conflicts && !flags.server_side {
        return Err(error("--force-conflicts only works with --server-side"));
    }
    let cluster = globals.connect().await?;
    let chosen =
        Select { files: Some(&flags.files), labels: &flags.selector, as_given: true, ..Select::default() };
    let folders = Folders::new()?;
    let mut errors = Vec::new();
    for target in select(&cluster, &chosen).await? {
        let written = match target {
            Ok(target) => one(flags, &cluster, &folders, &target).await.map_err(kit_error),
            Err(e) => Err(e),
        };
        errors.extend(written.err());
    }
    finish(errors)?;
    folders.compare()
}

async fn one(flags: &Flags, cluster: &Cluster, folders: &Folders, target: &Target) -> Result<()> {
    let live = cluster.find(&target.kind, target.ns(), &target.name).await?;
    let merged = merged(flags, cluster, target, live.as_ref()).await?;
    let (mut live, mut merged) = (live.unwrap_or_default(), merged);
    if !flags.show_managed_fields {
        coxctl_kit::print::hide_managed_fields(&mut live);
        coxctl_kit::print::hide_managed_fields(&mut merged);
    }
    if target.kind.kind == "Secret" && target.kind.group.is_empty() {
        mask(&mut live, &mut merged);
    }
    folders.write(&file_name(target), &live, &merged)
}

/// The object as it would be: the server's answer to a dry run.
async fn merged(flags: &Flags, cluster: &Cluster, target: &Target, live: Option<&Value>) -> Result<Value> {
    let kind = &target.kind;
    if flags.server_side {
        let manager = flags.field_manager.as_deref().unwrap_or("kubectl");
        let write = Write { force: Some(flags.force_conflicts), ..write(manager, DryRun::Server, None) };
        let (how, wanted) = (PatchType::Apply, &target.object);
        return Ok(cluster.patch(kind, target.ns(), &target.name, None, how, wanted, &write).await?);
    }
    let manager = flags.field_manager.as_deref().unwrap_or("kubectl-client-side-apply");
    let write = write(manager, DryRun::Server, None);
    // The annotation about what was applied last is no difference anybody asked for.
    let modified = bare(&target.object);

    let Some(live) = live else {
        return Ok(cluster.create(kind, target.ns(), &target.object, &write).await?);
    };
    let mut step = plan(&modified, live).map_err(error)?;
    if step.patch == json!({}) {
        return Ok(live.clone());
    }
    step.patch["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    Ok(cluster.patch(kind, target.ns(), &target.name, None, step.how, &step.patch, &write).await?)
}

/// `apps.v1.Deployment.default.x`.
fn file_name(target: &Target) -> String {
    let dot = if target.kind.group.is_empty() { "" } else { "." };
    let namespace = target.ns().unwrap_or_default();
    format!(
        "{}{dot}{}.{}.{namespace}.{}",
        target.kind.group, target.kind.version, target.kind.kind, target.name
    )
    .replace('/', "-")
}

const HIDDEN: &str = "***";

/// Replaces the values of secrets by stars that still tell whether they differ.
fn mask(live: &mut Value, merged: &mut Value) {
    let data = |object: &Value| object["data"].as_object().cloned().unwrap_or_default();
    let (before, after) = (data(live), data(merged));
    let masked = |own: &Map<String, Value>, other: &Map<String, Value>, word: &str| -> Map<String, Value> {
        let star = |(key, value): (&String, &Value)| {
            let differs = other.get(key).is_some_and(|o| o != value);
            (key.clone(), json!(if differs { format!("{HIDDEN} ({word})") } else { HIDDEN.to_string() }))
        };
        own.iter().map(star).collect()
    };
    for (object, own, other, word) in [(live, &before, &after, "before"), (merged, &after, &before, "after")]
    {
        if !own.is_empty() {
            object["data"] = Value::Object(masked(own, other, word));
        }
    }
}

/// The two directories that are compared; gone when they are dropped.
struct Folders {
    live: PathBuf,
    merged: PathBuf,
}

impl Folders {
    fn new() -> Result<Self> {
        let make = |prefix: &str| -> Result<PathBuf> {
            let path = std::env::temp_dir().join(format!("{prefix}-{}", machinery::names::random_suffix(10)));
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("making {}", path.display()))?;
            Ok(path)
        };
        Ok(Self { live: make("LIVE")?, merged: make("MERGED")? })
    }

    fn write(&self, name: &str, live: &Value, merged: &Value) -> Result<()> {
        for (folder, object) in [(&self.live, live), (&self.merged, merged)] {
            let text = if object.is_null() { String::new() } else { yaml::document(object) };
            std::fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    /// Runs `KUBECTL_EXTERNAL_DIFF`, else `diff -u -N`.
    fn compare(&self) -> Result<i32> {
        let words = external(&std::env::var("KUBECTL_EXTERNAL_DIFF").unwrap_or_default());
        let (program, arguments) = words.split_first().ok_or_else(|| error("no program to compare with"))?;
        let status = Command::new(program).args(arguments).arg(&self.live).arg(&self.merged).status();
        let status = status
            .map_err(|e| error(format!("failed to run {program:?}: {}", coxctl_kit::files::os_text(&e))))?;
        match status.code() {
            Some(code @ (0 | 1)) => Ok(code),
            Some(code) => Err(Error::Code(format!("exit status {code}"), code).into()),
            None => Err(error(format!("failed to run {program:?}: {status}"))),
        }
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in [&self.live, &self.merged] {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// The program and its arguments. Words of odd characters are dropped, since nothing goes through a shell.
fn external(setting: &str) -> Vec<String> {
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-=/_.".contains(c));
    let mut words = setting.split(' ').filter(|w| !w.is_empty());
    let Some(program) = words.next() else { return ["diff", "-u", "-N"].map(String::from).into() };
    std::iter::once(program).chain(words.filter(plain)).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let mut live = json!({"data": {"a": "1", "b": "2", "c": "3"}});
        let mut merged = json!({"data": {"a": "1", "b": "9", "d": "4"}});
        mask(&mut live, &mut merged);
        assert_eq!(live["data"], json!({"a": "***", "b": "*** (before)", "c": "***"}));
        assert_eq!(merged["data"], json!({"a": "***", "b": "*** (after)", "d": "***"}));
    }

    #[test]
    fn programs() {
        assert_eq!(external(""), ["diff", "-u", "-N"]);
        assert_eq!(external("meld --x=1 $(rm)"), ["meld", "--x=1"]);
    }
}
