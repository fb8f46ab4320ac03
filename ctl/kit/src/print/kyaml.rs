//! KYAML: YAML in the flow style, every string quoted, which reads the same everywhere.

use serde_json::Value;

/// A document, begun with `---`.
pub fn document(value: &Value) -> String {
    let mut out = String::from("---\n");
    node(value, 0, &mut out);
    out.push('\n');
    out
}

fn node(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(map) => {
            out.push_str("{\n");
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            for (key, value) in pairs {
                indent(depth + 1, out);
                out.push_str(&self::key(key));
                out.push_str(": ");
                node(value, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push('}');
        }
        Value::Array(items) => list(items, depth, out),
        Value::String(text) => super::json::string(text, out),
        other => out.push_str(&super::gotext::plain(other).replace("<nil>", "null")),
    }
}

/// Brackets of neighbouring collections share a line.
fn list(items: &[Value], depth: usize, out: &mut String) {
    let cuddled = items.iter().all(|item| matches!(item, Value::Object(map) if !map.is_empty()));
    if cuddled {
        out.push('[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push_str(", ");
            }
            node(item, depth, out);
        }
        out.push(']');
        return;
    }
    out.push_str("[\n");
    for item in items {
        indent(depth + 1, out);
        node(item, depth + 1, out);
        out.push_str(",\n");
    }
    indent(depth, out);
    out.push(']');
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Keys that can't be misread stay without quotes.
fn key(key: &str) -> String {
    let safe = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && super::yaml::reads_as_string(key);
    if safe {
        return key.into();
    }
    let mut out = String::new();
    super::json::string(key, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flow_style() {
        let value = json!({"kind": "Pod", "yes": 1, "l": ["a", 2], "o": [{"a": "b"}, {"c": []}], "e": {}});
        let text = "---\n{\n  e: {},\n  kind: \"Pod\",\n  l: [\n    \"a\",\n    2,\n  ],\n  o: [{\n    a: \"b\",\n  }, {\n    c: [],\n  }],\n  \"yes\": 1,\n}\n";
        assert_eq!(document(&value), text);
    }
}
