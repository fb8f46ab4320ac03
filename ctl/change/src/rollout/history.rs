//! `rollout history`, and where revisions are kept.

use super::Common;
use super::describe::pod_template;
use super::progress::running_revision;
use crate::flags::{DryRun, error};
use crate::nodes::controller;
use crate::output::{Printer, named};
use crate::target::{Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::{Cluster, Globals, ListOptions, out};
use serde_json::{Value, json};

/// Flags of `rollout history`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub common: Common,
    /// See the details, including podTemplate of the revision specified.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub revision: i64,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// One revision of a workload.
#[derive(Clone, Debug)]
pub struct Revision {
    pub number: i64,
    /// The ReplicaSet or ControllerRevision.
    pub keeper: Value,
    /// The pod template of this revision.
    pub template: Value,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    if flags.revision < 0 {
        return Err(error(format!("revision must be a positive integer: {}", flags.revision)));
    }
    let printer = Printer::new(&flags.out, DryRun::None)?;
    let chosen = flags.common.select()?;
    let cluster = globals.connect().await?;
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        out::note(&format!("No resources found in {} namespace.", cluster.namespace));
        return Ok(0);
    }
    each(found, async |target| {
        let revisions = revisions(&cluster, &target).await?;
        if printer.prints_objects() {
            return print_objects(flags, &printer, &revisions);
        }
        let text = match flags.revision {
            _ if revisions.is_empty() => "No rollout history found.".to_string(),
            0 => overview(&revisions),
            number => details(&revisions, number)?,
        };
        let with =
            if flags.revision > 0 { format!("with revision #{}", flags.revision) } else { String::new() };
        out::line(&format!("{} {with}\n{text}", named(&target.object)));
        Ok(())
    })
    .await
}

fn print_objects(flags: &Flags, printer: &Printer, revisions: &[Revision]) -> Result<()> {
    if flags.revision > 0 {
        let one = revisions.iter().find(|r| r.number == flags.revision).ok_or_else(unknown)?;
        return printer.done(&one.keeper, "");
    }
    revisions.iter().try_for_each(|revision| printer.done(&revision.keeper, ""))
}

fn unknown() -> anyhow::Error {
    error("unable to find the specified revision")
}

fn overview(revisions: &[Revision]) -> String {
    let mut table = TabWriter::new(0, 2);
    table.row(&["REVISION", "CHANGE-CAUSE"]);
    for revision in revisions {
        let cause = revision.keeper["metadata"]["annotations"]["kubernetes.io/change-cause"].as_str();
        let cause = cause.filter(|c| !c.is_empty()).unwrap_or("<none>");
        table.row(&[&revision.number.to_string(), cause]);
    }
    table.flush()
}

fn details(revisions: &[Revision], number: i64) -> Result<String> {
    let one = revisions.iter().find(|r| r.number == number).ok_or_else(unknown)?;
    Ok(pod_template(&one.template))
}

/// The revisions of a workload, oldest first.
pub async fn revisions(cluster: &Cluster, target: &Target) -> Result<Vec<Revision>> {
    let kind = target.kind.kind.as_str();
    let keeper = match kind {
        "Deployment" => "replicasets.apps",
        "DaemonSet" | "StatefulSet" => "controllerrevisions.apps",
        _ => {
            return Err(error(format!(
                "error retrieving history for {kind:?}, no visitor method exists for {{{} {kind}}}",
                target.kind.group
            )));
        }
    };
    let keeper = cluster.kind(keeper).await?;
    let labels = selector_text(&target.object["spec"]["selector"])?;
    let options = ListOptions { labels: Some(labels), limit: 0, ..ListOptions::default() };
    let items = cluster.items(&keeper, target.ns(), &options).await?;
    let owned = items
        .into_iter()
        .filter(|item| controller(item).is_some_and(|o| o["uid"] == target.object["metadata"]["uid"]));
    let mut out: Vec<Revision> = owned.map(|item| revision(kind, &target.object, item)).collect();
    out.retain(|revision| revision.number > 0);
    out.sort_by_key(|revision| revision.number);
    Ok(out)
}

fn revision(kind: &str, workload: &Value, keeper: Value) -> Revision {
    if kind == "Deployment" {
        let (number, template) = (running_revision(&keeper), keeper["spec"]["template"].clone());
        return Revision { number, keeper, template };
    }
    let number = keeper["revision"].as_i64().unwrap_or_default();
    // The data is a patch on the workload; `$patch: replace` in it makes the template its own.
    let ty = crate::typed::of(workload);
    let whole = ty.and_then(|ty| patch::strategic::apply(workload, &keeper["data"], ty).ok());
    let template =
        whole.map_or_else(|| keeper["data"]["spec"]["template"].clone(), |w| w["spec"]["template"].clone());
    Revision { number, keeper, template }
}

fn selector_text(selector: &Value) -> Result<String> {
    let parsed = machinery::selector::LabelSelector::from_json(selector).map_err(error)?;
    Ok(parsed.to_string())
}

/// A template without the label by which a Deployment tells its ReplicaSets apart.
pub fn without_hash(template: &Value) -> Value {
    let mut out = template.clone();
    if let Some(labels) = out["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if out["metadata"]["labels"] == json!({}) {
        out["metadata"]["labels"] = Value::Null;
    }
    out
}
