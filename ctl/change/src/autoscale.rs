//! `autoscale`.

use crate::annotation::with_last_applied;
use crate::flags::{DryRun, DryRunFlag, error, write};
use crate::output::Printer;
use crate::target::{Select, Target, each, select};
use crate::typed;
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{FileArgs, Globals, Kind};
use serde_json::{Value, json};

/// Flags of `autoscale`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME or TYPE/NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Target CPU utilization over all the pods: 500m for an average value, 80% for a utilization.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub cpu: String,
    /// The target average CPU utilization (represented as a percent of requested CPU) over all the pods.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub cpu_percent: i64,
    /// Target memory utilization over all the pods: 500Mi for an average value, 80% for a utilization.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub memory: String,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-autoscale")]
    pub field_manager: String,
    /// The upper limit for the number of pods that can be set by the autoscaler. Required.
    #[arg(long, allow_hyphen_values = true)]
    pub max: Option<i64>,
    /// The lower limit for the number of pods that can be set by the autoscaler.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub min: i64,
    /// The name for the newly created object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    #[command(flatten)]
    pub out: PrintArgs,
}

impl Flags {
    fn check(&self) -> Result<i64> {
        crate::flags::require(&[("max", self.max.is_some())])?;
        let max = self.max.unwrap_or_default();
        if max < 1 {
            return Err(error(format!("--max=MAXPODS is required and must be at least 1, max: {max}")));
        }
        if max < self.min {
            let min = self.min;
            return Err(error(format!(
                "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}"
            )));
        }
        if self.cpu_percent >= 0 && !self.cpu.is_empty() {
            return Err(error("--cpu-percent and --cpu cannot be specified together"));
        }
        Ok(max)
    }

    /// The autoscaler of a target.
    fn build(&self, target: &Target, max: i64) -> Result<Value> {
        let name = if self.name.is_empty() { &target.name } else { &self.name };
        let reference =
            json!({"apiVersion": target.kind.api_version(), "kind": target.kind.kind, "name": target.name});
        let mut spec = json!({"maxReplicas": max, "scaleTargetRef": reference});
        if self.min > 0 {
            spec["minReplicas"] = json!(self.min);
        }
        let mut metrics = Vec::new();
        if self.cpu_percent >= 0 {
            metrics.push(metric("cpu", &format!("{}%", self.cpu_percent))?);
        }
        for (resource, wanted) in [("cpu", &self.cpu), ("memory", &self.memory)] {
            if !wanted.is_empty() {
                metrics.push(metric(resource, wanted)?);
            }
        }
        if !metrics.is_empty() {
            spec["metrics"] = Value::Array(metrics);
        }
        let metadata = json!({"name": name});
        Ok(
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}),
        )
    }
}

/// One metric: a percentage of what pods request, or an average quantity.
fn metric(resource: &str, wanted: &str) -> Result<Value> {
    let target = match wanted.strip_suffix('%') {
        Some(percent) => {
            let percent: i64 =
                percent.parse().map_err(|_| error(format!("invalid {resource} utilization: {wanted}")))?;
            json!({"type": "Utilization", "averageUtilization": percent})
        }
        None => match machinery::quantity::canonical(wanted) {
            Ok(quantity) => json!({"type": "AverageValue", "averageValue": quantity}),
            Err(e) => return Err(error(format!("invalid {resource} value {wanted:?}: {e}"))),
        },
    };
    Ok(json!({"type": "Resource", "resource": {"name": resource, "target": target}}))
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?.typed();
    let max = flags.check()?;
    let cluster = globals.connect().await?;
    let chosen = Select { args: &flags.args, files: Some(&flags.files), ..Select::default() };
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        return Err(error("no objects passed to autoscale"));
    }
    each(found, async |target| {
        scalable(&target.kind)?;
        let mut made = typed::canonical(&flags.build(&target, max)?);
        if cluster.namespace_given && dry == DryRun::Client {
            made["metadata"]["namespace"] = json!(target.namespace);
        }
        if flags.save_config {
            let text = typed::compact(&made) + "\n";
            made = with_last_applied(made, &text);
        }
        if dry == DryRun::Client {
            return printer.done(&made, "created");
        }
        let kind = crate::create::generate::builtin(&made).ok_or_else(|| error("no such kind"))?;
        let created =
            cluster.create(&kind, target.ns(), &made, &write(&flags.field_manager, dry, None)).await?;
        printer.done(&typed::canonical(&created), "autoscaled")
    })
    .await
}

fn scalable(kind: &Kind) -> Result<()> {
    if kind.subresources.iter().any(|s| s == "scale") {
        return Ok(());
    }
    let resource = format!("{}/{}, Resource={}", kind.group, kind.version, kind.plural);
    let name = &kind.kind;
    Err(error(format!(
        "cannot autoscale a {name}: could not find scale subresource for {resource} in discovery information"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics() {
        let percent = metric("cpu", "80%").expect("a metric");
        assert_eq!(percent["resource"]["target"], json!({"type": "Utilization", "averageUtilization": 80}));
        let average = metric("memory", "1024Mi").expect("a metric");
        assert_eq!(average["resource"]["target"], json!({"type": "AverageValue", "averageValue": "1Gi"}));
        assert!(metric("cpu", "x%").is_err() && metric("cpu", "x").is_err());
    }
}
