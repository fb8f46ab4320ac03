//! What comes before the containers: volumes, the sandbox, init containers.

use coxctl_kit::dig;

use super::{Status, statuses, waiting};
use crate::case::{Case, event_count, event_time};
use crate::finding::Reason;
use crate::words;

/// Volumes and sandboxes that fail, as the pod's latest events say. A pod whose containers have started is past that.
pub fn explain(case: &Case<'_>) -> Vec<Reason> {
    let all = statuses(case.object);
    let creating = |s: &Status<'_>| {
        matches!(dig::text(s.status, "state.waiting.reason"), "ContainerCreating" | "PodInitializing" | "")
            && dig::has(s.status, "state.waiting")
    };
    if !all.is_empty() && !all.iter().any(creating) {
        return Vec::new();
    }
    let (mount, sandbox) = (mount(case), sandbox(case));
    mount.into_iter().chain(sandbox).collect()
}

fn mount(case: &Case<'_>) -> Option<Reason> {
    let event = case.event(&["FailedMount", "FailedAttachVolume", "FailedMapVolume"])?;
    let message = dig::text(event, "message");
    let volume = words::between(message, "volume \"", "\"").unwrap_or("?");
    if let Some(reason) = waiting::missing(case, message, &format!("its volume {volume} needs")) {
        return Some(reason);
    }
    let (reason, times) = (dig::text(event, "reason"), event_count(event));
    let text = format!(
        "its volume can't be set up ({reason}, {}, last {} ago): {}",
        words::count(times, "time"),
        case.ago(event_time(event)),
        words::message(message)
    );
    let help = match reason {
        _ if message.contains("Multi-Attach") => {
            "the volume is still attached to another node: end the pod there, or wait until that node's detach is through"
        }
        "FailedAttachVolume" => "see the storage driver's controller and its VolumeAttachment objects",
        _ => "see the claim and the node's kubelet log for this volume",
    };
    Some(
        Reason::new("volume", text).seen("Event", case.name(), "message", words::message(message)).help(help),
    )
}

fn sandbox(case: &Case<'_>) -> Option<Reason> {
    let event = case.event(&["FailedCreatePodSandBox", "NetworkNotReady", "FailedSync"])?;
    let message = dig::text(event, "message");
    // An attempt that has been followed by pulls is past.
    if case
        .event(&["Pulling", "Pulled", "Created", "Started"])
        .is_some_and(|later| event_time(later) > event_time(event))
    {
        return None;
    }
    let network = ["cni", "CNI", "network plugin", "NetworkReady"].iter().any(|mark| message.contains(mark));
    let what = if network { "the pod's network can't be set up" } else { "the pod's sandbox can't be made" };
    let help = match network {
        true => format!(
            "see whether the network daemon runs on {}: `coxctl why node/{0}`",
            case.text("spec.nodeName")
        ),
        false => format!("see the container runtime's log on {}", case.text("spec.nodeName")),
    };
    let text = format!(
        "{what} on {} (tried {}): {}",
        case.text("spec.nodeName"),
        words::count(event_count(event), "time"),
        words::message(message)
    );
    Some(
        Reason::new("sandbox", text)
            .seen("Event", case.name(), "reason", dig::text(event, "reason"))
            .help(help),
    )
}

/// A container that is being made, or whose image is being pulled.
pub fn creating(case: &Case<'_>, status: &Status<'_>) -> Option<Reason> {
    // While an init container has its say, the others only wait for it.
    if !status.init && statuses(case.object).iter().any(|s| s.init && !s.passed()) {
        return None;
    }
    let image = dig::text(status.spec, "image");
    let pulling = case.event(&["Pulling", "Pulled"]).filter(|event| {
        dig::text(event, "reason") == "Pulling" && dig::text(event, "message").contains(image)
    });
    let text = match pulling {
        Some(event) => format!(
            "the image {image} of container {} is being pulled for {}",
            status.name,
            case.ago(event_time(event))
        ),
        None => format!(
            "container {} is being made for {} on {}",
            status.name,
            case.since("status.startTime"),
            case.text("spec.nodeName")
        ),
    };
    Some(Reason::new("starting", text))
}

/// An init container that still runs.
pub fn init_running(case: &Case<'_>, status: &Status<'_>) -> Reason {
    let all: Vec<Status<'_>> = statuses(case.object).into_iter().filter(|s| s.init).collect();
    let done = all.iter().filter(|s| s.passed()).count();
    let since = case.ago(dig::moment(status.status, "state.running.startedAt"));
    let text = format!(
        "init container {} has been running for {since} ({done} of {} init containers are done); the others start when it ends with exit code 0",
        status.name,
        all.len()
    );
    Reason::new("init-running", text)
        .seen("Pod", case.name(), &format!("status.initContainerStatuses.{}.state", status.name), "running")
        .help(format!(
            "see what it waits for: `coxctl logs {} -n {} -c {}`",
            case.name(),
            case.namespace(),
            status.name
        ))
}
