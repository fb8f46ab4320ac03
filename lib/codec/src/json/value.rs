//! Values in their canonical form.

use base64::Engine;
use machinery::quantity;
use machinery::schema::{Field, FieldKind, JsonForm, Type};
use machinery::time;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

use super::Options;
use super::keys::{KeySeed, Member, MemberSeed};
use super::place::{Ctx, Step};
use super::slot::{Slot, Want};
use crate::zero;

/// Reads one value.
pub struct Seed<'c> {
    pub ctx: &'c mut Ctx,
    pub slot: Slot,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        match self.slot.want() {
            Want::Scalar(FieldKind::Bool) | Want::Any | Want::Form(_, JsonForm::SchemaOrBool) => {
                Ok(Value::Bool(value))
            }
            _ => Err(self.ctx.type_error("bool", &self.slot.go_type())),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        let fits32 = i32::try_from(value).is_ok();
        match self.slot.want() {
            Want::Scalar(FieldKind::Int32) if fits32 => Ok(value.into()),
            Want::Scalar(FieldKind::Int64) | Want::Any => Ok(value.into()),
            Want::Scalar(FieldKind::Double) => Ok(value.into()),
            Want::Form(_, JsonForm::IntOrString) if fits32 => Ok(value.into()),
            Want::Form(_, JsonForm::Quantity) => self.quantity(&value.to_string()),
            Want::Scalar(FieldKind::Int32) => {
                Err(self.ctx.type_error(&format!("number {value}"), &self.slot.go_type()))
            }
            _ => Err(self.ctx.type_error("number", &self.slot.go_type())),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(small) => self.visit_i64(small),
            Err(_) => match self.slot.want() {
                Want::Any | Want::Scalar(FieldKind::Double) => Ok(value.into()),
                Want::Form(_, JsonForm::Quantity) => self.quantity(&value.to_string()),
                _ => Err(self.ctx.type_error(&format!("number {value}"), &self.slot.go_type())),
            },
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        match self.slot.want() {
            Want::Any | Want::Scalar(FieldKind::Double) => {
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }
            Want::Form(_, JsonForm::Quantity) => self.quantity(&value.to_string()),
            Want::Scalar(FieldKind::Int32 | FieldKind::Int64) => {
                Err(self.ctx.type_error(&format!("number {value}"), &self.slot.go_type()))
            }
            _ => Err(self.ctx.type_error("number", &self.slot.go_type())),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        match self.slot.want() {
            Want::Scalar(FieldKind::Bytes) => self.bytes(text),
            Want::Form(..) => self.form_text(text),
            _ => self.visit_string(text.to_string()),
        }
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        match self.slot.want() {
            Want::Scalar(FieldKind::String) | Want::Any => Ok(Value::String(text)),
            Want::Scalar(FieldKind::Bytes) => self.bytes(&text),
            Want::Form(..) => self.form_text(&text),
            _ => Err(self.ctx.type_error("string", &self.slot.go_type())),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        match self.slot.want() {
            Want::List(field) => read_list(self.ctx, seq, Slot::Item(field)),
            Want::Any => read_list(self.ctx, seq, Slot::Any),
            Want::Form(_, JsonForm::Strings | JsonForm::SchemaOrStrings) => {
                read_list(self.ctx, seq, Slot::Text)
            }
            Want::Form(ty, JsonForm::SchemaOrArray) => read_list(self.ctx, seq, schema_slot(ty)),
            _ => Err(self.ctx.type_error("array", &self.slot.go_type())),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        match self.slot.want() {
            Want::Struct(ty) => read_struct(self.ctx, map, ty),
            Want::Map(field) => read_map(self.ctx, map, Slot::Item(field)),
            Want::Any => read_map(self.ctx, map, Slot::Any),
            Want::Form(ty, JsonForm::SchemaOrArray | JsonForm::SchemaOrBool | JsonForm::SchemaOrStrings) => {
                match schema_slot(ty) {
                    Slot::Root(schema) => read_struct(self.ctx, map, schema),
                    _ => read_map(self.ctx, map, Slot::Any),
                }
            }
            _ => Err(self.ctx.type_error("object", &self.slot.go_type())),
        }
    }
}

/// The schema type inside one of the schema unions.
fn schema_slot(ty: &'static Type) -> Slot {
    let schema = ty.fields.iter().filter(|f| f.kind == FieldKind::Message).find_map(Field::ty);
    schema.map_or(Slot::Any, Slot::Root)
}

impl Seed<'_> {
    fn quantity<E: de::Error>(self, text: &str) -> Result<Value, E> {
        match quantity::canonical(text) {
            Ok(text) => Ok(Value::String(text)),
            Err(error) => Err(self.ctx.fail(error.to_string())),
        }
    }

    fn bytes<E: de::Error>(self, text: &str) -> Result<Value, E> {
        let clean: String = match text.contains(['\r', '\n']) {
            true => text.chars().filter(|c| *c != '\r' && *c != '\n').collect(),
            false => text.to_string(),
        };
        match base64_error(&clean) {
            None => Ok(Value::String(clean)),
            Some(at) => Err(self.ctx.fail(format!("illegal base64 data at input byte {at}"))),
        }
    }

    fn form_text<E: de::Error>(self, text: &str) -> Result<Value, E> {
        let Want::Form(_, form) = self.slot.want() else { return Ok(Value::from(text)) };
        match form {
            JsonForm::Time => self.time(text, time::format_seconds),
            JsonForm::MicroTime => self.time(text, time::format_micro),
            JsonForm::Quantity => self.quantity(text.trim()),
            JsonForm::IntOrString => Ok(Value::from(text)),
            JsonForm::Duration => match time::parse_go_duration(text) {
                Some(nanos) => Ok(Value::from(time::format_go_duration(nanos))),
                None => Err(self.ctx.fail(format!("time: invalid duration {text:?}"))),
            },
            _ => Err(self.ctx.type_error("string", &self.slot.go_type())),
        }
    }

    fn time<E: de::Error>(self, text: &str, format: fn(jiff::Timestamp) -> String) -> Result<Value, E> {
        match time::parse(text) {
            Some(at) => Ok(Value::String(format(at))),
            None => {
                let layout = "2006-01-02T15:04:05Z07:00";
                Err(self
                    .ctx
                    .fail(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")))
            }
        }
    }
}

/// Position of the first byte that is no base64, if any.
fn base64_error(text: &str) -> Option<usize> {
    let engine = base64::engine::general_purpose::STANDARD;
    match engine.decode(text) {
        Ok(_) => None,
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Some(at)
        }
        Err(_) => Some(text.len() / 4 * 4),
    }
}

fn read_list<'de, A: SeqAccess<'de>>(ctx: &mut Ctx, mut seq: A, slot: Slot) -> Result<Value, A::Error> {
    let mut items = Vec::with_capacity(seq.size_hint().unwrap_or_default().min(1024));
    loop {
        ctx.path.push(Step::Index(items.len()));
        let item = seq.next_element_seed(Seed { ctx, slot });
        match item? {
            None => break,
            Some(value) => items.push(item_value(value, slot)),
        }
        ctx.path.pop();
    }
    ctx.path.pop();
    Ok(Value::Array(items))
}

/// A null item is the zero value of the item's type, as in Go.
fn item_value(value: Value, slot: Slot) -> Value {
    match (value, slot) {
        (Value::Null, Slot::Item(field)) => zero::item(field),
        (value, _) => value,
    }
}

fn read_map<'de, A: MapAccess<'de>>(ctx: &mut Ctx, mut map: A, slot: Slot) -> Result<Value, A::Error> {
    let mut out = Map::new();
    while let Some(key) = map.next_key_seed(KeySeed)? {
        if out.contains_key(&key) {
            ctx.strict_error("duplicate", &key);
        }
        ctx.path.push(Step::Key(key.clone()));
        let value = map.next_value_seed(Seed { ctx, slot })?;
        ctx.path.pop();
        out.insert(key, item_value(value, slot));
    }
    Ok(Value::Object(out))
}

fn read_struct<'de, A: MapAccess<'de>>(
    ctx: &mut Ctx,
    mut map: A,
    ty: &'static Type,
) -> Result<Value, A::Error> {
    let mut out = Map::new();
    let mut seen: Vec<&'static str> = Vec::with_capacity(16);
    ctx.structs.push(ty);
    while let Some(found) = map.next_key_seed(MemberSeed(ty))? {
        match found {
            Member::Unknown(name) => {
                ctx.strict_error("unknown", &name);
                map.next_value::<de::IgnoredAny>()?;
            }
            Member::Known(field) => {
                if seen.contains(&field.json) {
                    ctx.strict_error("duplicate", field.json);
                }
                seen.push(field.json);
                let value = read_member(ctx, &mut map, field)?;
                store(&mut out, field, value, ctx.options);
            }
        }
    }
    ctx.structs.pop();
    if ctx.options.fill {
        zero::fill(&mut out, ty);
    }
    Ok(Value::Object(out))
}

fn read_member<'de, A: MapAccess<'de>>(
    ctx: &mut Ctx,
    map: &mut A,
    field: &'static Field,
) -> Result<Value, A::Error> {
    ctx.path.push(Step::Field(field.json));
    let value = map.next_value_seed(Seed { ctx, slot: Slot::Field(field) })?;
    ctx.path.pop();
    Ok(value)
}

fn store(out: &mut Map<String, Value>, field: &'static Field, value: Value, options: Options) {
    if options.keep_empty || !zero::is_omitted(field, &value) && !value.is_null() {
        out.insert(field.json.to_string(), value);
    } else {
        out.remove(field.json);
    }
}
