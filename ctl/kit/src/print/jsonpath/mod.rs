//! kubectl's dialect of JSONPath: templates of text and `{expressions}`, ranges, filters, slices, unions.

mod eval;
mod parse;
mod quoted;

use std::borrow::Cow;

use serde_json::Value;

use super::{gotext, json};
use crate::{Error, Result};
use parse::Node;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct JsonPath {
    /// The template as it was given, for messages.
    template: String,
    nodes: Vec<Node>,
    /// Fields that are not there are nothing instead of an error.
    pub allow_missing: bool,
}

impl JsonPath {
    /// Parses a template.
    pub fn parse(template: &str) -> Result<JsonPath> {
        let nodes = parse::template(template)
            .map_err(|cause| Error::message(format!("error parsing jsonpath {template}, {cause}")))?;
        Ok(JsonPath { template: template.into(), nodes, allow_missing: true })
    }

    /// Parses one path in a relaxed spelling: `x.y`, `.x.y`, `{x.y}` or `{.x.y}`.
    pub fn relaxed(path: &str) -> Result<JsonPath> {
        JsonPath::parse(&relax(path)?)
    }

    /// The results of each part of the template, in order.
    pub fn find<'a>(&'a self, data: &'a Value) -> Result<Vec<Vec<Cow<'a, Value>>>, String> {
        eval::run(&self.nodes, data, self.allow_missing)
    }

    /// All results in one list.
    pub fn values(&self, data: &Value) -> Result<Vec<Value>, String> {
        Ok(self.find(data)?.into_iter().flatten().map(Cow::into_owned).collect())
    }

    /// The template filled in: values separated by a space, collections as JSON.
    pub fn fill(&self, data: &Value) -> Result<String> {
        let parts = self.find(data).map_err(|cause| self.failed(&cause, data))?;
        Ok(parts
            .iter()
            .map(|values| values.iter().map(|value| shown(value)).collect::<Vec<_>>().join(" "))
            .collect())
    }

    /// Each part's values as an indented JSON list.
    pub fn fill_json(&self, data: &Value) -> Result<String> {
        let parts = self.find(data).map_err(|cause| self.failed(&cause, data))?;
        let list = |values: &Vec<Cow<'_, Value>>| {
            Value::Array(values.iter().map(|value| value.as_ref().clone()).collect())
        };
        Ok(parts.iter().map(|values| json::pretty(&list(values)) + "\n").collect())
    }

    fn failed(&self, cause: &str, data: &Value) -> Error {
        let template = &self.template;
        Error::message(format!(
            "error executing jsonpath {}: Error executing template: {cause}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{template}\n\tobject given to jsonpath engine was:\n\t\t{}\n\n\n",
            gotext::quote(template),
            gotext::syntax(data)
        ))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => json::compact(value),
        other => gotext::plain(other),
    }
}

/// The braces and the dot that a short spelling leaves out.
fn relax(path: &str) -> Result<String> {
    let bad = || {
        Error::message(
            "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'",
        )
    };
    if path.is_empty() {
        return Ok(String::new());
    }
    let inner = match path.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(bad)?,
        None => path,
    };
    let inner = inner.strip_prefix('.').unwrap_or(inner);
    if inner.is_empty() || inner.contains(['{', '}']) {
        return Err(bad());
    }
    Ok(format!("{{.{inner}}}"))
}

#[cfg(test)]
mod tests;
