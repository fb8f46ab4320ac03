use super::*;
use machinery::schema::{self, Card, Field, FieldKind, JsonForm, type_named};
use serde_json::{Map, json};

/// A sample object of a type with every member set, two levels of recursion deep.
fn sample(ty: &'static Type, depth: usize) -> Value {
    match ty.form {
        JsonForm::Time => json!("2026-01-02T03:04:05Z"),
        JsonForm::MicroTime => json!("2026-01-02T03:04:05.678901Z"),
        JsonForm::Quantity => json!("1536Mi"),
        JsonForm::IntOrString if depth.is_multiple_of(2) => json!("25%"),
        JsonForm::IntOrString => json!(-8080),
        JsonForm::Duration => json!("1m30s"),
        JsonForm::Raw | JsonForm::FieldsV1 => json!({"f:a": {"f:b": {}}}),
        JsonForm::Json => json!({"x": [1, "a", null]}),
        JsonForm::Strings => json!(["a", "b"]),
        JsonForm::SchemaOrArray => json!([{"type": "string"}]),
        JsonForm::SchemaOrBool => json!(false),
        JsonForm::SchemaOrStrings => json!(["a"]),
        JsonForm::Object => {
            let fields = ty.members().iter().map(|(_, field)| *field);
            let embedded = |f: &&Field| ty.is_kind() && ["apiVersion", "kind"].contains(&f.json);
            let set = fields
                .filter(|f| f.tag > 0 && !embedded(f))
                .filter_map(|f| Some((f.json.to_string(), sample_field(f, depth)?)));
            let mut map: Map<String, Value> = set.collect();
            crate::zero::fill(&mut map, ty);
            Value::Object(map)
        }
    }
}

fn sample_field(field: &'static Field, depth: usize) -> Option<Value> {
    if depth > 9 || field.kind == FieldKind::Any {
        return None;
    }
    let item = match field.kind {
        FieldKind::String => json!(format!("text-{}", field.tag)),
        FieldKind::Int32 => json!(-7),
        FieldKind::Int64 => json!(1_i64 << 40),
        FieldKind::Bool => json!(true),
        FieldKind::Double => json!(1.5),
        FieldKind::Bytes => json!("aGVsbG8="),
        FieldKind::Message => sample(field.ty()?, depth + 1),
        FieldKind::Any => return None,
    };
    Some(match field.card {
        Card::One => item,
        Card::List => json!([item.clone(), item]),
        Card::Map => json!({"a": item.clone(), "b.c/d": item}),
    })
}

#[test]
fn every_kind_survives_the_round_trip() {
    for ty in schema::all_types().iter().filter(|t| t.is_kind() && has_form(t)) {
        // JSON schemas refer to themselves, which would make the sample explode.
        if ty.name.contains("CustomResourceDefinition") || ty.name.contains("WatchEvent") {
            continue;
        }
        let value = sample(ty, 4);
        let bytes = encode_message(&value, ty);
        let back = decode_message(&bytes, ty).unwrap_or_else(|e| panic!("{}: {e}", ty.name));
        assert_eq!(back, value, "{}", ty.name);
        let through_json = crate::json::decode_value(value.clone(), ty).expect(ty.name);
        assert_eq!((through_json.value, through_json.strict_errors), (value, vec![]), "{}", ty.name);
    }
}

#[test]
fn schemas_survive() {
    let ty =
        type_named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").expect("type");
    let value = json!({"type": "object", "properties": {"a": {"items": {"type": "string"}}, "b": {"items": [{"maximum": 1.5}]}},
        "additionalProperties": {"type": "integer"}, "enum": [1, "a"], "dependencies": {"d": ["e"], "f": {"type": "string"}},
        "additionalItems": false, "default": {"x": [null]}, "x-kubernetes-int-or-string": true, "minimum": 0});
    assert_eq!(decode_message(&encode_message(&value, ty), ty).expect("ok"), value);
}

#[test]
fn bytes_are_upstreams() {
    let ty = type_named("io.k8s.api.core.v1.ConfigMap").expect("type");
    let bytes = encode_object(&json!({"metadata": {"name": "a"}, "data": {"k": "v"}}), ty, "v1", "ConfigMap");
    let mut want = b"k8s\0".to_vec();
    want.extend_from_slice(&[0x0a, 15, 0x0a, 2, b'v', b'1', 0x12, 9]);
    want.extend_from_slice(b"ConfigMap");
    // metadata: name, generateName, namespace, selfLink, uid, resourceVersion, generation 0, zero creationTimestamp
    let meta = [0x0a, 1, b'a', 0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0, 0x32, 0, 0x38, 0, 0x42, 0];
    want.extend_from_slice(&[0x12, (2 + meta.len() + 8) as u8, 0x0a, meta.len() as u8]);
    want.extend_from_slice(&meta);
    want.extend_from_slice(&[0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v', 0x1a, 0, 0x22, 0]);
    assert_eq!(bytes, want);
    let (api_version, kind, value) = decode_object(&bytes).expect("decodes");
    assert_eq!((api_version.as_str(), kind.as_str()), ("v1", "ConfigMap"));
    assert_eq!(
        value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}})
    );
}

#[test]
fn lists_and_watch_frames() {
    let ty = type_named("io.k8s.api.core.v1.ConfigMap").expect("type");
    let item = encode_message(&json!({"metadata": {"name": "a"}}), ty);
    let list = encode_list(&json!({"resourceVersion": "7"}), &[item.clone(), item], "v1", "ConfigMapList");
    let (_, kind, value) = decode_object(&list).expect("list");
    assert_eq!(kind, "ConfigMapList");
    assert_eq!(value["items"], json!([{"metadata": {"name": "a"}}, {"metadata": {"name": "a"}}]));
    assert_eq!(value["metadata"]["resourceVersion"], "7");
    let event = watch_event("ADDED", &list);
    assert_eq!(open_watch_event(&event).expect("event"), ("ADDED".to_string(), list.as_slice()));
}

#[test]
fn status_and_options() {
    let status = machinery::status::Status::not_found("", "pods", "x").to_value();
    let (_, _, back) = decode_object(&encode(&status).expect("encodes")).expect("decodes");
    assert_eq!(back, status);
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}});
    let (_, _, back) = decode_object(&encode(&options).expect("encodes")).expect("decodes");
    assert_eq!(back, options);
    assert!(encode(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table"})).is_err());
}

#[test]
fn garbage_is_refused() {
    for bad in [
        &b""[..],
        b"k8s\0",
        b"k8s",
        b"k8s\0\x0a\xff",
        b"k8s\0\x07",
        b"{}",
        b"k8s\0\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    ] {
        assert!(decode_object(bad).is_err(), "{bad:?}");
    }
    let wrong = envelope(b"", "v1", "Nonsense");
    assert!(matches!(decode_object(&wrong), Err(ProtoError::UnknownKind { .. })));
}
