//! Objects that a controller wants to make and the API server refuses: quotas, policies, webhooks.

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::{Case, event_count, event_time};
use crate::finding::Reason;
use crate::words;

/// Why no pod can be made: from a condition's or event's message.
pub fn explain(case: &Case<'_>, message: &str) -> Reason {
    let reason = quota(message)
        .or_else(|| must_specify(message))
        .or_else(|| security(message))
        .or_else(|| webhook(message))
        .or_else(|| account(message))
        .or_else(|| priority(message))
        .or_else(|| limit(message))
        .unwrap_or_else(|| {
            Reason::new(
                "create-refused",
                format!("its pods can't be made: {}", words::message(bare(message))),
            )
        });
    reason.seen(case.kind(), case.name(), "FailedCreate", words::message(message))
}

/// The latest refusal, as the object's events say, unless a pod could be made since.
pub fn of_events(case: &Case<'_>) -> Option<Reason> {
    let event = case.event(&["FailedCreate"])?;
    if case.event(&["SuccessfulCreate"]).is_some_and(|made| event_time(made) > event_time(event)) {
        return None;
    }
    let mut reason = explain(case, dig::text(event, "message"));
    let (times, ago) = (event_count(event), case.ago(event_time(event)));
    reason.sentence = format!("{} (tried {}, last {ago} ago)", reason.sentence, words::count(times, "time"));
    Some(reason)
}

/// The refusal a ReplicaFailure condition tells of.
pub fn of_condition(case: &Case<'_>) -> Option<Reason> {
    let condition = case.condition("ReplicaFailure").filter(|c: &&Value| dig::text(c, "status") == "True")?;
    Some(explain(case, dig::text(condition, "message")))
}

/// The message without what led to it.
fn bare(message: &str) -> &str {
    let message = message.strip_prefix("Error creating: ").unwrap_or(message);
    words::after(message, " is forbidden: ").unwrap_or(message)
}

fn quota(message: &str) -> Option<Reason> {
    let rest = words::after(message, "exceeded quota: ")?;
    let name = rest.split(',').next().unwrap_or_default().trim();
    let part = |mark: &str, end: &str| {
        let text = words::after(rest, mark).unwrap_or_default();
        text.split(end).next().unwrap_or_default().trim_end_matches([',', ' ', ')', '.']).to_string()
    };
    let (asked, used, most) =
        (part("requested: ", ", used: "), part("used: ", ", limited: "), part("limited: ", "\n"));
    let text = format!(
        "ResourceQuota {name} refuses a pod: it asks for {asked}, used is {used}, the limit is {most}"
    );
    Some(
        Reason::new("quota", text)
            .seen("ResourceQuota", name, "spec.hard", most)
            .help(format!("raise the quota {name}, ask for less, or delete what uses it up")),
    )
}

/// A quota that wants figures the pod does not give.
fn must_specify(message: &str) -> Option<Reason> {
    let rest = words::after(message, "failed quota: ")?;
    let (name, what) = rest.split_once(": must specify ")?;
    let text = format!("ResourceQuota {name} refuses a pod that does not say its {}", words::message(what));
    Some(Reason::new("quota", text).help(
        "set those requests and limits in the pod template, or give the namespace a LimitRange with defaults",
    ))
}

fn security(message: &str) -> Option<Reason> {
    let level = words::between(message, "violates PodSecurity \"", "\"")?;
    let why = words::after(message, &format!("\"{level}\": ")).unwrap_or_default();
    let text =
        format!("the namespace's Pod Security level {level} refuses its pods: {}", words::message(why));
    Some(Reason::new("pod-security", text).help("change the pod template's securityContext as said, or the namespace's label pod-security.kubernetes.io/enforce"))
}

fn webhook(message: &str) -> Option<Reason> {
    let name = words::between(message, "webhook \"", "\"")?;
    let why = words::after(message, "denied the request: ")
        .or_else(|| words::after(message, "failed calling webhook "));
    let text =
        format!("the admission webhook {name} refuses its pods: {}", words::message(why.unwrap_or(message)));
    Some(Reason::new("webhook", text).help(format!("do as {name} asks, or see its webhook configuration")))
}

fn account(message: &str) -> Option<Reason> {
    let name =
        words::between(message, "serviceaccount \"", "\"").filter(|_| message.contains("not found"))?;
    let text = format!("the pods' service account {name} does not exist");
    Some(
        Reason::new("service-account", text)
            .seen("ServiceAccount", name, "metadata.name", "not found")
            .help(format!("create it: `coxctl create serviceaccount {name}`")),
    )
}

fn priority(message: &str) -> Option<Reason> {
    let name = words::between(message, "no PriorityClass with name ", " was found")?;
    Some(
        Reason::new("priority-class", format!("the pods' PriorityClass {name} does not exist"))
            .help("create it, or use another priorityClassName"),
    )
}

fn limit(message: &str) -> Option<Reason> {
    let why = message.find("usage per ").map(|_| bare(message))?;
    Some(
        Reason::new("limit-range", format!("a LimitRange refuses a pod: {}", words::message(why)))
            .help("change the pod template's requests and limits, or the LimitRange"),
    )
}
