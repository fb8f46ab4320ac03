//! Schemas of API types, for both versions of OpenAPI.

use std::collections::BTreeSet;

use machinery::schema::{Card, Field, FieldKind, JsonForm, ListType, MapType, Type};
use serde_json::{Map, Value, json};

use super::describe;

/// Which version of OpenAPI a schema is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Version {
    /// A reference to a type.
    pub fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The schema of a type with the kinds it is published as.
pub fn of_type(ty: &Type, version: Version, gvks: &[(String, String, String)]) -> Value {
    let mut schema = base(ty, version);
    let description = describe::of_type(ty.name);
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
    let kinds: Vec<Value> = gvks.iter().map(|(g, v, k)| json!({"group": g, "version": v, "kind": k})).collect();
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    if ty.map_type == Some(MapType::Atomic) {
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if let Some(unions) = unions(ty) {
        schema.insert("x-kubernetes-unions".into(), unions);
    }
    Value::Object(schema)
}

/// The schema without what is said about the type as a whole.
fn base(ty: &Type, version: Version) -> Map<String, Value> {
    let plain = match (ty.form, version) {
        (JsonForm::Object, _) => return object(ty, version),
        (JsonForm::Time | JsonForm::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
        (JsonForm::Quantity, Version::V2) | (JsonForm::Duration, _) => json!({"type": "string"}),
        (JsonForm::Quantity, Version::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (JsonForm::IntOrString, Version::V2) => json!({"type": "string", "format": "int-or-string"}),
        (JsonForm::IntOrString, Version::V3) => {
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"})
        }
        (JsonForm::Raw | JsonForm::FieldsV1, _) => json!({"type": "object"}),
        (JsonForm::Strings, _) => json!({"type": "array", "items": {"type": "string"}}),
        (JsonForm::Json | JsonForm::SchemaOrArray | JsonForm::SchemaOrBool | JsonForm::SchemaOrStrings, _) => json!({}),
    };
    plain.as_object().cloned().unwrap_or_default()
}

fn object(ty: &Type, version: Version) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    let members = ty.members();
    let required: Vec<&str> = members.iter().filter(|(_, f)| f.required).map(|(name, _)| *name).collect();
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if !members.is_empty() {
        let properties: Map<String, Value> =
            members.iter().map(|(name, f)| ((*name).to_string(), property(ty, f, version))).collect();
        schema.insert("properties".into(), properties.into());
    }
    schema
}

/// The schema of one member.
fn property(ty: &Type, field: &Field, version: Version) -> Value {
    let mut schema = match field.card {
        Card::One => item(field, version, true),
        Card::List => wrap("array", "items", item(field, version, false)),
        Card::Map => wrap("object", "additionalProperties", item(field, version, false)),
    };
    let description = describe::field(ty.name, field.json);
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
    if let Some(default) = published_default(field, version) {
        schema.insert("default".into(), default);
    }
    extensions(&mut schema, field);
    Value::Object(schema)
}

fn wrap(type_: &str, member: &str, inner: Map<String, Value>) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".into(), type_.into());
    schema.insert(member.into(), inner.into());
    schema
}

/// The schema of a value. Beside a reference v3 allows nothing else, so that it is wrapped where more is said.
fn item(field: &Field, version: Version, alone: bool) -> Map<String, Value> {
    let schema = match field.kind {
        FieldKind::String => json!({"type": "string"}),
        FieldKind::Int32 => json!({"type": "integer", "format": "int32"}),
        FieldKind::Int64 => json!({"type": "integer", "format": "int64"}),
        FieldKind::Bool => json!({"type": "boolean"}),
        FieldKind::Double => json!({"type": "number", "format": "double"}),
        FieldKind::Bytes => json!({"type": "string", "format": "byte"}),
        FieldKind::Any => json!({"type": "object"}),
        FieldKind::Message => reference(field, version, alone),
    };
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    if !field.enum_values.is_empty() {
        schema.insert("enum".into(), field.enum_values.to_vec().into());
    }
    schema
}

fn reference(field: &Field, version: Version, alone: bool) -> Value {
    let Some(ty) = field.ty() else { return json!({}) };
    if ty.form == JsonForm::Strings {
        return json!({"type": "array", "items": {"type": "string"}});
    }
    match (version, alone) {
        (Version::V2, _) => version.reference(ty.name),
        (Version::V3, true) => json!({"allOf": [version.reference(ty.name)]}),
        (Version::V3, false) if ty.form == JsonForm::Object => json!({"allOf": [version.reference(ty.name)], "default": {}}),
        (Version::V3, false) => version.reference(ty.name),
    }
}

/// v2 has no defaults beside references.
fn published_default(field: &Field, version: Version) -> Option<Value> {
    let default = serde_json::from_str(field.default?).ok()?;
    (version == Version::V3 || field.kind != FieldKind::Message).then_some(default)
}

fn extensions(schema: &mut Map<String, Value>, field: &Field) {
    let list_type = field.list_type.map(|t| match t {
        ListType::Atomic => "atomic",
        ListType::Map => "map",
        ListType::Set => "set",
    });
    if let Some(list_type) = list_type {
        schema.insert("x-kubernetes-list-type".into(), list_type.into());
    }
    if !field.list_keys.is_empty() {
        schema.insert("x-kubernetes-list-map-keys".into(), field.list_keys.to_vec().into());
    }
    if field.map_type == Some(MapType::Atomic) && field.card == Card::Map {
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if !field.patch_strategy.is_empty() {
        schema.insert("x-kubernetes-patch-strategy".into(), field.patch_strategy.into());
    }
    if let Some(key) = field.patch_key {
        schema.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
}

/// `x-kubernetes-unions` of types that have a discriminated union.
fn unions(ty: &Type) -> Option<Value> {
    let (discriminator, members) = ty.unions.split_once(':')?;
    let fields: Map<String, Value> =
        members.split(',').map(|m| (m.to_string(), Value::from(capital(m)))).collect();
    let mut union = Map::new();
    if !discriminator.is_empty() {
        union.insert("discriminator".into(), discriminator.into());
    }
    union.insert("fields-to-discriminateBy".into(), fields.into());
    Some(json!([union]))
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Adds a type and all types it refers to.
pub fn collect(ty: &'static Type, into: &mut BTreeSet<&'static str>) {
    if ty.form == JsonForm::Strings || !into.insert(ty.name) {
        return;
    }
    if ty.form != JsonForm::Object {
        return;
    }
    for (_, field) in ty.members() {
        if let Some(inner) = field.ty() {
            collect(inner, into);
        }
    }
}
