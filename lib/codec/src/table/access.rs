//! Reading objects for printing.

use jiff::Timestamp;
use machinery::selector::LabelSelector;
use machinery::{meta, time};
use serde_json::{Map, Value};

/// What kubectl shows for "not set".
pub const NONE: &str = "<none>";
/// What is shown for values that are not known (yet).
pub const UNKNOWN: &str = "<unknown>";
/// What is shown for unset references and optional numbers.
pub const UNSET: &str = "<unset>";

/// An object and the time it is looked at.
pub struct Cells<'a> {
    pub object: &'a Value,
    pub now: Timestamp,
}

impl<'a> Cells<'a> {
    pub fn new(object: &'a Value, now: Timestamp) -> Self {
        Self { object, now }
    }

    /// The value at a dotted path.
    pub fn get(&self, path: &str) -> Option<&'a Value> {
        meta::at_path(self.object, path).filter(|v| !v.is_null())
    }

    /// Text at a path, empty when unset.
    pub fn text(&self, path: &str) -> &'a str {
        self.get(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// Text at a path, or something else when unset.
    pub fn text_or(&self, path: &str, unset: &'a str) -> &'a str {
        match self.text(path) {
            "" => unset,
            text => text,
        }
    }

    /// Integer at a path, 0 when unset.
    pub fn int(&self, path: &str) -> i64 {
        self.get(path).and_then(Value::as_i64).unwrap_or_default()
    }

    /// Boolean at a path, false when unset.
    pub fn bool(&self, path: &str) -> bool {
        self.get(path).and_then(Value::as_bool).unwrap_or_default()
    }

    /// List at a path, empty when unset.
    pub fn list(&self, path: &str) -> &'a [Value] {
        self.get(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// Map at a path.
    pub fn map(&self, path: &str) -> Option<&'a Map<String, Value>> {
        self.get(path).and_then(Value::as_object)
    }

    /// Number of entries of a map or list.
    pub fn count(&self, path: &str) -> usize {
        match self.get(path) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(map)) => map.len(),
            _ => 0,
        }
    }

    pub fn name(&self) -> Value {
        meta::name(self.object).into()
    }

    /// Age since creation.
    pub fn age(&self) -> Value {
        self.since("metadata.creationTimestamp").into()
    }

    /// Time since a timestamp of the object, `<unknown>` when unset.
    pub fn since(&self, path: &str) -> String {
        time::age(self.get(path).and_then(Value::as_str), self.now)
    }

    /// Container names and images of a pod template's spec.
    pub fn containers(&self, path: &str) -> [Value; 2] {
        let list = self.list(path);
        [join(list, "name").into(), join(list, "image").into()]
    }

    /// A label selector object as text, `<none>` when it selects everything or nothing.
    pub fn selector(&self, path: &str) -> Value {
        let Some(value) = self.get(path) else { return NONE.into() };
        let text = LabelSelector::from_json(value).map(|s| s.to_string()).unwrap_or_default();
        or_none(text).into()
    }

    /// A plain map of labels as text.
    pub fn labels(&self, path: &str) -> Value {
        or_none(labels_text(self.map(path))).into()
    }
}

/// Texts of one member of all items, joined by commas.
pub fn join(items: &[Value], member: &str) -> String {
    let texts: Vec<&str> = items.iter().map(|i| text(i, member)).collect();
    texts.join(",")
}

/// A string member, empty when unset.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// `<none>` for the empty text.
pub fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_string() } else { text }
}

/// `a=b,c=d`.
pub fn labels_text(map: Option<&Map<String, Value>>) -> String {
    let pairs = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

/// Number or string as text.
pub fn scalar(value: Option<&Value>, unset: &str) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(b)) => b.to_string(),
        _ => unset.to_string(),
    }
}

/// The condition of this type.
pub fn condition<'a>(conditions: &'a [Value], type_: &str) -> Option<&'a Value> {
    conditions.iter().find(|c| text(c, "type") == type_)
}

/// True when the condition of this type has status True.
pub fn is_true(conditions: &[Value], type_: &str) -> bool {
    condition(conditions, type_).is_some_and(|c| text(c, "status") == "True")
}
