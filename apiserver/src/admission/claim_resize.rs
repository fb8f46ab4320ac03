//! PersistentVolumeClaimResize: claims grow only where their class allows it.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::quantity::Quantity;
use machinery::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::authn::lookup::{Lookup, text};

/// The plugin.
pub struct ClaimResize {
    /// Where classes are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        let claims = resource.group.is_empty() && resource.plural == "persistentvolumeclaims";
        op == Operation::Update && claims && subresource.is_empty()
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        match (a.object.as_deref(), a.old) {
            (Some(new), Some(old)) => judge(new, old, &*self.objects).map_err(|why| a.forbidden(why)),
            _ => Ok(()),
        }
    }
}

fn size(claim: &Value) -> Option<Quantity> {
    Quantity::parse(text(claim, "/spec/resources/requests/storage")).ok()
}

fn judge(new: &Value, old: &Value, objects: &dyn Lookup) -> Result<(), &'static str> {
    if size(new) <= size(old) {
        return Ok(());
    }
    if text(old, "/status/phase") != "Bound" {
        return Err("Only bound persistent volume claims can be expanded");
    }
    let class = objects.get("storageclasses.storage.k8s.io", "", text(new, "/spec/storageClassName"));
    let allowed = class.is_some_and(|c| c.get("allowVolumeExpansion").and_then(Value::as_bool) == Some(true));
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    if allowed { Ok(()) } else { Err(why) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::lookup::fixture::Fixed;

    #[test]
    fn growth() {
        let class =
            |name: &str, grows: bool| json!({"metadata": {"name": name}, "allowVolumeExpansion": grows});
        let store = Fixed::default()
            .with("storageclasses.storage.k8s.io", class("grows", true))
            .with("storageclasses.storage.k8s.io", class("fixed", false));
        let claim = |size: &str, class: &str, phase: &str| {
            json!({"status": {"phase": phase},
            "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
        };
        for (size, class, phase, good) in [
            ("1Gi", "fixed", "Bound", true),
            ("1024Mi", "fixed", "Bound", true),
            ("2Gi", "grows", "Bound", true),
            ("2Gi", "fixed", "Bound", false),
            ("2Gi", "unknown", "Bound", false),
            ("2Gi", "grows", "Pending", false),
        ] {
            let got = judge(&claim(size, class, phase), &claim("1Gi", class, phase), &store);
            assert_eq!(got.is_ok(), good, "{size} {class} {phase}");
        }
    }
}
