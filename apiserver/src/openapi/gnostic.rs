//! The protobuf form of an OpenAPI v2 document, as kubectl asks for it: the message numbers of gnostic's
//! `openapi.v2.Document`, filled from the JSON form piece by piece.

use codec::proto::wire;
use serde_json::Value;

/// Field numbers of the document.
const SWAGGER: u32 = 1;
const INFO: u32 = 2;
const PATHS: u32 = 8;
const DEFINITIONS: u32 = 9;

fn text(out: &mut Vec<u8>, tag: u32, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str) {
        wire::bytes(out, tag, text.as_bytes());
    }
}

fn texts(out: &mut Vec<u8>, tag: u32, value: Option<&Value>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        text(out, tag, Some(item));
    }
}

fn flag(out: &mut Vec<u8>, tag: u32, value: Option<&Value>) {
    if value.and_then(Value::as_bool) == Some(true) {
        wire::int(out, tag, 1);
    }
}

/// gnostic's `Any`: any value as YAML text, of which JSON is a part.
fn any(out: &mut Vec<u8>, tag: u32, value: &Value) {
    wire::message(out, tag, |out| wire::bytes(out, 2, format!("{value}\n").as_bytes()));
}

/// Members that start with `x-`, as `NamedAny`.
fn vendor_extensions(out: &mut Vec<u8>, tag: u32, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        wire::message(out, tag, |out| {
            wire::bytes(out, 1, name.as_bytes());
            any(out, 2, value);
        });
    }
}

/// A whole document.
pub fn document(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 21);
    text(&mut out, SWAGGER, value.get("swagger"));
    wire::message(&mut out, INFO, |out| {
        text(out, 1, value.pointer("/info/title"));
        text(out, 2, value.pointer("/info/version"));
    });
    wire::message(&mut out, PATHS, |out| {
        for (path, item) in value.get("paths").and_then(Value::as_object).into_iter().flatten() {
            named(out, 2, path, |out| path_item(out, item));
        }
    });
    wire::message(&mut out, DEFINITIONS, |out| {
        for (name, definition) in value.get("definitions").and_then(Value::as_object).into_iter().flatten() {
            named(out, 1, name, |out| schema(out, definition));
        }
    });
    out
}

/// A name in field 1 and what it names in field 2.
fn named(out: &mut Vec<u8>, tag: u32, name: &str, body: impl FnOnce(&mut Vec<u8>)) {
    wire::message(out, tag, |out| {
        wire::bytes(out, 1, name.as_bytes());
        wire::message(out, 2, body);
    });
}

fn path_item(out: &mut Vec<u8>, item: &Value) {
    const METHODS: [(&str, u32); 7] =
        [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];
    for (method, tag) in METHODS {
        if let Some(found) = item.get(method) {
            wire::message(out, tag, |out| operation(out, found));
        }
    }
    parameters(out, 9, item);
}

fn operation(out: &mut Vec<u8>, operation: &Value) {
    texts(out, 1, operation.get("tags"));
    text(out, 3, operation.get("description"));
    text(out, 5, operation.get("operationId"));
    texts(out, 6, operation.get("produces"));
    texts(out, 7, operation.get("consumes"));
    parameters(out, 8, operation);
    wire::message(out, 9, |out| {
        for (code, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
            // ResponseValue with its Response alternative.
            named(out, 1, code, |out| wire::message(out, 1, |out| self::response(out, response)));
        }
    });
    vendor_extensions(out, 13, operation);
}

fn response(out: &mut Vec<u8>, response: &Value) {
    text(out, 1, response.get("description"));
    if let Some(found) = response.get("schema") {
        // SchemaItem with its Schema alternative.
        wire::message(out, 2, |out| wire::message(out, 1, |out| schema(out, found)));
    }
}

fn parameters(out: &mut Vec<u8>, tag: u32, owner: &Value) {
    for found in owner.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        // ParametersItem with its Parameter alternative.
        wire::message(out, tag, |out| wire::message(out, 1, |out| parameter(out, found)));
    }
}

