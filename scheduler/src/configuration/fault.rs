//! Reads a document field by field; what is wrong is noted with its path, and reading goes on.

use serde::de::DeserializeOwned;
use serde_json::Value;

static NULL: Value = Value::Null;

/// One object of the document.
pub struct Reader<'a> {
    value: &'a Value,
    path: String,
    faults: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    /// The whole document.
    pub fn new(value: &'a Value, faults: &'a mut Vec<String>) -> Self {
        Self { value, path: String::new(), faults }
    }

    /// The path of a field of this object.
    pub fn path(&self, field: &str) -> String {
        match (self.path.is_empty(), field.is_empty()) {
            (true, _) => field.into(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{field}", self.path),
        }
    }

    /// Notes fields that are none of these.
    pub fn known(&mut self, fields: &[&str]) {
        let Some(object) = self.value.as_object() else {
            if !self.value.is_null() {
                self.note("", "must be an object");
            }
            return;
        };
        for key in object.keys().filter(|k| !fields.contains(&k.as_str())) {
            self.faults.push(format!("strict decoding error: unknown field {:?}", self.path(key)));
        }
    }

    /// A field's value, null without it.
    pub fn get(&self, field: &str) -> Value {
        self.raw(field).clone()
    }

    fn raw(&self, field: &str) -> &'a Value {
        self.value.get(field).unwrap_or(&NULL)
    }

    fn typed<T>(&mut self, field: &str, want: &str, get: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.raw(field);
        if value.is_null() {
            return None;
        }
        let got = get(value);
        if got.is_none() {
            self.invalid(field, value, want);
        }
        got
    }

    /// A text.
    pub fn text(&mut self, field: &str) -> Option<String> {
        self.typed(field, "must be a string", |v| v.as_str().map(String::from))
    }

    /// A whole number.
    pub fn int(&mut self, field: &str) -> Option<i64> {
        self.typed(field, "must be an integer", Value::as_i64)
    }

    /// True or false.
    pub fn bool(&mut self, field: &str) -> Option<bool> {
        self.typed(field, "must be true or false", Value::as_bool)
    }

    /// Texts.
    pub fn texts(&mut self, field: &str) -> Vec<String> {
        let all = |v: &Value| v.as_array()?.iter().map(|x| x.as_str().map(String::from)).collect();
        self.typed(field, "must be a list of strings", all).unwrap_or_default()
    }

    /// A value of one of the API's own types.
    pub fn object<T: DeserializeOwned>(&mut self, field: &str) -> Option<T> {
        let value = self.raw(field);
        if value.is_null() {
            return None;
        }
        match serde_json::from_value(value.clone()) {
            Ok(object) => Some(object),
            Err(error) => {
                self.note(field, &error.to_string());
                None
            }
        }
    }

    /// An object within.
    pub fn child(&mut self, field: &str) -> Option<Reader<'_>> {
        let path = self.path(field);
        let value = self.value.get(field).filter(|v| !v.is_null())?;
        Some(Reader { value, path, faults: self.faults })
    }

    /// How many items a list has.
    pub fn length(&mut self, field: &str) -> usize {
        self.typed(field, "must be a list", |v| v.as_array().map(Vec::len)).unwrap_or(0)
    }

    /// An item of a list.
    pub fn item(&mut self, field: &str, n: usize) -> Reader<'_> {
        let path = format!("{}[{n}]", self.path(field));
        let value = self.value.get(field).and_then(|v| v.get(n)).unwrap_or(&NULL);
        Reader { value, path, faults: self.faults }
    }

    /// Notes a value that breaks a rule.
    pub fn invalid(&mut self, field: &str, value: &Value, rule: &str) {
        self.note(field, &format!("Invalid value: {value}: {rule}"));
    }

    /// Notes a value that is none of those supported.
    pub fn unsupported(&mut self, field: &str, value: &Value, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.note(field, &format!("Unsupported value: {value}: supported values: {}", list.join(", ")));
    }

    /// Notes a value that was there before.
    pub fn duplicate(&mut self, field: &str, value: &str) {
        self.note(field, &format!("Duplicate value: {value:?}"));
    }

    /// Notes a value that is missing.
    pub fn required(&mut self, field: &str, rule: &str) {
        let rule = if rule.is_empty() { String::new() } else { format!(": {rule}") };
        self.note(field, &format!("Required value{rule}"));
    }

    /// Notes anything else.
    pub fn note(&mut self, field: &str, what: &str) {
        let path = self.path(field);
        self.faults.push(format!("{path}: {what}"));
    }
}
