//! Resource quotas.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{at, entries, get, list, s, strs};
use crate::registry::validate::resources::{is_huge_page, quantity, resource_quantity};
use machinery::names;
use serde_json::Value;

/// Resource quotas.
pub const KIND: Kind = Kind {
    status: true,
    validate,
    validate_update: |new, old, errs| {
        let sorted = |v: &Value| {
            let mut all: Vec<String> = get(v, "spec")
                .map(|spec| strs(spec, "scopes").map(str::to_owned).collect())
                .unwrap_or_default();
            all.sort();
            all
        };
        if sorted(new) != sorted(old) {
            let value = at(new, &["spec", "scopes"]).cloned().unwrap_or_default();
            errs.invalid(&At::ROOT.f("spec.scopes"), value, crate::registry::errs::IMMUTABLE);
        }
    },
    validate_status: |new, _, errs| {
        let status = get(new, "status").unwrap_or(&Value::Null);
        amounts(status, "hard", &At::ROOT.f("status"), errs);
        amounts(status, "used", &At::ROOT.f("status"), errs);
    },
    warnings: |new, old, out| {
        let hard = at(new, &["spec", "hard"]).unwrap_or(&Value::Null);
        for name in ["cpu", "memory", "storage", "ephemeral-storage"].into_iter().filter(|_| old.is_none()) {
            let of = |prefix: &str| hard.get(format!("{prefix}.{name}")).and_then(quantity);
            if let (Some(request), Some(limit)) = (of("requests"), of("limits"))
                && request > limit
            {
                out.push(format!("spec.hard[requests.{name}]: requests.{name} should be less than or equal to limits.{name}"));
            }
        }
    },
    ..Kind::core("resourcequotas")
};

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.storage",
    "pods",
    "resourcequotas",
    "services",
    "services.nodeports",
    "services.loadbalancers",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "limits.storage",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn amounts(of: &Value, which: &str, base: &At<'_>, errs: &mut Errs) {
    let base = base.f(which);
    for (name, value) in entries(of, which) {
        let at = base.k(name);
        errs.invalid_each(&at, name, names::is_qualified_name(name));
        let bare = name.strip_prefix("requests.").unwrap_or(name);
        if !name.contains('/') && !STANDARD.contains(&name) && !is_huge_page(bare) {
            errs.invalid(&at, name, "must be a standard resource for quota");
        }
        resource_quantity(name, value, &at, errs);
    }
}

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let base = At::ROOT.f("spec");
    amounts(spec, "hard", &base, errs);
    let scopes: Vec<&str> = strs(spec, "scopes").collect();
    let at = base.f("scopes");
    for scope in &scopes {
        self::scope(scope, spec, &at, errs);
    }
    for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&a) && scopes.contains(&b) {
            errs.invalid(&at, spec.get("scopes").cloned().unwrap_or_default(), "conflicting scopes");
        }
    }
    let selector = get(spec, "scopeSelector").unwrap_or(&Value::Null);
    let base = base.f("scopeSelector.matchExpressions");
    for (index, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        self::requirement(requirement, spec, &base.i(index), errs);
    }
}

fn scope(scope: &str, spec: &Value, at: &At<'_>, errs: &mut Errs) {
    if !SCOPES.contains(&scope) {
        return errs.invalid(at, scope, "unsupported scope");
    }
    for (name, _) in entries(spec, "hard") {
        let fits = match scope {
            "BestEffort" => name == "pods",
            "VolumeAttributesClass" => name == "persistentvolumeclaims" || name == "requests.storage",
            _ => {
                name == "pods"
                    || ["cpu", "memory"].iter().any(|r| name == *r || name.ends_with(&format!(".{r}")))
            }
        };
        if !fits && STANDARD.contains(&name) {
            errs.invalid(at, scope, format!("unsupported scope applied to resource {name}"));
        }
    }
}

fn requirement(requirement: &Value, spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let (name, operator) = (s(requirement, "scopeName"), s(requirement, "operator"));
    scope(name, spec, &at.f("scopeName"), errs);
    if !matches!(name, "PriorityClass" | "VolumeAttributesClass") && operator != "Exists" {
        errs.invalid(&at.f("operator"), operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
    }
    let values = list(requirement, "values");
    match operator {
        "In" | "NotIn" if values.is_empty() => errs.required(
            &at.f("values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errs.invalid(
                &at.f("values"),
                Value::Array(values.to_vec()),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errs.invalid(&at.f("operator"), other, "not a valid selector operator"),
    }
}
