//! Rules as rows, for kinds that need little more: which member, and what has to hold of it. A row says nothing of
//! members whose parent is not there.

use super::errs::{At, Errs};
use super::val::{is_zero, same};
use super::validate::{labels, net, scheduling};
use machinery::names;
use serde_json::Value;

/// What has to hold of a member.
#[derive(Clone, Copy)]
pub enum Rule {
    /// It is there, and not empty.
    Required,
    /// A number of at least zero.
    NonNegative,
    /// A number within bounds.
    Range(i64, i64),
    /// A number of at least this.
    AtLeast(i64),
    /// One of a set, when not empty.
    OneOf(&'static [&'static str]),
    /// One of a set, and there.
    RequiredOneOf(&'static [&'static str]),
    /// A string of a form, when not empty.
    Form(fn(&str) -> Vec<String>),
    /// A string of at most this many bytes.
    MaxLen(usize),
    /// A list of at most this many items.
    MaxItems(usize),
    /// A label selector.
    Selector,
    /// A map of labels.
    Labels,
    /// A node selector.
    NodeSelector,
    /// An address.
    Ip,
    /// A range of addresses.
    Cidr,
    /// A list of conditions.
    Conditions,
    /// A list (of objects) whose items differ in this member.
    UniqueBy(&'static str),
}

/// One rule: a path from the object on (`[]` for every item of a list) and what has to hold there.
pub type Row = (&'static str, Rule);

/// Checks an object against rows.
pub fn check(object: &Value, rows: &[Row], errs: &mut Errs) {
    for (path, rule) in rows {
        step(object, path, &At::ROOT, *rule, errs);
    }
}

/// Checks a part of an object that stands at a path.
pub fn check_at(part: &Value, rows: &[Row], at: &At<'_>, errs: &mut Errs) {
    for (path, rule) in rows {
        step(part, path, at, *rule, errs);
    }
}

fn step(v: &Value, path: &str, at: &At<'_>, rule: Rule, errs: &mut Errs) {
    let (head, rest) = match path.split_once('.') {
        Some((head, rest)) => (head, rest),
        None => (path, ""),
    };
    let (name, each) = match head.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (head, false),
    };
    let value = v.get(name).filter(|x| !x.is_null());
    let at = at.f(name);
    if each {
        for (index, item) in value.and_then(Value::as_array).into_iter().flatten().enumerate() {
            if rest.is_empty() {
                apply(Some(item), rule, &at.i(index), errs);
            } else {
                step(item, rest, &at.i(index), rule, errs);
            }
        }
    } else if rest.is_empty() {
        apply(value, rule, &at, errs);
    } else if let Some(value) = value {
        step(value, rest, &at, rule, errs);
    }
}

fn apply(value: Option<&Value>, rule: Rule, at: &At<'_>, errs: &mut Errs) {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    let number = value.and_then(Value::as_i64);
    match rule {
        Rule::Required if value.is_none_or(is_unsaid) => errs.required(at, ""),
        Rule::Required => {}
        Rule::NonNegative => errs.non_negative(at, number),
        Rule::Range(low, high) => number.into_iter().for_each(|n| errs.in_range(at, n, low, high)),
        Rule::AtLeast(low) => {
            if let Some(n) = number.filter(|n| *n < low) {
                errs.invalid(at, n, format!("must be greater than or equal to {low}"));
            }
        }
        Rule::OneOf(_) | Rule::Form(_) if text.is_empty() => {}
        Rule::OneOf(set) => errs.one_of(at, text, set),
        Rule::RequiredOneOf(set) => errs.required_one_of(at, text, set),
        Rule::Form(form) => errs.invalid_each(at, text, form(text)),
        Rule::MaxLen(max) if text.len() > max => errs.too_long(at, max),
        Rule::MaxLen(_) => {}
        Rule::MaxItems(max) => {
            let count = value.and_then(Value::as_array).map_or(0, Vec::len);
            if count > max {
                errs.too_many(at, count, max);
            }
        }
        _ => value.into_iter().for_each(|v| structured(v, rule, at, errs)),
    }
}

fn structured(value: &Value, rule: Rule, at: &At<'_>, errs: &mut Errs) {
    let text = value.as_str().unwrap_or_default();
    match rule {
        Rule::Selector => labels::selector(value, at, errs),
        Rule::Labels => {
            for (k, v) in value.as_object().into_iter().flatten() {
                labels::label(k, v.as_str().unwrap_or_default(), at, errs);
            }
        }
        Rule::NodeSelector => scheduling::node_selector(value, at, errs),
        Rule::Ip => {
            net::ip(text, &[], at, errs);
        }
        Rule::Cidr => {
            net::cidr(text, &[], at, errs);
        }
        Rule::Conditions => conditions(value, at, errs),
        Rule::UniqueBy(key) => unique(value, key, at, errs),
        _ => {}
    }
}

/// Required means a word, a thing or an item; numbers and booleans say something even when zero.
fn is_unsaid(value: &Value) -> bool {
    !matches!(value, Value::Number(_) | Value::Bool(_) | Value::Object(_)) && is_zero(value)
}

fn unique(value: &Value, key: &str, at: &At<'_>, errs: &mut Errs) {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    for (index, item) in items.iter().enumerate() {
        let same = |other: &Value| other.get(key) == item.get(key);
        if item.get(key).is_some() && items.iter().take(index).any(same) {
            errs.duplicate(&at.i(index).f(key), item.get(key).cloned().unwrap_or_default());
        }
    }
}

/// The conditions of a status in the common form.
fn conditions(value: &Value, at: &At<'_>, errs: &mut Errs) {
    unique(value, "type", at, errs);
    let rows: &[Row] = &[
        ("type", Rule::Required),
        ("type", Rule::Form(names::is_qualified_name)),
        ("status", Rule::RequiredOneOf(&["False", "True", "Unknown"])),
        ("observedGeneration", Rule::NonNegative),
        ("lastTransitionTime", Rule::Required),
        ("reason", Rule::Required),
        ("reason", Rule::MaxLen(1024)),
        ("message", Rule::MaxLen(32768)),
    ];
    for (index, condition) in value.as_array().into_iter().flatten().enumerate() {
        check_at(condition, rows, &at.i(index), errs);
    }
}

/// Members that may not change once the object is there.
pub fn fixed(new: &Value, old: &Value, paths: &[&str], errs: &mut Errs) {
    for path in paths {
        let find = |v: &Value| path.split('.').try_fold(v.clone(), |v, key| v.get(key).cloned());
        let (a, b) = (find(new), find(old));
        if !same(a.as_ref(), b.as_ref()) {
            errs.invalid(&At::ROOT.f(path), a.unwrap_or_default(), super::errs::IMMUTABLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_reach_into_lists() {
        let mut errs = Errs::default();
        let rows: &[Row] = &[
            ("spec.rules[].host", Rule::Required),
            ("spec.absent.name", Rule::Required),
            ("spec.n", Rule::NonNegative),
        ];
        check(&json!({"spec": {"n": -1, "rules": [{"host": "a"}, {}]}}), rows, &mut errs);
        let found: Vec<String> = errs.0.iter().map(ToString::to_string).collect();
        let want = [
            "spec.rules[1].host: Required value",
            "spec.n: Invalid value: -1: must be greater than or equal to 0",
        ];
        assert_eq!(found, want);
    }
}
