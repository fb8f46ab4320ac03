//! Webhook configurations and admission policies.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::{self, Row, Rule};
use crate::registry::val::{at, get, list, s, set, strs};
use machinery::names;
use serde_json::Value;

const GROUP: &str = "admissionregistration.k8s.io";

/// Webhooks that may refuse.
pub const VALIDATING_WEBHOOKS: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Members(&["webhooks"]),
    rules: WEBHOOK,
    validate: |new, _, errs| webhooks(new, errs),
    ..Kind::of(GROUP, "validatingwebhookconfigurations")
};

/// Webhooks that may change.
pub const MUTATING_WEBHOOKS: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Members(&["webhooks"]),
    rules: WEBHOOK,
    validate: |new, _, errs| {
        webhooks(new, errs);
        rules::check(new, &[("webhooks[].reinvocationPolicy", Rule::OneOf(&["IfNeeded", "Never"]))], errs);
    },
    ..Kind::of(GROUP, "mutatingwebhookconfigurations")
};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const POLICIES: [&str; 2] = ["Fail", "Ignore"];

const WEBHOOK: &[Row] = &[
    ("webhooks", Rule::UniqueBy("name")),
    ("webhooks[].name", Rule::Required),
    ("webhooks[].failurePolicy", Rule::OneOf(&POLICIES)),
    ("webhooks[].matchPolicy", Rule::OneOf(&["Equivalent", "Exact"])),
    ("webhooks[].sideEffects", Rule::RequiredOneOf(&["None", "NoneOnDryRun"])),
    ("webhooks[].namespaceSelector", Rule::Selector),
    ("webhooks[].objectSelector", Rule::Selector),
    ("webhooks[].clientConfig", Rule::Required),
    ("webhooks[].clientConfig.service.name", Rule::Required),
    ("webhooks[].clientConfig.service.namespace", Rule::Required),
    ("webhooks[].clientConfig.service.port", Rule::Range(1, 65535)),
    ("webhooks[].admissionReviewVersions", Rule::Required),
    ("webhooks[].matchConditions", Rule::MaxItems(64)),
    ("webhooks[].matchConditions", Rule::UniqueBy("name")),
    ("webhooks[].matchConditions[].name", Rule::Required),
    ("webhooks[].matchConditions[].name", Rule::Form(names::is_qualified_name)),
    ("webhooks[].matchConditions[].expression", Rule::Required),
    ("webhooks[].rules[].operations", Rule::Required),
    ("webhooks[].rules[].operations[]", Rule::OneOf(&OPERATIONS)),
    ("webhooks[].rules[].apiGroups", Rule::Required),
    ("webhooks[].rules[].apiVersions", Rule::Required),
    ("webhooks[].rules[].resources", Rule::Required),
    ("webhooks[].rules[].scope", Rule::OneOf(&["*", "Cluster", "Namespaced"])),
];

