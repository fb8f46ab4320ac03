//! Finding one's way in OpenAPI schemas.

use coxctl_kit::Kind;
use serde_json::Value;

/// The schema of a kind.
pub fn of_kind<'a>(document: &'a Value, kind: &Kind) -> Option<&'a Value> {
    let schemas = document["components"]["schemas"].as_object()?;
    let names = |schema: &Value| {
        schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(|named| {
            named["group"] == kind.group.as_str()
                && named["version"] == kind.version.as_str()
                && named["kind"] == kind.kind.as_str()
        })
    };
    schemas.values().find(|schema| names(schema))
}

/// What a `$ref` points at.
pub fn refer<'a>(document: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    document["components"]["schemas"].get(ref_name(schema)?)
}

/// The name a `$ref` names.
pub fn ref_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// The single schema of an `allOf`, where that is all there is.
pub fn only(schema: &Value) -> Option<&Value> {
    match schema["allOf"].as_array().map(Vec::as_slice) {
        Some([one]) if schema["properties"].is_null() => Some(one),
        _ => None,
    }
}

/// The schema that holds the fields: through references, lists and maps.
pub fn inner<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    if schema["properties"].is_object() {
        return schema;
    }
    let next = refer(document, schema)
        .or_else(|| only(schema))
        .or_else(|| schema.get("items"))
        .or_else(|| schema.get("additionalProperties").filter(|more| more.is_object()));
    next.map_or(schema, |next| inner(document, next))
}

/// How a type is called: `[]Container`, `map[string]string`, `integer`.
pub fn type_name(document: &Value, schema: &Value) -> String {
    if let Some(items) = schema.get("items") {
        return format!("[]{}", type_name(document, items));
    }
    if let Some(more) = schema.get("additionalProperties").filter(|more| more.is_object()) {
        return format!("map[string]{}", type_name(document, more));
    }
    if let Some(one) = only(schema) {
        return type_name(document, one);
    }
    if let Some(name) = ref_name(schema) {
        let target = refer(document, schema);
        let simple = target.and_then(|target| target["type"].as_str()).filter(|simple| *simple != "object");
        return simple.unwrap_or_else(|| name.rsplit('.').next().unwrap_or(name)).to_string();
    }
    schema["type"].as_str().unwrap_or("Object").to_string()
}

/// The allowed values, through references.
pub fn values(document: &Value, schema: &Value) -> Vec<String> {
    if let Some(values) = schema["enum"].as_array() {
        let shown = |value: &Value| match value.as_str() {
            Some("") => "\"\"".to_string(),
            Some(text) => text.to_string(),
            None => value.to_string(),
        };
        return values.iter().map(shown).collect();
    }
    refer(document, schema).or_else(|| only(schema)).map(|next| values(document, next)).unwrap_or_default()
}

/// A schema's own text and those of what it refers to.
pub fn descriptions(document: &Value, schema: &Value) -> Vec<String> {
    let mut all: Vec<String> = schema["description"].as_str().map(str::to_string).into_iter().collect();
    let next = refer(document, schema)
        .or_else(|| only(schema))
        .or_else(|| schema.get("items"))
        .or_else(|| schema.get("additionalProperties").filter(|more| more.is_object()));
    if let Some(next) = next {
        all.extend(descriptions(document, next));
    }
    all
}
