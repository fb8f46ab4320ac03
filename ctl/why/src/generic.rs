//! Kinds without rules of their own: deletion, and conditions.

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::Case;
use crate::finding::{Finding, Reason};
use crate::{leaving, words};

/// Conditions that should be True.
const GOOD: [&str; 9] = [
    "Ready",
    "Available",
    "Established",
    "NamesAccepted",
    "Synced",
    "Healthy",
    "Accepted",
    "Programmed",
    "DisruptionAllowed",
];
const BAD: [&str; 4] = ["Failed", "Stalled", "Degraded", "ReplicaFailure"];

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let conditions = case.items("status.conditions");
    let reasons: Vec<Reason> = conditions.iter().filter(troubled).map(|c| told(case, c)).collect();
    if !reasons.is_empty() {
        return Finding::bad("is not as it should be", reasons);
    }
    let good: Vec<String> = conditions
        .iter()
        .filter(|c| GOOD.contains(&dig::text(c, "type")))
        .map(|c| format!("{} since {}", dig::text(c, "type"), case.ago(dig::moment(c, "lastTransitionTime"))))
        .collect();
    let phase = case.text("status.phase");
    match (good.is_empty(), phase) {
        (false, _) => Finding::well(format!("is well: {}", words::list(&good, 3))),
        (true, "") => Finding::well("is there, and its status tells of no trouble"),
        (true, phase @ ("Failed" | "Pending" | "Lost" | "Released")) => {
            let said = words::message(case.text("status.message"));
            Finding::bad(
                format!("is {phase}"),
                if said.is_empty() { Vec::new() } else { vec![Reason::new("phase", said)] },
            )
        }
        (true, phase) => Finding::well(format!("is {phase}")),
    }
}

fn troubled(condition: &&Value) -> bool {
    let (kind, status) = (dig::text(condition, "type"), dig::text(condition, "status"));
    GOOD.contains(&kind) && status != "True" || BAD.contains(&kind) && status == "True"
}

fn told(case: &Case<'_>, condition: &Value) -> Reason {
    let text = |field| dig::text(condition, field);
    let since = case.ago(dig::moment(condition, "lastTransitionTime"));
    let since = if since.is_empty() { since } else { format!(" since {since}") };
    let message = words::message(text("message"));
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    let sentence = format!("{} is {}{since} ({}){said}", text("type"), text("status"), text("reason"));
    Reason::new("condition", sentence).seen(
        case.kind(),
        case.name(),
        &format!("status.conditions.{}.status", text("type")),
        text("status"),
    )
}
