//! The annotation in which client-side apply remembers what was applied last.

use coxctl_kit::print::json::compact;
use serde_json::{Value, json};

/// Its name.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What was applied last, as text; none for objects made in other ways.
pub fn last_applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LAST_APPLIED].as_str()
}

/// The object without the annotation. The map of annotations stays, empty if need be.
pub fn without_last_applied(object: &Value) -> Value {
    let mut out = object.clone();
    if let Some(map) = out.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        map.remove(LAST_APPLIED);
    }
    out
}

/// The object with this text in the annotation.
pub fn with_last_applied(mut object: Value, text: &str) -> Value {
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    object
}

/// The object as it is remembered: without the annotation, but always with a map of annotations.
pub fn bare(object: &Value) -> Value {
    let mut out = without_last_applied(object);
    if !out["metadata"]["annotations"].is_object() {
        out["metadata"]["annotations"] = json!({});
    }
    out
}

/// The text to remember an object of a file by: compact JSON and a newline.
pub fn remembered(object: &Value) -> String {
    compact(&bare(object)) + "\n"
}

/// The object of a file as it is to be applied: with the annotation about itself.
pub fn annotated(object: &Value) -> Value {
    with_last_applied(object.clone(), &remembered(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_itself() {
        let object = json!({"kind": "A", "metadata": {"name": "<a>", "annotations": {LAST_APPLIED: "old"}}});
        let text = "{\"kind\":\"A\",\"metadata\":{\"annotations\":{},\"name\":\"\\u003ca\\u003e\"}}\n";
        assert_eq!(remembered(&object), text);
        assert_eq!(last_applied(&annotated(&object)), Some(text));
        assert_eq!(last_applied(&without_last_applied(&object)), None);
    }
}