fn webhooks(new: &Value, errs: &mut Errs) {
    let base = At::ROOT.f("webhooks");
    for (index, webhook) in list(new, "webhooks").iter().enumerate() {
        let at = base.i(index);
        webhook_name(s(webhook, "name"), &at.f("name"), errs);
        if let Some(seconds) = crate::registry::val::i(webhook, "timeoutSeconds")
            && (!(1..=30).contains(&seconds))
        {
            errs.invalid(
                &at.f("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            );
        }
        let config = get(webhook, "clientConfig").unwrap_or(&Value::Null);
        client_config(config, &at.f("clientConfig"), errs);
        let versions: Vec<&str> = strs(webhook, "admissionReviewVersions").collect();
        if !versions.is_empty() && !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
            let value = webhook.get("admissionReviewVersions").cloned().unwrap_or_default();
            errs.invalid(&at.f("admissionReviewVersions"), value, "must include at least one of v1, v1beta1");
        }
    }
}

fn webhook_name(name: &str, at: &At<'_>, errs: &mut Errs) {
    if name.is_empty() {
        return;
    }
    errs.invalid_each(at, name, names::is_dns1123_subdomain(name));
    if name.split('.').count() < 3 {
        errs.invalid(at, name, "should be a domain with at least three segments separated by dots");
    }
}

/// A URL or a service, not both.
pub fn client_config(config: &Value, at: &At<'_>, errs: &mut Errs) {
    match (get(config, "url").and_then(Value::as_str), set(config, "service")) {
        (Some(_), true) | (None, false) => errs.required(at, "exactly one of url or service is required"),
        (Some(url), false) => {
            let rest = url.strip_prefix("https://");
            match rest {
                None => errs.invalid(
                    &at.f("url"),
                    url,
                    "'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ),
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    errs.invalid(
                        &at.f("url"),
                        url,
                        "host must be specified; desired format: https://host[/path]",
                    );
                }
                Some(rest) if rest.contains(['@', '?', '#']) => {
                    errs.invalid(
                        &at.f("url"),
                        url,
                        "user information, fragments and query parameters are not permitted in the URL",
                    );
                }
                Some(_) => {}
            }
        }
        (None, true) => {}
    }
}

const MATCH: &[Row] = &[
    ("spec.failurePolicy", Rule::RequiredOneOf(&POLICIES)),
    ("spec.matchConstraints", Rule::Required),
    ("spec.matchConstraints.resourceRules", Rule::Required),
    ("spec.matchConstraints.matchPolicy", Rule::RequiredOneOf(&["Equivalent", "Exact"])),
    ("spec.matchConstraints.namespaceSelector", Rule::Selector),
    ("spec.matchConstraints.objectSelector", Rule::Selector),
    ("spec.matchConstraints.resourceRules[].operations", Rule::Required),
    ("spec.matchConstraints.resourceRules[].operations[]", Rule::OneOf(&OPERATIONS)),
    ("spec.matchConstraints.resourceRules[].apiGroups", Rule::Required),
    ("spec.matchConstraints.resourceRules[].apiVersions", Rule::Required),
    ("spec.matchConstraints.resourceRules[].resources", Rule::Required),
    ("spec.matchConditions", Rule::MaxItems(64)),
    ("spec.matchConditions", Rule::UniqueBy("name")),
    ("spec.matchConditions[].name", Rule::Required),
    ("spec.matchConditions[].expression", Rule::Required),
    ("spec.paramKind.apiVersion", Rule::Required),
    ("spec.paramKind.kind", Rule::Required),
    ("spec.variables[].name", Rule::Required),
    ("spec.variables[].expression", Rule::Required),
    ("spec.validations[].expression", Rule::Required),
    ("spec.validations[].reason", Rule::OneOf(&["Forbidden", "Invalid", "RequestEntityTooLarge"])),
    ("spec.auditAnnotations", Rule::UniqueBy("key")),
    ("spec.auditAnnotations[].valueExpression", Rule::Required),
    ("spec.auditAnnotations[].valueExpression", Rule::MaxLen(5120)),
];

/// Policies that may refuse.
pub const VALIDATING_POLICY: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    generation: Generation::Members(&["spec"]),
    rules: MATCH,
    validate: |new, _, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        if list(spec, "validations").is_empty() && list(spec, "auditAnnotations").is_empty() {
            for key in ["validations", "auditAnnotations"] {
                errs.required(
                    &At::ROOT.f("spec").f(key),
                    "validations or auditAnnotations must contain at least one item",
                );
            }
        }
    },
    status_rules: &[("status.conditions", Rule::Conditions)],
    ..Kind::of(GROUP, "validatingadmissionpolicies")
};

/// Policies that may change.
pub const MUTATING_POLICY: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Members(&["spec"]),
    rules: MATCH,
    validate: |new, _, errs| {
        let rows: &[Row] = &[
            ("spec.mutations", Rule::Required),
            ("spec.mutations[].patchType", Rule::RequiredOneOf(&["ApplyConfiguration", "JSONPatch"])),
            ("spec.reinvocationPolicy", Rule::RequiredOneOf(&["IfNeeded", "Never"])),
        ];
        rules::check(new, rows, errs);
    },
    ..Kind::of(GROUP, "mutatingadmissionpolicies")
};

const BINDING: &[Row] = &[
    ("spec.policyName", Rule::Required),
    ("spec.policyName", Rule::Form(names::is_dns1123_subdomain)),
    ("spec.paramRef.parameterNotFoundAction", Rule::RequiredOneOf(&["Allow", "Deny"])),
    ("spec.paramRef.selector", Rule::Selector),
    ("spec.matchResources.namespaceSelector", Rule::Selector),
    ("spec.matchResources.objectSelector", Rule::Selector),
];

/// Where refusing policies hold.
pub const VALIDATING_BINDING: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Members(&["spec"]),
    rules: BINDING,
    validate: |new, _, errs| {
        param_ref(new, errs);
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        let actions: Vec<&str> = strs(spec, "validationActions").collect();
        let path = At::ROOT.f("spec.validationActions");
        if actions.is_empty() {
            errs.required(&path, "at least one validation action is required");
        }
        for (index, action) in actions.iter().enumerate() {
            errs.one_of(&path.i(index), action, &["Audit", "Deny", "Warn"]);
            if actions.iter().take(index).any(|a| a == action) {
                errs.duplicate(&path.i(index), *action);
            }
        }
        if actions.contains(&"Deny") && actions.contains(&"Warn") {
            errs.invalid(&path, serde_json::json!(["Deny", "Warn"]), "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
        }
    },
    ..Kind::of(GROUP, "validatingadmissionpolicybindings")
};

/// Where changing policies hold.
pub const MUTATING_BINDING: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Members(&["spec"]),
    rules: BINDING,
    validate: |new, _, errs| param_ref(new, errs),
    ..Kind::of(GROUP, "mutatingadmissionpolicybindings")
};

fn param_ref(new: &Value, errs: &mut Errs) {
    let Some(reference) = at(new, &["spec", "paramRef"]) else { return };
    let path = At::ROOT.f("spec.paramRef");
    match (s(reference, "name").is_empty(), set(reference, "selector")) {
        (true, false) => errs.required(&path, "one of name or selector must be specified"),
        (false, true) => {
            for key in ["name", "selector"] {
                errs.forbidden(&path.f(key), "name and selector are mutually exclusive");
            }
        }
        _ => {}
    }
}
