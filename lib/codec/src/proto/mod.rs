//! Kubernetes protobuf over `serde_json::Value`, driven by the type table: envelope, objects, lists, watch frames.

mod read;
pub mod wire;
mod write;

use machinery::kinds::{split_api_version, type_of};
use machinery::schema::Type;
use serde_json::Value;

pub use read::decode_message;
pub use write::encode_message;

/// Media type of objects.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Media type of watch streams.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// The bytes every envelope starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Why bytes are no protobuf object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// No magic prefix.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// Nothing behind the prefix.
    #[error("empty body")]
    Empty,
    /// The bytes end inside a value.
    #[error("unexpected EOF")]
    Eof,
    /// A malformed value.
    #[error("proto: {0}")]
    Malformed(&'static str),
    /// A kind that has no protobuf form here.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// apiVersion of the envelope.
        api_version: String,
        /// Kind of the envelope.
        kind: String,
    },
}

/// The parts of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// apiVersion; may be empty.
    pub api_version: String,
    /// Kind; may be empty.
    pub kind: String,
    /// The bare message.
    pub raw: &'a [u8],
}

/// True when the bytes start with the magic prefix.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// True when a type has a protobuf form. Table has none.
pub fn has_form(ty: &Type) -> bool {
    ty.fields.iter().any(|f| f.tag > 0) || ty.fields.iter().all(|f| f.inline)
}

/// Wraps a bare message.
pub fn envelope(raw: &[u8], api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 64);
    out.extend_from_slice(&MAGIC);
    wire::message(&mut out, 1, |out| {
        wire::bytes(out, 1, api_version.as_bytes());
        wire::bytes(out, 2, kind.as_bytes());
    });
    wire::bytes(&mut out, 2, raw);
    wire::bytes(&mut out, 3, b"");
    wire::bytes(&mut out, 4, b"");
    out
}

/// Opens an envelope.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, ProtoError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(ProtoError::Prefix)?;
    if body.is_empty() {
        return Err(ProtoError::Empty);
    }
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    let mut reader = wire::Reader::new(body);
    while let Some((tag, value)) = reader.field()? {
        match (tag, value) {
            (1, wire::Value::Bytes(meta)) => read_type_meta(meta, &mut envelope)?,
            (2, wire::Value::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

fn read_type_meta(bytes: &[u8], envelope: &mut Envelope<'_>) -> Result<(), ProtoError> {
    let mut reader = wire::Reader::new(bytes);
    while let Some((tag, value)) = reader.field()? {
        match (tag, value) {
            (1, wire::Value::Bytes(text)) => envelope.api_version = wire::text(text)?,
            (2, wire::Value::Bytes(text)) => envelope.kind = wire::text(text)?,
            _ => {}
        }
    }
    Ok(())
}

/// Encodes an object with its envelope.
pub fn encode_object(value: &Value, ty: &Type, api_version: &str, kind: &str) -> Vec<u8> {
    envelope(&encode_message(value, ty), api_version, kind)
}

/// Encodes any value that carries its own `apiVersion` and `kind`, `Status` included.
pub fn encode(value: &Value) -> Result<Vec<u8>, ProtoError> {
    let (api_version, kind) = (machinery::meta::api_version(value), machinery::meta::kind(value));
    let ty = find_type(api_version, kind)?;
    Ok(encode_object(value, ty, api_version, kind))
}

/// Decodes an enveloped object; the type is found by its apiVersion and kind, which come back with it.
pub fn decode_object(bytes: &[u8]) -> Result<(String, String, Value), ProtoError> {
    let envelope = open(bytes)?;
    let ty = find_type(&envelope.api_version, &envelope.kind)?;
    let value = decode_message(envelope.raw, ty)?;
    Ok(typed(envelope, value))
}

/// Decodes an enveloped object of this type, whatever the envelope says; its apiVersion and kind are kept when set.
pub fn decode_object_as(bytes: &[u8], ty: &'static Type) -> Result<Value, ProtoError> {
    let envelope = open(bytes)?;
    let mut value = decode_message(envelope.raw, ty)?;
    if let Some(map) = value.as_object_mut() {
        let named = [("apiVersion", envelope.api_version), ("kind", envelope.kind)];
        map.extend(
            named
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(k, text)| (k.to_string(), text.into())),
        );
    }
    Ok(value)
}

fn typed(envelope: Envelope<'_>, mut value: Value) -> (String, String, Value) {
    machinery::meta::set_type(&mut value, &envelope.api_version, &envelope.kind);
    (envelope.api_version, envelope.kind, value)
}

fn find_type(api_version: &str, kind: &str) -> Result<&'static Type, ProtoError> {
    let (group, version) = split_api_version(api_version);
    let found = type_of(group, version, kind).filter(|ty| has_form(ty));
    found.ok_or_else(|| ProtoError::UnknownKind { api_version: api_version.into(), kind: kind.into() })
}

/// Builds an enveloped typed list from its metadata and already encoded items (bare messages).
pub fn encode_list<B: AsRef<[u8]>>(
    list_meta: &Value,
    items: &[B],
    api_version: &str,
    list_kind: &str,
) -> Vec<u8> {
    let size: usize = items.iter().map(|item| item.as_ref().len() + 6).sum();
    let mut raw = Vec::with_capacity(size + 128);
    let meta_type = machinery::schema::type_named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
    let meta = meta_type.map(|ty| encode_message(list_meta, ty)).unwrap_or_default();
    wire::bytes(&mut raw, 1, &meta);
    for item in items {
        wire::bytes(&mut raw, 2, item.as_ref());
    }
    envelope(&raw, api_version, list_kind)
}

/// A bare `WatchEvent` with the enveloped object inside. On the wire four bytes of length (big endian) stand before it.
pub fn watch_event(event_type: &str, enveloped: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(enveloped.len() + 32);
    wire::bytes(&mut body, 1, event_type.as_bytes());
    wire::message(&mut body, 2, |out| wire::bytes(out, 1, enveloped));
    body
}

/// Reads the body of a watch frame (without its length): event type and enveloped object.
pub fn open_watch_event(body: &[u8]) -> Result<(String, &[u8]), ProtoError> {
    let (mut event_type, mut object): (String, &[u8]) = (String::new(), &[]);
    let mut reader = wire::Reader::new(body);
    while let Some((tag, value)) = reader.field()? {
        match (tag, value) {
            (1, wire::Value::Bytes(text)) => event_type = wire::text(text)?,
            (2, wire::Value::Bytes(extension)) => object = only_bytes(extension)?,
            _ => {}
        }
    }
    Ok((event_type, object))
}

/// Field 1 of a message, such as the raw bytes of a `RawExtension`.
fn only_bytes(message: &[u8]) -> Result<&[u8], ProtoError> {
    let mut reader = wire::Reader::new(message);
    let mut found: &[u8] = &[];
    while let Some((tag, value)) = reader.field()? {
        if let (1, wire::Value::Bytes(bytes)) = (tag, value) {
            found = bytes;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
