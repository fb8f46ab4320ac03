//! Types as JSON schemas.

use std::collections::BTreeMap;

use machinery::kinds::Resource;
use machinery::schema::{self, Card, Field, FieldKind, JsonForm, ListType, MapType, Type};
use serde_json::{Value, json};

use super::describe;

/// Which OpenAPI the schema is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger 2.0: `#/definitions/`.
    V2,
    /// OpenAPI 3.0: `#/components/schemas/`.
    V3,
}

/// Types that every operation refers to.
const COMMON: [&str; 2] =
    ["io.k8s.apimachinery.pkg.apis.meta.v1.Status", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"];

/// The schemas of the resources, their lists and subresources, and of all they refer to, by name.
pub fn definitions(resources: &[&Resource], dialect: Dialect) -> BTreeMap<&'static str, Value> {
    let mut todo: Vec<&'static Type> = COMMON.iter().filter_map(|n| schema::type_named(n)).collect();
    for resource in resources {
        todo.extend(resource.object_type);
        todo.extend(resource.object_type.and_then(schema::list_type_of));
        todo.extend(resource.subresources.iter().filter_map(|s| s.object_type));
    }
    let mut found = BTreeMap::new();
    while let Some(ty) = todo.pop() {
        if found.contains_key(ty.name) {
            continue;
        }
        todo.extend(ty.members().iter().filter_map(|(_, f)| f.ty()));
        found.insert(ty.name, of_type(ty, dialect));
    }
    found
}

/// A reference to a type.
pub fn reference(ty: &Type, dialect: Dialect) -> Value {
    let place = if dialect == Dialect::V2 { "definitions" } else { "components/schemas" };
    json!({"$ref": format!("#/{place}/{}", ty.name)})
}

fn of_type(ty: &'static Type, dialect: Dialect) -> Value {
    let mut schema = match ty.form {
        JsonForm::Object => object(ty, dialect),
        JsonForm::Time | JsonForm::MicroTime => json!({"type": "string", "format": "date-time"}),
        JsonForm::Duration => json!({"type": "string"}),
        JsonForm::Quantity if dialect == Dialect::V2 => json!({"type": "string"}),
        JsonForm::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        JsonForm::IntOrString if dialect == Dialect::V2 => {
            json!({"type": "string", "format": "int-or-string"})
        }
        JsonForm::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        JsonForm::Raw | JsonForm::FieldsV1 => json!({"type": "object"}),
        JsonForm::Strings => json!({"type": "array", "items": {"type": "string"}}),
        _ => json!({}),
    };
    let description = describe::of_type(ty.name);
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    if let Some(gvk) = group_version_kind(ty) {
        schema["x-kubernetes-group-version-kind"] = json!([gvk]);
    }
    if ty.map_type == Some(MapType::Atomic) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    schema
}

fn group_version_kind(ty: &Type) -> Option<Value> {
    let parts: Vec<&str> = ty.gvk.split('/').collect();
    let [group, version, kind] = parts[..] else { return None };
    (group != "*").then(|| json!({"group": group, "version": version, "kind": kind}))
}

fn object(ty: &'static Type, dialect: Dialect) -> Value {
    let members = ty.members();
    let properties: serde_json::Map<String, Value> =
        members.iter().map(|(name, f)| (name.to_string(), described(ty, f, dialect))).collect();
    let required: Vec<&str> = members.iter().filter(|(_, f)| f.required).map(|(name, _)| *name).collect();
    let mut schema = json!({"type": "object"});
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn described(ty: &Type, field: &'static Field, dialect: Dialect) -> Value {
    let mut schema = property(field, dialect);
    let description = describe::field(ty.name, field.json);
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn property(field: &'static Field, dialect: Dialect) -> Value {
    let mut schema = match field.card {
        Card::One => value(field, dialect),
        Card::List => json!({"type": "array", "items": value(field, dialect)}),
        Card::Map => json!({"type": "object", "additionalProperties": value(field, dialect)}),
    };
    if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    extensions(field, &mut schema);
    schema
}

fn extensions(field: &Field, schema: &mut Value) {
    if field.card == Card::List {
        if let Some(list) = field.list_type {
            schema["x-kubernetes-list-type"] = list_type(list).into();
        }
        if !field.list_keys.is_empty() {
            schema["x-kubernetes-list-map-keys"] = json!(field.list_keys);
        }
    }
    if field.map_type == Some(MapType::Atomic) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    if !field.patch_strategy.is_empty() {
        schema["x-kubernetes-patch-strategy"] = field.patch_strategy.into();
    }
    if let Some(key) = field.patch_key {
        schema["x-kubernetes-patch-merge-key"] = key.into();
    }
    if let Some(default) = field.default.and_then(|d| serde_json::from_str::<Value>(d).ok()) {
        schema["default"] = default;
    }
}

fn list_type(list: ListType) -> &'static str {
    match list {
        ListType::Atomic => "atomic",
        ListType::Map => "map",
        ListType::Set => "set",
    }
}

fn value(field: &'static Field, dialect: Dialect) -> Value {
    let (kind, format) = match field.kind {
        FieldKind::String => ("string", None),
        FieldKind::Int32 => ("integer", Some("int32")),
        FieldKind::Int64 => ("integer", Some("int64")),
        FieldKind::Bool => ("boolean", None),
        FieldKind::Double => ("number", Some("double")),
        FieldKind::Bytes => ("string", Some("byte")),
        FieldKind::Any => return json!({}),
        FieldKind::Message => {
            return field.ty().map_or_else(|| json!({"type": "object"}), |ty| reference(ty, dialect));
        }
    };
    let mut schema = json!({"type": kind});
    if let Some(format) = field.format.or(format) {
        schema["format"] = format.into();
    }
    if !field.enum_values.is_empty() {
        schema["enum"] = json!(field.enum_values);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        for dialect in [Dialect::V2, Dialect::V3] {
            let all: Vec<&Resource> = machinery::kinds::builtin().iter().map(|r| r.as_ref()).collect();
            let definitions = definitions(&all, dialect);
            let text = serde_json::to_string(&definitions).unwrap();
            for reference in text.split("\"$ref\":\"#/").skip(1) {
                let name = reference.split('"').next().unwrap().rsplit('/').next().unwrap();
                assert!(definitions.contains_key(name), "{name}");
            }
        }
    }

    #[test]
    fn patch_metadata_is_there() {
        let pod = machinery::kinds::find("", "v1", "pods").unwrap();
        let all = definitions(&[pod.as_ref()], Dialect::V3);
        let spec = &all["io.k8s.api.core.v1.PodSpec"];
        let containers = &spec["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert!(spec["required"].as_array().unwrap().contains(&"containers".into()));
        let pod = &all["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"];
        assert_eq!(pod[0], json!({"group": "", "version": "v1", "kind": "Pod"}));
    }
}
