//! JSON of built-in kinds with the fields in the order Kubernetes declares them: what kubectl prints where it works on
//! its own types instead of on bare documents.

use machinery::kinds;
use machinery::schema::Type;
use serde_json::Value;

use super::json::{compact, string};

/// Indented JSON without a newline at the end. Fields nobody declared come last, in alphabetical order.
pub fn pretty(object: &Value, show_managed_fields: bool) -> String {
    let mut object = object.clone();
    if !show_managed_fields {
        super::hide_managed_fields(&mut object);
    }
    let ty = type_of(&object);
    let mut out = String::new();
    write(&object, ty, 0, &mut out);
    out
}

/// The type of an object; a List's is that of its items' kind, for their sake.
fn type_of(object: &Value) -> Option<&'static Type> {
    let (group, version) =
        object["apiVersion"].as_str()?.rsplit_once('/').unwrap_or(("", object["apiVersion"].as_str()?));
    kinds::by_kind(group, version, object["kind"].as_str()?).and_then(|resource| resource.object_type)
}

fn write(value: &Value, ty: Option<&'static Type>, depth: usize, out: &mut String) {
    let (margin, close) = ("    ".repeat(depth + 1), "    ".repeat(depth));
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| (rank(ty, key), *key));
            out.push_str("{\n");
            for (at, (key, value)) in pairs.iter().enumerate() {
                out.push_str(if at > 0 { ",\n" } else { "" });
                out.push_str(&margin);
                string(key, out);
                out.push_str(": ");
                write(value, inner(ty, key, value), depth + 1, out);
            }
            out.push_str(&format!("\n{close}}}"));
        }
        Value::Array(items) if !items.is_empty() => {
            out.push_str("[\n");
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ",\n" } else { "" });
                out.push_str(&margin);
                write(item, ty.or_else(|| type_of(item)), depth + 1, out);
            }
            out.push_str(&format!("\n{close}]"));
        }
        other => out.push_str(&compact(other)),
    }
}

/// Kind and version first, as in every object; then as declared.
fn rank(ty: Option<&'static Type>, key: &str) -> usize {
    const HEAD: [&str; 3] = ["kind", "apiVersion", "metadata"];
    let declared = ty.and_then(|ty| ty.fields.iter().position(|field| field.json == key));
    match declared {
        // A reference to an object declares its kind itself.
        Some(at) if ty.is_some_and(|ty| ty.field("metadata").is_none()) => at,
        found => {
            HEAD.iter().position(|head| *head == key).unwrap_or_else(|| 3 + found.unwrap_or(usize::MAX - 3))
        }
    }
}

/// The type of a field's values. A map's values have the field's type, but its keys no order of their own.
fn inner(ty: Option<&'static Type>, key: &str, value: &Value) -> Option<&'static Type> {
    let field = ty.and_then(|ty| ty.field(key))?;
    if value.is_object() && matches!(field.card, machinery::schema::Card::Map) {
        return None;
    }
    field.ty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn declared_order() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "1", "a": "2"}, "metadata": {"namespace": "n", "name": "m", "labels": {"z": "", "y": ""}}});
        let text = pretty(&object, false);
        let keys: Vec<&str> = text.lines().filter_map(|line| line.trim().split('"').nth(1)).collect();
        assert_eq!(
            keys,
            ["kind", "apiVersion", "metadata", "name", "namespace", "labels", "y", "z", "data", "a", "b"]
        );
    }
}
