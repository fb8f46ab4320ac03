//! resource.k8s.io, scheduling.k8s.io and node.k8s.io.

use super::Printer;
use super::access::{Cells, NONE, condition, or_none, scalar, text};
use serde_json::Value;

pub fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "DeviceClass" | "ResourceClaimTemplate" | "Workload" => name_and_age,
        "DeviceTaintRule" => taint_rule,
        "ResourceClaim" => claim,
        "ResourceSlice" => slice,
        "ResourcePoolStatusRequest" => pool_status,
        "PriorityClass" => priority_class,
        "PodGroup" => pod_group,
        "RuntimeClass" => runtime_class,
        _ => return None,
    })
}

fn name_and_age(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.age()]
}

fn taint_rule(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        c.text("spec.taint.key").into(),
        c.text("spec.taint.value").into(),
        c.text("spec.taint.effect").into(),
        c.since("spec.taint.timeAdded").into(),
        c.age(),
    ]
}

fn claim(c: &Cells<'_>) -> Vec<Value> {
    let mut states = Vec::new();
    if c.get("metadata.deletionTimestamp").is_some() {
        states.push("deleted");
    }
    states.push(if c.get("status.allocation").is_some() { "allocated" } else { "pending" });
    if c.count("status.reservedFor") > 0 {
        states.push("reserved");
    }
    vec![c.name(), states.join(",").into(), c.age()]
}

fn slice(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        c.text_or("spec.nodeName", "<unset>").into(),
        c.text("spec.driver").into(),
        c.text("spec.pool.name").into(),
        c.age(),
    ]
}

fn pool_status(c: &Cells<'_>) -> Vec<Value> {
    let pools = c.list("status.pools");
    let sum = |name: &str| -> String {
        pools.iter().filter_map(|p| p.get(name)).filter_map(Value::as_i64).sum::<i64>().to_string()
    };
    let errors = pools.iter().filter(|p| !text(p, "validationError").is_empty()).count();
    let conditions = c.list("status.conditions");
    let state = ["Complete", "Failed"]
        .into_iter()
        .find(|t| super::access::is_true(conditions, t))
        .unwrap_or("Pending");
    let completed = condition(conditions, state).map(|x| text(x, "lastTransitionTime"));
    vec![
        c.name(),
        c.text("spec.driver").into(),
        sum("totalDevices").into(),
        sum("availableDevices").into(),
        sum("allocatedDevices").into(),
        sum("unavailableDevices").into(),
        errors.to_string().into(),
        pools.len().into(),
        state.into(),
        machinery::time::age(completed, c.now).into(),
    ]
}

fn priority_class(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        c.int("value").into(),
        c.bool("globalDefault").into(),
        c.age(),
        c.text_or("preemptionPolicy", "PreemptLowerPriority").into(),
    ]
}

fn pod_group(c: &Cells<'_>) -> Vec<Value> {
    let policy = c.map("spec.schedulingPolicy").and_then(|p| p.keys().next()).cloned().unwrap_or_default();
    let policy = match policy.as_str() {
        "gang" => "Gang".to_string(),
        "basic" => "Basic".to_string(),
        _ => policy,
    };
    let workload = c.map("spec.podGroupTemplateRef").and_then(|r| r.get("workload"));
    let workload = workload.map(|w| text(w, "workloadName").to_string()).unwrap_or_default();
    let scheduled = condition(c.list("status.conditions"), "PodGroupScheduled")
        .or_else(|| c.list("status.conditions").first());
    let status = match scheduled.map(|s| text(s, "status")) {
        Some("True") => "Scheduled".to_string(),
        Some(_) => scalar(scheduled.and_then(|s| s.get("reason")), NONE),
        None => "Pending".to_string(),
    };
    vec![c.name(), or_none(policy).into(), or_none(workload).into(), status.into(), c.age()]
}

fn runtime_class(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.text("handler").into(), c.age()]
}
