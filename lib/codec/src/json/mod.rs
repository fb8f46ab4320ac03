//! JSON read against a schema.
//!
//! One pass over the bytes checks types, collects unknown and duplicate fields, drops nulls and empty members the
//! way a Go struct would, and brings times, quantities and base64 into their canonical form.

mod keys;
mod place;
mod slot;
#[cfg(test)]
mod tests;
mod value;

use machinery::schema::Type;
use serde::de::{DeserializeSeed, Deserializer};
use serde_json::Value;

use place::Ctx;
use slot::Slot;
use value::Seed;

/// A decoded object.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// `unknown field "a.b"` and `duplicate field "a.b"`, in the order found.
    pub strict_errors: Vec<String>,
}

/// Why bytes could not be decoded. The texts are those of upstream's decoder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON or YAML at all.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type.
    #[error("{0}")]
    Type(String),
}

impl DecodeError {
    /// The text with the frame upstream puts around it:
    /// `Deployment in version "v1" cannot be handled as a Deployment: …`.
    pub fn framed(&self, kind: &str, version: &str) -> String {
        format!("{kind} in version {version:?} cannot be handled as a {kind}: {self}")
    }
}

/// How to decode.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Add the members upstream prints even when unset (`status: {}`).
    pub fill: bool,
    /// Keep members that are explicitly empty or null (patches need them).
    pub keep_empty: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { fill: true, keep_empty: false }
    }
}

/// Decodes an object of a known type into its canonical form.
pub fn decode(bytes: &[u8], ty: &'static Type) -> Result<Decoded, DecodeError> {
    decode_with(bytes, ty, Options::default())
}

/// Decodes with options.
pub fn decode_with(bytes: &[u8], ty: &'static Type, options: Options) -> Result<Decoded, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let decoded = decode_from(&mut reader, Some(ty), options, syntax_error)?;
    reader.end().map_err(syntax_error)?;
    Ok(decoded)
}

/// Decodes an object without a schema: only duplicate fields are found.
pub fn decode_any(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let decoded = decode_from(&mut reader, None, Options { fill: false, keep_empty: true }, syntax_error)?;
    reader.end().map_err(syntax_error)?;
    Ok(decoded)
}

/// Checks and normalises a value that was put together in memory, such as the result of a patch.
pub fn decode_value(value: Value, ty: &'static Type) -> Result<Decoded, DecodeError> {
    decode_from(value, Some(ty), Options::default(), |e| DecodeError::Syntax(e.to_string()))
}

/// The `apiVersion` and `kind` of a JSON document, found without decoding the rest.
pub fn type_meta(bytes: &[u8]) -> Result<(String, String), DecodeError> {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(rename = "apiVersion", default)]
        api_version: Option<String>,
        #[serde(default)]
        kind: Option<String>,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|e| {
        DecodeError::Syntax(format!("couldn't get version/kind; json parse error: {}", go_syntax_text(&e)))
    })?;
    Ok((head.api_version.unwrap_or_default(), head.kind.unwrap_or_default()))
}

pub(crate) fn decode_from<'de, D: Deserializer<'de>>(
    reader: D,
    ty: Option<&'static Type>,
    options: Options,
    syntax: impl Fn(D::Error) -> DecodeError,
) -> Result<Decoded, DecodeError> {
    let mut ctx = Ctx { options, ..Ctx::default() };
    let slot = ty.map_or(Slot::Any, Slot::Root);
    match (Seed { ctx: &mut ctx, slot }).deserialize(reader) {
        Ok(value) => Ok(Decoded { value, strict_errors: ctx.strict }),
        Err(error) => Err(ctx.error.map_or_else(|| syntax(error), DecodeError::Type)),
    }
}

fn syntax_error(error: serde_json::Error) -> DecodeError {
    DecodeError::Syntax(go_syntax_text(&error))
}

/// Go's wording where there is one for the class of error.
fn go_syntax_text(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input".to_string(),
        _ => format!("invalid JSON: {error}"),
    }
}
