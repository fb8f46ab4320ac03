//! Definitions of custom resources: names and versions. What their schemas may hold is checked with the schemas.

use super::admission::client_config;
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{at, b, get, list, list_at, members, s, s_at, same, set, strs, sub};
use machinery::names;
use serde_json::{Value, json};

/// Definitions of custom resources.
pub const KIND: Kind = Kind {
    status: true,
    unconditional_update: false,
    generation: Generation::Members(&["spec"]),
    prepare_create: |new| {
        let stored = storage_version(new);
        members(new)
            .insert("status".into(), json!({"storedVersions": stored.into_iter().collect::<Vec<_>>()}));
    },
    prepare_update: |new, _| {
        let Some(stored) = storage_version(new) else { return };
        let status = sub(members(new), "status");
        let versions = status.entry("storedVersions").or_insert_with(|| json!([]));
        if let Some(list) = versions.as_array_mut().filter(|l| !l.iter().any(|v| v == stored.as_str())) {
            list.push(json!(stored));
        }
    },
    rules: &[
        ("spec.group", Rule::Required),
        ("spec.group", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.scope", Rule::RequiredOneOf(&["Cluster", "Namespaced"])),
        ("spec.names.plural", Rule::Required),
        ("spec.names.plural", Rule::Form(names::is_dns1035_label)),
        ("spec.names.singular", Rule::Form(names::is_dns1035_label)),
        ("spec.names.kind", Rule::Required),
        ("spec.names.shortNames[]", Rule::Form(names::is_dns1035_label)),
        ("spec.names.categories[]", Rule::Form(names::is_dns1035_label)),
        ("spec.versions", Rule::Required),
        ("spec.versions[].name", Rule::Required),
        ("spec.versions[].name", Rule::Form(names::is_dns1035_label)),
        ("spec.conversion.strategy", Rule::RequiredOneOf(&["None", "Webhook"])),
    ],
    validate,
    fixed: &["spec.group", "spec.names.plural"],
    validate_update: |new, old, errs| {
        let established = list_at(old, &["status", "conditions"])
            .iter()
            .any(|c| s(c, "type") == "Established" && s(c, "status") == "True");
        for path in [["spec", "scope"].as_slice(), &["spec", "names", "kind"]] {
            if established && !same(at(new, path), at(old, path)) {
                errs.invalid(&At::ROOT.f(&path.join(".")), s_at(new, path), crate::registry::errs::IMMUTABLE);
            }
        }
    },
    ..Kind::of("apiextensions.k8s.io", "customresourcedefinitions")
};

/// The version objects are stored in.
pub fn storage_version(definition: &Value) -> Option<String> {
    let stored = list_at(definition, &["spec", "versions"]).iter().find(|v| b(v, "storage"))?;
    Some(s(stored, "name").to_owned())
}

fn validate(new: &Value, old: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    let names_of = get(spec, "names").unwrap_or(&Value::Null);
    let name = format!("{}.{}", s(names_of, "plural"), s(spec, "group"));
    if name_of(new) != name {
        errs.invalid(
            &At::ROOT.f("metadata.name"),
            name_of(new),
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    if !s(spec, "group").is_empty() && !s(spec, "group").contains('.') {
        errs.invalid(&path.f("group"), s(spec, "group"), "should be a domain with at least one dot");
    }
    kinds(names_of, &path.f("names"), errs);
    versions(spec, &path.f("versions"), errs);
    approval(new, spec, old, errs);
    if b(spec, "preserveUnknownFields")
        && !old.is_some_and(|o| at(o, &["spec", "preserveUnknownFields"]) == Some(&json!(true)))
    {
        errs.invalid(&path.f("preserveUnknownFields"), true, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead");
    }
    conversion(get(spec, "conversion").unwrap_or(&Value::Null), &path.f("conversion"), errs);
}

fn kinds(of: &Value, path: &At<'_>, errs: &mut Errs) {
    for key in ["kind", "listKind"] {
        let text = s(of, key);
        if !text.is_empty() {
            let wrong = names::is_dns1035_label(&text.to_lowercase());
            errs.invalid_each(
                &path.f(key),
                text,
                wrong
                    .into_iter()
                    .map(|w| format!("may have mixed case, but should otherwise match: {w}"))
                    .collect(),
            );
        }
    }
    if !s(of, "kind").is_empty() && s(of, "kind") == s(of, "listKind") {
        errs.invalid(&path.f("listKind"), s(of, "listKind"), "kind and listKind may not be the same");
    }
}

fn versions(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let versions = list(spec, "versions");
    let stored = versions.iter().filter(|v| b(v, "storage")).count();
    if stored != 1 {
        errs.invalid(path, Value::Array(vec![]), "must have exactly one version marked as storage version");
    }
    for (index, version) in versions.iter().enumerate() {
        let at = path.i(index);
        if versions.iter().take(index).any(|v| s(v, "name") == s(version, "name")) {
            errs.invalid(path, s(version, "name"), "must contain unique version names");
        }
        if crate::registry::val::at(version, &["schema", "openAPIV3Schema"]).is_none() {
            errs.required(&at.f("schema.openAPIV3Schema"), "schemas are required");
        }
        if set(version, "deprecationWarning") && !b(version, "deprecated") {
            errs.invalid(
                &at.f("deprecationWarning"),
                s(version, "deprecationWarning"),
                "can only be set for deprecated versions",
            );
        }
    }
}

/// Groups of the project itself need its word.
fn approval(new: &Value, spec: &Value, old: Option<&Value>, errs: &mut Errs) {
    let group = s(spec, "group");
    let ours = ["k8s.io", "kubernetes.io"].iter().any(|d| group == *d || group.ends_with(&format!(".{d}")));
    if !ours || old.is_some() {
        return;
    }
    const KEY: &str = "api-approved.kubernetes.io";
    let path = At::ROOT.f("metadata.annotations");
    match at(new, &["metadata", "annotations", KEY]).and_then(Value::as_str).unwrap_or_default() {
        "" => errs.required(&path.k(KEY), "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"),
        text if text.starts_with("unapproved") || text.contains("://") => {}
        text => errs.invalid(&path.k(KEY), text, "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"),
    }
}

fn conversion(conversion: &Value, path: &At<'_>, errs: &mut Errs) {
    let webhook = get(conversion, "webhook");
    match (s(conversion, "strategy"), webhook) {
        ("None", Some(_)) => {
            errs.forbidden(&path.f("webhook"), "should not be set when strategy is not set to Webhook")
        }
        ("Webhook", webhook) => {
            match webhook.and_then(|w| get(w, "clientConfig")) {
                None => {
                    errs.required(&path.f("webhookClientConfig"), "required when strategy is set to Webhook")
                }
                Some(config) => client_config(config, &path.f("webhookClientConfig"), errs),
            }
            let versions: Vec<&str> =
                webhook.map(|w| strs(w, "conversionReviewVersions").collect()).unwrap_or_default();
            if versions.is_empty() {
                errs.required(&path.f("conversionReviewVersions"), "");
            } else if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
                errs.invalid(
                    &path.f("conversionReviewVersions"),
                    json!(versions),
                    "must include at least one of v1, v1beta1",
                );
            }
        }
        _ => {}
    }
}