/// A body parameter, or one of the others: query (3) or path (4).
fn parameter(out: &mut Vec<u8>, found: &Value) {
    match found.get("in").and_then(Value::as_str) {
        Some("body") => wire::message(out, 1, |out| body_parameter(out, found)),
        Some("path") => {
            wire::message(out, 2, |out| wire::message(out, 4, |out| plain_parameter(out, found, 5)))
        }
        _ => wire::message(out, 2, |out| wire::message(out, 3, |out| plain_parameter(out, found, 6))),
    }
}

fn body_parameter(out: &mut Vec<u8>, found: &Value) {
    text(out, 1, found.get("description"));
    text(out, 2, found.get("name"));
    text(out, 3, found.get("in"));
    flag(out, 4, found.get("required"));
    if let Some(inner) = found.get("schema") {
        wire::message(out, 5, |out| schema(out, inner));
    }
}

/// Query and path parameters differ in the number of `type`, as queries have `allowEmptyValue` before it.
fn plain_parameter(out: &mut Vec<u8>, found: &Value, type_tag: u32) {
    flag(out, 1, found.get("required"));
    text(out, 2, found.get("in"));
    text(out, 3, found.get("description"));
    text(out, 4, found.get("name"));
    text(out, type_tag, found.get("type"));
}

fn schema(out: &mut Vec<u8>, value: &Value) {
    text(out, 1, value.get("$ref"));
    text(out, 2, value.get("format"));
    text(out, 4, value.get("description"));
    if let Some(default) = value.get("default") {
        any(out, 5, default);
    }
    texts(out, 19, value.get("required"));
    for item in value.get("enum").and_then(Value::as_array).into_iter().flatten() {
        any(out, 20, item);
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => wire::message(out, 21, |out| wire::int(out, 2, i64::from(*allowed))),
        Some(inner) => wire::message(out, 21, |out| wire::message(out, 1, |out| schema(out, inner))),
        None => {}
    }
    if value.get("type").is_some() {
        wire::message(out, 22, |out| text(out, 1, value.get("type")));
    }
    if let Some(items) = value.get("items") {
        wire::message(out, 23, |out| wire::message(out, 1, |out| schema(out, items)));
    }
    if let Some(properties) = value.get("properties").and_then(Value::as_object) {
        wire::message(out, 25, |out| {
            for (name, property) in properties {
                named(out, 1, name, |out| schema(out, property));
            }
        });
    }
    vendor_extensions(out, 31, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn small_document() {
        let value = json!({"swagger": "2.0", "info": {"title": "T", "version": "V"}, "paths": {},
            "definitions": {"a": {"type": "object", "x-k": 1}}});
        let mut want = vec![0x0a, 3, b'2', b'.', b'0', 0x12, 6, 0x0a, 1, b'T', 0x12, 1, b'V', 0x42, 0];
        // definitions { name "a", schema { type { "object" }, extension { "x-k", yaml "1\n" } } }
        let type_item = [0xb2, 0x01, 8, 0x0a, 6, b'o', b'b', b'j', b'e', b'c', b't'];
        let extension = [0xfa, 0x01, 11, 0x0a, 3, b'x', b'-', b'k', 0x12, 4, 0x12, 2, b'1', b'\n'];
        let length = (type_item.len() + extension.len()) as u8;
        want.extend_from_slice(&[0x4a, length + 7, 0x0a, length + 5, 0x0a, 1, b'a', 0x12, length]);
        want.extend_from_slice(&type_item);
        want.extend_from_slice(&extension);
        assert_eq!(document(&value), want);
    }

    #[test]
    fn the_whole_document_is_readable() {
        let resources: Vec<_> =
            machinery::kinds::builtin().iter().filter(|r| r.default_enabled).cloned().collect();
        let bytes = document(&crate::openapi::v2(&resources));
        let mut reader = wire::Reader::new(&bytes);
        let mut tags = Vec::new();
        while let Some((tag, _)) = reader.field().expect("well formed") {
            tags.push(tag);
        }
        assert_eq!(tags, [SWAGGER, INFO, PATHS, DEFINITIONS]);
    }
}
