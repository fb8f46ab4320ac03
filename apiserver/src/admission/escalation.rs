//! Guards writes of roles and bindings: nobody grants what they do not hold. Upstream has this check in the
//! storage of these kinds; here it is one of the plugins, and it cannot be turned off.

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;

use super::{Attributes, Operation, Plugin};
use crate::authz::rbac::Kind;
use crate::authz::rbac::escalation::{Write, check};

/// The guard.
pub struct RoleEscalation;

#[async_trait]
impl Plugin for RoleEscalation {
    fn name(&self) -> &'static str {
        "RoleEscalation"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(op, Operation::Create | Operation::Update)
            && resource.group == "rbac.authorization.k8s.io"
            && Kind::of_resource(&resource.plural).is_some()
            && subresource.is_empty()
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let (Some(object), Some(index)) = (a.object.as_deref(), a.app.authorizer.rbac()) else {
            return Err(Status::internal("roles cannot be written without an index of them"));
        };
        let write =
            Write { user: a.user, plural: &a.resource.plural, namespace: a.namespace, object, old: a.old };
        check(&write, &*a.app.authorizer, &index).await
    }
}
