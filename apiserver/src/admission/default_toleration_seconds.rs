//! DefaultTolerationSeconds: pods stay a while on nodes that are not ready or not reachable.

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{items, text};

/// The plugin.
pub struct DefaultTolerationSeconds {
    /// Seconds on nodes that are not ready.
    pub not_ready: i64,
    /// Seconds on nodes that are not reachable.
    pub unreachable: i64,
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(op, Operation::Create | Operation::Update)
            && pods::is_pods(resource)
            && subresource.is_empty()
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(pod) = a.object.as_deref_mut() {
            add(pod, "node.kubernetes.io/not-ready", self.not_ready);
            add(pod, "node.kubernetes.io/unreachable", self.unreachable);
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, key: &str) -> bool {
    let (own, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

fn add(pod: &mut Value, key: &str, seconds: i64) {
    if items(pod, "/spec/tolerations").any(|t| tolerates(t, key)) {
        return;
    }
    let list = machinery::meta::member_mut(pod, "spec").entry("tolerations").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_missing() {
        let key = "node.kubernetes.io/not-ready";
        for (have, added) in [
            (json!(null), true),
            (json!([{"key": "other", "operator": "Exists"}]), true),
            (json!([{"key": key, "effect": "NoSchedule"}]), true),
            (json!([{"key": key, "effect": "NoExecute"}]), false),
            (json!([{"key": key}]), false),
            (json!([{"operator": "Exists"}]), false),
        ] {
            let mut pod = json!({"spec": {"tolerations": have}});
            add(&mut pod, key, 300);
            let want =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            assert_eq!(items(&pod, "/spec/tolerations").any(|t| *t == want), added, "{have}");
        }
    }
}
