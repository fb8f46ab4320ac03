//! Workloads: apps, batch, autoscaling and policy.

use super::Printer;
use super::access::{Cells, NONE, UNKNOWN, is_true, scalar, text};
use machinery::{meta, time};
use serde_json::Value;

pub fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "ControllerRevision" => controller_revision,
        "DaemonSet" => daemon_set,
        "Deployment" => deployment,
        "ReplicaSet" => replica_set,
        "StatefulSet" => stateful_set,
        "HorizontalPodAutoscaler" => autoscaler,
        "Scale" => scale,
        "CronJob" => cron_job,
        "Job" => job,
        "PodDisruptionBudget" => disruption_budget,
        _ => return None,
    })
}

fn controller_revision(c: &Cells<'_>) -> Vec<Value> {
    let controller = match meta::controller_of(c.object) {
        None => NONE.to_string(),
        Some(owner) => {
            let (group, _) = machinery::kinds::split_api_version(text(owner, "apiVersion"));
            let kind = text(owner, "kind").to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", text(owner, "name"))
        }
    };
    vec![c.name(), controller.into(), c.int("revision").to_string().into(), c.age()]
}

fn daemon_set(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("spec.template.spec.containers");
    vec![
        c.name(),
        c.int("status.desiredNumberScheduled").into(),
        c.int("status.currentNumberScheduled").into(),
        c.int("status.numberReady").into(),
        c.int("status.updatedNumberScheduled").into(),
        c.int("status.numberAvailable").into(),
        c.labels("spec.template.spec.nodeSelector"),
        c.age(),
        names,
        images,
        c.selector("spec.selector"),
    ]
}

fn deployment(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("spec.template.spec.containers");
    vec![
        c.name(),
        format!("{}/{}", c.int("status.readyReplicas"), c.int("spec.replicas")).into(),
        c.int("status.updatedReplicas").to_string().into(),
        c.int("status.availableReplicas").to_string().into(),
        c.age(),
        names,
        images,
        c.selector("spec.selector"),
    ]
}

fn replica_set(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("spec.template.spec.containers");
    vec![
        c.name(),
        c.int("spec.replicas").into(),
        c.int("status.replicas").into(),
        c.int("status.readyReplicas").into(),
        c.age(),
        names,
        images,
        c.selector("spec.selector"),
    ]
}

fn stateful_set(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("spec.template.spec.containers");
    let ready = format!("{}/{}", c.int("status.readyReplicas"), c.int("spec.replicas"));
    vec![c.name(), ready.into(), c.age(), names, images]
}

fn scale(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.int("spec.replicas").into(), c.int("status.replicas").into(), c.age()]
}

fn cron_job(c: &Cells<'_>) -> Vec<Value> {
    let template = "spec.jobTemplate.spec.template.spec.containers";
    let [names, images] = c.containers(template);
    let last = match c.text("status.lastScheduleTime") {
        "" => NONE.to_string(),
        at => time::age(Some(at), c.now),
    };
    vec![
        c.name(),
        c.text("spec.schedule").into(),
        c.text_or("spec.timeZone", NONE).into(),
        scalar(c.get("spec.suspend"), "False").replace("true", "True").replace("false", "False").into(),
        c.count("status.active").into(),
        last.into(),
        c.age(),
        names,
        images,
        c.selector("spec.jobTemplate.spec.selector"),
    ]
}

fn job(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("spec.template.spec.containers");
    vec![
        c.name(),
        job_status(c).into(),
        completions(c).into(),
        duration(c).into(),
        c.age(),
        names,
        images,
        c.selector("spec.selector"),
    ]
}

fn job_status(c: &Cells<'_>) -> &'static str {
    let conditions = c.list("status.conditions");
    match () {
        () if is_true(conditions, "Complete") => "Complete",
        () if is_true(conditions, "Failed") => "Failed",
        () if c.get("metadata.deletionTimestamp").is_some() => "Terminating",
        () if is_true(conditions, "Suspended") => "Suspended",
        () if is_true(conditions, "FailureTarget") => "FailureTarget",
        () if is_true(conditions, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(c: &Cells<'_>) -> String {
    let succeeded = c.int("status.succeeded");
    match (
        c.get("spec.completions").and_then(Value::as_i64),
        c.get("spec.parallelism").and_then(Value::as_i64),
    ) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallel)) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(c: &Cells<'_>) -> String {
    let start = time::parse(c.text("status.startTime"));
    let end = time::parse(c.text("status.completionTime"));
    start.map(|start| time::human_duration(end.unwrap_or(c.now).duration_since(start))).unwrap_or_default()
}

fn disruption_budget(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        scalar(c.get("spec.minAvailable"), "N/A").into(),
        scalar(c.get("spec.maxUnavailable"), "N/A").into(),
        c.int("status.disruptionsAllowed").into(),
        c.age(),
    ]
}

fn autoscaler(c: &Cells<'_>) -> Vec<Value> {
    let reference = format!("{}/{}", c.text("spec.scaleTargetRef.kind"), c.text("spec.scaleTargetRef.name"));
    vec![
        c.name(),
        reference.into(),
        targets(c).into(),
        scalar(c.get("spec.minReplicas"), "<unset>").into(),
        c.int("spec.maxReplicas").to_string().into(),
        c.int("status.currentReplicas").to_string().into(),
        c.age(),
    ]
}

/// At most two metrics as `name: current/target`, then how many more.
fn targets(c: &Cells<'_>) -> String {
    if let Some(target) = c.get("spec.targetCPUUtilizationPercentage") {
        let current = c.get("status.currentCPUUtilizationPercentage");
        let current = current.map_or(UNKNOWN.to_string(), |n| format!("{n}%"));
        return format!("cpu: {current}/{target}%");
    }
    let specs = c.list("spec.metrics");
    if specs.is_empty() {
        return NONE.to_string();
    }
    let current = c.list("status.currentMetrics");
    let shown: Vec<String> =
        specs.iter().take(2).enumerate().map(|(at, spec)| metric(spec, current.get(at))).collect();
    match specs.len().saturating_sub(2) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let type_ = text(spec, "type");
    let member = match type_ {
        "ContainerResource" => "containerResource".to_string(),
        other => other.to_lowercase(),
    };
    let spec = spec.get(&member).unwrap_or(&Value::Null);
    let current = status.and_then(|s| s.get(&member)).and_then(|s| s.get("current"));
    let target = spec.get("target").unwrap_or(&Value::Null);
    let pair = utilisation(target, current);
    match type_ {
        // Of resources the average is understood.
        "Resource" | "ContainerResource" => {
            format!("{}: {}", text(spec, "name"), pair.trim_end_matches(" (avg)"))
        }
        _ => pair,
    }
}

fn utilisation(target: &Value, current: Option<&Value>) -> String {
    let now = |name: &str| scalar(current.and_then(|c| c.get(name)), UNKNOWN);
    match (target.get("averageValue"), target.get("value"), target.get("averageUtilization")) {
        (Some(wanted), ..) => format!("{}/{} (avg)", now("averageValue"), scalar(Some(wanted), "")),
        (_, Some(wanted), _) => format!("{}/{}", now("value"), scalar(Some(wanted), "")),
        (_, _, Some(wanted)) => {
            let current = now("averageUtilization");
            let percent = if current == UNKNOWN { "" } else { "%" };
            format!("{current}{percent}/{}%", scalar(Some(wanted), ""))
        }
        _ => "<auto>".to_string(),
    }
}
