//! JSON read against a schema.
//!
//! One pass over the bytes checks types, collects unknown and duplicate fields, drops nulls and empty members the
//! way a Go struct would, and brings times, quantities and base64 into their canonical form.

use crate::zero;
use base64::Engine;
use machinery::quantity;
use machinery::schema::{Card, Field, FieldKind, JsonForm, Type};
use machinery::time;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Most strict errors that are collected, upstream's limit.
const STRICT_LIMIT: usize = 100;

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

/// A step of the path to the value being read.
#[derive(Clone)]
enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

#[derive(Default)]
struct Ctx {
    options: Options,
    path: Vec<Step>,
    /// The structs on the way, for type errors.
    structs: Vec<&'static Type>,
    strict: Vec<String>,
    error: Option<String>,
}

impl Ctx {
    fn strict_error(&mut self, what: &str, name: &str) {
        if self.strict.len() < STRICT_LIMIT {
            let path = self.strict_path(name);
            self.strict.push(format!("{what} field {path:?}"));
        }
    }

    /// `spec.containers[0].name`.
    fn strict_path(&self, last: &str) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => push_name(&mut out, name),
                Step::Key(name) => push_name(&mut out, name),
                Step::Index(at) => out.push_str(&format!("[{at}]")),
            }
        }
        push_name(&mut out, last);
        out
    }

    /// Go's error for a value that does not fit, with the innermost struct and the members on the way.
    fn type_error<E: de::Error>(&mut self, what: &str, go_type: &str) -> E {
        let names: Vec<&str> = self.path.iter().filter_map(Step::member).collect();
        let target = match (self.structs.last(), names.is_empty()) {
            (Some(ty), false) => format!("Go struct field {}.{}", ty.short_name(), names.join(".")),
            _ => "Go value".to_string(),
        };
        self.fail(format!("json: cannot unmarshal {what} into {target} of type {go_type}"))
    }

    fn fail<E: de::Error>(&mut self, text: String) -> E {
        self.error.get_or_insert(text);
        E::custom("wrong type")
    }
}

impl Step {
    fn member(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            _ => None,
        }
    }
}

fn push_name(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}

