//! `PartialObjectMetadata` and its list.

use serde_json::{Map, Value, json};

/// The metadata of an object alone.
pub fn object(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// The metadata of the items of a list.
pub fn list<'a>(list_meta: &Value, items: impl IntoIterator<Item = &'a Value>) -> Value {
    let items: Vec<Value> = items.into_iter().map(object).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_metadata() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {}});
        let partial = list(&json!({"resourceVersion": "5"}), [&pod]);
        assert_eq!(partial["items"][0]["metadata"], json!({"name": "a"}));
        assert!(partial["items"][0].get("spec").is_none());
    }
}
