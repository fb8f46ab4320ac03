//! API services, and the versions servers store in.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{at, b, get, members, s, set};
use crate::registry::validate::meta::NameRule;
use machinery::names;
use machinery::time::now_rfc3339;
use serde_json::{Value, json};

/// Group versions, served here or elsewhere.
pub const KIND: Kind = Kind {
    name: NameRule::Path,
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    prepare_create: |new| {
        if at(new, &["spec", "service"]).is_none() {
            let local = json!({"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": now_rfc3339()});
            members(new).insert("status".into(), json!({"conditions": [local]}));
        }
    },
    rules: &[
        ("spec.group", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.version", Rule::Required),
        ("spec.version", Rule::Form(names::is_dns1035_label)),
        ("spec.service.namespace", Rule::Required),
        ("spec.service.name", Rule::Required),
        ("spec.service.port", Rule::Range(1, 65535)),
    ],
    validate,
    status_rules: &[("status.conditions[].status", Rule::RequiredOneOf(&["False", "True", "Unknown"]))],
    ..Kind::of("apiregistration.k8s.io", "apiservices")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    let (group, version) = (s(spec, "group"), s(spec, "version"));
    let name = format!("{version}.{group}");
    if name_of(new) != name {
        errs.invalid(
            &At::ROOT.f("metadata.name"),
            name_of(new),
            format!("must be `spec.version+\".\"+spec.group`: {name:?}"),
        );
    }
    if group.is_empty() && version != "v1" {
        errs.required(&path.f("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let n = crate::registry::val::i(spec, key).unwrap_or(0);
        if n <= 0 || n > most {
            errs.invalid(&path.f(key), n, format!("must be positive and less than {most}"));
        }
    }
    let (local, insecure) = (!set(spec, "service"), b(spec, "insecureSkipTLSVerify"));
    if local && !s(spec, "caBundle").is_empty() {
        errs.invalid(&path.f("caBundle"), "<bundle>", "local APIServices may not have a caBundle");
    }
    if local && insecure {
        errs.invalid(
            &path.f("insecureSkipTLSVerify"),
            true,
            "local APIServices may not have insecureSkipTLSVerify",
        );
    }
    if insecure && !s(spec, "caBundle").is_empty() {
        errs.invalid(&path.f("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
}

/// What each server stores each resource in.
pub const STORAGE_VERSION: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    ..Kind::of("internal.apiserver.k8s.io", "storageversions")
};
