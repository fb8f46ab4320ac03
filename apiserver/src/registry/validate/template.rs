//! Pod templates and the rules of the kinds that hold one.

use super::{labels, meta, pod};
use crate::registry::errs::{At, Errs};
use crate::registry::val::{get, list, s, set};
use serde_json::Value;

/// A pod template.
pub fn template(template: &Value, extra: &[(&str, &Value)], at: &At<'_>, errs: &mut Errs) {
    let (metadata, spec) =
        (get(template, "metadata").unwrap_or(&Value::Null), get(template, "spec").unwrap_or(&Value::Null));
    let meta_at = at.f("metadata");
    labels::labels(metadata, "labels", &meta_at.f("labels"), errs);
    meta::annotations(metadata, &meta_at.f("annotations"), errs);
    pod::annotations(metadata, spec, &meta_at.f("annotations"), errs);
    let at = at.f("spec");
    pod::spec(spec, "", true, extra, &at, errs);
    if !list(spec, "ephemeralContainers").is_empty() {
        errs.forbidden(&at.f("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// The template under `template`, for a kind whose pods run for good.
pub fn long_running(spec: &Value, kind: &str, extra: &[(&str, &Value)], at: &At<'_>, errs: &mut Errs) {
    let at = at.f("template");
    let Some(of) = get(spec, "template") else {
        return errs.required(&at, "");
    };
    template(of, extra, &at, errs);
    let pod = get(of, "spec").unwrap_or(&Value::Null);
    let at = at.f("spec");
    if s(pod, "restartPolicy") != "Always" {
        errs.not_supported(&at.f("restartPolicy"), s(pod, "restartPolicy"), &["Always"]);
    }
    if set(pod, "activeDeadlineSeconds") {
        errs.forbidden(
            &at.f("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// A whole number or a percentage.
pub fn int_or_percent(value: &Value, at: &At<'_>, errs: &mut Errs) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                errs.invalid(at, value.clone(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
            }
        }
        other => errs.non_negative(at, other.as_i64()),
    }
}

/// A percentage that may not exceed the whole.
pub fn at_most_whole(value: &Value, at: &At<'_>, errs: &mut Errs) {
    if percent(value).is_some_and(|p| p > 100) {
        errs.invalid(at, value.clone(), "must not be greater than 100%");
    }
}

/// The number before the percent sign.
pub fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// Whether a number or percentage is zero.
pub fn is_none_at_all(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(v) => v.as_i64().or(percent(v)).unwrap_or(1) == 0,
    }
}
