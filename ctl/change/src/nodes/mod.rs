//! `cordon`, `uncordon` and `drain`.

pub mod decide;
mod drain;
mod evict;

pub use decide::controller;
pub use drain::{Drain, run as drain};

use crate::flags::{DryRun, DryRunFlag, usage};
use crate::output::{named, suffix};
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::{Cluster, Error, Globals, PatchType, Write, out};
use serde_json::json;

/// Flags of `cordon` and `uncordon`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// NODE
    pub args: Vec<String>,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
}

/// Runs `cordon`, or `uncordon` when `cordoned` is false.
pub async fn cordon(flags: &Flags, cordoned: bool, globals: &Globals) -> Result<i32> {
    let verb = if cordoned { "cordon" } else { "uncordon" };
    let dry = flags.dry_run.parse()?;
    let cluster = globals.connect().await?;
    let found = nodes(&cluster, &flags.args, &flags.selector, verb).await?;
    each(found, async |node| mark(&cluster, &node, cordoned, dry).await).await
}

/// The nodes of a command line.
async fn nodes(
    cluster: &Cluster,
    args: &[String],
    labels: &str,
    verb: &str,
) -> Result<Vec<Result<Target, Error>>> {
    if args.is_empty() && labels.is_empty() {
        return Err(usage(format!("USAGE: {verb} NODE [flags]"), verb));
    }
    if !args.is_empty() && !labels.is_empty() {
        return Err(usage("cannot specify both a node name and a --selector option", verb));
    }
    let bare = |arg: &String| arg.split_once('/').map_or(arg.as_str(), |(_, name)| name).to_string();
    let mut words = vec!["nodes".to_string()];
    words.extend(args.iter().map(bare));
    words.dedup();
    select(cluster, &Select { args: &words, labels, ..Select::default() }).await
}

/// Marks one node, and says so.
async fn mark(cluster: &Cluster, node: &Target, cordoned: bool, dry: DryRun) -> Result<()> {
    let word = if cordoned { "cordoned" } else { "uncordoned" };
    let now = node.object["spec"]["unschedulable"] == true;
    let name = named(&node.object);
    if now == cordoned {
        out::line(&format!("{name} already {word}{}", suffix(dry)));
        return Ok(());
    }
    if dry != DryRun::Client {
        let wanted = if cordoned { json!(true) } else { json!(null) };
        let patch = json!({"spec": {"unschedulable": wanted}});
        let write = Write { dry_run: dry == DryRun::Server, ..Write::default() };
        let sent =
            cluster.patch(&node.kind, None, &node.name, None, PatchType::Strategic, &patch, &write).await;
        sent.map_err(|e| {
            Error::message(format!("unable to {} node {:?}: {e}", word.trim_end_matches("ed"), node.name))
        })?;
    }
    out::line(&format!("{name} {word}{}", suffix(dry)));
    Ok(())
}
