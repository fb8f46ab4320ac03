//! Horizontal pod autoscalers, in both versions.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::rules::{self, Row, Rule};
use crate::registry::val::{get, i, list, s, set};
use crate::registry::validate::resources::{container_resource_name, quantity};
use machinery::names;
use serde_json::Value;

/// Horizontal pod autoscalers.
pub const KIND: Kind = Kind {
    status: true,
    validate: |new, old, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        let old = old.and_then(|o| get(o, "spec"));
        let at = At::ROOT.f("spec");
        replicas(spec, old, &at, errs);
        scale_target(spec, old, &at.f("scaleTargetRef"), errs);
        // What is stored with a bad version stays changeable otherwise.
        let strict = !old.is_some_and(has_bad_version);
        for (index, metric) in list(spec, "metrics").iter().enumerate() {
            self::metric(metric, strict, &at.f("metrics").i(index), errs);
        }
        let reaches_zero = |m: &Value| matches!(s(m, "type"), "Object" | "External");
        if i(spec, "minReplicas") == Some(0) && !list(spec, "metrics").iter().any(reaches_zero) {
            errs.forbidden(
                &at.f("metrics"),
                "must specify at least one Object or External metric to support scaling to zero replicas",
            );
        }
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = get(spec, "behavior").and_then(|b| get(b, direction)) {
                scaling(rules, &at.f("behavior").f(direction), errs);
            }
        }
    },
    status_rules: &[
        ("status.currentReplicas", Rule::NonNegative),
        ("status.desiredReplicas", Rule::NonNegative),
    ],
    ..Kind::of("autoscaling", "horizontalpodautoscalers")
};

