//! Answers: objects and lists in the form that was asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use machinery::status::Status;
use serde_json::{Map, Value, json};

use super::Target;
use super::convert;
use super::create::Made;
use super::list::Page;
use super::negotiate::{Encoding, Format, View};
use crate::cache::Entry;
use crate::http::{self as web, Response};

/// What a create or update made.
pub fn made(target: &Target, format: &Format, code: StatusCode, made: Made) -> Result<Response, Status> {
    match made {
        Made::Stored(entry) => self::entry(target, format, code, &entry),
        Made::Dry(value) => object_value(target, format, code, value),
    }
}

/// The same as a value.
pub fn to_value(target: &Target, made: Made) -> Result<Value, Status> {
    match made {
        Made::Stored(entry) => entry_value(target, &entry),
        Made::Dry(value) => Ok(value),
    }
}

/// An entry as a value of the target's version.
pub fn entry_value(target: &Target, entry: &Arc<Entry>) -> Result<Value, Status> {
    let mut value = entry.parse();
    convert::from_stored(&mut value, target)?;
    Ok(value)
}

/// A stored object. Whole JSON in the stored version is sent as it lies in the cache.
pub fn entry(
    target: &Target,
    format: &Format,
    code: StatusCode,
    entry: &Arc<Entry>,
) -> Result<Response, Status> {
    if format.is_plain() && !convert::is_foreign(target) {
        return Ok(web::reply(code, "application/json", entry.json_bytes()));
    }
    object_value(target, format, code, entry_value(target, entry)?)
}

/// An object of the target's kind.
pub fn object_value(
    target: &Target,
    format: &Format,
    code: StatusCode,
    object: Value,
) -> Result<Response, Status> {
    match format.view {
        View::Whole => value(target, format, code, object),
        View::Partial => value(target, format, code, partial(&object, format)),
        View::Table => {
            let meta = json!({"resourceVersion": machinery::meta::resource_version(&object)});
            let table = table(target, format, "", &[object], meta);
            value(target, format, code, table)
        }
    }
}

/// Any value, encoded as asked for.
pub fn value(target: &Target, format: &Format, code: StatusCode, value: Value) -> Result<Response, Status> {
    let body = bytes(target, format, &value)?;
    Ok(web::reply(code, format.encoding.media_type(), body))
}

/// A Status, in the encoding that was asked for.
pub fn status(format: &Format, code: StatusCode, status: &Status) -> Result<Response, Status> {
    let value = status.to_value();
    let body = match format.encoding {
        Encoding::Protobuf => proto(&value)?,
        Encoding::Yaml => yaml(&value)?,
        Encoding::Json => json_text(&value, format.pretty)?,
    };
    Ok(web::reply(code, format.encoding.media_type(), body))
}

/// Encodes a value.
pub fn bytes(target: &Target, format: &Format, value: &Value) -> Result<Bytes, Status> {
    match format.encoding {
        Encoding::Json => json_text(value, format.pretty),
        Encoding::Yaml => yaml(value),
        Encoding::Protobuf if target.resource.object_type.is_none() && format.view == View::Whole => {
            Err(Status::not_acceptable(&["application/json", "application/yaml"]))
        }
        Encoding::Protobuf => proto(value),
    }
}

fn json_text(value: &Value, pretty: bool) -> Result<Bytes, Status> {
    let text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    text.map(Bytes::from).map_err(Status::internal)
}

fn yaml(value: &Value) -> Result<Bytes, Status> {
    codec::yaml::encode(value).map(Bytes::from).map_err(Status::internal)
}

/// The enveloped protobuf form; the schema is found by the value's apiVersion and kind.
pub fn proto(value: &Value) -> Result<Bytes, Status> {
    codec::proto::encode(value).map(Bytes::from).map_err(Status::internal)
}

/// PartialObjectMetadata of an object.
pub fn partial(object: &Value, format: &Format) -> Value {
    let mut partial = Map::new();
    partial.insert("kind".into(), "PartialObjectMetadata".into());
    partial.insert("apiVersion".into(), format!("meta.k8s.io/{}", format.meta_version).into());
    partial.insert("metadata".into(), object.get("metadata").cloned().unwrap_or_else(|| json!({})));
    Value::Object(partial)
}

/// What the JSON of an entry's PartialObjectMetadata consists of: text before and behind its metadata.
pub fn partial_frame(format: &Format) -> (String, &'static str) {
    let version = &format.meta_version;
    (format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":"#), "}")
}

/// A Table of objects. `include` is `includeObject` of the query.
pub fn table(target: &Target, format: &Format, include: &str, objects: &[Value], list_meta: Value) -> Value {
    let mut table = codec::table::render(&target.resource, target.sub(), objects, include);
    table["apiVersion"] = format!("meta.k8s.io/{}", format.meta_version).into();
    table["metadata"] = list_meta;
    table
}

/// A list of values, such as what a deletecollection deleted.
pub fn list_values(
    target: &Target,
    format: &Format,
    page: &Page,
    items: Vec<Value>,
) -> Result<Response, Status> {
    let meta = page.meta();
    let body = match format.view {
        View::Table => table(target, format, "", &items, meta),
        View::Partial => {
            let items: Vec<Value> = items.iter().map(|o| partial(o, format)).collect();
            let api_version = format!("meta.k8s.io/{}", format.meta_version);
            json!({"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": meta, "items": items})
        }
        View::Whole => {
            let (kind, api_version) = (&target.resource.list_kind, target.resource.api_version());
            json!({"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items})
        }
    };
    value(target, format, StatusCode::OK, body)
}
