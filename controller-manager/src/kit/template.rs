//! Pod templates: when two are the same, and the hash they are named by.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::meta::{fnv1a, safe_encode};

/// The label by which the pods of a template of a Deployment are known.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Whether two templates ask for the same pods, the hash label aside.
pub fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let bare = |t: &PodTemplateSpec| {
        let mut t = t.clone();
        if let Some(labels) = t.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        t
    };
    let (a, b) = (bare(a), bare(b));
    a == b || pruned(&a) == pruned(&b)
}

/// A template without what says nothing: nulls, empty lists and empty maps are the same as absent.
fn pruned(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    prune(&mut value);
    value
}

/// Drops nulls, empty lists and empty maps; says whether anything is left.
pub fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => {
            items.iter_mut().for_each(|i| {
                prune(i);
            });
            !items.is_empty()
        }
        Value::Object(map) => {
            map.retain(|_, v| prune(v));
            !map.is_empty()
        }
        _ => true,
    }
}

/// The hash a new ReplicaSet is named and labelled by. Only stability matters: an existing ReplicaSet is recognised
/// by its template, never by this.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let text = serde_json::to_vec(template).unwrap_or_default();
    let salt = collisions.map(|c| u64::from(c.unsigned_abs()).to_le_bytes());
    safe_encode(&fnv1a(text.into_iter().chain(salt.into_iter().flatten())).to_string())
}
