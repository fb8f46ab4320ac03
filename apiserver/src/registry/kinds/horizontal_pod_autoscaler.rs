//! Horizontal pod autoscalers, in both versions.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::rules::{self, Row, Rule};
use crate::registry::val::{get, i, list, s, set};
use crate::registry::validate::resources::quantity;
use machinery::names;
use serde_json::Value;

/// Horizontal pod autoscalers.
pub const KIND: Kind = Kind {
    status: true,
    rules: &[
        ("spec.scaleTargetRef.kind", Rule::Required),
        ("spec.scaleTargetRef.kind", Rule::Form(names::is_path_segment)),
        ("spec.scaleTargetRef.name", Rule::Required),
        ("spec.scaleTargetRef.name", Rule::Form(names::is_path_segment)),
    ],
    validate: |new, _, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        let at = At::ROOT.f("spec");
        replicas(spec, &at, errs);
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = get(spec, "behavior").and_then(|b| get(b, direction)) {
                scaling(rules, &at.f("behavior").f(direction), errs);
            }
        }
        for (index, metric) in list(spec, "metrics").iter().enumerate() {
            self::metric(metric, &at.f("metrics").i(index), errs);
        }
    },
    status_rules: &[
        ("status.currentReplicas", Rule::NonNegative),
        ("status.desiredReplicas", Rule::NonNegative),
    ],
    ..Kind::of("autoscaling", "horizontalpodautoscalers")
};

fn replicas(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let (min, max) = (i(spec, "minReplicas"), i(spec, "maxReplicas").unwrap_or(0));
    if let Some(n) = min.filter(|n| *n < 1) {
        errs.invalid(&at.f("minReplicas"), n, "must be greater than or equal to 1");
    }
    if max < 1 {
        errs.invalid(&at.f("maxReplicas"), max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errs.invalid(&at.f("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
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
}

const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("External", "external"),
    ("ContainerResource", "containerResource"),
];

fn metric(metric: &Value, at: &At<'_>, errs: &mut Errs) {
    let kind = s(metric, "type");
    if kind.is_empty() {
        return errs.required(&at.f("type"), "must specify a metric source type");
    }
    let Some((_, member)) = SOURCES.iter().find(|(k, _)| *k == kind) else {
        return errs.not_supported(
            &at.f("type"),
            kind,
            &["ContainerResource", "External", "Object", "Pods", "Resource"],
        );
    };
    for (_, other) in SOURCES.iter().filter(|(_, m)| m != member && set(metric, m)) {
        errs.forbidden(&at.f(other), format!("must be omitted when `type` is {kind:?}"));
    }
    match get(metric, member) {
        None => errs.required(
            &at.f(member),
            format!("must populate the given metric source when `type` is {kind:?}"),
        ),
        Some(source) => self::source(member, source, &at.f(member), errs),
    }
}

fn source(member: &str, source: &Value, at: &At<'_>, errs: &mut Errs) {
    let named: &[Row] = match member {
        "object" => &[
            ("describedObject.kind", Rule::Required),
            ("describedObject.name", Rule::Required),
            ("metric.name", Rule::Required),
        ],
        "pods" | "external" => {
            &[("metric.name", Rule::Required), ("metric.name", Rule::Form(names::is_path_segment))]
        }
        "resource" => &[("name", Rule::Required)],
        _ => &[
            ("name", Rule::Required),
            ("container", Rule::Required),
            ("container", Rule::Form(names::is_dns1123_label)),
        ],
    };
    rules::check_at(source, named, at, errs);
    let target = get(source, "target").unwrap_or(&Value::Null);
    let at = at.f("target");
    self::target(target, &at, errs);
    let (value, average, utilization) =
        (set(target, "value"), set(target, "averageValue"), set(target, "averageUtilization"));
    match member {
        "object" | "external" if !value && !average => errs
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
    match s(target, "type") {
        "" => errs.required(&at.f("type"), "must specify a metric target type"),
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
