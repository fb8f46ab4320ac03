//! `set env`.

use super::env::{self, Wanted};
use super::{Common, Words, finish};
use crate::flags::{DryRun, error};
use crate::output::Printer;
use crate::target::{Select, Target, each, select};
use crate::template::{containers_mut, name, pod_spec_mut};
use anyhow::Result;
use coxctl_kit::{Cluster, Globals, out};
use serde_json::Value;
use std::io::Read;

/// Flags of `set env`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME KEY=VALUE… KEY-…
    pub args: Vec<String>,
    /// The names of containers in the selected pod templates to change - may use wildcards.
    #[arg(short, long, default_value = "*")]
    pub containers: String,
    /// Specify a key-value pair for an environment variable to set into each container.
    #[arg(short, long)]
    pub env: Vec<String>,
    /// The name of a resource from which to inject environment variables.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub from: String,
    /// Comma-separated list of keys to import from specified resource.
    #[arg(long, value_delimiter = ',')]
    pub keys: Vec<String>,
    /// If true, display the environment and any changes in the standard format.
    #[arg(long)]
    pub list: bool,
    /// If true, allow environment to be overwritten, otherwise reject updates that overwrite existing environment.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub overwrite: bool,
    /// Prefix to append to variable names.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// If true, show secret or configmap references when listing variables.
    #[arg(long)]
    pub resolve: bool,
    #[command(flatten)]
    pub common: Common,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let (resources, mut changes) = env::split(&flags.args)?;
    if resources.is_empty() && flags.common.files.is_empty() {
        return Err(error(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if flags.list && flags.common.out.output.is_some() {
        return Err(error("--list and --output may not be specified together"));
    }
    let dry = flags.common.dry_run.parse()?;
    let printer = Printer::new(&flags.common.out, dry)?.typed();
    changes.extend(flags.env.iter().cloned());
    let mut wanted = env::parse(&changes, read_stdin)?;
    let cluster = globals.connect().await?;
    if !flags.from.is_empty() {
        wanted.set.extend(imported(flags, &cluster).await?);
    }
    let found = select(&cluster, &flags.common.select(&resources)).await?;
    each(found, async |target| one(flags, dry, &printer, &cluster, &wanted, target).await).await
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Variables that refer to keys of the ConfigMaps and Secrets of `--from`.
async fn imported(flags: &Flags, cluster: &Cluster) -> Result<Vec<Value>> {
    let args = [flags.from.clone()];
    let mut variables = Vec::new();
    for target in select(cluster, &Select { args: &args, ..Select::default() }).await? {
        let target = target?;
        let made = env::from_object(&target.object, &flags.keys, &flags.prefix);
        variables.extend(made.ok_or_else(|| error("unsupported resource specified in --from"))?);
        for (key, name) in env::renamed(&target.object, &flags.keys) {
            out::note(&format!("Warning: key {key} transferred to {name}"));
        }
    }
    Ok(variables)
}

async fn one(
    flags: &Flags,
    dry: DryRun,
    printer: &Printer,
    cluster: &Cluster,
    wanted: &Wanted,
    target: Target,
) -> Result<()> {
    let mut after = target.object.clone();
    let spec = pod_spec_mut(&mut after).ok_or_else(|| super::verbs::no_template(&target))?;
    let mut chosen = containers_mut(spec, &flags.containers);
    if chosen.is_empty() {
        let pattern = &flags.containers;
        out::note(&format!(
            "Warning: {}/{} does not have any containers matching {pattern:?}",
            target.kind.kind, target.name
        ));
        return Ok(());
    }
    for container in &mut chosen {
        change(flags, wanted, &target, container)?;
        if flags.list {
            list(flags, cluster, &target, container).await?;
        }
    }
    if flags.list {
        return Ok(());
    }
    let words =
        Words { done: "env updated", failed: "failed to patch env update to pod template:", silent: true };
    finish(&flags.common, dry, cluster, printer, &target, after, &words).await
}

fn change(flags: &Flags, wanted: &Wanted, target: &Target, container: &mut Value) -> Result<()> {
    let existing = container["env"].as_array().cloned().unwrap_or_default();
    if !flags.overwrite {
        let place = target.plural_name();
        env::refuse_overwrites(&existing, wanted).map_err(|e| error(format!("{place} {e}")))?;
    }
    let edited = env::edit(&existing, wanted);
    match (edited.is_empty(), container.as_object_mut()) {
        (true, Some(container)) => drop(container.remove("env")),
        _ => container["env"] = Value::Array(edited),
    }
    Ok(())
}

async fn list(flags: &Flags, cluster: &Cluster, target: &Target, container: &Value) -> Result<()> {
    out::line(&format!("# {} {}, container {}", target.kind.kind, target.name, name(container)));
    for variable in container["env"].as_array().into_iter().flatten() {
        let key = name(variable);
        match variable.get("valueFrom") {
            None => out::line(&format!("{key}={}", variable["value"].as_str().unwrap_or_default())),
            Some(from) if flags.resolve => match resolved(cluster, target, from).await? {
                Some(value) => out::line(&format!("{key}={value}")),
                None => out::line(&format!("# {key} from {}", env::source(from))),
            },
            Some(from) => out::line(&format!("# {key} from {}", env::source(from))),
        }
    }
    Ok(())
}

/// The value a reference stands for, where it can be known without running the pod.
async fn resolved(cluster: &Cluster, target: &Target, from: &Value) -> Result<Option<String>> {
    for (member, kind) in [("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")] {
        let Some(reference) = from.get(member) else { continue };
        let kind = cluster.kind(kind).await?;
        let holder = reference["name"].as_str().unwrap_or_default();
        let key = reference["key"].as_str().unwrap_or_default();
        let object = cluster.get(&kind, target.ns(), holder, None).await?;
        let value = object["data"][key].as_str().map(str::to_string);
        return Ok(if member == "secretKeyRef" { value.map(|v| decoded(&v)) } else { value });
    }
    let path = from["fieldRef"]["fieldPath"].as_str().unwrap_or_default();
    let pointer = format!("/{}", path.replace('.', "/"));
    Ok(target.object.pointer(&pointer).and_then(Value::as_str).map(str::to_string))
}

fn decoded(text: &str) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
