//! cloud-node-lifecycle: a node that is not Ready is deleted when its instance is gone, and tainted while it is turned off.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use control::Recorder;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{name, ready, tainted, within};
use crate::Context;

/// Its instance is turned off.
pub const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";

/// What the provider says of a node's instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    There,
    Off,
    Gone,
}

/// What is to be done to a node.
#[derive(Debug, PartialEq)]
pub enum Step {
    Nothing,
    Delete,
    Taints(Value),
}

/// Does this node need a look? One that is Ready only for the taint it still has.
pub fn looked_at(node: &Node) -> bool {
    ready(node) != "True" || tainted(node, SHUTDOWN)
}

/// What follows from the instance's state.
pub fn step(node: &Node, instance: Instance) -> Step {
    let has = tainted(node, SHUTDOWN);
    if ready(node) == "True" {
        return if has { Step::Taints(without(node)) } else { Step::Nothing };
    }
    match instance {
        Instance::Gone => Step::Delete,
        Instance::Off if !has => {
            let mut taints = without(node);
            if let Some(list) = taints.as_array_mut() {
                list.push(json!({"key": SHUTDOWN, "effect": "NoSchedule"}));
            }
            Step::Taints(taints)
        }
        _ => Step::Nothing,
    }
}

fn without(node: &Node) -> Value {
    let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    json!(taints.into_iter().filter(|t| t.key != SHUTDOWN).collect::<Vec<_>>())
}

/// Starts the controller. While every node is Ready it sleeps.
pub fn start(context: &Context) {
    let waking = Arc::new(Notify::new());
    let wake = waking.clone();
    context.nodes.handle(move |event| {
        if event.new.as_ref().is_some_and(|node| looked_at(node)) {
            wake.notify_one();
        }
    });
    let recorder =
        Recorder::start(context.client.clone(), "cloud-node-lifecycle-controller", None, &context.tasks);
    let room = Room { context: context.clone(), recorder };
    context.tasks.spawn("cloud-node-lifecycle", async move {
        loop {
            waking.notified().await;
            while room.look().await {
                tokio::time::sleep(room.context.config.node_monitor_period).await;
            }
        }
    });
}

struct Room {
    context: Context,
    recorder: Recorder,
}

impl Room {
    /// Looks at all nodes that need it; true if there are such.
    async fn look(&self) -> bool {
        let nodes: Vec<_> = self.context.nodes.list().into_iter().filter(|n| looked_at(n)).collect();
        for node in &nodes {
            if let Err(error) = self.sync(node).await {
                tracing::warn!(node = name(&node.metadata), "{error:#}");
            }
        }
        !nodes.is_empty()
    }

    async fn sync(&self, node: &Node) -> Result<()> {
        let instance = if ready(node) == "True" { Instance::There } else { self.instance(node).await? };
        match step(node, instance) {
            Step::Nothing => Ok(()),
            Step::Delete => self.delete(node).await,
            Step::Taints(taints) => {
                let version = &node.metadata.resource_version;
                let body = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
                let api: Api<Node> = Api::all(self.context.client.clone());
                let params = PatchParams::default();
                let patch = Patch::Merge(body);
                let call = api.patch(name(&node.metadata), &params, &patch);
                within("node taints", call).await.map(drop)
            }
        }
    }

    async fn instance(&self, node: &Node) -> Result<Instance> {
        let Some(instances) = self.context.provider.instances() else { return Ok(Instance::There) };
        let what = || format!("checking the instance of node {}", name(&node.metadata));
        if !within("instance", instances.exists(node)).await.with_context(what)? {
            return Ok(Instance::Gone);
        }
        let off = within("instance", instances.shutdown(node)).await.with_context(what)?;
        Ok(if off { Instance::Off } else { Instance::There })
    }

    async fn delete(&self, node: &Node) -> Result<()> {
        let name = name(&node.metadata);
        let about = control::events::reference(node);
        let why = "because it does not exist in the cloud provider";
        tracing::info!(node = name, "deleting the node {why}");
        self.recorder.normal(&about, "DeletingNode", format!("Deleting node {name} {why}"));
        let api: Api<Node> = Api::all(self.context.client.clone());
        // A node of the same name that came in between is another one.
        let same = Preconditions { uid: node.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match within("node", api.delete(name, &params)).await {
            Err(error) if gone(&error) => Ok(()),
            Err(error) => {
                self.recorder.warning(
                    &about,
                    "DeletingNodeFailed",
                    format!("Error deleting node {name}: {error:#}"),
                );
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }
}

fn gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, taints: &[&str]) -> Node {
        let taints: Vec<Value> = taints.iter().map(|t| json!({"key": t, "effect": "NoSchedule"})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn what_becomes_of_nodes() {
        let told = |ready: &str, taints: &[&str], instance| {
            let node = node(ready, taints);
            match step(&node, instance) {
                Step::Nothing => "nothing".to_string(),
                Step::Delete => "delete".into(),
                Step::Taints(t) => {
                    let keys = t.as_array().unwrap().iter().map(|t| t["key"].as_str().unwrap().to_string());
                    keys.collect::<Vec<_>>().join(" ")
                }
            }
        };
        let off = format!("a {SHUTDOWN}");
        assert_eq!(told("True", &["a"], Instance::Gone), "nothing");
        assert_eq!(told("True", &["a", SHUTDOWN], Instance::There), "a");
        assert_eq!(told("Unknown", &["a"], Instance::There), "nothing");
        assert_eq!(told("False", &["a"], Instance::Off), off);
        assert_eq!(told("Unknown", &["a", SHUTDOWN], Instance::Off), "nothing");
        assert_eq!(told("Unknown", &[], Instance::Gone), "delete");
        assert!(!looked_at(&node("True", &["a"])) && looked_at(&node("True", &[SHUTDOWN])));
        assert!(looked_at(&Node::default()));
    }
}
