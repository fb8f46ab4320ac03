//! Request bodies: read, decoded, checked against the kind that is expected.

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use machinery::kinds::{Gvk, split_api_version};
use machinery::meta;
use machinery::schema::Type;
use machinery::status::Status;
use serde_json::Value;

use super::negotiate::{Encoding, body_encoding};
use super::params::Query;
use crate::http::RequestBody;
use crate::request::Ctx;

/// Largest body that is read.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Reads a body whole; 413 when it is too large.
pub async fn read(mut body: RequestBody) -> Result<Bytes, Status> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Status::bad_request(format!("error reading request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY {
            return Err(Status::request_entity_too_large(format!("limit is {MAX_BODY}")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// What to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Drop them.
    Ignore,
    /// Drop them with a warning each.
    Warn,
    /// Refuse the request.
    Strict,
}

impl Validation {
    /// `fieldValidation` of a query.
    pub fn of(query: &Query) -> Result<Self, Status> {
        match query.get("fieldValidation") {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let at = machinery::field::Path::new("fieldValidation");
                let error = machinery::field::FieldError::not_supported(
                    &at,
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                );
                Err(Status::invalid("meta.k8s.io", "CreateOptions", "", vec![error]))
            }
        }
    }

    /// Applies the mode to what a decoder found.
    pub fn judge(self, ctx: &Ctx, kind: &Gvk, entries: &[String]) -> Result<(), Status> {
        match self {
            _ if entries.is_empty() => Ok(()),
            Self::Ignore => Ok(()),
            Self::Warn => {
                entries.iter().for_each(|entry| ctx.warnings.add(entry.clone()));
                Ok(())
            }
            Self::Strict => Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                entries.join(", ")
            ))),
        }
    }
}

/// The kind a body must have.
pub struct Expected {
    /// Group, version, kind.
    pub gvk: Gvk,
    /// Schema, for built-in kinds.
    pub object_type: Option<&'static Type>,
}

/// Decodes an object; its apiVersion and kind are filled in if absent, and must be the expected ones otherwise.
pub fn decode(
    ctx: &Ctx,
    headers: &HeaderMap,
    bytes: &[u8],
    expected: &Expected,
    validation: Validation,
) -> Result<Value, Status> {
    let encoding = body_encoding(headers)?;
    let (mut value, entries) = parse(encoding, bytes, expected)?;
    check_kind(&mut value, &expected.gvk)?;
    validation.judge(ctx, &expected.gvk, &entries)?;
    Ok(value)
}

fn parse(encoding: Encoding, bytes: &[u8], expected: &Expected) -> Result<(Value, Vec<String>), Status> {
    let gvk = &expected.gvk;
    let bad = |why: String| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            gvk.kind, gvk.version, gvk.kind
        ))
    };
    let framed = |e: codec::json::DecodeError| Status::bad_request(e.framed(&gvk.kind, &gvk.version));
    let decoded = match (encoding, expected.object_type) {
        (Encoding::Json, Some(object_type)) => codec::json::decode(bytes, object_type).map_err(framed)?,
        (Encoding::Json, None) => codec::json::decode_any(bytes).map_err(framed)?,
        (Encoding::Yaml, Some(object_type)) => codec::yaml::decode(bytes, object_type).map_err(framed)?,
        (Encoding::Yaml, None) => codec::yaml::decode_any(bytes).map_err(framed)?,
        (Encoding::Protobuf, Some(object_type)) => {
            let value = codec::proto::decode_object_as(bytes, object_type).map_err(|e| bad(e.to_string()))?;
            return Ok((value, Vec::new()));
        }
        (Encoding::Protobuf, None) => {
            return Err(Status::unsupported_media_type(&["application/json", "application/yaml"]));
        }
    };
    Ok((decoded.value, decoded.strict_errors))
}

fn check_kind(value: &mut Value, expected: &Gvk) -> Result<(), Status> {
    if !value.is_object() {
        return Err(Status::bad_request("the request body must be an object"));
    }
    let (api_version, kind) = (meta::api_version(value).to_owned(), meta::kind(value).to_owned());
    let wanted = expected.api_version();
    if !api_version.is_empty() && api_version != wanted {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        let (_, version) = split_api_version(&wanted);
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: converting (v1.{kind}) to (v1.{}): unknown conversion",
            expected.kind, expected.kind
        )));
    }
    meta::set_type(value, &wanted, &expected.kind);
    Ok(())
}

/// DeleteOptions from the body, or from the query when there is none. `null` is none, too.
pub fn delete_options(headers: &HeaderMap, bytes: &[u8], query: &Query) -> Result<Value, Status> {
    let mut options = match bytes.trim_ascii() {
        [] | b"null" => serde_json::json!({}),
        _ => decode_options(headers, bytes)?,
    };
    let Some(map) = options.as_object_mut() else {
        return Err(Status::bad_request("DeleteOptions must be an object"));
    };
    if let Some(seconds) = query.number("gracePeriodSeconds")? {
        map.entry("gracePeriodSeconds").or_insert(seconds.into());
    }
    if query.has("orphanDependents") {
        map.entry("orphanDependents").or_insert(query.flag("orphanDependents").into());
    }
    if query.has("propagationPolicy") {
        map.entry("propagationPolicy").or_insert(query.get("propagationPolicy").into());
    }
    let dry_run: Vec<_> = query.all("dryRun").into_iter().filter(|v| !v.is_empty()).collect();
    if !dry_run.is_empty() {
        map.entry("dryRun").or_insert(dry_run.into());
    }
    Ok(options)
}

fn decode_options(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, Status> {
    let Some(object_type) = machinery::kinds::type_of("meta.k8s.io", "v1", "DeleteOptions") else {
        return serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()));
    };
    let expected = Expected { gvk: Gvk::new("", "v1", "DeleteOptions"), object_type: Some(object_type) };
    parse(body_encoding(headers)?, bytes, &expected).map(|(value, _)| value)
}
