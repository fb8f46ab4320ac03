//! Field paths and field errors, spelled as upstream spells them.

use serde_json::Value;
use std::fmt::{self, Write};

/// Kind of a field error; decides the cause's reason and the start of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A value that must be there is missing.
    Required,
    /// A malformed value.
    Invalid,
    /// A value outside a closed set.
    NotSupported,
    /// A repeated value.
    Duplicate,
    /// A value that is not allowed here.
    Forbidden,
    /// A value that is too long.
    TooLong,
    /// Too many items.
    TooMany,
    /// A reference to something that does not exist.
    NotFound,
    /// A value of the wrong type.
    TypeInvalid,
    /// Something failed while checking.
    InternalError,
}

impl ErrorKind {
    /// Reason in `details.causes`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::InternalError => "InternalError",
        }
    }

    /// Start of the message.
    pub fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::InternalError => "Internal error",
        }
    }

    /// Kinds whose message repeats the offending value.
    fn shows_value(self) -> bool {
        matches!(
            self,
            Self::Invalid | Self::TypeInvalid | Self::NotSupported | Self::Duplicate | Self::NotFound
        )
    }
}

/// One violated rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Kind of the violation.
    pub kind: ErrorKind,
    /// Path of the field, such as `spec.containers[0].image`.
    pub field: String,
    /// The offending value; null where none is shown.
    pub value: Value,
    /// What is wrong.
    pub detail: String,
}

impl FieldError {
    /// A missing value.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, path, Value::Null, detail.into())
    }

    /// A malformed value.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, path, value.into(), detail.into())
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::TypeInvalid, path, value.into(), detail.into())
    }

    /// A value outside a closed set; the set is listed in the order given.
    pub fn not_supported<S: AsRef<str>>(path: &Path, value: impl Into<Value>, supported: &[S]) -> Self {
        let listed: Vec<String> = supported.iter().map(|s| format!("{:?}", s.as_ref())).collect();
        let detail = match listed.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", listed.join(", ")),
        };
        Self::new(ErrorKind::NotSupported, path, value.into(), detail)
    }

    /// A repeated value.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::Duplicate, path, value.into(), String::new())
    }

    /// A value that may not be set here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, path, Value::Null, detail.into())
    }

    /// A value longer than `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::new(ErrorKind::TooLong, path, Value::Null, format!("may not be more than {max} bytes"))
    }

    /// More items than allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} item{}", if max == 1 { "" } else { "s" });
        Self::new(ErrorKind::TooMany, path, Value::from(actual), detail)
    }

    /// A reference to nothing.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::NotFound, path, value.into(), String::new())
    }

    /// A failure while checking.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::InternalError, path, Value::Null, detail.into())
    }

    /// Any kind.
    pub fn new(kind: ErrorKind, path: &Path, value: Value, detail: String) -> Self {
        Self { kind, field: path.to_string(), value, detail }
    }

    /// The message without the field, as it stands in `details.causes[].message`.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_string();
        if self.kind == ErrorKind::TooMany && !self.value.is_null() {
            let _ = write!(out, ": {}", self.value);
        } else if self.kind.shows_value() {
            let _ = write!(out, ": {}", show(&self.value));
        }
        if !self.detail.is_empty() {
            let _ = write!(out, ": {}", self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A value inside a message: strings quoted, numbers and booleans plain, the rest as JSON.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        other => other.to_string(),
    }
}

/// Joins several errors as upstream does: one alone, several as `[a, b]`, repeated texts once.
pub fn join(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// A field path under construction. Cheap to extend: `path.child("spec").index(0).key("a/b")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts with this member.
    pub fn new(name: &str) -> Self {
        Self(name.to_string())
    }

    /// A member of the value; dotted names make several steps.
    pub fn child(&self, name: &str) -> Self {
        match self.0.is_empty() {
            true => Self(name.to_string()),
            false => Self(format!("{}.{name}", self.0)),
        }
    }

    /// An item of a list.
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// A value of a map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("<nil>"),
            false => f.write_str(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let path = Path::new("spec").child("replicas");
        let table = [
            (
                FieldError::invalid(&path, -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (FieldError::required(&path, ""), "spec.replicas: Required value"),
            (FieldError::required(&path, "name is needed"), "spec.replicas: Required value: name is needed"),
            (
                FieldError::not_supported(&path, "x", &["A", "B"]),
                "spec.replicas: Unsupported value: \"x\": supported values: \"A\", \"B\"",
            ),
            (
                FieldError::duplicate(&path.index(1).key("a"), "x"),
                "spec.replicas[1][a]: Duplicate value: \"x\"",
            ),
            (FieldError::forbidden(&path, "no"), "spec.replicas: Forbidden: no"),
            (FieldError::too_long(&path, 63), "spec.replicas: Too long: may not be more than 63 bytes"),
            (FieldError::too_many(&path, 5, 3), "spec.replicas: Too many: 5: must have at most 3 items"),
            (FieldError::not_found(&path, "v"), "spec.replicas: Not found: \"v\""),
        ];
        for (error, want) in &table {
            assert_eq!(error.to_string(), *want);
        }
        assert_eq!(
            join(&[table[1].0.clone(), table[5].0.clone()]),
            "[spec.replicas: Required value, spec.replicas: Forbidden: no]"
        );
    }
}
