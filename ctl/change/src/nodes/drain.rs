//! `drain`: cordon, then move every pod away that may go.

use super::decide::{Allowed, Owner, Verdict, controller, grouped, judge};
use super::evict::Evictor;
use super::{mark, nodes};
use crate::flags::{DryRun, DryRunFlag, duration, error};
use crate::output::{named, suffix};
use crate::target::{Target, kit_error};
use anyhow::Result;
use coxctl_kit::{Cluster, Error, Globals, Kind, ListOptions, out};
use serde_json::Value;

/// Flags of `drain`.
#[derive(clap::Args, Clone, Debug)]
pub struct Drain {
    /// NODE
    pub args: Vec<String>,
    /// Return large lists in chunks rather than all at once. Pass 0 to disable.
    #[arg(long, default_value_t = 500)]
    pub chunk_size: u32,
    /// Continue even if there are pods using emptyDir (local data that will be deleted when the node is drained).
    #[arg(long)]
    pub delete_emptydir_data: bool,
    /// Force drain to use delete, even if eviction is supported. This will bypass checking PodDisruptionBudgets.
    #[arg(long)]
    pub disable_eviction: bool,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Continue even if there are pods that do not declare a controller.
    #[arg(long)]
    pub force: bool,
    /// Period of time in seconds given to each pod to terminate gracefully.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// Ignore DaemonSet-managed pods.
    #[arg(long)]
    pub ignore_daemonsets: bool,
    /// Label selector to filter pods on the node.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub pod_selector: String,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// If pod DeletionTimestamp older than N seconds, skip waiting for the pod.
    #[arg(long, default_value_t = 0)]
    pub skip_wait_for_delete_timeout: u64,
    /// The length of time to wait before giving up, zero means infinite.
    #[arg(long, default_value = "0s")]
    pub timeout: String,
}

/// Runs the verb.
pub async fn run(flags: &Drain, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let timeout = duration(&flags.timeout)?;
    let cluster = globals.connect().await?;
    let found: Vec<Target> = nodes(&cluster, &flags.args, &flags.selector, "drain")
        .await?
        .into_iter()
        .collect::<Result<_, Error>>()?;
    for node in &found {
        mark(&cluster, node, true, dry).await?;
    }
    let (mut remaining, mut errors) = (Vec::new(), Vec::new());
    for node in &found {
        match one(flags, &cluster, node, dry, timeout).await {
            Ok(()) => out::line(&format!("{} drained{}", named(&node.object), suffix(dry))),
            Err(e) => {
                let cause = kit_error(e);
                let name = &node.name;
                out::note(&format!(
                    "error: unable to drain node {name:?} due to error: {cause}, continuing command..."
                ));
                remaining.push(name);
                errors.push(cause);
            }
        }
    }
    if errors.is_empty() {
        return Ok(0);
    }
    out::note("There are pending nodes to be drained:");
    remaining.iter().for_each(|name| out::note(&format!(" {name}")));
    let texts: Vec<Error> = errors.into_iter().map(|e| Error::Plain(e.to_string())).collect();
    Err(Error::many(texts).into())
}

async fn one(
    flags: &Drain,
    cluster: &Cluster,
    node: &Target,
    dry: DryRun,
    timeout: Option<std::time::Duration>,
) -> Result<()> {
    let pods = cluster.kind("pods").await?;
    let items = pods_of(flags, cluster, &pods, node).await?;
    let mut plan = Plan::default();
    for pod in items {
        let owner = owner(cluster, &pod).await?;
        let allowed = Allowed {
            force: flags.force,
            ignore_daemon_sets: flags.ignore_daemonsets,
            delete_empty_dir: flags.delete_emptydir_data,
        };
        plan.add(judge(&pod, allowed, owner.as_ref()), pod);
    }
    let refused = grouped(&plan.refused);
    let complaints: Vec<String> = refused.iter().map(|text| format!("cannot delete {text}")).collect();
    match complaints.as_slice() {
        [] => {}
        [one] => return Err(error(one.clone())),
        many => return Err(error(format!("[{}]", many.join(", ")))),
    }
    let warnings = grouped(&plan.warnings);
    if !warnings.is_empty() {
        out::note(&format!("Warning: {}", warnings.join("; ")));
    }
    let evictor = Evictor::new(cluster, pods, flags, dry).await?;
    evictor.all(plan.evicted, timeout).await
}

async fn pods_of(flags: &Drain, cluster: &Cluster, pods: &Kind, node: &Target) -> Result<Vec<Value>> {
    let options = ListOptions {
        labels: Some(flags.pod_selector.clone()).filter(|s| !s.is_empty()),
        fields: Some(format!("spec.nodeName={}", node.name)),
        limit: flags.chunk_size,
        ..ListOptions::default()
    };
    Ok(cluster.items(pods, None, &options).await?)
}

/// Looks up the DaemonSet of a pod, if one controls it.
async fn owner(cluster: &Cluster, pod: &Value) -> Result<Option<Owner>> {
    let Some(reference) = controller(pod).filter(|c| c["kind"] == "DaemonSet") else { return Ok(None) };
    let kind = cluster.kind("daemonsets.apps").await?;
    let name = reference["name"].as_str().unwrap_or_default();
    match cluster.get(&kind, pod["metadata"]["namespace"].as_str(), name, None).await {
        Ok(_) => Ok(Some(Owner::Exists)),
        Err(e) if e.is_not_found() => Ok(Some(Owner::Gone(e.to_string()))),
        Err(e) => Err(e.into()),
    }
}

/// What is to happen to the pods of a node.
#[derive(Debug, Default)]
struct Plan {
    evicted: Vec<Value>,
    warnings: Vec<(String, String)>,
    refused: Vec<(String, String)>,
}

impl Plan {
    fn add(&mut self, verdict: Verdict, pod: Value) {
        let place = format!("{}/{}", machinery::meta::namespace(&pod), machinery::meta::name(&pod));
        match verdict {
            Verdict::Evict => self.evicted.push(pod),
            Verdict::EvictWith(text) => {
                self.warnings.push((text, place));
                self.evicted.push(pod);
            }
            Verdict::Leave => {}
            Verdict::LeaveWith(text) => self.warnings.push((text, place)),
            Verdict::Refuse(text) => self.refused.push((text, place)),
        }
    }
}
