//! YAML as kubectl writes it: keys in natural order, lists not indented, quotes only where a reader would
//! misunderstand, long lines folded after 80 columns.

mod keys;
mod resolve;
mod scalar;

use serde_json::{Map, Value};

pub use resolve::is_string as reads_as_string;

use super::json::go_number;
use scalar::Pen;

/// A document, ending with a newline.
pub fn document(value: &Value) -> String {
    let mut pen = Pen::default();
    node(&mut pen, value, 0, false);
    pen.end_line();
    pen.text
}

/// Writes a value. `indent` is the column of what the value belongs to; `inline` says that a list item's `- ` has
/// just been written, so a collection begins on the same line.
fn node(pen: &mut Pen, value: &Value, indent: usize, inline: bool) {
    match value {
        Value::Object(map) if map.is_empty() => pen.word("{}"),
        Value::Array(items) if items.is_empty() => pen.word("[]"),
        Value::Object(map) => mapping(pen, map, indent, inline),
        Value::Array(items) => sequence(pen, items, indent, inline),
        Value::String(text) => scalar::string(pen, text, indent + 2, false),
        Value::Number(number) => pen.word(&go_number(number)),
        Value::Bool(yes) => pen.word(if *yes { "true" } else { "false" }),
        Value::Null => pen.word("null"),
    }
}

fn mapping(pen: &mut Pen, map: &Map<String, Value>, indent: usize, inline: bool) {
    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
    pairs.sort_by(|(a, _), (b, _)| keys::order(a, b));
    for (at, (key, value)) in pairs.into_iter().enumerate() {
        if !(inline && at == 0) {
            pen.start_line(indent);
        }
        key_of(pen, key, indent);
        match value {
            Value::Object(map) if !map.is_empty() => mapping(pen, map, indent + 2, false),
            // A list in a mapping stands under its key, not indented.
            Value::Array(items) if !items.is_empty() => sequence(pen, items, indent, false),
            other => node(pen, other, indent, false),
        }
    }
}

fn key_of(pen: &mut Pen, key: &str, indent: usize) {
    if key.len() > 128 || key.contains('\n') {
        pen.raw("?");
        pen.whitespace = false;
        scalar::string(pen, key, indent + 2, key.contains('\n'));
        pen.start_line(indent);
    } else {
        scalar::string(pen, key, indent, true);
    }
    pen.raw(":");
}

fn sequence(pen: &mut Pen, items: &[Value], indent: usize, inline: bool) {
    for (at, item) in items.iter().enumerate() {
        if !(inline && at == 0) {
            pen.start_line(indent);
        }
        pen.raw("-");
        match item {
            Value::Object(map) if !map.is_empty() => {
                pen.raw(" ");
                mapping(pen, map, indent + 2, true);
            }
            Value::Array(items) if !items.is_empty() => {
                pen.raw(" ");
                sequence(pen, items, indent + 2, true);
            }
            other => node(pen, other, indent, false),
        }
    }
}

#[cfg(test)]
mod tests;
