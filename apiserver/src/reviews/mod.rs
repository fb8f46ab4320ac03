//! Create-only resources that are answered and never stored: reviews, and service-account tokens.

pub mod access;
pub mod rules;
pub mod token_request;
pub mod token_review;

use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::request::{Ctx, UserInfo};

const AUTHN: &str = "authentication.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";

/// Whether a create of this resource (and subresource, empty if none) is answered here.
pub fn handles(resource: &Resource, subresource: &str) -> bool {
    match (resource.group.as_str(), resource.plural.as_str(), subresource) {
        ("", "serviceaccounts", "token") => true,
        (AUTHN, "tokenreviews" | "selfsubjectreviews", "") => true,
        (AUTHZ, plural, "") => matches!(
            plural,
            "subjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "selfsubjectrulesreviews"
        ),
        _ => false,
    }
}

/// Answers the create of a virtual resource: the object with its status filled in. `body` is decoded and defaulted,
/// authorisation of the request itself is done.
pub async fn create(
    ctx: &Ctx,
    resource: &Resource,
    _subresource: &str,
    body: Value,
) -> Result<Value, Status> {
    match resource.plural.as_str() {
        "serviceaccounts" => token_request::create(ctx, resource, body).await,
        "tokenreviews" => token_review::create(ctx, body).await,
        "selfsubjectreviews" => Ok(self_subject(ctx, body)),
        "subjectaccessreviews" => access::review(ctx, access::Form::Any, body).await,
        "localsubjectaccessreviews" => access::review(ctx, access::Form::Local, body).await,
        "selfsubjectaccessreviews" => access::review(ctx, access::Form::Own, body).await,
        "selfsubjectrulesreviews" => rules::review(ctx, body),
        _ => Err(Status::method_not_supported(&resource.group, &resource.plural, "create")),
    }
}

/// A user in the form of authentication.k8s.io.
pub fn user_json(user: &UserInfo) -> Value {
    let mut out = json!({"username": user.name});
    if !user.uid.is_empty() {
        out["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        out["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

fn self_subject(ctx: &Ctx, mut body: Value) -> Value {
    let metadata = machinery::meta::metadata_mut(&mut body);
    metadata.insert("creationTimestamp".into(), json!(machinery::time::now_rfc3339()));
    body["status"] = json!({"userInfo": user_json(&ctx.user)});
    body
}
