//! Protobuf messages to values in canonical JSON form.

use super::ProtoError;
use super::wire::{self, Reader, Value as Wire};
use crate::zero;
use base64::Engine;
use machinery::quantity;
use machinery::schema::{Card, Field, FieldKind, JsonForm, Type};
use machinery::time;
use serde_json::{Map, Number, Value};

/// Deepest nesting accepted; JSON schemas are the deepest real objects.
const MAX_DEPTH: usize = 200;

/// Decodes a bare message of a type.
pub fn decode_message(bytes: &[u8], ty: &'static Type) -> Result<Value, ProtoError> {
    read_type(bytes, ty, 0)
}

fn read_type(bytes: &[u8], ty: &'static Type, depth: usize) -> Result<Value, ProtoError> {
    if depth > MAX_DEPTH {
        return Err(ProtoError::Malformed("message nested too deeply"));
    }
    match ty.form {
        JsonForm::Object => {
            let mut map = Map::new();
            read_struct(bytes, ty, &mut map, depth)?;
            zero::fill(&mut map, ty);
            Ok(Value::Object(map))
        }
        JsonForm::Time => read_time(bytes, time::format_seconds),
        JsonForm::MicroTime => read_time(bytes, time::format_micro),
        JsonForm::Quantity => read_quantity(bytes),
        JsonForm::IntOrString => read_int_or_string(bytes),
        JsonForm::Duration => Ok(Value::from(time::format_go_duration(first_int(bytes, 1)?))),
        JsonForm::Raw | JsonForm::FieldsV1 | JsonForm::Json => read_json(bytes),
        JsonForm::Strings => read_strings(bytes, 1),
        JsonForm::SchemaOrArray | JsonForm::SchemaOrBool | JsonForm::SchemaOrStrings => {
            read_schema(bytes, ty, depth)
        }
    }
}

fn read_struct(
    bytes: &[u8],
    ty: &'static Type,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtoError> {
    let mut reader = Reader::new(bytes);
    while let Some((tag, value)) = reader.field()? {
        let Some(field) = ty.fields.iter().find(|f| f.tag == tag) else { continue };
        match (field.inline, field.ty(), value) {
            (true, Some(inner), Wire::Bytes(message)) => read_struct(message, inner, into, depth + 1)?,
            _ => read_field(into, field, value, depth)?,
        }
    }
    into.retain(|name, value| {
        ty.field(name).is_none_or(|f| !(value.is_null() || zero::is_omitted(f, value)))
    });
    Ok(())
}

fn read_field(
    into: &mut Map<String, Value>,
    field: &'static Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtoError> {
    match field.card {
        Card::One => {
            let value = read_value(field, wire, depth)?;
            into.insert(field.json.to_string(), value);
        }
        Card::List => {
            let slot = into.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = slot {
                read_items(items, field, wire, depth)?;
            }
        }
        Card::Map => {
            let (key, value) = read_entry(field, wire, depth)?;
            let slot = into.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = slot {
                map.insert(key, value);
            }
        }
    }
    Ok(())
}

/// One item, or several packed numbers.
fn read_items(
    items: &mut Vec<Value>,
    field: &'static Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtoError> {
    let packed = matches!(field.kind, FieldKind::Int32 | FieldKind::Int64 | FieldKind::Bool);
    match wire {
        Wire::Bytes(bytes) if packed => {
            let mut reader = Reader::new(bytes);
            while !reader.is_empty() {
                let number = reader.varint()?;
                items.push(read_value(field, Wire::Int(number), depth)?);
            }
        }
        single => items.push(read_value(field, single, depth)?),
    }
    Ok(())
}

fn read_value(field: &'static Field, wire: Wire<'_>, depth: usize) -> Result<Value, ProtoError> {
    Ok(match (field.kind, wire) {
        (FieldKind::String, Wire::Bytes(text)) => Value::String(wire::text(text)?),
        (FieldKind::Int32, Wire::Int(number)) => Value::from(number as i32),
        (FieldKind::Int64, Wire::Int(number)) => Value::from(number as i64),
        (FieldKind::Bool, Wire::Int(number)) => Value::Bool(number != 0),
        (FieldKind::Double, Wire::Fixed64(bits)) => double(f64::from_bits(bits)),
        (FieldKind::Bytes, Wire::Bytes(bytes)) => {
            Value::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        (FieldKind::Message, Wire::Bytes(message)) => match field.ty() {
            Some(ty) => read_type(message, ty, depth + 1)?,
            None => Value::Null,
        },
        _ => return Err(ProtoError::Malformed("wrong wireType for field")),
    })
}

/// Whole floats are printed as integers, as Go does.
fn double(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => Value::from(value as i64),
        false => Number::from_f64(value).map_or(Value::Null, Value::Number),
    }
}

