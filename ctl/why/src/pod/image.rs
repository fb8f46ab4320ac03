//! Images that can't be pulled.

use coxctl_kit::dig;

use super::Status;
use crate::case::Case;
use crate::finding::Reason;
use crate::words;

/// Why the waiting reasons of images come about.
pub const REASONS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
];

/// A cause: words of runtimes and registries, what they mean, and what would help.
struct Cause {
    marks: &'static [&'static str],
    text: &'static str,
    help: &'static str,
}

const CAUSES: &[Cause] = &[
    Cause {
        marks: &["x509", "certificate"],
        text: "the registry's certificate is not trusted by the node",
        help: "give the container runtime of the node the registry's CA",
    },
    Cause {
        marks: &["server gave HTTP response to HTTPS client"],
        text: "the registry speaks HTTP and the node expects HTTPS",
        help: "configure the registry as plain HTTP in the node's container runtime",
    },
    Cause {
        marks: &[
            "no such host",
            "failed to lookup",
            "Temporary failure in name resolution",
            "server misbehaving",
            "lookup ",
        ],
        text: "the registry's name can't be resolved on the node",
        help: "check the registry's name in the image, and the node's DNS",
    },
    Cause {
        marks: &[
            "connection refused",
            "i/o timeout",
            "context deadline exceeded",
            "no route to host",
            "network is unreachable",
            "Client.Timeout",
            "tcp connect error",
        ],
        text: "the registry can't be reached from the node",
        help: "check that the node reaches the registry, or load the image onto the node",
    },
    Cause {
        marks: &["toomanyrequests", "429 Too Many"],
        text: "the registry limits how often it may be asked",
        help: "give the pod imagePullSecrets of an account, or use a mirror",
    },
    Cause {
        marks: &["unauthorized", "authorization failed", "401", "403", "denied", "no basic auth credentials"],
        text: "the registry does not let the node in, or has no such repository",
        help: "check the image's name, and give the pod imagePullSecrets with access",
    },
    Cause {
        marks: &["no match for platform", "no matching manifest"],
        text: "the image is not made for this node's architecture",
        help: "use an image for the node's architecture, or a node selector for another",
    },
    Cause {
        marks: &["not found", "manifest unknown", "NotFound", "does not exist", "404"],
        text: "there is no such image or tag in the registry",
        help: "check name and tag of the image",
    },
    Cause { marks: &["no space left"], text: "the node's disk is full", help: "free space on the node" },
];

/// The image of a container that waits for it.
pub fn explain(case: &Case<'_>, status: &Status<'_>, reason: &str) -> Reason {
    let image = dig::text(status.spec, "image");
    let node = case.text("spec.nodeName");
    let message = said(case, status);
    let (text, help) = match (
        reason,
        CAUSES.iter().find(|cause| cause.marks.iter().any(|mark| message.contains(mark))),
    ) {
        ("InvalidImageName", _) => (
            format!("the image {image:?} of container {} is not a valid name", status.name),
            "correct spec.containers.image",
        ),
        ("ErrImageNeverPull", _) => (
            format!(
                "the image {image} of container {} is not on {node}, and its imagePullPolicy is Never",
                status.name
            ),
            "load the image onto the node (`coxctl image` shows how), or use imagePullPolicy: IfNotPresent",
        ),
        (_, Some(cause)) => (
            format!("{node} can't pull the image {image} of container {}: {}", status.name, cause.text),
            cause.help,
        ),
        (_, None) => (
            format!(
                "{node} can't pull the image {image} of container {}: {}",
                status.name,
                words::message(&message)
            ),
            "check name and registry of the image",
        ),
    };
    Reason::new("image", text)
        .seen(
            "Pod",
            case.name(),
            &format!("status.containerStatuses.{}.state.waiting.reason", status.name),
            reason,
        )
        .seen("Pod", case.name(), "message", words::message(&message))
        .help(help)
}

/// What the runtime said last: the waiting message, or the event where that says only that it waits.
fn said(case: &Case<'_>, status: &Status<'_>) -> String {
    let waiting = dig::text(status.status, "state.waiting.message");
    let event = |event: &&serde_json::Value| {
        dig::text(event, "reason") == "Failed" && dig::text(event, "message").contains("pull")
    };
    // A back-off's message carries the last error behind a colon, or nothing at all.
    let telling = words::after(waiting, "\": ").is_some_and(|rest| !rest.is_empty())
        || !waiting.starts_with("Back-off") && !waiting.is_empty();
    match case.events().into_iter().find(event) {
        Some(event) if !telling => dig::text(event, "message").into(),
        _ => waiting.into(),
    }
}
