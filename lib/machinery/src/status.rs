//! `Status`: the answer of a failed request, and of some that succeed. The one place that maps reasons to codes.

use crate::field::{self, FieldError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Reasons of the API and their HTTP codes.
pub const REASONS: [(&str, u16); 19] = [
    ("BadRequest", 400),
    ("Unauthorized", 401),
    ("Forbidden", 403),
    ("NotFound", 404),
    ("MethodNotAllowed", 405),
    ("NotAcceptable", 406),
    ("AlreadyExists", 409),
    ("Conflict", 409),
    ("Expired", 410),
    ("Gone", 410),
    ("RequestEntityTooLarge", 413),
    ("UnsupportedMediaType", 415),
    ("Invalid", 422),
    ("TooManyRequests", 429),
    ("InternalError", 500),
    ("ServerTimeout", 500),
    ("StorageReadError", 500),
    ("ServiceUnavailable", 503),
    ("Timeout", 504),
];

/// HTTP code of a reason; 500 for reasons that are not known.
pub fn code_of(reason: &str) -> u16 {
    REASONS.iter().find(|(name, _)| *name == reason).map_or(500, |(_, code)| *code)
}

/// Most usual reason of an HTTP code.
pub fn reason_of(code: u16) -> &'static str {
    match code {
        409 => "Conflict",
        410 => "Gone",
        500 => "InternalError",
        _ => REASONS.iter().find(|(_, c)| *c == code).map_or("", |(name, _)| name),
    }
}

/// `meta.v1.Status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `Status`.
    #[serde(default = "kind")]
    pub kind: String,
    /// Always `v1`.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// List metadata; `continue` of an expired list sits here.
    #[serde(default)]
    pub metadata: StatusMeta,
    /// `Success` or `Failure`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// What happened, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What happened, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// More for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// HTTP code.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

/// Metadata of a status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusMeta {
    /// Token to go on with an expired list.
    #[serde(default, rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_: String,
}

/// `meta.v1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource name; its kind for `Invalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds to wait before the next try.
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub retry_after_seconds: u32,
}

/// `meta.v1.StatusCause`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Reason, such as `FieldValueInvalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Field path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn kind() -> String {
    "Status".into()
}

