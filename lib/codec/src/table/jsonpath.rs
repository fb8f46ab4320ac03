//! The JSON paths of printer columns: members, indexes, wildcards, slices left out, and `[?(@.a=="b")]` filters.

use jiff::Timestamp;
use machinery::time;
use serde_json::Value;

/// A parsed path such as `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Index(i64),
    All,
    Filter { path: Vec<String>, operator: String, value: Value },
}

impl JsonPath {
    /// Reads a path; `None` when it is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(inner);
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, tail) = read_step(rest)?;
            steps.extend(step);
            rest = tail;
        }
        Some(Self { steps })
    }

    /// Everything the path leads to.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        self.steps
            .iter()
            .fold(vec![root], |found, step| found.into_iter().flat_map(|v| step.apply(v)).collect())
    }

    /// The cell of a printer column of a type.
    pub fn cell(&self, object: &Value, type_: &str, now: Timestamp) -> Value {
        let found = self.find(object);
        let Some(first) = found.first() else { return Value::Null };
        match type_ {
            "integer" => {
                first.as_i64().or_else(|| first.as_f64().map(|f| f as i64)).map_or(Value::Null, Value::from)
            }
            "number" => first.as_f64().map_or(Value::Null, Value::from),
            "boolean" => first.as_bool().map_or(Value::Null, Value::from),
            "date" => first.as_str().map_or(Value::Null, |at| time::age(Some(at), now).into()),
            _ => found.iter().map(|v| shown(v)).collect::<Vec<_>>().join(",").into(),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn read_step(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let end = closing(rest)?;
        return Some((Some(bracket(&rest[..end])?), &rest[end + 1..]));
    }
    let rest = text.strip_prefix('.').unwrap_or(text);
    if rest.is_empty() || rest.starts_with('[') {
        return Some((None, rest));
    }
    let (name, tail) = member_name(rest);
    let step = if name == "*" { Step::All } else { Step::Member(name) };
    Some((Some(step), tail))
}

/// A name up to the next `.` or `[`; a backslash takes the next character as it is.
fn member_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, next)| next)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Position of the `]` that closes the bracket; quotes and inner brackets are skipped.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquote(inner) {
        return Some(Step::Member(name));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return read_filter(filter.trim());
    }
    inner.parse().ok().map(Step::Index)
}

fn unquote(text: &str) -> Option<String> {
    let quoted = |q: char| text.strip_prefix(q).and_then(|t| t.strip_suffix(q)).map(str::to_string);
    quoted('\'').or_else(|| quoted('"'))
}

fn read_filter(text: &str) -> Option<Step> {
    let operators = ["==", "!=", ">=", "<=", ">", "<"];
    let found = operators.iter().find_map(|op| text.split_once(op).map(|(l, r)| (l, *op, r)));
    let (left, operator, right) = found.unwrap_or((text, "", ""));
    let path = left.trim().strip_prefix('@')?.trim_start_matches('.');
    let right = right.trim();
    let value = match unquote(right) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(right).unwrap_or(Value::Null),
    };
    let path = path.split('.').filter(|p| !p.is_empty()).map(str::to_string).collect();
    Some(Step::Filter { path, operator: operator.to_string(), value })
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Member(name), value) => value.get(name.as_str()).into_iter().collect(),
            (Self::Index(at), Value::Array(items)) => {
                let at = if *at < 0 { items.len() as i64 + at } else { *at };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Filter { path, operator, value: wanted }, Value::Array(items)) => {
                items.iter().filter(|item| holds(item, path, operator, wanted)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn holds(item: &Value, path: &[String], operator: &str, wanted: &Value) -> bool {
    let Some(actual) = path.iter().try_fold(item, |v, name| v.get(name)) else { return false };
    let numbers = actual.as_f64().zip(wanted.as_f64());
    match operator {
        "" => true,
        "==" => actual == wanted || numbers.is_some_and(|(a, b)| a == b),
        "!=" => actual != wanted,
        ">" => numbers.is_some_and(|(a, b)| a > b),
        "<" => numbers.is_some_and(|(a, b)| a < b),
        ">=" => numbers.is_some_and(|(a, b)| a >= b),
        _ => numbers.is_some_and(|(a, b)| a <= b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({"spec": {"a": 5, "list": [{"n": "x"}, {"n": "y"}], "odd.name": "z"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let table = [
            (".spec.a", "integer", json!(5)),
            (".spec.list[*].n", "string", json!("x,y")),
            (".spec.list[1].n", "string", json!("y")),
            (".spec.list[-1].n", "string", json!("y")),
            (r".status.conditions[?(@.type=='Ready')].status", "string", json!("True")),
            (r#".status.conditions[?(@.type=="Other")].status"#, "string", Value::Null),
            (r".spec.odd\.name", "string", json!("z")),
            (".spec['odd.name']", "string", json!("z")),
            (".spec.missing", "string", Value::Null),
            (".spec.a", "boolean", Value::Null),
        ];
        for (path, type_, want) in table {
            let cell = JsonPath::parse(path).expect(path).cell(&object, type_, Timestamp::now());
            assert_eq!(cell, want, "{path}");
        }
        assert_eq!(JsonPath::parse(".a[?(b)]"), None);
    }
}
