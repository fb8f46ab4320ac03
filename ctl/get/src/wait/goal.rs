//! What is waited for.

use coxctl_kit::print::gotext;
use coxctl_kit::print::jsonpath::JsonPath;
use coxctl_kit::{Error, Result};
use serde_json::Value;

/// A state an object may reach.
#[derive(Clone, Debug)]
pub enum Goal {
    Created,
    Deleted,
    /// A condition of the status has this value; both compare without case.
    Condition {
        name: String,
        value: String,
    },
    /// A path leads to a value: this one, or any.
    Path {
        path: JsonPath,
        value: Option<String>,
    },
}

impl Goal {
    /// Parses `--for`.
    pub fn parse(text: &str) -> Result<Goal> {
        let lower = text.to_lowercase();
        if lower == "create" {
            return Ok(Goal::Created);
        }
        if lower == "delete" {
            return Ok(Goal::Deleted);
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Goal::Condition { name: name.into(), value: value.into() });
        }
        match text.strip_prefix("jsonpath=") {
            Some(rest) => path(rest),
            None => Err(Error::message(format!("unrecognized condition: {}", gotext::quote(text)))),
        }
    }

    /// Whether an object that is there is as wanted.
    pub fn met(&self, object: &Value) -> Result<bool> {
        match self {
            Goal::Created => Ok(true),
            Goal::Deleted => Ok(false),
            Goal::Condition { name, value } => Ok(condition(object, name, value)),
            Goal::Path { path, value } => leads_to(path, value.as_deref(), object),
        }
    }
}

/// The expression ends where its braces do; what follows `=` there is the value.
fn path(text: &str) -> Result<Goal> {
    let form = || {
        Error::message(
            "jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'",
        )
    };
    if text.is_empty() {
        return Err(form());
    }
    let (expression, value) = match text.rfind('}') {
        Some(end) if text.starts_with('{') => {
            let (expression, rest) = text.split_at(end + 1);
            (expression, if rest.is_empty() { None } else { Some(rest.strip_prefix('=').ok_or_else(form)?) })
        }
        _ => match text.split_once('=') {
            Some((expression, value)) => (expression, Some(value)),
            None => (text, None),
        },
    };
    if value == Some("") {
        return Err(Error::message(
            "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
        ));
    }
    let value = value.map(|value| value.trim_matches(|c| c == '\'' || c == '"').to_string());
    Ok(Goal::Path { path: JsonPath::relaxed(expression)?, value })
}

/// Conditions that speak of an older generation don't count.
fn condition(object: &Value, name: &str, value: &str) -> bool {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| same(&condition["type"], name)).any(|condition| {
        let seen =
            condition["observedGeneration"].as_i64().or(object["status"]["observedGeneration"].as_i64());
        seen.is_none_or(|seen| seen >= generation) && same(&condition["status"], value)
    })
}

fn same(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(text))
}

fn leads_to(path: &JsonPath, wanted: Option<&str>, object: &Value) -> Result<bool> {
    let parts = path.find(object).map_err(Error::message)?;
    let Some(found) = parts.first().filter(|found| !found.is_empty()) else { return Ok(false) };
    let Some(wanted) = wanted else { return Ok(true) };
    if parts.len() > 1 {
        return Err(Error::message("given jsonpath expression matches more than one list"));
    }
    if found.len() > 1 {
        return Err(Error::message("given jsonpath expression matches more than one value"));
    }
    if found[0].is_array() || found[0].is_object() {
        return Err(Error::message("jsonpath leads to a nested object or list which is not supported"));
    }
    Ok(gotext::plain(&found[0]).trim() == wanted.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goals_and_objects() {
        let object = json!({"metadata": {"generation": 2}, "status": {"n": 3, "phase": "Running", "observedGeneration": 2, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
        let table = [
            ("condition=ready", true),
            ("condition=Ready=false", false),
            ("condition=Ready=True", true),
            ("condition=Old", false),
            ("condition=None", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='x'", false),
            ("jsonpath={.status.n}=3", true),
            ("jsonpath={.status.n}=4", false),
            ("jsonpath={.status.n}", true),
            ("jsonpath=.status.phase=Running", true),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("create", true),
            ("delete", false),
        ];
        for (text, met) in table {
            assert_eq!(Goal::parse(text).and_then(|goal| goal.met(&object)).expect(text), met, "{text}");
        }
        for bad in ["", "foo", "jsonpath=", "jsonpath={.a}=", "jsonpath={.a}b"] {
            assert!(Goal::parse(bad).is_err(), "{bad}");
        }
        assert!(Goal::parse("jsonpath={.status.conditions}=x").and_then(|goal| goal.met(&object)).is_err());
    }
}
