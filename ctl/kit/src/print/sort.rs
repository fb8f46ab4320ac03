//! `--sort-by`: objects in the order of a field.

use std::cmp::Ordering;

use machinery::quantity::Quantity;
use serde_json::Value;

use super::jsonpath::JsonPath;
use crate::{Error, Result};

/// The order of items' positions by the field a path names; `of` gives the object an item stands for.
/// Items without the field come first; a field no item has is an error.
pub fn by_field<T>(items: &mut Vec<T>, field: &str, of: impl Fn(&T) -> &Value) -> Result<()> {
    let path = JsonPath::relaxed(field)?;
    let mut keyed = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let key = path.values(of(&item)).map_err(Error::message)?.into_iter().next();
        keyed.push((key, item));
    }
    let found = keyed.is_empty() || keyed.iter().any(|(key, _)| key.is_some());
    keyed.sort_by(|(a, _), (b, _)| values(a.as_ref(), b.as_ref()));
    items.extend(keyed.into_iter().map(|(_, item)| item));
    if found {
        return Ok(());
    }
    Err(Error::message(format!(
        "couldn't find any field with path {:?} in the list of objects",
        relaxed_text(field)
    )))
}

fn relaxed_text(field: &str) -> String {
    let inner = field.trim_start_matches('{').trim_end_matches('}').trim_start_matches('.');
    format!("{{.{inner}}}")
}

fn values(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a.filter(|value| !value.is_null()), b.filter(|value| !value.is_null())) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(Value::String(a)), Some(Value::String(b))) => texts(a, b),
        _ => Ordering::Equal,
    }
}

/// Quantities by size, other texts in natural order.
fn texts(a: &str, b: &str) -> Ordering {
    match (Quantity::parse(a), Quantity::parse(b)) {
        (Ok(a), Ok(b)) => a.nanos().cmp(&b.nanos()),
        _ => natural(a, b),
    }
}

/// Runs of digits compare by value, everything else by bytes.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if !(a[i].is_ascii_digit() && b[j].is_ascii_digit()) {
            match a[i].cmp(&b[j]) {
                Ordering::Equal => (i, j) = (i + 1, j + 1),
                other => return other,
            }
            continue;
        }
        let (x, y) = (digits(&a[i..]), digits(&b[j..]));
        let (trimmed_x, trimmed_y) = (trim(x), trim(y));
        let order = trimmed_x
            .len()
            .cmp(&trimmed_y.len())
            .then_with(|| trimmed_x.cmp(trimmed_y))
            .then(x.len().cmp(&y.len()));
        if order != Ordering::Equal {
            return order;
        }
        (i, j) = (i + x.len(), j + y.len());
    }
    a.len().cmp(&b.len())
}

fn digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

fn trim(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len());
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_order_objects() {
        let table = [
            (json!([{"k": 10}, {"k": 9}, {}]), json!([{}, {"k": 9}, {"k": 10}])),
            (json!([{"k": "a10"}, {"k": "a9"}]), json!([{"k": "a9"}, {"k": "a10"}])),
            (
                json!([{"k": "1Gi"}, {"k": "500Mi"}, {"k": "2G"}]),
                json!([{"k": "500Mi"}, {"k": "1Gi"}, {"k": "2G"}]),
            ),
        ];
        for (before, after) in table {
            let mut items = before.as_array().cloned().unwrap_or_default();
            by_field(&mut items, ".k", |item| item).expect("sorts");
            assert_eq!(Value::Array(items), after);
        }
        let error = by_field(&mut vec![json!({})], "k", |item| item).expect_err("no such field");
        assert_eq!(error.to_string(), "couldn't find any field with path \"{.k}\" in the list of objects");
    }
}
