//! TaintNodesByCondition: a new node takes no pods until its controller has found it ready.

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::authn::lookup::{items, text};

const KEY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create
            && resource.group.is_empty()
            && resource.plural == "nodes"
            && subresource.is_empty()
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(node) = a.object.as_deref_mut() {
            taint(node);
        }
        Ok(())
    }
}

fn taint(node: &mut Value) {
    if items(node, "/spec/taints").any(|t| text(t, "/key") == KEY && text(t, "/effect") == "NoSchedule") {
        return;
    }
    let taints = machinery::meta::member_mut(node, "spec").entry("taints").or_insert_with(|| json!([]));
    if taints.is_null() {
        *taints = json!([]);
    }
    if let Some(taints) = taints.as_array_mut() {
        taints.push(json!({"key": KEY, "effect": "NoSchedule"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once() {
        let mut node = json!({"metadata": {"name": "n"}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node["spec"]["taints"], json!([{"key": KEY, "effect": "NoSchedule"}]));
    }
}
