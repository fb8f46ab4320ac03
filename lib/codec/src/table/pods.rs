//! Pods: readiness, restarts and the reason worth showing as status.

use super::access::{Cells, NONE, condition, text};
use machinery::time;
use serde_json::Value;

/// Counts and reason gathered over the containers.
#[derive(Default)]
struct Sum {
    ready: usize,
    total: usize,
    restarts: i64,
    /// Restarts of init containers that are expected to run on.
    sidecar_restarts: i64,
    last_restart: Option<String>,
    last_sidecar_restart: Option<String>,
    reason: String,
}

pub fn pod(c: &Cells<'_>) -> Vec<Value> {
    let mut sum = Sum { total: c.list("spec.containers").len(), reason: first_reason(c), ..Sum::default() };
    let initializing = init_containers(c, &mut sum);
    let initialized =
        condition(c.list("status.conditions"), "Initialized").is_some_and(|x| text(x, "status") == "True");
    if !initializing || initialized {
        main_containers(c, &mut sum);
    }
    deletion(c, &mut sum);
    vec![
        c.name(),
        format!("{}/{}", sum.ready, sum.total).into(),
        sum.reason.as_str().into(),
        restarts(&sum, c).into(),
        c.age(),
        pod_ip(c).into(),
        c.text_or("spec.nodeName", NONE).into(),
        c.text_or("status.nominatedNodeName", NONE).into(),
        readiness_gates(c).into(),
    ]
}

fn first_reason(c: &Cells<'_>) -> String {
    let mut reason = c.text_or("status.reason", c.text("status.phase")).to_string();
    let scheduled = condition(c.list("status.conditions"), "PodScheduled");
    if scheduled.is_some_and(|x| text(x, "reason") == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    reason
}

fn int(value: &Value, member: &str) -> i64 {
    value.get(member).and_then(Value::as_i64).unwrap_or_default()
}

/// The later of two RFC 3339 times; those the server keeps compare as text.
fn later(old: &mut Option<String>, status: &Value) {
    let at = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str);
    if let Some(at) = at.filter(|at| old.as_deref().is_none_or(|o| o < *at)) {
        *old = Some(at.to_string());
    }
}

/// Walks the init containers; true while one of them is not done.
fn init_containers(c: &Cells<'_>, sum: &mut Sum) -> bool {
    let specs = c.list("spec.initContainers");
    let sidecar =
        |name: &str| specs.iter().any(|s| text(s, "name") == name && text(s, "restartPolicy") == "Always");
    sum.total += specs.iter().filter(|s| text(s, "restartPolicy") == "Always").count();
    let mut busy = false;
    for (at, status) in c.list("status.initContainerStatuses").iter().enumerate() {
        sum.restarts += int(status, "restartCount");
        later(&mut sum.last_restart, status);
        let is_sidecar = sidecar(text(status, "name"));
        if is_sidecar {
            sum.sidecar_restarts += int(status, "restartCount");
            later(&mut sum.last_sidecar_restart, status);
        }
        if busy {
            continue;
        }
        let terminated = status.pointer("/state/terminated").filter(|t| !t.is_null());
        if terminated.is_some_and(|t| int(t, "exitCode") == 0) {
            continue;
        }
        if is_sidecar && status.get("started").and_then(Value::as_bool) == Some(true) {
            sum.ready += usize::from(status.get("ready").and_then(Value::as_bool) == Some(true));
            continue;
        }
        sum.reason = init_reason(status, terminated, at, specs.len());
        busy = true;
    }
    busy
}

fn init_reason(status: &Value, terminated: Option<&Value>, at: usize, total: usize) -> String {
    if let Some(terminated) = terminated {
        return format!("Init:{}", exit_reason(terminated));
    }
    match status.pointer("/state/waiting").map(|w| text(w, "reason")) {
        Some(reason) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
        _ => format!("Init:{at}/{total}"),
    }
}

/// Reason, else signal, else exit code.
fn exit_reason(terminated: &Value) -> String {
    match (text(terminated, "reason"), int(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn main_containers(c: &Cells<'_>, sum: &mut Sum) {
    sum.restarts = sum.sidecar_restarts;
    sum.last_restart = sum.last_sidecar_restart.take();
    let mut running = false;
    for status in c.list("status.containerStatuses").iter().rev() {
        sum.restarts += int(status, "restartCount");
        later(&mut sum.last_restart, status);
        let waiting = status.pointer("/state/waiting").map(|w| text(w, "reason")).unwrap_or_default();
        let terminated = status.pointer("/state/terminated").filter(|t| !t.is_null());
        let ready = status.get("ready").and_then(Value::as_bool) == Some(true);
        if !waiting.is_empty() {
            sum.reason = waiting.to_string();
        } else if let Some(terminated) = terminated {
            sum.reason = exit_reason(terminated);
        } else if ready && status.pointer("/state/running").is_some() {
            running = true;
            sum.ready += 1;
        }
    }
    if sum.reason == "Completed" && running {
        let ready =
            condition(c.list("status.conditions"), "Ready").is_some_and(|x| text(x, "status") == "True");
        sum.reason = if ready { "Running" } else { "NotReady" }.into();
    }
}

fn deletion(c: &Cells<'_>, sum: &mut Sum) {
    let deleting = c.get("metadata.deletionTimestamp").is_some();
    let finished = matches!(c.text("status.phase"), "Succeeded" | "Failed");
    if deleting && c.text("status.reason") == "NodeLost" {
        sum.reason = "Unknown".into();
    } else if deleting && !finished {
        sum.reason = "Terminating".into();
    }
}

fn restarts(sum: &Sum, c: &Cells<'_>) -> String {
    match &sum.last_restart {
        Some(at) if sum.restarts != 0 => format!("{} ({} ago)", sum.restarts, time::age(Some(at), c.now)),
        _ => sum.restarts.to_string(),
    }
}

fn pod_ip(c: &Cells<'_>) -> String {
    let first = c.list("status.podIPs").first().map(|ip| text(ip, "ip")).unwrap_or_default();
    match if first.is_empty() { c.text("status.podIP") } else { first } {
        "" => NONE.to_string(),
        ip => ip.to_string(),
    }
}

fn readiness_gates(c: &Cells<'_>) -> String {
    let gates = c.list("spec.readinessGates");
    let conditions = c.list("status.conditions");
    let met = |gate: &&Value| {
        condition(conditions, text(gate, "conditionType")).is_some_and(|x| text(x, "status") == "True")
    };
    match gates.len() {
        0 => NONE.to_string(),
        total => format!("{}/{total}", gates.iter().filter(met).count()),
    }
}
