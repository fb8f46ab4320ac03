//! `rollout undo`.

use super::Common;
use super::describe::pod_template;
use super::history::{Revision, revisions, without_hash};
use crate::flags::{DryRun, DryRunFlag, error};
use crate::output::Printer;
use crate::target::{Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, Error, Globals, PatchType, Write};
use serde_json::{Map, Value, json};

/// Flags of `rollout undo`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// The revision to rollback to. Default to 0 (last revision).
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub to_revision: i64,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?;
    let chosen = flags.common.select()?;
    let cluster = globals.connect().await?;
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        coxctl_kit::out::note(&format!("No resources found in {} namespace.", cluster.namespace));
        return Ok(0);
    }
    each(found, async |target| {
        let done = undo(&cluster, &target, flags.to_revision, dry).await?;
        printer.done(&target.object, &done)
    })
    .await
}

/// Goes back, and says what was done.
async fn undo(cluster: &Cluster, target: &Target, wanted: i64, dry: DryRun) -> Result<String> {
    let kind = target.kind.kind.as_str();
    if !matches!(kind, "Deployment" | "DaemonSet" | "StatefulSet") {
        let group = &target.kind.group;
        return Err(error(format!(
            "error retrieving rollbacker for {kind:?}, no visitor method exists for {{{group} {kind}}}"
        )));
    }
    if target.object["spec"]["paused"] == true {
        return Err(error(
            "you cannot rollback a paused deployment; resume it first with 'coxctl rollout resume' and try again",
        ));
    }
    let all = revisions(cluster, target).await?;
    let revision = choose(&all, wanted).map_err(error)?;
    if dry == DryRun::Client {
        return Ok(pod_template(&revision.template));
    }
    let same = without_hash(&revision.template) == without_hash(&target.object["spec"]["template"]);
    if same {
        return Ok(format!(
            "skipped rollback (current template already matches revision {})",
            revision.number
        ));
    }
    send(cluster, target, revision, dry).await?;
    Ok("rolled back".into())
}

/// The revision to go back to: the one named, else the one before the last.
fn choose(all: &[Revision], wanted: i64) -> Result<&Revision, String> {
    if wanted > 0 {
        let found = all.iter().find(|revision| revision.number == wanted);
        return found.ok_or_else(|| format!("unable to find specified revision {wanted} in history"));
    }
    let before_last = all.len().checked_sub(2).and_then(|at| all.get(at));
    before_last.ok_or_else(|| "no last revision to roll back to".into())
}

async fn send(cluster: &Cluster, target: &Target, revision: &Revision, dry: DryRun) -> Result<()> {
    let write = Write { dry_run: dry == DryRun::Server, ..Write::default() };
    let (how, patch) = match target.kind.kind.as_str() {
        "Deployment" => (PatchType::Json, deployment_patch(&target.object, revision)),
        _ => (PatchType::Strategic, revision.keeper["data"].clone()),
    };
    let sent = cluster.patch(&target.kind, target.ns(), &target.name, None, how, &patch, &write).await;
    sent.map(|_| ())
        .map_err(|e| Error::message(format!("failed restoring revision {}: {e}", revision.number)).into())
}

/// Annotations that belong to the Deployment and not to a revision of it.
const KEPT: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

fn deployment_patch(deployment: &Value, revision: &Revision) -> Value {
    let of = |object: &Value| object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let keep = |(key, _): &(String, Value)| KEPT.contains(&key.as_str());
    let mut annotations: Map<String, Value> = of(deployment).into_iter().filter(keep).collect();
    annotations.extend(of(&revision.keeper).into_iter().filter(|pair| !keep(pair)));
    let mut template = without_hash(&revision.template);
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    json!([
        {"op": "replace", "path": "/spec/template", "value": template},
        {"op": "replace", "path": "/metadata/annotations", "value": annotations},
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: i64) -> Revision {
        let keeper =
            json!({"metadata": {"annotations": {"a": "1", "deployment.kubernetes.io/revision": "1"}}});
        let template = json!({"metadata": {"labels": {"x": "y", "pod-template-hash": "h"}}});
        Revision { number, keeper, template }
    }

    #[test]
    fn choices() {
        let all = [revision(1), revision(4), revision(5)];
        assert_eq!(choose(&all, 0).map(|r| r.number), Ok(4));
        assert_eq!(choose(&all, 1).map(|r| r.number), Ok(1));
        assert!(choose(&all, 9).is_err() && choose(&all[..1], 0).is_err());
    }

    #[test]
    fn patches() {
        let deployment =
            json!({"metadata": {"annotations": {"b": "2", "deployment.kubernetes.io/revision": "7"}}});
        let patch = deployment_patch(&deployment, &revision(1));
        assert_eq!(patch[0]["value"]["metadata"]["labels"], json!({"x": "y"}));
        assert_eq!(patch[1]["value"], json!({"a": "1", "deployment.kubernetes.io/revision": "7"}));
    }
}
