//! Daemon sets.

use super::{pod_warnings, replica_set};
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::val::{at, get, i, members, s, same, sub};
use crate::registry::validate::labels;
use crate::registry::validate::template::{at_most_whole, int_or_percent, is_none_at_all, long_running};
use serde_json::{Value, json};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Daemon sets.
pub const KIND: Kind = Kind {
    status: true,
    generation: Generation::Members(&["spec"]),
    prepare_create: |new| set_template_generation(new, 1),
    prepare_update: |new, old| {
        let changed = !same(at(new, &["spec", "template"]), at(old, &["spec", "template"]));
        set_template_generation(new, template_generation(old) + i64::from(changed));
    },
    rules: &[("spec.minReadySeconds", Rule::NonNegative), ("spec.revisionHistoryLimit", Rule::NonNegative)],
    validate,
    fixed: &["spec.selector"],
    validate_status: |new, old, errs| {
        let status = get(new, "status").unwrap_or(&Value::Null);
        for key in COUNTS {
            errs.non_negative(&At::ROOT.f("status").f(key), i(status, key));
        }
        replica_set::collisions(new, old, errs);
    },
    warnings: |new, old, out| {
        if old.is_none_or(|old| template_generation(old) != template_generation(new)) {
            pod_warnings::template(new, None, out);
        }
    },
    ..Kind::of("apps", "daemonsets")
};

const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

fn template_generation(set: &Value) -> i64 {
    let text = at(set, &["metadata", "annotations", TEMPLATE_GENERATION]).and_then(Value::as_str);
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut Value, generation: i64) {
    let annotations = sub(sub(members(set), "metadata"), "annotations");
    annotations.insert(TEMPLATE_GENERATION.into(), json!(generation.to_string()));
}

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    let selector = get(spec, "selector").unwrap_or(&Value::Null);
    labels::selector(selector, &path.f("selector"), errs);
    let meta = at(spec, &["template", "metadata"]).unwrap_or(&Value::Null);
    if selector.is_null() || !labels::is_empty(selector) && !labels::matches(selector, meta) {
        let labels = meta.get("labels").cloned().unwrap_or_default();
        errs.invalid(
            &path.f("template.metadata.labels"),
            labels,
            "`selector` does not match template `labels`",
        );
    }
    if labels::is_empty(selector) {
        errs.invalid(&path.f("selector"), selector.clone(), "empty selector is invalid for daemonset");
    }
    long_running(spec, "DaemonSet", &[], &path, errs);
    strategy(get(spec, "updateStrategy").unwrap_or(&Value::Null), &path.f("updateStrategy"), errs);
}

fn strategy(strategy: &Value, at: &At<'_>, errs: &mut Errs) {
    match (s(strategy, "type"), get(strategy, "rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errs.required(&at.f("rollingUpdate"), ""),
        ("RollingUpdate", Some(rolling)) => self::rolling(rolling, &at.f("rollingUpdate"), errs),
        (other, _) => errs.not_supported(at, other, &["OnDelete", "RollingUpdate"]),
    }
}

fn rolling(rolling: &Value, at: &At<'_>, errs: &mut Errs) {
    for key in ["maxUnavailable", "maxSurge"] {
        if let Some(value) = get(rolling, key) {
            int_or_percent(value, &at.f(key), errs);
            at_most_whole(value, &at.f(key), errs);
        }
    }
    let (unavailable, surge) = (get(rolling, "maxUnavailable"), get(rolling, "maxSurge"));
    match (is_none_at_all(unavailable), is_none_at_all(surge)) {
        (true, true) => errs.required(&at.f("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
        (false, false) => {
            errs.invalid(
                &at.f("maxSurge"),
                surge.cloned().unwrap_or_default(),
                "may not be set when maxUnavailable is non-zero",
            );
        }
        _ => {}
    }
}
