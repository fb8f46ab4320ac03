//! `--overrides`: a patch on an object that was generated.

use crate::flags::error;
use anyhow::Result;
use serde_json::Value;

/// The flags.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Overrides {
    /// An inline JSON override for the generated object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub overrides: String,
    /// The method used to override the generated object: json, merge, or strategic.
    #[arg(long, default_value = "merge")]
    pub override_type: String,
}

/// The object after the override.
pub fn apply(object: &Value, flags: &Overrides) -> Result<Value> {
    if flags.overrides.is_empty() {
        return Ok(object.clone());
    }
    let patch: Value =
        serde_json::from_str(&flags.overrides).map_err(|e| error(format!("invalid overrides: {e}")))?;
    let patched = match flags.override_type.as_str() {
        "json" => patch::json_patch(object, &patch),
        "merge" => Ok(patch::merge_patch(object, &patch)),
        "strategic" => match crate::typed::of(object) {
            Some(ty) => patch::strategic::apply(object, &patch, ty),
            None => Ok(patch::merge_patch(object, &patch)),
        },
        other => {
            return Err(error(format!(
                "invalid override type: {other}, must be one of json, merge, strategic"
            )));
        }
    };
    patched.map_err(|e| error(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_of_overrides() {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "1"}]}});
        let flags = |how: &str, text: &str| Overrides { overrides: text.into(), override_type: how.into() };
        let text = r#"{"spec":{"containers":[{"name":"a","tty":true}]}}"#;
        let merged = apply(&pod, &flags("merge", text)).expect("merges");
        assert_eq!(merged["spec"]["containers"], json!([{"name": "a", "tty": true}]));
        let strategic = apply(&pod, &flags("strategic", text)).expect("merges");
        assert_eq!(strategic["spec"]["containers"], json!([{"name": "a", "image": "1", "tty": true}]));
        assert!(apply(&pod, &flags("x", "{}")).is_err() && apply(&pod, &flags("merge", "{")).is_err());
    }
}
