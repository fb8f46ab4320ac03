//! Probes: what they ask, what they were told, and what follows.

use coxctl_kit::dig;
use serde_json::Value;

use super::Status;
use crate::case::{Case, event_count, event_time};
use crate::finding::Reason;
use crate::words;

/// A container that runs and is not ready.
pub fn not_ready(case: &Case<'_>, status: &Status<'_>) -> Vec<Reason> {
    let starting = dig::has(status.spec, "startupProbe") && !dig::flag(status.status, "started");
    let which = if starting { "startupProbe" } else { "readinessProbe" };
    let mut reasons: Vec<Reason> = killed_by(case, status)
        .map(|text| Reason::new("liveness", format!("container {}: {text}", status.name)))
        .into_iter()
        .collect();
    let title = if starting { "Startup" } else { "Readiness" };
    reasons.push(match failure(case, status, title) {
        Some(event) => failing(case, status, which, event),
        None if dig::has(status.spec, which) => patient(case, status, which),
        None => Reason::new(
            "not-ready",
            format!("container {} runs since {} and is not ready yet", status.name, running(case, status)),
        ),
    });
    reasons
}

fn running(case: &Case<'_>, status: &Status<'_>) -> String {
    case.ago(dig::moment(status.status, "state.running.startedAt"))
}

fn failing(case: &Case<'_>, status: &Status<'_>, which: &str, event: &Value) -> Reason {
    let probe = dig::at(status.spec, which);
    let message = dig::text(event, "message");
    let answer = words::after(message, "probe failed: ")
        .or_else(|| words::after(message, "probe errored: "))
        .unwrap_or(message);
    let text = format!(
        "the {which} of container {} ({}) fails: {} ({}, last {} ago)",
        status.name,
        asked(probe),
        words::message(answer),
        words::count(event_count(event), "time"),
        case.ago(event_time(event)),
    );
    let rule = if which == "startupProbe" { "startup-probe" } else { "readiness" };
    let mut reason = Reason::new(rule, text).seen("Event", case.name(), "message", words::message(message));
    if let Some(help) = help(case, status, probe, answer) {
        reason = reason.help(help);
    }
    if which == "startupProbe" {
        let limit = or(probe, "failureThreshold", 3) * or(probe, "periodSeconds", 10)
            + dig::int(probe, "initialDelaySeconds");
        reason = reason.help(format!(
            "it is restarted when it has not answered within {}; raise failureThreshold if it needs longer",
            words::span(limit)
        ));
    }
    reason
}

fn patient(case: &Case<'_>, status: &Status<'_>, which: &str) -> Reason {
    let probe = dig::at(status.spec, which);
    let text = format!(
        "the {which} of container {} ({}) has not succeeded yet; the container runs since {}, initialDelaySeconds is {}",
        status.name,
        asked(probe),
        running(case, status),
        dig::int(probe, "initialDelaySeconds"),
    );
    Reason::new("probe-waiting", text)
}

/// What would make a probe succeed.
fn help(case: &Case<'_>, status: &Status<'_>, probe: &Value, answer: &str) -> Option<String> {
    let port = port(probe);
    let known: Vec<String> =
        dig::items(status.spec, "ports").iter().map(|p| dig::int(p, "containerPort").to_string()).collect();
    let declared = known.is_empty() || known.contains(&port) || port.parse::<i64>().is_err();
    match () {
        () if answer.contains("connection refused") && !declared => Some(format!(
            "the container declares port {}, the probe asks {port}: correct one of them",
            words::list(&known, 3)
        )),
        () if answer.contains("connection refused") => Some(format!(
            "nothing listens on port {port}: correct the probe's port, or see `coxctl logs {} -n {} -c {}`",
            case.name(),
            case.namespace(),
            status.name
        )),
        () if answer.contains("deadline exceeded")
            || answer.contains("timeout")
            || answer.contains("timed out") =>
        {
            Some(format!(
                "it does not answer within timeoutSeconds ({}): raise that, or see what keeps it busy",
                or(probe, "timeoutSeconds", 1)
            ))
        }
        () if answer.contains("404") => {
            Some("the probe's path does not exist there: correct httpGet.path".into())
        }
        () => Some(format!("see `coxctl logs {} -n {} -c {}`", case.name(), case.namespace(), status.name)),
    }
}

fn port(probe: &Value) -> String {
    let at = ["httpGet.port", "tcpSocket.port", "grpc.port"]
        .iter()
        .map(|path| dig::at(probe, path))
        .find(|v| !v.is_null());
    at.map(dig::int_or_string).unwrap_or_default()
}

fn or(probe: &Value, field: &str, usual: i64) -> i64 {
    dig::at(probe, field).as_i64().unwrap_or(usual)
}

/// What a probe asks: `GET :8080/healthz every 10s`.
fn asked(probe: &Value) -> String {
    let path = match dig::text(probe, "httpGet.path") {
        "" => "/",
        path => path,
    };
    let what = match probe {
        probe if dig::has(probe, "httpGet") => format!("GET :{}{path}", port(probe)),
        probe if dig::has(probe, "tcpSocket") => format!("TCP :{}", port(probe)),
        probe if dig::has(probe, "grpc") => format!("gRPC :{}", port(probe)),
        probe => format!("runs {}", words::cut(&dig::texts(probe, "exec.command").join(" "), 60)),
    };
    format!("{what} every {}", words::span(or(probe, "periodSeconds", 10)))
}

/// The latest event of a failed probe of this container.
fn failure<'a>(case: &Case<'a>, status: &Status<'_>, title: &str) -> Option<&'a Value> {
    let path = format!("{{{}}}", status.name);
    let mark = format!("{title} probe ");
    let started = dig::moment(status.status, "state.running.startedAt");
    case.events().into_iter().find(|event| {
        let field = dig::text(event, "involvedObject.fieldPath");
        dig::text(event, "reason") == "Unhealthy"
            && dig::text(event, "message").starts_with(&mark)
            && (field.is_empty() || field.contains(&path))
            && (title == "Liveness" || event_time(event) >= started)
    })
}

/// What a liveness or startup probe said before the container was last killed for it.
pub fn killed_by(case: &Case<'_>, status: &Status<'_>) -> Option<String> {
    let path = format!("{{{}}}", status.name);
    let killed = |event: &&Value| {
        let message = dig::text(event, "message");
        let field = dig::text(event, "involvedObject.fieldPath");
        dig::text(event, "reason") == "Killing"
            && (message.contains("failed liveness probe") || message.contains("failed startup probe"))
            && (field.is_empty() || field.contains(&path))
    };
    let event = case.events().into_iter().find(killed)?;
    let (which, title) = match dig::text(event, "message").contains("startup") {
        true => ("startupProbe", "Startup"),
        false => ("livenessProbe", "Liveness"),
    };
    let said = failure(case, status, title).map(|event| dig::text(event, "message")).unwrap_or_default();
    let said = words::after(said, "probe failed: ").unwrap_or(said);
    let said = if said.is_empty() { String::new() } else { format!(": {}", words::message(said)) };
    Some(format!(
        "its {which} ({}) failed and the kubelet stopped it{said}",
        asked(dig::at(status.spec, which))
    ))
}
