//! JSON as Go writes it: keys in order, four spaces, `<`, `>` and `&` escaped, and Go's spelling of numbers.

use serde_json::{Number, Value};

/// Indented JSON without a newline at the end.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, Some(0), &mut out);
    out
}

/// Compact JSON without a newline at the end.
pub fn compact(value: &Value) -> String {
    let mut out = String::new();
    write(value, None, &mut out);
    out
}

fn write(value: &Value, indent: Option<usize>, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&json_number(number)),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            sequence('[', ']', items.len(), indent, out, |at, inner, out| write(&items[at], inner, out));
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            sequence('{', '}', keys.len(), indent, out, |at, inner, out| {
                string(keys[at], out);
                out.push_str(if inner.is_some() { ": " } else { ":" });
                write(&map[keys[at]], inner, out);
            });
        }
    }
}

fn sequence(
    open: char,
    close: char,
    count: usize,
    indent: Option<usize>,
    out: &mut String,
    mut item: impl FnMut(usize, Option<usize>, &mut String),
) {
    out.push(open);
    let inner = indent.map(|depth| depth + 1);
    for at in 0..count {
        if at > 0 {
            out.push(',');
        }
        newline(inner, out);
        item(at, inner, out);
    }
    if count > 0 {
        newline(indent, out);
    }
    out.push(close);
}

fn newline(indent: Option<usize>, out: &mut String) {
    if let Some(depth) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    }
}

/// A quoted string with Go's escapes.
pub fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A number in JSON: plain unless it is very small or very large.
fn json_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| !number.is_i64() && !number.is_u64()) else {
        return number.to_string();
    };
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        return exponent(float, 1);
    }
    format!("{float}")
}

/// A number as Go's `%v` and its YAML write it: whole numbers plain, others with an exponent from 1e6 on.
pub fn go_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| !number.is_i64() && !number.is_u64()) else {
        return number.to_string();
    };
    if float == 0.0 {
        return if float.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let text = format!("{float:e}");
    let power: i32 = text.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or_default();
    if (-4..6).contains(&power) { format!("{float}") } else { exponent(float, 2) }
}

/// `1e+21`, with at least so many digits of the exponent.
fn exponent(float: f64, digits: usize) -> String {
    let text = format!("{float:e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or_default();
    let sign = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:0digits$}", power.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_in_json_and_elsewhere() {
        let table = [
            ("12345678.25", "12345678.25", "1.234567825e+07"),
            ("1.5", "1.5", "1.5"),
            ("0.00001", "0.00001", "1e-05"),
            ("123456.5", "123456.5", "123456.5"),
            ("1e22", "1e+22", "1e+22"),
            ("1e-7", "1e-7", "1e-07"),
            ("12345678", "12345678", "12345678"),
        ];
        for (text, in_json, elsewhere) in table {
            let value: Value = serde_json::from_str(text).expect("a number");
            let Value::Number(number) = &value else { continue };
            assert_eq!((compact(&value).as_str(), go_number(number).as_str()), (in_json, elsewhere));
        }
    }

    #[test]
    fn indented_as_go_does() {
        let value = json!({"b": [], "a": {"z": "<&>\u{1}", "n": null}, "c": [1, 1.5], "e": {}});
        let text = "{\n    \"a\": {\n        \"n\": null,\n        \"z\": \"\\u003c\\u0026\\u003e\\u0001\"\n    },\n    \"b\": [],\n    \"c\": [\n        1,\n        1.5\n    ],\n    \"e\": {}\n}";
        assert_eq!(pretty(&value), text);
        assert_eq!(compact(&json!({"a": [1, "x"]})), r#"{"a":[1,"x"]}"#);
    }
}
