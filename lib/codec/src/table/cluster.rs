//! Groups that run the cluster: rbac, certificates, coordination, flow control, aggregation, storage versions.

use super::Printer;
use super::access::{Cells, NONE, condition, text};
use machinery::time;
use serde_json::Value;

pub fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match kind {
        "ClusterRoleBinding" | "RoleBinding" => role_binding,
        "CertificateSigningRequest" => signing_request,
        "ClusterTrustBundle" => trust_bundle,
        "PodCertificateRequest" => pod_certificate,
        "Lease" => lease,
        "LeaseCandidate" => lease_candidate,
        "FlowSchema" => flow_schema,
        "PriorityLevelConfiguration" => priority_level,
        "StorageVersion" => storage_version,
        "APIService" if group == "apiregistration.k8s.io" => api_service,
        _ => return None,
    })
}

fn role_binding(c: &Cells<'_>) -> Vec<Value> {
    let role = format!("{}/{}", c.text("roleRef.kind"), c.text("roleRef.name"));
    let subjects = |kind: &str| {
        let of_kind = c.list("subjects").iter().filter(|s| text(s, "kind") == kind);
        let names: Vec<String> = of_kind.map(subject_name).collect();
        names.join(", ")
    };
    vec![
        c.name(),
        role.into(),
        c.age(),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}

fn subject_name(subject: &Value) -> String {
    match text(subject, "kind") {
        "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
        _ => text(subject, "name").to_string(),
    }
}

fn signing_request(c: &Cells<'_>) -> Vec<Value> {
    let duration = match c.get("spec.expirationSeconds").and_then(Value::as_i64) {
        Some(seconds) => time::human_duration(jiff::SignedDuration::from_secs(seconds)),
        None => NONE.to_string(),
    };
    vec![
        c.name(),
        c.age(),
        c.text_or("spec.signerName", NONE).into(),
        c.text("spec.username").into(),
        duration.into(),
        signing_state(c).into(),
    ]
}

fn signing_state(c: &Cells<'_>) -> String {
    let conditions = c.list("status.conditions");
    let mut states = match (condition(conditions, "Approved"), condition(conditions, "Denied")) {
        (_, Some(_)) => vec!["Denied"],
        (Some(_), _) => vec!["Approved"],
        _ => vec!["Pending"],
    };
    if condition(conditions, "Failed").is_some() {
        states.push("Failed");
    }
    if !c.text("status.certificate").is_empty() {
        states.push("Issued");
    }
    states.join(",")
}

fn trust_bundle(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.text_or("spec.signerName", NONE).into()]
}

fn pod_certificate(c: &Cells<'_>) -> Vec<Value> {
    let conditions = c.list("status.conditions");
    let state = ["Denied", "Failed", "Issued"].into_iter().find(|t| condition(conditions, t).is_some());
    let annotations = super::access::labels_text(c.map("spec.unverifiedUserAnnotations"));
    vec![
        c.name(),
        c.text("spec.podName").into(),
        c.text("spec.serviceAccountName").into(),
        c.text("spec.nodeName").into(),
        c.text("spec.signerName").into(),
        state.unwrap_or("Pending").into(),
        annotations.into(),
    ]
}

fn lease(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.text("spec.holderIdentity").into(), c.age()]
}

fn lease_candidate(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        c.text("spec.leaseName").into(),
        c.text("spec.binaryVersion").into(),
        c.text("spec.emulationVersion").into(),
        c.age(),
    ]
}

fn flow_schema(c: &Cells<'_>) -> Vec<Value> {
    let dangling = condition(c.list("status.conditions"), "Dangling");
    let missing = dangling.map_or("?", |d| match text(d, "status") {
        "True" => "True",
        "False" => "False",
        _ => "?",
    });
    vec![
        c.name(),
        c.text("spec.priorityLevelConfiguration.name").into(),
        c.int("spec.matchingPrecedence").to_string().into(),
        c.text_or("spec.distinguisherMethod.type", NONE).into(),
        c.age(),
        missing.into(),
    ]
}

fn priority_level(c: &Cells<'_>) -> Vec<Value> {
    let number = |path: &str| c.get(path).map_or(NONE.to_string(), Value::to_string);
    let limited = if c.text("spec.type") == "Exempt" { "spec.exempt" } else { "spec.limited" };
    vec![
        c.name(),
        c.text("spec.type").into(),
        number(&format!("{limited}.nominalConcurrencyShares")).into(),
        number("spec.limited.limitResponse.queuing.queues").into(),
        number("spec.limited.limitResponse.queuing.handSize").into(),
        number("spec.limited.limitResponse.queuing.queueLengthLimit").into(),
        c.age(),
    ]
}

fn storage_version(c: &Cells<'_>) -> Vec<Value> {
    let version = |v: &Value| format!("{}={}", text(v, "apiServerID"), text(v, "encodingVersion"));
    let all: Vec<String> = c.list("status.storageVersions").iter().map(version).collect();
    vec![c.name(), c.text_or("status.commonEncodingVersion", "<unset>").into(), all.join(",").into(), c.age()]
}

fn api_service(c: &Cells<'_>) -> Vec<Value> {
    let service = match c.text("spec.service.name") {
        "" => "Local".to_string(),
        name => format!("{}/{name}", c.text("spec.service.namespace")),
    };
    let available = match condition(c.list("status.conditions"), "Available") {
        Some(x) if text(x, "status") == "True" => "True".to_string(),
        Some(x) => format!("{} ({})", text(x, "status"), text(x, "reason")),
        None => "Unknown".to_string(),
    };
    vec![c.name(), service.into(), available.into(), c.age()]
}
