//! Kinds without a describer of their own: all their fields, under titles made of the field names.

use super::page::Page;
use super::subject::Subject;
use crate::put;
use serde_json::{Map, Value};

/// Fields said elsewhere on the page, or of no use there.
const SKIPPED: [&str; 5] = [
    ".metadata.managedFields",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.labels",
    ".metadata.annotations",
];
/// Words that are written in capitals.
const ACRONYMS: [&str; 4] = ["API", "URL", "UID", "GUID"];

/// Writes an object of any kind.
pub fn page(subject: &Subject, page: &mut Page) {
    page.name(&subject.object);
    page.namespace(&subject.object);
    page.labels_and_annotations(&subject.object);
    if let Some(object) = subject.object.as_object() {
        fields(object, "", 0, page);
    }
    subject.events(page);
}

fn fields(object: &Map<String, Value>, path: &str, level: usize, page: &mut Page) {
    let mut names: Vec<_> = object.keys().collect();
    names.sort_unstable();
    for name in names {
        let path = format!("{path}.{name}");
        if !SKIPPED.contains(&path.as_str()) {
            field(name, &object[name], &path, level, page);
        }
    }
}

fn field(name: &str, value: &Value, path: &str, level: usize, page: &mut Page) {
    let title = title(name);
    match value {
        Value::Object(inner) => {
            put!(page, level, "{title}:\n");
            fields(inner, path, level + 1, page);
        }
        Value::Array(list) => {
            put!(page, level, "{title}:\n");
            list.iter().for_each(|item| element(item, path, level + 1, page));
        }
        other => page.field(level, &title, plain(other)),
    }
}

fn element(item: &Value, path: &str, level: usize, page: &mut Page) {
    match item {
        Value::Object(inner) => fields(inner, path, level, page),
        other => put!(page, level, "{}\n", plain(other)),
    }
}

/// A value as Go's `%v` prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut parts: Vec<_> =
                map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            parts.sort_unstable();
            format!("map[{}]", parts.join(" "))
        }
        Value::Number(number) => {
            number.as_i64().map_or_else(|| float(number.as_f64().unwrap_or(0.0)), |n| n.to_string())
        }
        other => other.to_string(),
    }
}

/// A float in the shortest form, with an exponent where it is very small or from 1e21 on.
fn float(number: f64) -> String {
    let exponent = if number == 0.0 { 0 } else { number.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `podCIDRs` → `Pod CIDRs`; names with anything but letters and dashes stay as they are.
pub fn title(name: &str) -> String {
    if name.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return name.into();
    }
    merged(words(name)).iter().map(|word| capital(word)).collect::<Vec<_>>().join(" ")
}

fn capital(word: &str) -> String {
    if ACRONYMS.contains(&word.to_uppercase().as_str()) {
        return word.to_uppercase();
    }
    let mut rest = word.chars();
    match rest.next() {
        Some(first) if word.to_lowercase() == word => first.to_uppercase().chain(rest).collect(),
        _ => word.into(),
    }
}

/// An acronym and the capitalised word behind it belong together: `CID`, `Rs` → `CIDRs`.
fn merged(words: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(mut word) = words.next() {
        let capitals =
            word.chars().count() >= 2 && !word.chars().any(|c| c.is_alphabetic() && !c.is_uppercase());
        let next = |next: &String| next.starts_with(char::is_uppercase);
        if capitals && words.peek().is_some_and(next) {
            word.push_str(&words.next().unwrap_or_default());
        }
        out.push(word);
    }
    out
}

/// Splits camel case: runs of one class of characters, the last capital of a run belonging to the word behind it.
fn words(name: &str) -> Vec<String> {
    let mut runs: Vec<(u8, String)> = Vec::new();
    for c in name.chars() {
        let class = if c.is_lowercase() {
            1
        } else if c.is_uppercase() {
            2
        } else {
            4
        };
        match runs.last_mut() {
            Some((last, run)) if *last == class => run.push(c),
            _ => runs.push((class, c.to_string())),
        }
    }
    for at in 1..runs.len() {
        if runs[at - 1].0 == 2 && runs[at].0 == 1 {
            let Some(capital) = runs[at - 1].1.pop() else { continue };
            runs[at].1.insert(0, capital);
        }
    }
    runs.into_iter().map(|(_, run)| run).filter(|run| !run.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{plain, title};

    #[test]
    fn titles() {
        for (name, wanted) in [
            ("spec", "Spec"),
            ("apiVersion", "API Version"),
            ("creationTimestamp", "Creation Timestamp"),
            ("uid", "UID"),
            ("podCIDRs", "Pod CIDRs"),
            ("clusterIP", "Cluster IP"),
            ("f:name", "f:name"),
            ("kebab-case", "Kebab - Case"),
            ("maxJSONPath", "Max JSONPath"),
        ] {
            assert_eq!(title(name), wanted, "{name}");
        }
    }

    #[test]
    fn values() {
        for (value, wanted) in [
            ("null", "<nil>"),
            ("1", "1"),
            ("0.5", "0.5"),
            ("1e30", "1e+30"),
            ("true", "true"),
            ("[1,\"a\"]", "[1 a]"),
        ] {
            let value = serde_json::from_str(value).expect("JSON");
            assert_eq!(plain(&value), wanted);
        }
    }
}
