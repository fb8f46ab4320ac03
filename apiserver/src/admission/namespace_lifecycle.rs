//! NamespaceLifecycle: nothing new without a living namespace, and some namespaces stay.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::authn::lookup::{Lookup, text};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    /// Where namespaces are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        let namespaces = resource.group.is_empty() && resource.plural == "namespaces";
        match op {
            Operation::Delete => namespaces && subresource.is_empty(),
            Operation::Create | Operation::Update => {
                resource.namespaced && resource.plural != "localsubjectaccessreviews"
            }
            Operation::Connect => false,
        }
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if a.op == Operation::Delete {
            return undeletable(a.name);
        }
        let found = match self.objects.get("namespaces", "", a.namespace) {
            // It may have been created a moment ago: look again once the cache has caught up.
            None => {
                a.app.reader.caught_up().await?;
                self.objects.get("namespaces", "", a.namespace)
            }
            found => found,
        };
        let namespace = found.ok_or_else(|| Status::not_found("", "namespaces", a.namespace))?;
        if a.op == Operation::Create && is_terminating(&namespace) {
            return Err(terminating(a));
        }
        Ok(())
    }
}

fn undeletable(name: &str) -> Result<(), Status> {
    if IMMORTAL.contains(&name) {
        return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}

fn is_terminating(namespace: &Value) -> bool {
    text(namespace, "/status/phase") == "Terminating"
}

fn terminating(a: &Attributes<'_>) -> Status {
    let why =
        format!("unable to create new content in namespace {} because it is being terminated", a.namespace);
    let cause = format!("namespace {} is being terminated", a.namespace);
    a.forbidden(why).with_cause("NamespaceTerminating", cause, "metadata.namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_namespaces_stay() {
        for (name, stays) in [
            ("default", true),
            ("kube-system", true),
            ("kube-public", true),
            ("kube-node-lease", false),
            ("x", false),
        ] {
            assert_eq!(undeletable(name).is_err(), stays, "{name}");
        }
        let message = undeletable("default").expect_err("refused").message;
        assert_eq!(message, r#"namespaces "default" is forbidden: this namespace may not be deleted"#);
    }
}
