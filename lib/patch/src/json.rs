//! JSON patch and JSON merge patch.

use crate::PatchError;
use serde_json::Value;

/// Most operations in one JSON patch, upstream's limit.
pub const MAX_OPERATIONS: usize = 10_000;

/// Applies an RFC 6902 patch. Either all operations apply or none.
pub fn json_patch(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let got = patch
        .as_array()
        .map(Vec::len)
        .ok_or_else(|| PatchError::Malformed("a JSON patch must be an array".into()))?;
    if got > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations { max: MAX_OPERATIONS, got });
    }
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?;
    let mut patched = original.clone();
    // The variant that does not roll back is enough: the original is untouched.
    json_patch::patch_unsafe(&mut patched, &operations).map_err(|e| PatchError::Rejected(e.to_string()))?;
    Ok(patched)
}

/// Applies an RFC 7386 merge patch.
pub fn merge_patch(original: &Value, patch: &Value) -> Value {
    let mut patched = original.clone();
    json_patch::merge(&mut patched, patch);
    patched
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations() {
        let original = json!({"a": {"b": [1, 2]}, "c~/d": 1});
        let table = [
            (json!([{"op": "add", "path": "/a/b/-", "value": 3}]), json!({"a": {"b": [1, 2, 3]}, "c~/d": 1})),
            (
                json!([{"op": "replace", "path": "/c~0~1d", "value": 2}]),
                json!({"a": {"b": [1, 2]}, "c~/d": 2}),
            ),
            (
                json!([{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "remove", "path": "/a"}]),
                json!({"c~/d": 1}),
            ),
            (json!([{"op": "move", "from": "/a/b", "path": "/e"}]), json!({"a": {}, "c~/d": 1, "e": [1, 2]})),
            (
                json!([{"op": "copy", "from": "/a/b/1", "path": "/a/b/0"}]),
                json!({"a": {"b": [2, 1, 2]}, "c~/d": 1}),
            ),
        ];
        for (patch, want) in table {
            assert_eq!(json_patch(&original, &patch), Ok(want), "{patch}");
        }
    }

    #[test]
    fn refusals() {
        let original = json!({"a": 1});
        for bad in [json!({}), json!([{"op": "jump", "path": "/a"}]), json!([{"op": "add"}])] {
            assert!(matches!(json_patch(&original, &bad), Err(PatchError::Malformed(_))), "{bad}");
        }
        for bad in
            [json!([{"op": "test", "path": "/a", "value": 2}]), json!([{"op": "remove", "path": "/b"}])]
        {
            assert!(matches!(json_patch(&original, &bad), Err(PatchError::Rejected(_))), "{bad}");
        }
        let long = Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); MAX_OPERATIONS + 1]);
        assert!(matches!(json_patch(&original, &long), Err(PatchError::TooManyOperations { .. })));
    }

    #[test]
    fn merges() {
        let merged = merge_patch(
            &json!({"a": {"b": 1, "c": 2}, "d": [1]}),
            &json!({"a": {"b": null, "e": {"f": null}}, "d": [2]}),
        );
        assert_eq!(merged, json!({"a": {"c": 2, "e": {}}, "d": [2]}));
    }
}
