//! OwnerReferencesPermissionEnforcement: who may block an owner's deletion. Off by default.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::app::App;
use crate::authn::lookup::text;
use crate::authz::{self, Decision};
use crate::request::{RequestInfo, UserInfo};

/// The plugin.
pub struct OwnerReferences;

#[async_trait]
impl Plugin for OwnerReferences {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, op: Operation, _resource: &Resource, _subresource: &str) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = a.object.as_deref() else { return Ok(()) };
        if !changed(a.old, object) {
            return Ok(());
        }
        self.may_set(a, object).await?;
        for reference in newly_blocking(a.old, object) {
            let info = finalizers_of(a.app, a.namespace, reference);
            if refused(info, a.app, a.user).await {
                let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
                return Err(a.forbidden(why));
            }
        }
        Ok(())
    }
}

impl OwnerReferences {
    /// Changing references of an object at all needs the right to delete it.
    async fn may_set(&self, a: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let name = if a.op == Operation::Create { "" } else { machinery::meta::name(object) };
        let info = RequestInfo {
            is_resource: true,
            verb: "delete".into(),
            group: a.resource.group.clone(),
            version: a.resource.version.clone(),
            namespace: a.namespace.into(),
            resource: a.resource.plural.clone(),
            name: name.into(),
            ..RequestInfo::default()
        };
        if refused(Some(info), a.app, a.user).await {
            return Err(a.forbidden("cannot set an ownerRef on a resource you can't delete"));
        }
        Ok(())
    }
}

/// Whether the caller may not do this; a request that can't even be named is refused.
async fn refused(asked: Option<RequestInfo>, app: &Arc<App>, user: &UserInfo) -> bool {
    let Some(info) = asked else { return true };
    app.authorizer.authorize(&authz::Attributes { user, info: &info }).await.0 != Decision::Allow
}

fn changed(old: Option<&Value>, new: &Value) -> bool {
    machinery::meta::owner_refs(new) != old.map(machinery::meta::owner_refs).unwrap_or_default()
}

fn blocks(reference: &Value) -> bool {
    reference.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
}

fn newly_blocking<'a>(old: Option<&'a Value>, new: &'a Value) -> Vec<&'a Value> {
    let before = old.map(machinery::meta::owner_refs).unwrap_or_default();
    let held = |r: &Value| before.iter().any(|b| blocks(b) && text(b, "/uid") == text(r, "/uid"));
    machinery::meta::owner_refs(new).iter().filter(|r| blocks(r) && !held(r)).collect()
}

/// The request `update OWNER/finalizers`; `None` when the owner's kind is not known.
fn finalizers_of(app: &App, namespace: &str, reference: &Value) -> Option<RequestInfo> {
    let version = text(reference, "/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = app.kinds.by_kind(group, version, text(reference, "/kind"))?;
    Some(RequestInfo {
        is_resource: true,
        verb: "update".into(),
        group: group.into(),
        version: version.into(),
        namespace: if resource.namespaced { namespace.into() } else { String::new() },
        resource: resource.plural.clone(),
        subresource: "finalizers".into(),
        name: text(reference, "/name").into(),
        ..RequestInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_new() {
        let object = |refs: Value| json!({"metadata": {"ownerReferences": refs}});
        let (a, b) = (
            json!({"uid": "a", "blockOwnerDeletion": true}),
            json!({"uid": "b", "blockOwnerDeletion": true}),
        );
        let old = object(json!([a]));
        let new = object(json!([a, b, {"uid": "c"}]));
        assert!(changed(Some(&old), &new) && !changed(Some(&old), &old));
        assert_eq!(newly_blocking(Some(&old), &new), [&b]);
        assert_eq!(newly_blocking(None, &new).len(), 2);
    }
}