fn api_version() -> String {
    "v1".into()
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

fn is_zero32(seconds: &u32) -> bool {
    *seconds == 0
}

/// `plural` or `plural.group`.
fn qualified(group: &str, name: &str) -> String {
    match group.is_empty() {
        true => name.to_string(),
        false => format!("{name}.{group}"),
    }
}

impl Status {
    /// A failure of a reason, with its code.
    pub fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind(),
            api_version: api_version(),
            metadata: StatusMeta::default(),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code: code_of(reason),
        }
    }

    /// Success without details.
    pub fn success() -> Self {
        Self { status: "Success".into(), reason: String::new(), code: 0, ..Self::failure("", "") }
    }

    /// Success after a deletion: which object went.
    pub fn deleted(group: &str, plural: &str, name: &str, uid: &str) -> Self {
        let details = Details { uid: uid.into(), ..Details::of(group, plural, name) };
        Self { details: Some(details), ..Self::success() }
    }

    /// Replaces the details.
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(details);
        self
    }

    /// Sets `details.retryAfterSeconds`.
    pub fn with_retry(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Adds a cause.
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure("BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure("Unauthorized", "Unauthorized")
    }

    /// 403: `pods "x" is forbidden: MSG`. An empty name is a request about the whole collection.
    pub fn forbidden(group: &str, plural: &str, name: &str, message: impl fmt::Display) -> Self {
        let resource = qualified(group, plural);
        let text = match (plural.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {message}"),
            (_, true) => format!("{resource} is forbidden: {message}"),
            _ => format!("{resource} {name:?} is forbidden: {message}"),
        };
        Self::failure("Forbidden", text).with_details(Details::of(group, plural, name))
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let text = format!("{} {name:?} not found", qualified(group, plural));
        Self::failure("NotFound", text).with_details(Details::of(group, plural, name))
    }

    /// 404 for a path that no resource answers; upstream's text of a request the handler does not know.
    pub fn generic_not_found() -> Self {
        Self::failure("NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// 409: `pods "x" already exists`.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let text = format!("{} {name:?} already exists", qualified(group, plural));
        Self::failure("AlreadyExists", text).with_details(Details::of(group, plural, name))
    }

    /// 409 when every generated name was taken.
    pub fn generate_name_conflict(group: &str, plural: &str, name: &str) -> Self {
        let mut status = Self::already_exists(group, plural, name).with_retry(1);
        status.message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            qualified(group, plural)
        );
        status
    }

    /// 409: `Operation cannot be fulfilled on pods "x": MSG`.
    pub fn conflict(group: &str, plural: &str, name: &str, message: impl fmt::Display) -> Self {
        let text =
            format!("Operation cannot be fulfilled on {} {name:?}: {message}", qualified(group, plural));
        Self::failure("Conflict", text).with_details(Details::of(group, plural, name))
    }

    /// 422: `Deployment.apps "x" is invalid: ERRORS`; details carry the KIND, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let causes = errors.iter().map(Cause::of).collect();
        let mut text = format!("{} {name:?} is invalid", qualified(group, kind));
        if !errors.is_empty() {
            text = format!("{text}: {}", field::join(&errors));
        }
        Self::failure("Invalid", text).with_details(Details { causes, ..Details::of(group, kind, name) })
    }

    /// 410 for lists and watches from a revision that is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure("Expired", message)
    }

    /// 410.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure("Gone", message)
    }

    /// 504.
    pub fn timeout(message: impl fmt::Display, retry: u32) -> Self {
        Self::failure("Timeout", format!("Timeout: {message}")).with_retry(retry)
    }

    /// 500 with the advice to come back.
    pub fn server_timeout(group: &str, plural: &str, verb: &str, retry: u32) -> Self {
        let resource = qualified(group, plural);
        let text = format!(
            "The {verb} operation against {resource} could not be completed at this time, please try again."
        );
        Self::failure("ServerTimeout", text).with_details(Details::of(group, plural, verb)).with_retry(retry)
    }

    /// 504: the storage said that a resource version is too large to be true yet.
    pub fn too_large_resource_version(current: u64, wanted: u64) -> Self {
        let text = format!("Too large resource version: {wanted}, current: {current}");
        Self::timeout(&text, 1).with_cause("ResourceVersionTooLarge", "Too large resource version", "")
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry: u32) -> Self {
        Self::failure("TooManyRequests", message).with_retry(retry)
    }

    /// 500: `Internal error occurred: MSG`.
    pub fn internal(message: impl fmt::Display) -> Self {
        let text = message.to_string();
        Self::failure("InternalError", format!("Internal error occurred: {text}")).with_cause("", text, "")
    }

    /// 405: `VERB is not supported on resources of kind "pods"`.
    pub fn method_not_supported(group: &str, plural: &str, verb: &str) -> Self {
        let text = format!("{verb} is not supported on resources of kind {:?}", qualified(group, plural));
        Self::failure("MethodNotAllowed", text).with_details(Details::of(group, plural, ""))
    }

    /// 405 of a request to a path that has no such method.
    pub fn method_not_allowed() -> Self {
        Self::failure("MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_details(Details::default())
    }

    /// 406, with the media types that would do.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::failure(
            "NotAcceptable",
            format!("only the following media types are accepted: {}", accepted.join(", ")),
        )
    }

    /// 415, with the media types that would do.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let text = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure("UnsupportedMediaType", text)
    }

    /// 413.
    pub fn request_entity_too_large(message: impl fmt::Display) -> Self {
        Self::failure("RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure("ServiceUnavailable", message)
    }

    /// True for failures of this reason.
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// `details.retryAfterSeconds`, 0 when there is none.
    pub fn retry_after(&self) -> u32 {
        self.details.as_ref().map_or(0, |d| d.retry_after_seconds)
    }

    /// The status as JSON value.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The status as JSON bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Details {
    /// Group, kind (or resource) and name.
    pub fn of(group: &str, kind: &str, name: &str) -> Self {
        Self { group: group.into(), kind: kind.into(), name: name.into(), ..Self::default() }
    }
}

impl Cause {
    /// The cause of a field error.
    pub fn of(error: &FieldError) -> Self {
        Self { reason: error.kind.reason().into(), message: error.body(), field: error.field.clone() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn messages_and_codes() {
        let replicas =
            FieldError::invalid(&Path::new("spec.replicas"), -1, "must be greater than or equal to 0");
        let table = [
            (Status::not_found("", "pods", "x"), 404, "pods \"x\" not found"),
            (Status::not_found("apps", "deployments", "x"), 404, "deployments.apps \"x\" not found"),
            (Status::already_exists("", "pods", "x"), 409, "pods \"x\" already exists"),
            (Status::conflict("", "pods", "x", "m"), 409, "Operation cannot be fulfilled on pods \"x\": m"),
            (Status::forbidden("", "pods", "", "m"), 403, "pods is forbidden: m"),
            (
                Status::invalid("apps", "Deployment", "x", vec![replicas]),
                422,
                "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (Status::internal("boom"), 500, "Internal error occurred: boom"),
            (Status::unauthorized(), 401, "Unauthorized"),
        ];
        for (status, code, message) in table {
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }

    #[test]
    fn json_shape() {
        let json = serde_json::to_string(&Status::not_found("", "pods", "x")).expect("json");
        assert_eq!(
            json,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#
        );
        let back: Status = serde_json::from_str(&json).expect("status");
        assert_eq!(back, Status::not_found("", "pods", "x"));
    }
}
