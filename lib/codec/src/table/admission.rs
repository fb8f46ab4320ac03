//! admissionregistration.k8s.io.

use super::Printer;
use super::access::{Cells, NONE, UNSET};
use serde_json::Value;

pub fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhooks,
        "ValidatingAdmissionPolicy" => validating_policy,
        "MutatingAdmissionPolicy" => mutating_policy,
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => binding,
        _ => return None,
    })
}

fn webhooks(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.count("webhooks").into(), c.age()]
}

fn param_kind(c: &Cells<'_>) -> Value {
    match c.text("spec.paramKind.kind") {
        "" => UNSET.into(),
        kind => format!("{}/{kind}", c.text("spec.paramKind.apiVersion")).into(),
    }
}

fn validating_policy(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.count("spec.validations").into(), param_kind(c), c.age()]
}

fn mutating_policy(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.count("spec.mutations").into(), param_kind(c), c.age()]
}

fn binding(c: &Cells<'_>) -> Vec<Value> {
    let namespace = c.text_or("spec.paramRef.namespace", "*");
    let reference = match (c.get("spec.paramRef"), c.text("spec.paramRef.name")) {
        (None, _) => UNSET.to_string(),
        (Some(_), "") => match c.selector("spec.paramRef.selector").as_str() {
            Some(text) if text != NONE => text.to_string(),
            _ => "*".to_string(),
        },
        (Some(_), name) => format!("{namespace}/{name}"),
    };
    vec![c.name(), c.text("spec.policyName").into(), reference.into(), c.age()]
}