fn read_entry(field: &'static Field, wire: Wire<'_>, depth: usize) -> Result<(String, Value), ProtoError> {
    let Wire::Bytes(entry) = wire else { return Err(ProtoError::Malformed("wrong wireType for map")) };
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(entry);
    while let Some((tag, wire)) = reader.field()? {
        match (tag, wire) {
            (1, Wire::Bytes(text)) => key = wire::text(text)?,
            (2, wire) => value = Some(read_value(field, wire, depth + 1)?),
            _ => {}
        }
    }
    Ok((key, value.unwrap_or_else(|| zero::item(field))))
}

fn read_time(bytes: &[u8], format: fn(jiff::Timestamp) -> String) -> Result<Value, ProtoError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (seconds, nanos) = (first_int(bytes, 1)?, first_int(bytes, 2)?);
    let at = time::from_unix(seconds, i32::try_from(nanos).unwrap_or_default());
    Ok(at.map_or(Value::Null, |at| Value::String(format(at))))
}

fn read_quantity(bytes: &[u8]) -> Result<Value, ProtoError> {
    let text = wire::text(super::only_bytes(bytes)?)?;
    let text = if text.is_empty() { "0".to_string() } else { text };
    let canonical = quantity::canonical(&text).map_err(|_| ProtoError::Malformed("invalid quantity"))?;
    Ok(Value::String(canonical))
}

fn read_int_or_string(bytes: &[u8]) -> Result<Value, ProtoError> {
    let (mut kind, mut number, mut text) = (0, 0i32, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((tag, value)) = reader.field()? {
        match (tag, value) {
            (1, Wire::Int(n)) => kind = n,
            (2, Wire::Int(n)) => number = n as i32,
            (3, Wire::Bytes(t)) => text = wire::text(t)?,
            _ => {}
        }
    }
    Ok(if kind == 0 { Value::from(number) } else { Value::String(text) })
}

/// The last value of an integer field, 0 when it is missing.
fn first_int(bytes: &[u8], wanted: u32) -> Result<i64, ProtoError> {
    let mut found = 0;
    let mut reader = Reader::new(bytes);
    while let Some((tag, value)) = reader.field()? {
        if let (true, Wire::Int(number)) = (tag == wanted, value) {
            found = number as i64;
        }
    }
    Ok(found)
}

/// JSON text, or an enveloped object inside a raw extension.
fn read_json(bytes: &[u8]) -> Result<Value, ProtoError> {
    let raw = super::only_bytes(bytes)?;
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if super::is_protobuf(raw) {
        return super::decode_object(raw).map(|(_, _, value)| value);
    }
    serde_json::from_slice(raw).map_err(|_| ProtoError::Malformed("raw extension is no JSON"))
}

fn read_strings(bytes: &[u8], wanted: u32) -> Result<Value, ProtoError> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((tag, value)) = reader.field()? {
        if let (true, Wire::Bytes(text)) = (tag == wanted, value) {
            items.push(Value::String(wire::text(text)?));
        }
    }
    Ok(Value::Array(items))
}

/// The three unions of JSON schemas.
fn read_schema(bytes: &[u8], ty: &'static Type, depth: usize) -> Result<Value, ProtoError> {
    let schema = ty.fields.iter().find(|f| f.kind == FieldKind::Message).and_then(Field::ty);
    let schema = schema.ok_or(ProtoError::Malformed("no schema type"))?;
    let (mut allows, mut list, mut single) = (false, Vec::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((tag, value)) = reader.field()? {
        match (ty.form, tag, value) {
            (JsonForm::SchemaOrBool, 1, Wire::Int(n)) => allows = n != 0,
            (JsonForm::SchemaOrBool, 2, Wire::Bytes(b)) => single = Some(read_type(b, schema, depth + 1)?),
            (JsonForm::SchemaOrArray, 2, Wire::Bytes(b)) => list.push(read_type(b, schema, depth + 1)?),
            (JsonForm::SchemaOrStrings, 2, Wire::Bytes(b)) => list.push(Value::String(wire::text(b)?)),
            (_, 1, Wire::Bytes(b)) => single = Some(read_type(b, schema, depth + 1)?),
            _ => {}
        }
    }
    Ok(match (single, ty.form) {
        (Some(schema), _) => schema,
        (None, JsonForm::SchemaOrBool) => Value::Bool(allows),
        (None, _) => Value::Array(list),
    })
}
