//! Defaults of webhook configurations and admission policies.

use super::Fill;
use crate::registry::val::{Obj, if_nil};
use serde_json::json;

/// The defaults of one type of this area; every version of the group has the same.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    if !group.starts_with("io.k8s.api.admissionregistration.") {
        return None;
    }
    Some(match kind {
        "ValidatingWebhook" => webhook,
        "MutatingWebhook" => mutating_webhook,
        "RuleWithOperations" | "Rule" | "NamedRuleWithOperations" => |m| if_nil(m, "scope", "*"),
        "ServiceReference" => |m| if_nil(m, "port", 443),
        "ValidatingAdmissionPolicySpec" | "MutatingAdmissionPolicySpec" => {
            |m| if_nil(m, "failurePolicy", "Fail")
        }
        "MatchResources" => match_resources,
        "ParamRef" if group.ends_with(".v1alpha1") => |m| if_nil(m, "parameterNotFoundAction", "Deny"),
        _ => return None,
    })
}

fn match_resources(m: &mut Obj) {
    if_nil(m, "matchPolicy", "Equivalent");
    if_nil(m, "namespaceSelector", json!({}));
    if_nil(m, "objectSelector", json!({}));
}

fn webhook(m: &mut Obj) {
    if_nil(m, "failurePolicy", "Fail");
    match_resources(m);
    if_nil(m, "timeoutSeconds", 10);
}

fn mutating_webhook(m: &mut Obj) {
    webhook(m);
    if_nil(m, "reinvocationPolicy", "Never");
}
