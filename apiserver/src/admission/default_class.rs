//! DefaultStorageClass and DefaultIngressClass: the class marked as default where an object names none.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::authn::lookup::{Lookup, text};

/// One of the two plugins.
pub struct DefaultClass {
    /// Where classes are looked up.
    pub objects: Arc<dyn Lookup>,
    /// Which.
    pub which: &'static Which,
}

/// What differs between the two.
pub struct Which {
    name: &'static str,
    group: &'static str,
    plural: &'static str,
    classes: &'static str,
    mark: &'static str,
    field: &'static str,
    old_annotation: &'static str,
}

/// DefaultStorageClass.
pub const STORAGE: Which = Which {
    name: "DefaultStorageClass",
    group: "",
    plural: "persistentvolumeclaims",
    classes: "storageclasses.storage.k8s.io",
    mark: "storageclass.kubernetes.io/is-default-class",
    field: "storageClassName",
    old_annotation: "volume.beta.kubernetes.io/storage-class",
};

/// DefaultIngressClass.
pub const INGRESS: Which = Which {
    name: "DefaultIngressClass",
    group: "networking.k8s.io",
    plural: "ingresses",
    classes: "ingressclasses.networking.k8s.io",
    mark: "ingressclass.kubernetes.io/is-default-class",
    field: "ingressClassName",
    old_annotation: "kubernetes.io/ingress.class",
};

#[async_trait]
impl Plugin for DefaultClass {
    fn name(&self) -> &'static str {
        self.which.name
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create
            && subresource.is_empty()
            && resource.group == self.which.group
            && resource.plural == self.which.plural
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(object) = a.object.as_deref_mut() {
            set(object, self.which, &*self.objects);
        }
        Ok(())
    }
}

fn set(object: &mut Value, which: &Which, objects: &dyn Lookup) {
    let named = object.get("spec").and_then(|s| s.get(which.field)).is_some_and(|v| !v.is_null());
    if named || machinery::meta::annotation(object, which.old_annotation).is_some() {
        return;
    }
    if let Some(class) = newest_default(which, objects) {
        machinery::meta::member_mut(object, "spec").insert(which.field.into(), json!(class));
    }
}

/// Of several defaults the newest counts, and of those of one age the first by name.
fn newest_default(which: &Which, objects: &dyn Lookup) -> Option<String> {
    let mut marked: Vec<Arc<Value>> = objects.list(which.classes, "");
    marked.retain(|c| machinery::meta::annotation(c, which.mark) == Some("true"));
    let age = |c: &Value| text(c, "/metadata/creationTimestamp").to_owned();
    marked.sort_by(|a, b| {
        age(b).cmp(&age(a)).then_with(|| machinery::meta::name(a).cmp(machinery::meta::name(b)))
    });
    marked.first().map(|c| machinery::meta::name(c).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::lookup::fixture::Fixed;

    #[test]
    fn the_newest_default() {
        let class = |name: &str, at: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": at, "annotations": {STORAGE.mark: default}}});
        let store = Fixed::default()
            .with(STORAGE.classes, class("old", "2025-01-01T00:00:00Z", "true"))
            .with(STORAGE.classes, class("b", "2026-01-01T00:00:00Z", "true"))
            .with(STORAGE.classes, class("a", "2026-01-01T00:00:00Z", "true"))
            .with(STORAGE.classes, class("z", "2026-02-01T00:00:00Z", "false"));
        for (object, want) in [
            (json!({"spec": {}}), json!("a")),
            (json!({"spec": {"storageClassName": ""}}), json!("")),
            (json!({"spec": {"storageClassName": "own"}}), json!("own")),
            (json!({"metadata": {"annotations": {STORAGE.old_annotation: "x"}}, "spec": {}}), json!(null)),
        ] {
            let mut object = object;
            set(&mut object, &STORAGE, &store);
            assert_eq!(object["spec"]["storageClassName"], want, "{object}");
        }
        let mut none = json!({"spec": {}});
        set(&mut none, &STORAGE, &Fixed::default());
        assert_eq!(none, json!({"spec": {}}));
    }
}
