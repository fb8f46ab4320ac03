//! YAML bodies: the one module that knows the YAML library. YAML is read with the rules of JSON.

use crate::json::{DecodeError, Decoded, Options, decode_from};
use machinery::schema::Type;
use serde_json::Value;

/// Decodes a YAML document of a known type into its canonical form.
pub fn decode(bytes: &[u8], ty: &'static Type) -> Result<Decoded, DecodeError> {
    decode_with(bytes, Some(ty), Options::default())
}

/// Decodes a YAML document without a schema.
pub fn decode_any(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode_with(bytes, None, Options { fill: false, keep_empty: true })
}

/// Decodes with options.
pub fn decode_with(
    bytes: &[u8],
    ty: Option<&'static Type>,
    options: Options,
) -> Result<Decoded, DecodeError> {
    decode_from(serde_yaml::Deserializer::from_slice(bytes), ty, options, syntax_error)
}

/// Why a value could not be written.
#[derive(Debug, thiserror::Error)]
#[error("error encoding YAML: {0}")]
pub struct EncodeError(String);

/// Writes a value as YAML.
pub fn encode(value: &Value) -> Result<String, EncodeError> {
    serde_yaml::to_string(value).map_err(|e| EncodeError(e.to_string()))
}

fn syntax_error(error: serde_yaml::Error) -> DecodeError {
    DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::schema::type_named;
    use serde_json::json;

    #[test]
    fn reads_objects() {
        let text =
            b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  1: one\n  b: |\n    text\n";
        let ty = type_named("io.k8s.api.core.v1.ConfigMap").expect("type");
        let decoded = decode(text, ty).expect("decodes");
        assert_eq!(
            decoded.value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"1": "one", "b": "text\n"}})
        );
        let wrong = decode(b"data:\n  a: 1\n", ty).expect_err("type error");
        assert_eq!(
            wrong.to_string(),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        );
        assert!(decode(b"a: [", ty).is_err());
    }

    #[test]
    fn finds_unknown_fields() {
        let ty = type_named("io.k8s.api.core.v1.ConfigMap").expect("type");
        assert_eq!(decode(b"dat: {}\n", ty).expect("decodes").strict_errors, [r#"unknown field "dat""#]);
    }
}
