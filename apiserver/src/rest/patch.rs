//! patch: JSON patch, merge patch, strategic merge patch.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use machinery::field::{FieldError, Path};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::body::{self, Expected, Validation};
use super::create::{Made, expected, options};
use super::negotiate::Format;
use super::params::Query;
use super::update::{Preconditions, modify};
use super::{Target, encode, scale};
use crate::http::{Request, Response};
use crate::registry;
use crate::request::Ctx;

/// Operations a JSON patch may have.
const OPERATIONS_MAX: usize = 10_000;

/// Kinds of patch that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// application/json-patch+json
    Json,
    /// application/merge-patch+json
    Merge,
    /// application/strategic-merge-patch+json
    Strategic,
}

/// A patch and what its result must be.
pub struct Patch {
    kind: PatchType,
    document: Value,
    expected: Expected,
    validation: Validation,
}

/// Serves a patch.
pub async fn patch(ctx: &Ctx, target: &Target, query: &Query, request: Request) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let format = Format::from_headers(&parts.headers, query, true)?;
    let kind = patch_type(&parts.headers, target)?;
    let bytes = body::read(body).await?;
    let patch = Patch::parse(kind, &bytes, expected(target), Validation::of(query)?)?;
    if target.subresource == "scale" {
        return scale::patch(ctx, target, &patch, &options(query), &format).await;
    }
    let made = apply(ctx, target, &patch, &options(query)).await?;
    encode::made(target, &format, StatusCode::OK, made)
}

async fn apply(ctx: &Ctx, target: &Target, patch: &Patch, options: &Value) -> Result<Made, Status> {
    let strategy = registry::strategy_for(&target.resource, &target.subresource);
    let change = |old: &Value| {
        let mut new = patch.apply(ctx, target, old)?;
        // The version inside a patch is a condition; a patch without one keeps the stored version and always fits.
        patch.check_identity(target, &new, old)?;
        strategy.default(&mut new);
        Ok(new)
    };
    modify(ctx, target, &*strategy, &Preconditions::default(), options, &change).await
}

fn patch_type(headers: &HeaderMap, target: &Target) -> Result<PatchType, Status> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let builtin = target.resource.object_type.is_some();
    match text.split(';').next().unwrap_or("").trim() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" if builtin => Ok(PatchType::Strategic),
        _ => {
            let mut accepted = vec!["application/json-patch+json", "application/merge-patch+json"];
            if builtin {
                accepted.push("application/strategic-merge-patch+json");
            }
            Err(Status::unsupported_media_type(&accepted))
        }
    }
}

impl Patch {
    fn parse(
        kind: PatchType,
        bytes: &Bytes,
        expected: Expected,
        validation: Validation,
    ) -> Result<Self, Status> {
        let document: Value = match kind {
            // Strategic and merge patches may come as YAML from lenient clients; JSON is YAML.
            _ if bytes.trim_ascii().is_empty() => return Err(Status::bad_request("the patch is empty")),
            _ => serde_json::from_slice(bytes)
                .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?,
        };
        if kind == PatchType::Json {
            let operations =
                document.as_array().ok_or_else(|| Status::bad_request("a JSON patch must be an array"))?;
            if operations.len() > OPERATIONS_MAX {
                let text = format!(
                    "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                    operations.len()
                );
                return Err(Status::request_entity_too_large(text));
            }
        } else if !document.is_object() {
            return Err(Status::bad_request("a merge patch must be an object"));
        }
        Ok(Self { kind, document, expected, validation })
    }

    /// The patched object, decoded anew so that what does not belong in it is found.
    pub fn apply(&self, ctx: &Ctx, target: &Target, old: &Value) -> Result<Value, Status> {
        let patched = self.patched(old)?;
        let Some(object_type) = self.expected.object_type else { return Ok(patched) };
        let decoded = codec::json::decode_value(patched, object_type)
            .map_err(|e| self.invalid(target, &e.to_string()))?;
        if !decoded.strict_errors.is_empty() && self.validation == Validation::Strict {
            return Err(
                self.invalid(target, &format!("strict decoding error: {}", decoded.strict_errors.join(", ")))
            );
        }
        self.validation.judge(ctx, &self.expected.gvk, &decoded.strict_errors)?;
        Ok(decoded.value)
    }

    fn patched(&self, old: &Value) -> Result<Value, Status> {
        let unprocessable = |e: String| {
            let mut status = Status::failure("Invalid", e);
            status.code = 422;
            status
        };
        match (self.kind, self.expected.object_type) {
            (PatchType::Json, _) => {
                patch::json_patch(old, &self.document).map_err(|e| unprocessable(e.to_string()))
            }
            (PatchType::Strategic, Some(object_type)) => {
                patch::strategic::apply(old, &self.document, object_type)
                    .map_err(|e| Status::bad_request(e.to_string()))
            }
            _ => Ok(patch::merge_patch(old, &self.document)),
        }
    }

    fn invalid(&self, target: &Target, why: &str) -> Status {
        let shown = Value::String(self.document.to_string());
        let error = FieldError::invalid(&Path::new("patch"), shown, why);
        Status::invalid(&target.resource.group, &target.resource.kind, &target.name, vec![error])
    }

    fn check_identity(&self, target: &Target, new: &Value, old: &Value) -> Result<(), Status> {
        if meta::name(new) != meta::name(old) {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                meta::name(new),
                target.name
            )));
        }
        if meta::namespace(new) != meta::namespace(old) {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let version = meta::resource_version(new);
        if !version.is_empty() && version != meta::resource_version(old) {
            return Err(target.conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            ));
        }
        let uid = meta::uid(new);
        if !uid.is_empty() && uid != meta::uid(old) {
            return Err(target.conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            )));
        }
        Ok(())
    }
}
