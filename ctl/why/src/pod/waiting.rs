//! Containers that wait to be started.

use coxctl_kit::dig;

use super::{Status, exits, image, start};
use crate::case::Case;
use crate::facts;
use crate::finding::Reason;
use crate::words;

/// Why a container waits; `told` says that the pod's start has been explained already.
pub fn explain(case: &Case<'_>, status: &Status<'_>, told: bool) -> Vec<Reason> {
    let waiting = dig::at(status.status, "state.waiting");
    match dig::text(waiting, "reason") {
        "CrashLoopBackOff" => exits::crash_loop(case, status),
        reason if image::REASONS.contains(&reason) => vec![image::explain(case, status, reason)],
        "CreateContainerConfigError" => vec![config(case, status, dig::text(waiting, "message"))],
        "" | "ContainerCreating" | "PodInitializing" if told => Vec::new(),
        "" | "ContainerCreating" | "PodInitializing" => start::creating(case, status).into_iter().collect(),
        reason => vec![failed(case, status, reason, dig::text(waiting, "message"))],
    }
}

fn failed(case: &Case<'_>, status: &Status<'_>, reason: &str, message: &str) -> Reason {
    let text = format!("container {} can't be started ({reason}): {}", status.name, words::message(message));
    let mut told = Reason::new("container-start", text).seen(
        "Pod",
        case.name(),
        &format!("status.containerStatuses.{}.state.waiting.reason", status.name),
        reason,
    );
    let marks =
        ["executable file not found", "no such file or directory", "exec format error", "permission denied"];
    if marks.iter().any(|mark| message.contains(mark)) {
        told = told.help("correct spec.containers.command, or use an image that has the program");
    }
    told
}

fn config(case: &Case<'_>, status: &Status<'_>, message: &str) -> Reason {
    match missing(case, message, &format!("container {} needs", status.name)) {
        Some(reason) => reason,
        None if message.contains("runAsNonRoot") => Reason::new(
            "config",
            format!(
                "container {} would run as root, and its securityContext has runAsNonRoot: {}",
                status.name,
                words::message(message)
            ),
        )
        .help("set securityContext.runAsUser to a user other than 0, or use an image that is not root"),
        None => Reason::new(
            "config",
            format!("container {} can't be configured: {}", status.name, words::message(message)),
        ),
    }
}

/// A ConfigMap, a Secret or a key that a message says is missing.
pub fn missing(case: &Case<'_>, message: &str, lead: &str) -> Option<Reason> {
    let (kind, mark) = [
        ("ConfigMap", "configmap \""),
        ("Secret", "secret \""),
        ("ConfigMap", "ConfigMap "),
        ("Secret", "Secret "),
        ("ConfigMap", "configmap references non-existent"),
        ("Secret", "secret references non-existent"),
    ]
    .into_iter()
    .find(|(_, mark)| message.contains(mark))?;
    if let Some(key) = words::between(message, "couldn't find key ", " in ")
        .or_else(|| words::between(message, "non-existent config key: ", "\n"))
    {
        let place = words::after(message, " in ")
            .map(|rest| rest.trim_start_matches(mark).trim())
            .unwrap_or_default();
        let name = place.rsplit('/').next().unwrap_or(place);
        let text = format!("{lead} the key {key} of {kind} {name}, which does not have it");
        return Some(Reason::new("missing-key", text).seen(kind, name, "data", key).help(format!(
            "add the key, or mark the reference optional: `coxctl -n {} edit {} {name}`",
            case.namespace(),
            kind.to_lowercase()
        )));
    }
    let name = words::between(message, mark, "\"").filter(|_| message.contains("not found"))?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let text = format!("{lead} the {kind} {name}, which does not exist in {}", case.namespace());
    let known: Vec<&str> = case.facts.within(kind, case.namespace()).map(facts::name).collect();
    let help = match words::nearest(name, &known) {
        Some(near) => format!("create {name}, or refer to {near}, which exists"),
        None if kind == "ConfigMap" => format!(
            "`coxctl -n {} create configmap {name} --from-literal=KEY=VALUE`, or mark the reference optional",
            case.namespace()
        ),
        None => format!(
            "`coxctl -n {} create secret generic {name} --from-literal=KEY=VALUE`, or mark the reference optional",
            case.namespace()
        ),
    };
    let rule = if kind == "ConfigMap" { "missing-configmap" } else { "missing-secret" };
    Some(Reason::new(rule, text).seen(kind, name, "metadata.name", "not found").help(help))
}
