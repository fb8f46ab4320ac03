//! StorageObjectInUseProtection: claims and volumes are born with a finalizer that holds them while they are in use.

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

/// The plugin. Classes of volume attributes are left out: nobody here takes their finalizer off again.
pub struct InUseProtection;

fn finalizer(resource: &Resource) -> Option<&'static str> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        _ => None,
    }
}

#[async_trait]
impl Plugin for InUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create && subresource.is_empty() && finalizer(resource).is_some()
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if let (Some(object), Some(finalizer)) = (a.object.as_deref_mut(), finalizer(a.resource)) {
            add(object, finalizer);
        }
        Ok(())
    }
}

fn add(object: &mut Value, finalizer: &str) {
    let meta = machinery::meta::member_mut(object, "metadata");
    let all = meta.entry("finalizers").or_insert_with(|| json!([]));
    if !all.is_array() {
        *all = json!([]);
    }
    if let Some(all) = all.as_array_mut()
        && !all.iter().any(|f| f == finalizer)
    {
        all.push(json!(finalizer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizer_is_there_once() {
        for (before, after) in [
            (json!({}), json!({"metadata": {"finalizers": ["f"]}})),
            (json!({"metadata": {"finalizers": null}}), json!({"metadata": {"finalizers": ["f"]}})),
            (json!({"metadata": {"finalizers": ["a"]}}), json!({"metadata": {"finalizers": ["a", "f"]}})),
            (
                json!({"metadata": {"finalizers": ["f", "a"]}}),
                json!({"metadata": {"finalizers": ["f", "a"]}}),
            ),
        ] {
            let mut object = before;
            add(&mut object, "f");
            assert_eq!(object, after);
        }
    }

    #[test]
    fn volumes_and_claims_are_protected() {
        let handles = |group: &str, plural: &str| {
            let resource = machinery::kinds::find(group, "v1", plural).unwrap();
            InUseProtection.handles(Operation::Create, &resource, "")
        };
        assert!(handles("", "persistentvolumes") && handles("", "persistentvolumeclaims"));
        assert!(!handles("", "pods") && !handles("storage.k8s.io", "storageclasses"));
    }
}
