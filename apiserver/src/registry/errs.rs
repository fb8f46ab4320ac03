//! Collecting field errors. Paths are chains on the stack, written out only when there is an error to report, so a
//! valid object costs no allocation.

use machinery::field::{ErrorKind, FieldError};
use serde_json::Value;
use std::fmt;

/// Where in an object a check stands.
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    /// The object itself.
    pub const ROOT: At<'static> = At { parent: None, step: Step::Root };

    /// A member; dotted names name a chain of them.
    pub fn f<'b>(&'b self, name: &'b str) -> At<'b> {
        At { parent: Some(self), step: Step::Field(name) }
    }

    /// A list item.
    pub fn i<'b>(&'b self, index: usize) -> At<'b> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    /// A map entry.
    pub fn k<'b>(&'b self, key: &'b str) -> At<'b> {
        At { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self.parent {
            Some(parent) => {
                parent.fmt(out)?;
                matches!(parent.step, Step::Root)
            }
            None => true,
        };
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if first => out.write_str(name),
            Step::Field(name) => write!(out, ".{name}"),
            Step::Index(i) => write!(out, "[{i}]"),
            Step::Key(k) => write!(out, "[{k}]"),
        }
    }
}

/// The errors found so far.
#[derive(Default, Debug)]
pub struct Errs(pub Vec<FieldError>);

impl Errs {
    /// Records an error of any kind.
    pub fn push(&mut self, kind: ErrorKind, at: &At<'_>, value: Value, detail: impl Into<String>) {
        self.0.push(FieldError { kind, field: at.to_string(), value, detail: detail.into() });
    }

    /// A value that has to be there is not.
    pub fn required(&mut self, at: &At<'_>, detail: impl Into<String>) {
        self.push(ErrorKind::Required, at, Value::String(String::new()), detail);
    }

    /// A value breaks a rule.
    pub fn invalid(&mut self, at: &At<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(ErrorKind::Invalid, at, value.into(), detail);
    }

    /// A value is none of a closed set.
    pub fn not_supported(&mut self, at: &At<'_>, value: impl Into<Value>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|v| format!("{v:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        self.push(ErrorKind::NotSupported, at, value.into(), detail);
    }

    /// A value that has to be unique is there twice.
    pub fn duplicate(&mut self, at: &At<'_>, value: impl Into<Value>) {
        self.push(ErrorKind::Duplicate, at, value.into(), "");
    }

    /// A value is not allowed here.
    pub fn forbidden(&mut self, at: &At<'_>, detail: impl Into<String>) {
        self.push(ErrorKind::Forbidden, at, Value::String(String::new()), detail);
    }

    /// A value names something that is not there.
    pub fn not_found(&mut self, at: &At<'_>, value: impl Into<Value>) {
        self.push(ErrorKind::NotFound, at, value.into(), "");
    }

    /// A string or map holds more than `max` bytes.
    pub fn too_long(&mut self, at: &At<'_>, max: usize) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        self.push(
            ErrorKind::TooLong,
            at,
            Value::String(String::new()),
            format!("may not be more than {max} {unit}"),
        );
    }

    /// A list has `count` items where only `max` may be.
    pub fn too_many(&mut self, at: &At<'_>, count: usize, max: usize) {
        let unit = if max == 1 { "item" } else { "items" };
        self.push(ErrorKind::TooMany, at, Value::from(count), format!("must have at most {max} {unit}"));
    }

    /// One Invalid error for each message.
    pub fn invalid_each(&mut self, at: &At<'_>, value: &str, messages: Vec<String>) {
        for m in messages {
            self.invalid(at, value, m);
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    // ---- the checks every kind needs ----

    /// An integer, when given, is at least zero.
    pub fn non_negative(&mut self, at: &At<'_>, value: Option<i64>) {
        if let Some(n) = value.filter(|n| *n < 0) {
            self.invalid(at, n, "must be greater than or equal to 0");
        }
    }

    /// A string is one of a set; empty is an error too.
    pub fn one_of(&mut self, at: &At<'_>, value: &str, allowed: &[&str]) {
        if !allowed.contains(&value) {
            self.not_supported(at, value, allowed);
        }
    }

    /// A string is given and one of a set.
    pub fn required_one_of(&mut self, at: &At<'_>, value: &str, allowed: &[&str]) {
        if value.is_empty() {
            self.required(at, "");
        } else {
            self.one_of(at, value, allowed);
        }
    }

    /// The value is what it was.
    pub fn immutable(&mut self, at: &At<'_>, new: Option<&Value>, old: Option<&Value>) {
        if !super::val::same(new, old) {
            self.invalid(at, new.cloned().unwrap_or(Value::Null), IMMUTABLE);
        }
    }

    /// The integer lies between two bounds, both allowed.
    pub fn in_range(&mut self, at: &At<'_>, value: i64, low: i64, high: i64) {
        if value < low || value > high {
            self.invalid(at, value, format!("must be between {low} and {high}, inclusive"));
        }
    }
}

/// The wording of a change to a fixed field.
pub const IMMUTABLE: &str = "field is immutable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let spec = At::ROOT.f("spec");
        let containers = spec.f("containers");
        let first = containers.i(0);
        assert_eq!(first.f("image").to_string(), "spec.containers[0].image");
        let meta = At::ROOT.f("metadata.annotations");
        assert_eq!(meta.k("a/b").to_string(), "metadata.annotations[a/b]");
    }
}
