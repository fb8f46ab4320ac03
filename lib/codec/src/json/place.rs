//! The place in a document that is being read, and the errors that name it.

use machinery::schema::Type;
use serde::de;

use super::Options;

/// Most strict errors that are collected, upstream's limit.
const STRICT_LIMIT: usize = 100;

/// A step of the path to the value being read.
#[derive(Clone)]
pub enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

/// Where the reader is, and what it found so far.
#[derive(Default)]
pub struct Ctx {
    pub options: Options,
    pub path: Vec<Step>,
    /// The structs on the way, for type errors.
    pub structs: Vec<&'static Type>,
    pub strict: Vec<String>,
    pub error: Option<String>,
}

impl Ctx {
    pub fn strict_error(&mut self, what: &str, name: &str) {
        if self.strict.len() < STRICT_LIMIT {
            let path = self.strict_path(name);
            self.strict.push(format!("{what} field {path:?}"));
        }
    }

    /// `spec.containers[0].name`.
    fn strict_path(&self, last: &str) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => push_name(&mut out, name),
                Step::Key(name) => push_name(&mut out, name),
                Step::Index(at) => out.push_str(&format!("[{at}]")),
            }
        }
        push_name(&mut out, last);
        out
    }

    /// Go's error for a value that does not fit, with the innermost struct and the members on the way.
    pub fn type_error<E: de::Error>(&mut self, what: &str, go_type: &str) -> E {
        let names: Vec<&str> = self.path.iter().filter_map(Step::member).collect();
        let target = match (self.structs.last(), names.is_empty()) {
            (Some(ty), false) => format!("Go struct field {}.{}", ty.short_name(), names.join(".")),
            _ => "Go value".to_string(),
        };
        self.fail(format!("json: cannot unmarshal {what} into {target} of type {go_type}"))
    }

    pub fn fail<E: de::Error>(&mut self, text: String) -> E {
        self.error.get_or_insert(text);
        E::custom("wrong type")
    }
}

impl Step {
    fn member(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            _ => None,
        }
    }
}

fn push_name(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}
