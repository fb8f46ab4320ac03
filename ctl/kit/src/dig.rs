//! Reading API objects held as JSON: missing fields read as Go's zero values, as a typed client would see them.

use jiff::{SignedDuration, Timestamp};
use machinery::quantity::Quantity;
use machinery::selector::LabelSelector;
use machinery::time::human_duration;
use serde_json::Value;

static NULL: Value = Value::Null;

/// The value at a path of field names joined by dots; null if any part is missing.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, field| value.get(field).unwrap_or(&NULL))
}

/// Whether there is something other than null.
pub fn has(value: &Value, path: &str) -> bool {
    !at(value, path).is_null()
}

/// A string; empty when missing.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// A number; zero when missing.
pub fn int(value: &Value, path: &str) -> i64 {
    at(value, path).as_i64().unwrap_or_default()
}

/// A boolean; false when missing.
pub fn flag(value: &Value, path: &str) -> bool {
    at(value, path).as_bool().unwrap_or_default()
}

/// A list; empty when missing.
pub fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A list of strings.
pub fn texts<'a>(value: &'a Value, path: &str) -> Vec<&'a str> {
    items(value, path).iter().filter_map(Value::as_str).collect()
}

/// The entries of a map, in the order of their keys.
pub fn entries<'a>(value: &'a Value, path: &str) -> Vec<(&'a str, &'a Value)> {
    let mut entries: Vec<_> =
        at(value, path).as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// The entries of a map of strings, in the order of their keys.
pub fn strings<'a>(value: &'a Value, path: &str) -> Vec<(&'a str, &'a str)> {
    entries(value, path).into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default())).collect()
}

/// A number or a string of digits and names, as printed.
pub fn int_or_string(value: &Value) -> String {
    match value {
        Value::Null => "0".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A list as Go prints it: `[a b c]`.
pub fn go_list(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

/// A map of strings as Go prints it: `map[a:b c:d]`.
pub fn go_map(map: &[(&str, &str)]) -> String {
    let parts: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", parts.join(" "))
}

/// A quantity in its canonical form; "0" when missing.
pub fn quantity(value: &Value) -> Quantity {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "0".into(),
    };
    Quantity::parse(&text).unwrap_or_else(|_| Quantity::zero(machinery::quantity::Format::DecimalSi))
}

/// Labels as one line: `a=b,c=d`, `<none>` when there are none.
pub fn one_line(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return "<none>".into();
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// A label selector as kubectl writes one out; nothing at all when it selects nothing or everything.
pub fn selector(value: &Value) -> Result<String, String> {
    // Read once by the rules of the API, for its errors.
    LabelSelector::from_json(value)?;
    let mut parts: Vec<_> =
        strings(value, "matchLabels").iter().map(|(k, v)| (*k, format!("{k}={v}"))).collect();
    for wanted in items(value, "matchExpressions") {
        let key = text(wanted, "key");
        let mut values = texts(wanted, "values");
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match text(wanted, "operator") {
            "In" => (key, format!("{key} in ({values})")),
            "NotIn" => (key, format!("{key} notin ({values})")),
            "Exists" => (key, key.to_string()),
            _ => (key, format!("!{key}")),
        });
    }
    parts.sort_by_key(|(key, _)| *key);
    Ok(parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(","))
}

/// A label selector where "no selector" has a name of its own.
pub fn selector_or_none(value: &Value) -> String {
    match selector(value) {
        Ok(text) if text.is_empty() => "<none>".into(),
        Ok(text) => text,
        Err(_) => "<error>".into(),
    }
}

/// A moment of an object.
pub fn moment(value: &Value, path: &str) -> Option<Timestamp> {
    machinery::time::parse(text(value, path))
}

/// How long ago a moment was, in the short form of tables.
pub fn since(value: &Value, path: &str, now: Timestamp) -> String {
    match moment(value, path) {
        Some(at) => human_duration(now.duration_since(at)),
        None => "<unknown>".into(),
    }
}

/// The time between two moments.
pub fn between(from: Timestamp, to: Timestamp) -> SignedDuration {
    to.duration_since(from)
}

/// `True` or `False`.
pub fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// `True`, `False` or `<unset>`.
pub fn truth_or_unset(value: &Value) -> &'static str {
    value.as_bool().map_or("<unset>", truth)
}

/// The text, or `<none>` in place of an empty one.
pub fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// The controlling owner of an object, if it has one.
pub fn controller(object: &Value) -> Option<&Value> {
    items(object, "metadata.ownerReferences").iter().find(|owner| flag(owner, "controller"))
}
