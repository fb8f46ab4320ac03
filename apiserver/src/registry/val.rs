//! Reading and changing JSON objects without panics. A JSON null counts as absent everywhere, as it does for a
//! typed decoder, and so do values of another type than the one asked for.

use serde_json::{Map, Value};

/// An object's members.
pub type Obj = Map<String, Value>;

/// The member `key`, unless absent or null.
pub fn get<'a>(v: &'a Value, key: &str) -> Option<&'a Value> {
    v.get(key).filter(|x| !x.is_null())
}

/// The value behind a chain of members, unless one is absent or null.
pub fn at<'a>(v: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(v, |v, key| get(v, key))
}

/// The string member `key`, or the empty string.
pub fn s<'a>(v: &'a Value, key: &str) -> &'a str {
    v.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The string behind a chain of members, or the empty string.
pub fn s_at<'a>(v: &'a Value, path: &[&str]) -> &'a str {
    at(v, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer member `key`.
pub fn i(v: &Value, key: &str) -> Option<i64> {
    v.get(key).and_then(Value::as_i64)
}

/// The integer behind a chain of members.
pub fn i_at(v: &Value, path: &[&str]) -> Option<i64> {
    at(v, path).and_then(Value::as_i64)
}

/// The boolean member `key`; absent is false.
pub fn b(v: &Value, key: &str) -> bool {
    opt_b(v, key).unwrap_or(false)
}

/// The boolean member `key`.
pub fn opt_b(v: &Value, key: &str) -> Option<bool> {
    v.get(key).and_then(Value::as_bool)
}

/// The items of the list member `key`; absent is empty.
pub fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of the list behind a chain of members.
pub fn list_at<'a>(v: &'a Value, path: &[&str]) -> &'a [Value] {
    at(v, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of the list member `key`.
pub fn strs<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    list(v, key).iter().map(|x| x.as_str().unwrap_or_default())
}

/// The entries of the map member `key`; absent is empty.
pub fn entries<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    v.get(key).and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// The object member `key`, when it is one.
pub fn obj<'a>(v: &'a Value, key: &str) -> Option<&'a Obj> {
    v.get(key).and_then(Value::as_object)
}

/// Whether a value says nothing: null, zero, false, "" or an empty container.
pub fn is_zero(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// Whether the member `key` is there and says something.
pub fn has(v: &Value, key: &str) -> bool {
    v.get(key).is_some_and(|x| !is_zero(x))
}

/// Whether the member `key` is there and not null, empty or not.
pub fn set(v: &Value, key: &str) -> bool {
    get(v, key).is_some()
}

/// Whether two optional values are the same once nulls, zeros and empty containers count as absent, at any depth.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|x| !is_blank(x)), b.filter(|x| !is_blank(x))) {
        (None, None) => true,
        (Some(a), Some(b)) => same_value(a, b),
        _ => false,
    }
}

/// Null, or a container in which nothing is set; scalars always count.
fn is_blank(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_blank),
        _ => false,
    }
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(Some(v), y.get(k)))
                && y.iter().all(|(k, v)| x.contains_key(k) || is_blank(v))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(v, w)| same(Some(v), Some(w)))
        }
        _ => a == b,
    }
}

/// Whether the member `key` of both objects is the same.
pub fn same_at(a: &Value, b: &Value, key: &str) -> bool {
    same(a.get(key), b.get(key))
}

/// The members of `v`, which becomes an object if it was none.
pub fn members(v: &mut Value) -> &mut Obj {
    if !v.is_object() {
        *v = Value::Object(Map::new());
    }
    match v {
        Value::Object(o) => o,
        // The branch above made it an object.
        _ => unreachable!("just made an object"),
    }
}

/// The object member `key` of `m`, made if it is not there.
pub fn sub<'a>(m: &'a mut Obj, key: &str) -> &'a mut Obj {
    members(m.entry(key).or_insert(Value::Null))
}

/// The object member `key` for change, if it is there.
pub fn obj_mut<'a>(v: &'a mut Value, key: &str) -> Option<&'a mut Obj> {
    v.get_mut(key).and_then(Value::as_object_mut)
}

/// The list member `key` of `m` for change; empty when there is none.
pub fn items_mut<'a>(v: &'a mut Value, key: &str) -> &'a mut [Value] {
    v.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Sets `key` to `value` when it is absent or null.
pub fn if_nil(m: &mut Obj, key: &str, value: impl Into<Value>) {
    if m.get(key).is_none_or(Value::is_null) {
        m.insert(key.to_owned(), value.into());
    }
}

/// Sets `key` to `value` when it is absent, null or zero of its kind ("" or 0).
pub fn if_zero(m: &mut Obj, key: &str, value: impl Into<Value>) {
    if m.get(key).is_none_or(is_zero) {
        m.insert(key.to_owned(), value.into());
    }
}

/// Makes member `key` of `new` what it is in `old`, absence included.
pub fn keep(new: &mut Value, old: &Value, key: &str) {
    let new = members(new);
    match old.get(key) {
        Some(v) => {
            new.insert(key.to_owned(), v.clone());
        }
        None => {
            new.remove(key);
        }
    }
}

/// Removes member `key`.
pub fn drop_key(v: &mut Value, key: &str) {
    if let Some(o) = v.as_object_mut() {
        o.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_up_to_absence() {
        assert!(same(Some(&json!({"a": 1, "b": null, "c": {}})), Some(&json!({"a": 1}))));
        assert!(!same(Some(&json!({"a": 1})), Some(&json!({"a": 2}))));
        assert!(same(None, Some(&json!([]))));
        assert!(!same(Some(&json!({"a": [1]})), Some(&json!({"a": [1, 2]}))));
    }

    #[test]
    fn wrong_types_count_as_absent() {
        let v = json!({"a": 1, "l": "x"});
        assert_eq!(s(&v, "a"), "");
        assert!(list(&v, "l").is_empty());
        assert_eq!(i(&v, "l"), None);
        assert!(!b(&Value::Null, "x"));
    }
}
