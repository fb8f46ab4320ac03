//! Values to protobuf messages, byte for byte as upstream writes them.

use super::wire;
use base64::Engine;
use machinery::schema::{Card, Field, FieldKind, JsonForm, Type};
use machinery::time;
use serde_json::{Map, Value};

const EMPTY: &Value = &Value::Null;

/// Encodes an object as a bare message of its type.
pub fn encode_message(value: &Value, ty: &Type) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_type(&mut out, value, ty);
    out
}

fn write_type(out: &mut Vec<u8>, value: &Value, ty: &Type) {
    match ty.form {
        JsonForm::Object => write_struct(out, value.as_object(), ty),
        JsonForm::Time => write_time(out, value, |_| 0),
        JsonForm::MicroTime => write_time(out, value, |nanos| nanos / 1000 * 1000),
        JsonForm::Quantity => write_quantity(out, value),
        JsonForm::IntOrString => write_int_or_string(out, value),
        JsonForm::Duration => {
            wire::int(out, 1, value.as_str().and_then(time::parse_go_duration).unwrap_or_default())
        }
        JsonForm::Raw | JsonForm::FieldsV1 | JsonForm::Json => write_json(out, value),
        JsonForm::Strings => write_strings(out, 1, value),
        JsonForm::SchemaOrArray | JsonForm::SchemaOrBool | JsonForm::SchemaOrStrings => {
            write_schema(out, value, ty)
        }
    }
}

fn write_struct(out: &mut Vec<u8>, object: Option<&Map<String, Value>>, ty: &Type) {
    for field in ty.fields.iter().filter(|f| f.tag > 0) {
        if field.inline {
            wire::message(out, field.tag, |out| {
                if let Some(inner) = field.ty() {
                    write_struct(out, object, inner);
                }
            });
            continue;
        }
        let value = object.and_then(|o| o.get(field.json)).unwrap_or(EMPTY);
        match field.card {
            Card::One => write_one(out, value, field),
            Card::List => {
                value.as_array().into_iter().flatten().for_each(|item| write_item(out, item, field))
            }
            Card::Map => write_map(out, value, field),
        }
    }
}

/// Value fields are always written, pointers and bytes only when set.
fn write_one(out: &mut Vec<u8>, value: &Value, field: &Field) {
    let optional = field.ptr || field.kind == FieldKind::Bytes || is_strings(field);
    if !(value.is_null() && optional) {
        write_item(out, value, field);
    }
}

fn is_strings(field: &Field) -> bool {
    field.ty().is_some_and(|t| t.form == JsonForm::Strings)
}

fn write_item(out: &mut Vec<u8>, value: &Value, field: &Field) {
    match field.kind {
        FieldKind::String => wire::bytes(out, field.tag, value.as_str().unwrap_or_default().as_bytes()),
        FieldKind::Int32 | FieldKind::Int64 => wire::int(out, field.tag, integer(value)),
        FieldKind::Bool => wire::int(out, field.tag, i64::from(value.as_bool().unwrap_or_default())),
        FieldKind::Double => wire::double(out, field.tag, value.as_f64().unwrap_or_default()),
        FieldKind::Bytes => wire::bytes(out, field.tag, &decode_base64(value)),
        FieldKind::Any => {}
        FieldKind::Message => wire::message(out, field.tag, |out| {
            if let Some(ty) = field.ty() {
                write_type(out, value, ty);
            }
        }),
    }
}

fn integer(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).unwrap_or_default()
}

fn decode_base64(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

/// Entries sorted by key, as they are in the value.
fn write_map(out: &mut Vec<u8>, value: &Value, field: &Field) {
    for (key, item) in value.as_object().into_iter().flatten() {
        wire::message(out, field.tag, |out| {
            wire::bytes(out, 1, key.as_bytes());
            write_map_value(out, item, field);
        });
    }
}

fn write_map_value(out: &mut Vec<u8>, item: &Value, field: &Field) {
    match field.kind {
        FieldKind::String => wire::bytes(out, 2, item.as_str().unwrap_or_default().as_bytes()),
        FieldKind::Int32 | FieldKind::Int64 => wire::int(out, 2, integer(item)),
        FieldKind::Bool => wire::int(out, 2, i64::from(item.as_bool().unwrap_or_default())),
        FieldKind::Double => wire::double(out, 2, item.as_f64().unwrap_or_default()),
        FieldKind::Bytes => wire::bytes(out, 2, &decode_base64(item)),
        FieldKind::Any => {}
        FieldKind::Message => wire::message(out, 2, |out| {
            if let Some(ty) = field.ty() {
                write_type(out, item, ty);
            }
        }),
    }
}

fn write_time(out: &mut Vec<u8>, value: &Value, nanos: fn(i32) -> i32) {
    if let Some(at) = value.as_str().and_then(time::parse) {
        let seconds = time::to_unix(at);
        let rest = at.as_nanosecond().rem_euclid(1_000_000_000) as i32;
        wire::int(out, 1, seconds);
        wire::int(out, 2, i64::from(nanos(rest)));
    }
}

fn write_quantity(out: &mut Vec<u8>, value: &Value) {
    let text = match value {
        Value::String(text) => machinery::quantity::canonical(text).unwrap_or_else(|_| text.clone()),
        Value::Number(number) => number.to_string(),
        _ => "0".to_string(),
    };
    wire::bytes(out, 1, text.as_bytes());
}

fn write_int_or_string(out: &mut Vec<u8>, value: &Value) {
    let text = value.as_str();
    wire::int(out, 1, i64::from(text.is_some()));
    wire::int(out, 2, integer(value));
    wire::bytes(out, 3, text.unwrap_or_default().as_bytes());
}

fn write_json(out: &mut Vec<u8>, value: &Value) {
    if !value.is_null() {
        wire::bytes(out, 1, &serde_json::to_vec(value).unwrap_or_default());
    }
}

fn write_strings(out: &mut Vec<u8>, tag: u32, value: &Value) {
    for text in value.as_array().into_iter().flatten() {
        wire::bytes(out, tag, text.as_str().unwrap_or_default().as_bytes());
    }
}

/// The three unions of JSON schemas.
fn write_schema(out: &mut Vec<u8>, value: &Value, ty: &Type) {
    let schema = ty.fields.iter().find(|f| f.kind == FieldKind::Message).and_then(Field::ty);
    let Some(schema) = schema else { return };
    match (ty.form, value) {
        (JsonForm::SchemaOrBool, Value::Bool(allows)) => wire::int(out, 1, i64::from(*allows)),
        (JsonForm::SchemaOrBool, other) => {
            wire::int(out, 1, 1);
            wire::message(out, 2, |out| write_type(out, other, schema));
        }
        (JsonForm::SchemaOrArray, Value::Array(items)) => {
            items.iter().for_each(|item| wire::message(out, 2, |out| write_type(out, item, schema)));
        }
        (JsonForm::SchemaOrStrings, list @ Value::Array(_)) => write_strings(out, 2, list),
        (_, Value::Null) => {}
        (_, other) => wire::message(out, 1, |out| write_type(out, other, schema)),
    }
}