fn replicas(spec: &Value, old: Option<&Value>, at: &At<'_>, errs: &mut Errs) {
    let (min, max) = (i(spec, "minReplicas"), i(spec, "maxReplicas").unwrap_or(0));
    // Zero is for a gate that is off; what has it keeps it.
    let least = i64::from(old.and_then(|o| i(o, "minReplicas")) != Some(0));
    if let Some(n) = min.filter(|n| *n < least) {
        errs.invalid(&at.f("minReplicas"), n, format!("must be greater than or equal to {least}"));
    }
    if max == 0 {
        errs.required(&at.f("maxReplicas"), "must be set and greater than 0");
    } else if max < 0 {
        errs.invalid(&at.f("maxReplicas"), max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errs.invalid(&at.f("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
}

const REFERENCE: &[Row] = &[
    ("kind", Rule::Required),
    ("kind", Rule::Form(names::is_path_segment)),
    ("name", Rule::Required),
    ("name", Rule::Form(names::is_path_segment)),
];

/// The group of an `apiVersion`, which is empty for the core group.
fn group(version: &str) -> Result<&str, String> {
    match version.split('/').collect::<Vec<_>>()[..] {
        [_] => Ok(""),
        [group, _] => Ok(group),
        _ => Err(format!("unexpected GroupVersion string: {version}")),
    }
}

fn scale_target(spec: &Value, old: Option<&Value>, at: &At<'_>, errs: &mut Errs) {
    let target = get(spec, "scaleTargetRef").unwrap_or(&Value::Null);
    rules::check_at(target, REFERENCE, at, errs);
    let (kind, version) = (s(target, "kind"), s(target, "apiVersion"));
    let before = old.and_then(|o| get(o, "scaleTargetRef"));
    if before.is_some_and(|b| s(b, "kind") == kind && s(b, "apiVersion") == version) {
        return;
    }
    match group(version) {
        Err(why) => errs.invalid(&at.f("apiVersion"), version, why),
        // The one kind of the core group that scales.
        Ok("") if kind != "ReplicationController" => {
            errs.invalid(&at.f("apiVersion"), version, "apiVersion must specify API group")
        }
        Ok(_) => {}
    }
}

/// Whether an object that a metric describes has a version that cannot be read.
fn has_bad_version(spec: &Value) -> bool {
    let described = |m: &Value| {
        let object = get(m, "object").filter(|_| s(m, "type") == "Object")?;
        Some(group(s(get(object, "describedObject")?, "apiVersion")).is_err())
    };
    list(spec, "metrics").iter().any(|m| described(m) == Some(true))
}

fn scaling(rules: &Value, at: &At<'_>, errs: &mut Errs) {
    if let Some(n) = i(rules, "stabilizationWindowSeconds") {
        if n < 0 {
            errs.invalid(&at.f("stabilizationWindowSeconds"), n, "must be greater than or equal to zero");
        } else if n > 3600 {
            errs.invalid(&at.f("stabilizationWindowSeconds"), n, "must be less than or equal to 3600");
        }
    }
    if set(rules, "selectPolicy") {
        errs.one_of(&at.f("selectPolicy"), s(rules, "selectPolicy"), &["Disabled", "Max", "Min"]);
    }
    let policies = list(rules, "policies");
    if policies.is_empty() {
        errs.required(&at.f("policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let base = at.f("policies");
        let at = base.i(index);
        errs.one_of(&at.f("type"), s(policy, "type"), &["Percent", "Pods"]);
        for (key, most) in [("value", i64::MAX), ("periodSeconds", 1800)] {
            let n = i(policy, key).unwrap_or(0);
            if n <= 0 {
                errs.invalid(&at.f(key), n, "must be greater than zero");
            } else if n > most {
                errs.invalid(&at.f(key), n, format!("must be less than or equal to {most}"));
            }
        }
    }
    let tolerance = get(rules, "tolerance");
    if let Some(n) = tolerance.filter(|v| quantity(v).is_some_and(|q| q.sign() < 0)) {
        errs.invalid(&at.f("tolerance"), n.clone(), "must be greater than or equal to 0");
    }
}

const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric(metric: &Value, strict: bool, at: &At<'_>, errs: &mut Errs) {
    let kind = s(metric, "type");
    if kind.is_empty() {
        errs.required(&at.f("type"), "must specify a metric source type");
    }
    // Of several sources only the first is looked at, and all but the one meant are too many.
    let given: Vec<&str> = SOURCES.iter().map(|(_, m)| *m).filter(|m| set(metric, m)).collect();
    if let Some((member, source)) = given.first().and_then(|m| Some((*m, get(metric, m)?))) {
        self::source(member, source, strict, &at.f(member), errs);
    }
    let meant = SOURCES.iter().find(|(k, _)| *k == kind).map(|(_, m)| *m);
    match meant {
        Some(member) if !given.contains(&member) => {
            errs.required(&at.f(member), "must populate information for the given metric source")
        }
        Some(_) => {}
        None => {
            let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
            errs.not_supported(&at.f("type"), kind, &known);
        }
    }
    if given.len() != 1 {
        for other in given.into_iter().filter(|m| Some(*m) != meant) {
            errs.forbidden(&at.f(other), "must populate the given metric source only");
        }
    }
}

/// A name that is given, with what is said if not.
fn named(source: &Value, key: &str, missing: &str, at: &At<'_>, errs: &mut Errs) -> bool {
    let given = !s(source, key).is_empty();
    if !given {
        errs.required(&at.f(key), missing);
    }
    given
}

fn source(member: &str, source: &Value, strict: bool, at: &At<'_>, errs: &mut Errs) {
    match member {
        "resource" => drop(named(source, "name", "must specify a resource name", at, errs)),
        "containerResource" => {
            if named(source, "name", "must specify a resource name", at, errs) {
                container_resource_name(s(source, "name"), &at.f("name"), errs);
            }
            if named(source, "container", "must specify a container", at, errs) {
                let container = s(source, "container");
                errs.invalid_each(&at.f("container"), container, names::is_dns1123_label(container));
            }
        }
        _ => {
            if member == "object" {
                described(source, strict, &at.f("describedObject"), errs);
            }
            let (metric, at) = (get(source, "metric").unwrap_or(&Value::Null), at.f("metric"));
            if named(metric, "name", "must specify a metric name", &at, errs) {
                let name = s(metric, "name");
                errs.invalid_each(&at.f("name"), name, names::is_path_segment(name));
            }
        }
    }
    targets(member, source, at, errs);
}

fn described(source: &Value, strict: bool, at: &At<'_>, errs: &mut Errs) {
    let object = get(source, "describedObject").unwrap_or(&Value::Null);
    rules::check_at(object, REFERENCE, at, errs);
    let version = s(object, "apiVersion");
    if let Err(why) = group(version)
        && strict
    {
        errs.invalid(&at.f("apiVersion"), version, why);
    }
}

fn targets(member: &str, source: &Value, at: &At<'_>, errs: &mut Errs) {
    let target = get(source, "target").unwrap_or(&Value::Null);
    let at = at.f("target");
    self::target(target, &at, errs);
    let (value, average, utilization) =
        (set(target, "value"), set(target, "averageValue"), set(target, "averageUtilization"));
    match member {
        "object" if !value && !average => {
            errs.required(&at.f("averageValue"), "must set either a target value or averageValue")
        }
        "external" if !value && !average => errs
            .required(&at.f("averageValue"), "must set either a target value for metric or a per-pod target"),
        "external" if value && average => {
            errs.forbidden(&at.f("value"), "may not set both a target value for metric and a per-pod target")
        }
        "pods" if !average => {
            errs.required(&at.f("averageValue"), "must specify a positive target averageValue")
        }
        "resource" | "containerResource" if !average && !utilization => {
            errs.required(
                &at.f("averageUtilization"),
                "must set either a target raw value or a target utilization",
            );
        }
        "resource" | "containerResource" if average && utilization => {
            errs.forbidden(
                &at.f("averageValue"),
                "may not set both a target raw value and a target utilization",
            );
        }
        _ => {}
    }
}

fn target(target: &Value, at: &At<'_>, errs: &mut Errs) {
    let kind = s(target, "type");
    if kind.is_empty() {
        errs.required(&at.f("type"), "must specify a metric target type");
    }
    match kind {
        "Utilization" | "Value" | "AverageValue" => {}
        other => errs.invalid(&at.f("type"), other, "must be either Utilization, Value, or AverageValue"),
    }
    for key in ["value", "averageValue"] {
        if get(target, key).is_some_and(|v| quantity(v).is_none_or(|q| q.sign() <= 0)) {
            errs.invalid(&at.f(key), target[key].clone(), "must be positive");
        }
    }
    if let Some(n) = i(target, "averageUtilization").filter(|n| *n < 1) {
        errs.invalid(&at.f("averageUtilization"), n, "must be greater than 0");
    }
}