/// What is expected at this place.
#[derive(Clone, Copy)]
enum Slot {
    /// An object of a type.
    Root(&'static Type),
    /// The value of a field.
    Field(&'static Field),
    /// One item of a list or map.
    Item(&'static Field),
    /// A string inside a list of strings.
    Text,
    /// Anything.
    Any,
}

/// What a slot comes down to.
enum Want {
    Struct(&'static Type),
    List(&'static Field),
    Map(&'static Field),
    Scalar(FieldKind),
    Form(&'static Type, JsonForm),
    Any,
}

impl Slot {
    fn want(self) -> Want {
        match self {
            Self::Root(ty) => want_type(ty),
            Self::Field(f) if f.card == Card::List => Want::List(f),
            Self::Field(f) if f.card == Card::Map => Want::Map(f),
            Self::Field(f) | Self::Item(f) => match (f.kind, f.ty()) {
                (FieldKind::Message, Some(ty)) => want_type(ty),
                (FieldKind::Any | FieldKind::Message, _) => Want::Any,
                (kind, _) => Want::Scalar(kind),
            },
            Self::Text => Want::Scalar(FieldKind::String),
            Self::Any => Want::Any,
        }
    }

    fn go_type(self) -> String {
        match self {
            Self::Root(ty) => ty.go_name(),
            Self::Field(f) => f.go_type(),
            Self::Item(f) => f.go_item_type(),
            Self::Text => "string".into(),
            Self::Any => "interface {}".into(),
        }
    }
}

fn want_type(ty: &'static Type) -> Want {
    match ty.form {
        JsonForm::Object => Want::Struct(ty),
        JsonForm::Raw | JsonForm::FieldsV1 | JsonForm::Json => Want::Any,
        form => Want::Form(ty, form),
    }
}

struct Seed<'c> {
    ctx: &'c mut Ctx,
    slot: Slot,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        match self.slot.want() {
            Want::Scalar(FieldKind::Bool) | Want::Any | Want::Form(_, JsonForm::SchemaOrBool) => {
                Ok(Value::Bool(value))
            }
            _ => Err(self.ctx.type_error("bool", &self.slot.go_type())),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        let fits32 = i32::try_from(value).is_ok();
        match self.slot.want() {
            Want::Scalar(FieldKind::Int32) if fits32 => Ok(value.into()),
            Want::Scalar(FieldKind::Int64) | Want::Any => Ok(value.into()),
            Want::Scalar(FieldKind::Double) => Ok(value.into()),
            Want::Form(_, JsonForm::IntOrString) if fits32 => Ok(value.into()),
            Want::Form(_, JsonForm::Quantity) => self.quantity(&value.to_string()),
            Want::Scalar(FieldKind::Int32) => {
                Err(self.ctx.type_error(&format!("number {value}"), &self.slot.go_type()))
            }
            _ => Err(self.ctx.type_error("number", &self.slot.go_type())),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(small) => self.visit_i64(small),
            Err(_) => match self.slot.want() {
                Want::Any | Want::Scalar(FieldKind::Double) => Ok(value.into()),
                Want::Form(_, JsonForm::Quantity) => self.quantity(&value.to_string()),
                _ => Err(self.ctx.type_error(&format!("number {value}"), &self.slot.go_type())),
            },
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        match self.slot.want() {
            Want::Any | Want::Scalar(FieldKind::Double) => {
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }
            Want::Form(_, JsonForm::Quantity) => self.quantity(&value.to_string()),
            Want::Scalar(FieldKind::Int32 | FieldKind::Int64) => {
                Err(self.ctx.type_error(&format!("number {value}"), &self.slot.go_type()))
            }
            _ => Err(self.ctx.type_error("number", &self.slot.go_type())),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        match self.slot.want() {
            Want::Scalar(FieldKind::Bytes) => self.bytes(text),
            Want::Form(..) => self.form_text(text),
            _ => self.visit_string(text.to_string()),
        }
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        match self.slot.want() {
            Want::Scalar(FieldKind::String) | Want::Any => Ok(Value::String(text)),
            Want::Scalar(FieldKind::Bytes) => self.bytes(&text),
            Want::Form(..) => self.form_text(&text),
            _ => Err(self.ctx.type_error("string", &self.slot.go_type())),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        match self.slot.want() {
            Want::List(field) => read_list(self.ctx, seq, Slot::Item(field)),
            Want::Any => read_list(self.ctx, seq, Slot::Any),
            Want::Form(_, JsonForm::Strings | JsonForm::SchemaOrStrings) => {
                read_list(self.ctx, seq, Slot::Text)
            }
            Want::Form(ty, JsonForm::SchemaOrArray) => read_list(self.ctx, seq, schema_slot(ty)),
            _ => Err(self.ctx.type_error("array", &self.slot.go_type())),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        match self.slot.want() {
            Want::Struct(ty) => read_struct(self.ctx, map, ty),
            Want::Map(field) => read_map(self.ctx, map, Slot::Item(field)),
            Want::Any => read_map(self.ctx, map, Slot::Any),
            Want::Form(ty, JsonForm::SchemaOrArray | JsonForm::SchemaOrBool | JsonForm::SchemaOrStrings) => {
                match schema_slot(ty) {
                    Slot::Root(schema) => read_struct(self.ctx, map, schema),
                    _ => read_map(self.ctx, map, Slot::Any),
                }
            }
            _ => Err(self.ctx.type_error("object", &self.slot.go_type())),
        }
    }
}

/// The schema type inside one of the schema unions.
fn schema_slot(ty: &'static Type) -> Slot {
    let schema = ty.fields.iter().filter(|f| f.kind == FieldKind::Message).find_map(Field::ty);
    schema.map_or(Slot::Any, Slot::Root)
}

impl Seed<'_> {
    fn quantity<E: de::Error>(self, text: &str) -> Result<Value, E> {
        match quantity::canonical(text) {
            Ok(text) => Ok(Value::String(text)),
            Err(error) => Err(self.ctx.fail(error.to_string())),
        }
    }

    fn bytes<E: de::Error>(self, text: &str) -> Result<Value, E> {
        let clean: String = match text.contains(['\r', '\n']) {
            true => text.chars().filter(|c| *c != '\r' && *c != '\n').collect(),
            false => text.to_string(),
        };
        match base64_error(&clean) {
            None => Ok(Value::String(clean)),
            Some(at) => Err(self.ctx.fail(format!("illegal base64 data at input byte {at}"))),
        }
    }

    fn form_text<E: de::Error>(self, text: &str) -> Result<Value, E> {
        let Want::Form(_, form) = self.slot.want() else { return Ok(Value::from(text)) };
        match form {
            JsonForm::Time => self.time(text, time::format_seconds),
            JsonForm::MicroTime => self.time(text, time::format_micro),
            JsonForm::Quantity => self.quantity(text.trim()),
            JsonForm::IntOrString => Ok(Value::from(text)),
            JsonForm::Duration => match time::parse_go_duration(text) {
                Some(nanos) => Ok(Value::from(time::format_go_duration(nanos))),
                None => Err(self.ctx.fail(format!("time: invalid duration {text:?}"))),
            },
            _ => Err(self.ctx.type_error("string", &self.slot.go_type())),
        }
    }

    fn time<E: de::Error>(self, text: &str, format: fn(jiff::Timestamp) -> String) -> Result<Value, E> {
        match time::parse(text) {
            Some(at) => Ok(Value::String(format(at))),
            None => {
                let layout = "2006-01-02T15:04:05Z07:00";
                Err(self
                    .ctx
                    .fail(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")))
            }
        }
    }
}

/// Position of the first byte that is no base64, if any.
fn base64_error(text: &str) -> Option<usize> {
    let engine = base64::engine::general_purpose::STANDARD;
    match engine.decode(text) {
        Ok(_) => None,
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Some(at)
        }
        Err(_) => Some(text.len() / 4 * 4),
    }
}

fn read_list<'de, A: SeqAccess<'de>>(ctx: &mut Ctx, mut seq: A, slot: Slot) -> Result<Value, A::Error> {
    let mut items = Vec::with_capacity(seq.size_hint().unwrap_or_default().min(1024));
    loop {
        ctx.path.push(Step::Index(items.len()));
        let item = seq.next_element_seed(Seed { ctx, slot });
        match item? {
            None => break,
            Some(value) => items.push(item_value(value, slot)),
        }
        ctx.path.pop();
    }
    ctx.path.pop();
    Ok(Value::Array(items))
}

/// A null item is the zero value of the item's type, as in Go.
fn item_value(value: Value, slot: Slot) -> Value {
    match (value, slot) {
        (Value::Null, Slot::Item(field)) => zero::item(field),
        (value, _) => value,
    }
}

fn read_map<'de, A: MapAccess<'de>>(ctx: &mut Ctx, mut map: A, slot: Slot) -> Result<Value, A::Error> {
    let mut out = Map::new();
    while let Some(key) = map.next_key_seed(KeySeed)? {
        if out.contains_key(&key) {
            ctx.strict_error("duplicate", &key);
        }
        ctx.path.push(Step::Key(key.clone()));
        let value = map.next_value_seed(Seed { ctx, slot })?;
        ctx.path.pop();
        out.insert(key, item_value(value, slot));
    }
    Ok(Value::Object(out))
}

fn read_struct<'de, A: MapAccess<'de>>(
    ctx: &mut Ctx,
    mut map: A,
    ty: &'static Type,
) -> Result<Value, A::Error> {
    let mut out = Map::new();
    let mut seen: Vec<&'static str> = Vec::with_capacity(16);
    ctx.structs.push(ty);
    while let Some(found) = map.next_key_seed(MemberSeed(ty))? {
        match found {
            Member::Unknown(name) => {
                ctx.strict_error("unknown", &name);
                map.next_value::<de::IgnoredAny>()?;
            }
            Member::Known(field) => {
                if seen.contains(&field.json) {
                    ctx.strict_error("duplicate", field.json);
                }
                seen.push(field.json);
                let value = read_member(ctx, &mut map, field)?;
                store(&mut out, field, value, ctx.options);
            }
        }
    }
    ctx.structs.pop();
    if ctx.options.fill {
        zero::fill(&mut out, ty);
    }
    Ok(Value::Object(out))
}

fn read_member<'de, A: MapAccess<'de>>(
    ctx: &mut Ctx,
    map: &mut A,
    field: &'static Field,
) -> Result<Value, A::Error> {
    ctx.path.push(Step::Field(field.json));
    let value = map.next_value_seed(Seed { ctx, slot: Slot::Field(field) })?;
    ctx.path.pop();
    Ok(value)
}

fn store(out: &mut Map<String, Value>, field: &'static Field, value: Value, options: Options) {
    if options.keep_empty || !zero::is_omitted(field, &value) && !value.is_null() {
        out.insert(field.json.to_string(), value);
    } else {
        out.remove(field.json);
    }
}

/// Reads a map key as text; YAML keys may be numbers or booleans.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<String, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_string<E: de::Error>(self, key: String) -> Result<String, E> {
        Ok(key)
    }

    fn visit_i64<E: de::Error>(self, key: i64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_f64<E: de::Error>(self, key: f64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_bool<E: de::Error>(self, key: bool) -> Result<String, E> {
        Ok(key.to_string())
    }
}

enum Member {
    Known(&'static Field),
    Unknown(String),
}

/// Looks a member up without copying its name.
struct MemberSeed(&'static Type);

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Member, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Visitor<'_> for MemberSeed {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Member, E> {
        Ok(self.0.field(name).map_or_else(|| Member::Unknown(name.to_string()), Member::Known))
    }

    fn visit_i64<E: de::Error>(self, name: i64) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }

    fn visit_u64<E: de::Error>(self, name: u64) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }

    fn visit_f64<E: de::Error>(self, name: f64) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }

    fn visit_bool<E: de::Error>(self, name: bool) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::schema::type_named;
    use serde_json::json;

    fn ty(name: &str) -> &'static Type {
        type_named(&format!("io.k8s.api.{name}")).expect(name)
    }

    fn ok(name: &str, value: Value) -> Value {
        let decoded = decode(value.to_string().as_bytes(), ty(name)).expect("decodes");
        assert_eq!(decoded.strict_errors, Vec::<String>::new());
        decoded.value
    }

    #[test]
    fn canonical_form() {
        let pod = ok(
            "core.v1.Pod",
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "creationTimestamp": null, "labels": {}},
            "spec": {"hostNetwork": false, "containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}),
        );
        assert_eq!(
            pod,
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "status": {},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}], "volumes": [{"name": "v", "emptyDir": {}}]}})
        );
        let service = ok("core.v1.Service", json!({"spec": {"ports": [{"port": 80}]}}));
        assert_eq!(
            service,
            json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}]}, "status": {"loadBalancer": {}}})
        );
        let role = ok("rbac.v1.Role", json!({}));
        assert_eq!(role, json!({"metadata": {}, "rules": null}));
    }

    #[test]
    fn times_and_forms() {
        let lease = ok("coordination.v1.Lease", json!({"spec": {"renewTime": "2026-01-02T03:04:05Z"}}));
        assert_eq!(lease["spec"]["renewTime"], "2026-01-02T03:04:05.000000Z");
        let pod = ok("core.v1.Pod", json!({"status": {"startTime": "2026-01-02T05:04:05.9+02:00"}}));
        assert_eq!(pod["status"]["startTime"], "2026-01-02T03:04:05Z");
        let secret = ok("core.v1.Secret", json!({"data": {"a": "aGk=", "b": ""}}));
        assert_eq!(secret["data"], json!({"a": "aGk=", "b": ""}));
    }

    #[test]
    fn strict_errors() {
        let text = r#"{"metadata":{"name":"a","nam":"b"},"spec":{"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"name":"x"},{"imag":"y"}]}}},"foo":{"a":[1]}}"#;
        let decoded = decode(text.as_bytes(), ty("apps.v1.Deployment")).expect("decodes");
        assert_eq!(
            decoded.strict_errors,
            [
                r#"unknown field "metadata.nam""#,
                r#"duplicate field "spec.replicas""#,
                r#"unknown field "spec.template.spec.containers[1].imag""#,
                r#"unknown field "foo""#
            ]
        );
        assert_eq!(decoded.value["spec"]["replicas"], 2);
    }

    #[test]
    fn type_errors() {
        let table = [
            (
                r#"{"spec":{"replicas":"1"}}"#,
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"spec":{"replicas":3000000000}}"#,
                "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":[{"image":5}]}}}}"#,
                "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
            ),
            (
                r#"{"metadata":{"labels":{"a":true}}}"#,
                "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (r#"[]"#, "json: cannot unmarshal array into Go value of type v1.Deployment"),
            (r#"{"spec":"#, "unexpected end of JSON input"),
        ];
        for (text, want) in table {
            let error = decode(text.as_bytes(), ty("apps.v1.Deployment")).expect_err(text);
            assert_eq!(error.to_string(), want);
        }
        assert!(decode(br#"{"data":{"a":"%"}}"#, ty("core.v1.Secret")).is_err());
        assert!(decode(br#"{} x"#, ty("core.v1.Secret")).is_err());
    }

    #[test]
    fn schemas() {
        let crd = type_named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
            .expect("schema");
        let text = json!({"type": "object", "properties": {"a": {"items": {"type": "string"}, "type": "array"}, "b": {"items": [{"type": "string"}]}},
            "additionalProperties": false, "default": {"x": null}, "enum": [null, 1, "a"], "dependencies": {"d": ["e"], "f": {"type": "string"}}, "maximum": 1.5});
        assert_eq!(decode(text.to_string().as_bytes(), crd).expect("ok").value, text);
    }

    #[test]
    fn values_take_the_same_path() {
        let value = json!({"spec": {"replicas": 0, "paused": false, "zzz": 1}});
        let decoded = decode_value(value, ty("apps.v1.Deployment")).expect("ok");
        assert_eq!(decoded.value["spec"].get("paused"), None);
        assert_eq!(decoded.value["spec"]["replicas"], 0);
        assert_eq!(decoded.strict_errors, [r#"unknown field "spec.zzz""#]);
        assert_eq!(
            decode_any(br#"{"a":{"b":1,"b":null}}"#).expect("ok").strict_errors,
            [r#"duplicate field "a.b""#]
        );
    }
}
