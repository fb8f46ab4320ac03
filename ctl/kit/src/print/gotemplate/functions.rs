//! The functions a template may call.

use std::cmp::Ordering;

use base64::Engine;
use serde_json::Value;

use super::{Outcome, shown, truth};
use crate::print::gotext;

/// The functions there are.
pub const NAMES: &[&str] = &[
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "exists",
    "print",
    "println",
    "printf",
    "html",
    "js",
    "urlquery",
    "base64decode",
];

/// Calls a function by name.
pub fn call(name: &str, arguments: &[Value]) -> Outcome<Value> {
    let first = arguments.first();
    Ok(match name {
        "and" => {
            arguments.iter().find(|value| !truth(value)).or(arguments.last()).cloned().unwrap_or_default()
        }
        "or" => arguments.iter().find(|value| truth(value)).or(arguments.last()).cloned().unwrap_or_default(),
        "not" => Value::Bool(!first.is_some_and(truth)),
        "eq" => Value::Bool(arguments.iter().skip(1).any(|other| first == Some(other))),
        "ne" => Value::Bool(first != arguments.get(1)),
        "lt" => Value::Bool(order(arguments)? == Ordering::Less),
        "le" => Value::Bool(order(arguments)? != Ordering::Greater),
        "gt" => Value::Bool(order(arguments)? == Ordering::Greater),
        "ge" => Value::Bool(order(arguments)? != Ordering::Less),
        "len" => Value::from(length(first)?),
        "index" => index(arguments)?,
        "exists" => Value::Bool(index(arguments).is_ok_and(|value| !value.is_null())),
        "print" => Value::from(arguments.iter().map(shown).collect::<Vec<_>>().join(" ")),
        "println" => Value::from(arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::from(format(arguments)),
        "html" | "js" | "urlquery" => Value::from(first.map(shown).unwrap_or_default()),
        "base64decode" => Value::from(decode(first)?),
        other => return Err(format!("function {} not defined", gotext::quote(other))),
    })
}

fn order(arguments: &[Value]) -> Outcome<Ordering> {
    match arguments {
        [Value::Number(a), Value::Number(b)] => {
            Ok(a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal))
        }
        [Value::String(a), Value::String(b)] => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn length(value: Option<&Value>) -> Outcome<usize> {
    match value {
        Some(Value::Array(items)) => Ok(items.len()),
        Some(Value::Object(map)) => Ok(map.len()),
        Some(Value::String(text)) => Ok(text.len()),
        _ => Err("error calling len: len of untyped nil".into()),
    }
}

fn index(arguments: &[Value]) -> Outcome<Value> {
    let Some((first, keys)) = arguments.split_first() else { return Ok(Value::Null) };
    let mut current = first.clone();
    for key in keys {
        current = match (&current, key) {
            (Value::Object(map), Value::String(name)) => map.get(name).cloned().unwrap_or_default(),
            (Value::Array(items), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
                items.get(at).cloned().ok_or("error calling index: reflect: slice index out of range")?
            }
            _ => return Err("error calling index: index of untyped nil".into()),
        };
    }
    Ok(current)
}

/// `%s`, `%v`, `%d`, `%q`, `%t`, `%%`, with a width and a minus sign.
fn format(arguments: &[Value]) -> String {
    let template = arguments.first().and_then(Value::as_str).unwrap_or_default();
    let mut values = arguments.iter().skip(1);
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut width = String::new();
        while let Some(digit) = chars.next_if(|c| c.is_ascii_digit() || *c == '-') {
            width.push(digit);
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('q') => out.push_str(&gotext::quote(&values.next().map(shown).unwrap_or_default())),
            _ => pad(&values.next().map(shown).unwrap_or_default(), &width, &mut out),
        }
    }
    out
}

fn pad(text: &str, width: &str, out: &mut String) {
    let size: usize = width.trim_start_matches('-').parse().unwrap_or_default();
    match width.starts_with('-') {
        true => out.push_str(&format!("{text:<size$}")),
        false => out.push_str(&format!("{text:>size$}")),
    }
}

fn decode(value: Option<&Value>) -> Outcome<String> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|cause| format!("base64 decode failed: {cause}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
