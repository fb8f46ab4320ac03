//! `scale`.

use crate::flags::{DryRun, DryRunFlag, duration, error};
use crate::output::Printer;
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, Error, FileArgs, Globals, PatchType, Write};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// Flags of `scale`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME or TYPE/NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Select all resources in the namespace of the specified resource types.
    #[arg(long)]
    pub all: bool,
    /// Precondition for current size. Requires that the current size of the resource match this value in order to scale.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub current_replicas: i64,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// The new desired number of replicas. Required.
    #[arg(long, allow_hyphen_values = true)]
    pub replicas: Option<i64>,
    /// Precondition for resource version.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub resource_version: String,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// The length of time to wait before giving up on a scale operation, zero means don't wait.
    #[arg(long, default_value = "0s")]
    pub timeout: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?;
    crate::flags::require(&[("replicas", flags.replicas.is_some())])?;
    let replicas = flags.replicas.unwrap_or_default();
    if replicas < 0 {
        return Err(error(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        ));
    }
    if flags.current_replicas < -1 {
        return Err(error("The --current-replicas must specify an integer of -1 or greater"));
    }
    let timeout = duration(&flags.timeout)?;
    let cluster = globals.connect().await?;
    let chosen = Select {
        args: &flags.args,
        files: Some(&flags.files),
        labels: &flags.selector,
        all: flags.all,
        nothing: Some(crate::set::NOTHING_NAMED.into()),
        ..Select::default()
    };
    let found = select(&cluster, &chosen).await?;
    if found.iter().all(Result::is_err) {
        let causes: Vec<Error> = found.into_iter().filter_map(Result::err).collect();
        let space = if causes.is_empty() { String::new() } else { format!(" {}", Error::Many(causes)) };
        return Err(error(format!("no objects passed to scale{space}")));
    }
    if found.len() > 1 && !flags.resource_version.is_empty() {
        return Err(error("cannot use --resource-version with multiple resources"));
    }
    let write = Write { dry_run: dry == DryRun::Server, ..Write::default() };
    each(found, async |target| {
        if dry == DryRun::Client {
            return printer.done(&target.object, "scaled");
        }
        send(flags, &cluster, &target, replicas, &write).await?;
        if let Some(limit) = timeout.filter(|_| dry == DryRun::None) {
            wait(&cluster, &target, replicas, limit).await?;
        }
        printer.done(&target.object, "scaled")
    })
    .await
}

async fn send(flags: &Flags, cluster: &Cluster, target: &Target, replicas: i64, write: &Write) -> Result<()> {
    let (kind, sub) = (&target.kind, Some("scale"));
    if flags.current_replicas < 0 && flags.resource_version.is_empty() {
        let patch = json!({"spec": {"replicas": replicas}});
        let sent = cluster.patch(kind, target.ns(), &target.name, sub, PatchType::Merge, &patch, write).await;
        return sent.map(|_| ()).map_err(|e| failed(e, target, "patch"));
    }
    let mut scale =
        cluster.get(kind, target.ns(), &target.name, sub).await.map_err(|e| failed(e, target, "get"))?;
    precondition(flags, &scale)?;
    scale["spec"]["replicas"] = json!(replicas);
    let sent = cluster.update(kind, target.ns(), &target.name, sub, &scale, write).await;
    sent.map(|_| ()).map_err(|e| failed(e, target, "put"))
}

/// A kind without the subresource is told apart by nothing but the server's general words.
fn failed(cause: Error, target: &Target, method: &str) -> anyhow::Error {
    match cause {
        Error::Api(mut status) if status.message == "the server could not find the requested resource" => {
            status.message += &format!(" ({method} {} {})", target.kind.group_resource(), target.name);
            Error::Api(status).into()
        }
        other => other.into(),
    }
}

/// What was asked about the size and version before must hold.
fn precondition(flags: &Flags, scale: &Value) -> Result<()> {
    let current = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    if flags.current_replicas >= 0 && current != flags.current_replicas {
        return Err(error(format!("Expected replicas to be {}, was {current}", flags.current_replicas)));
    }
    let version = machinery::meta::resource_version(scale);
    if !flags.resource_version.is_empty() && version != flags.resource_version {
        return Err(error(format!(
            "Expected resource version to be {}, was {version}",
            flags.resource_version
        )));
    }
    Ok(())
}

/// Follows the object until as many replicas run as are wanted, or somebody wants another number.
async fn wait(cluster: &Cluster, target: &Target, replicas: i64, limit: Duration) -> Result<()> {
    let follow = async {
        let mut events = cluster.follow(&target.kind, target.ns(), &target.name).await?;
        while let Some(event) = events.next().await {
            let object = event?.object;
            let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
            let seen = number("/status/observedGeneration") >= number("/metadata/generation");
            if number("/spec/replicas") != replicas || (seen && number("/status/replicas") == replicas) {
                return Ok(());
            }
        }
        Err(error("the watch ended before the scale operation did"))
    };
    match tokio::time::timeout(limit, follow).await {
        Ok(done) => done,
        Err(_) => Err(error("timed out waiting for the condition")),
    }
}
