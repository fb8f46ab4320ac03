//! Labels and label selectors.

use crate::registry::errs::{At, Errs};
use crate::registry::val::{entries, get, has, list, s, set, strs};
use machinery::names;
use serde_json::Value;

/// The label map under `key`.
pub fn labels(of: &Value, key: &str, at: &At<'_>, errs: &mut Errs) {
    for (name, value) in entries(of, key) {
        label(name, value.as_str().unwrap_or_default(), at, errs);
    }
}

/// One label.
pub fn label(name: &str, value: &str, at: &At<'_>, errs: &mut Errs) {
    label_name(name, at, errs);
    errs.invalid_each(at, value, names::is_label_value(value));
}

/// A label's key.
pub fn label_name(name: &str, at: &At<'_>, errs: &mut Errs) {
    errs.invalid_each(at, name, names::is_qualified_name(name));
}

/// A label selector, when there is one under `key`.
pub fn selector_in(of: &Value, key: &str, at: &At<'_>, errs: &mut Errs) {
    if let Some(selector) = get(of, key) {
        self::selector(selector, &at.f(key), errs);
    }
}

/// A label selector.
pub fn selector(selector: &Value, at: &At<'_>, errs: &mut Errs) {
    labels(selector, "matchLabels", &at.f("matchLabels"), errs);
    let at = at.f("matchExpressions");
    for (index, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        self::requirement(requirement, &at.i(index), errs);
    }
}

fn requirement(requirement: &Value, at: &At<'_>, errs: &mut Errs) {
    let values = list(requirement, "values");
    match s(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errs.required(&at.f("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errs.forbidden(
                &at.f("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Exists" | "DoesNotExist" => {}
        other => errs.invalid(&at.f("operator"), other, "not a valid selector operator"),
    }
    label_name(s(requirement, "key"), &at.f("key"), errs);
    for (index, value) in strs(requirement, "values").enumerate() {
        errs.invalid_each(&at.f("values").i(index), value, names::is_label_value(value));
    }
}

/// Whether a selector (not null) selects everything.
pub fn is_empty(selector: &Value) -> bool {
    !has(selector, "matchLabels") && !has(selector, "matchExpressions")
}

/// Whether a selector matches labels; a malformed one matches nothing.
pub fn matches(selector: &Value, of: &Value) -> bool {
    let value = |key: &str| of.get("labels").and_then(|l| l.get(key)).and_then(Value::as_str);
    let by_labels = entries(selector, "matchLabels").all(|(k, v)| value(k) == v.as_str());
    by_labels && list(selector, "matchExpressions").iter().all(|r| requirement_holds(r, value(s(r, "key"))))
}

fn requirement_holds(requirement: &Value, value: Option<&str>) -> bool {
    let listed = |v: &str| strs(requirement, "values").any(|x| x == v);
    match s(requirement, "operator") {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// A selector that has to be there, to be non-empty and to match the labels of the template beside it.
pub fn workload_selector(spec: &Value, at: &At<'_>, empty: &str, errs: &mut Errs) {
    match get(spec, "selector") {
        None => errs.required(&at.f("selector"), ""),
        Some(selector) => {
            self::selector(selector, &at.f("selector"), errs);
            if is_empty(selector) {
                errs.invalid(&at.f("selector"), selector.clone(), empty);
            }
        }
    }
}

/// The template's labels have to satisfy the selector.
pub fn template_matches(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let meta = crate::registry::val::at(spec, &["template", "metadata"]).unwrap_or(&Value::Null);
    let Some(selector) = get(spec, "selector").filter(|x| !is_empty(x)) else { return };
    if !matches(selector, meta) {
        let labels = meta.get("labels").cloned().unwrap_or_default();
        errs.invalid(
            &at.f("template.metadata.labels"),
            labels,
            "`selector` does not match template `labels`",
        );
    }
}

/// Whether a member is there at all (for callers that only care about presence).
pub fn present(of: &Value, key: &str) -> bool {
    set(of, key)
}
