//! What upstream prints for members that are not set.

use machinery::schema::{Card, Field, FieldKind, JsonForm, Type};
use serde_json::{Map, Value};

/// Adds the members that upstream prints even when they are empty, such as `status: {}` or `resources: {}`.
pub fn fill(object: &mut Map<String, Value>, ty: &Type) {
    for (name, field) in ty.emitted() {
        if !object.contains_key(*name) {
            object.insert((*name).to_string(), value(field));
        }
    }
}

/// The zero value of a field as upstream prints it.
pub fn value(field: &Field) -> Value {
    match field.card {
        Card::One => item(field),
        Card::List | Card::Map => Value::Null,
    }
}

/// The zero value of one item of a field.
pub fn item(field: &Field) -> Value {
    match field.kind {
        FieldKind::String => Value::String(String::new()),
        FieldKind::Int32 | FieldKind::Int64 => Value::from(0),
        FieldKind::Double => Value::from(0.0),
        FieldKind::Bool => Value::Bool(false),
        FieldKind::Bytes | FieldKind::Any => Value::Null,
        FieldKind::Message => field.ty().map_or(Value::Null, of_type),
    }
}

/// The zero value of a type.
pub fn of_type(ty: &Type) -> Value {
    match ty.form {
        JsonForm::Object => {
            let mut map = Map::new();
            fill(&mut map, ty);
            Value::Object(map)
        }
        JsonForm::Quantity => Value::from("0"),
        JsonForm::IntOrString => Value::from(0),
        JsonForm::Duration => Value::from("0s"),
        _ => Value::Null,
    }
}

/// True for values that the Go encoder leaves out of a member with `omitempty`.
pub fn is_omitted(field: &Field, value: &Value) -> bool {
    if value.is_null() {
        // A null only stays where upstream prints it for an unset member.
        return !field.emitted_empty();
    }
    if !field.omit_empty || field.ptr {
        return false;
    }
    match (field.card, value) {
        (Card::List, Value::Array(items)) => items.is_empty(),
        (Card::Map, Value::Object(map)) => map.is_empty(),
        (Card::One, Value::String(text)) => text.is_empty(),
        (Card::One, Value::Bool(b)) => !b && field.kind == FieldKind::Bool,
        (Card::One, Value::Number(n)) => field.kind != FieldKind::Message && n.as_f64() == Some(0.0),
        (Card::One, Value::Array(items)) => items.is_empty() && is_strings(field),
        (Card::One, Value::Object(map)) => field.omit_zero && map.is_empty(),
        _ => false,
    }
}

fn is_strings(field: &Field) -> bool {
    field.ty().is_some_and(|t| t.form == JsonForm::Strings)
}
