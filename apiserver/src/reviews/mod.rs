//! Create-only resources that are answered and never stored: reviews, and service-account tokens.

use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use crate::request::Ctx;

/// Whether a create of this resource (and subresource, empty if none) is answered here.
pub fn handles(_resource: &Resource, _subresource: &str) -> bool {
    false
}

/// Answers the create of a virtual resource: the object with its status filled in. `body` is decoded and defaulted,
/// authorisation of the request itself is done.
pub async fn create(_ctx: &Ctx, resource: &Resource, _subresource: &str, _body: Value) -> Result<Value, Status> {
    Err(Status::method_not_supported(&resource.group, &resource.plural, "create"))
}
