//! The Node object of a machine: waited for, marked.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Client, Error};
use serde_json::Value;

use crate::api::objects::control_plane_mark;
use crate::host::Host;
use crate::{api, daemons, say};

/// Waits for the node to register, then labels and taints it as a control plane.
///
/// # Errors
/// When it does not register in time, with the kubelet's last words.
pub async fn mark(
    host: &Host,
    client: &Client,
    name: &str,
    taints: &[Value],
    patience: Duration,
) -> Result<()> {
    registered(host, client, name, patience).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let labels =
        "node-role.kubernetes.io/control-plane node.kubernetes.io/exclude-from-external-load-balancers";
    say::detail(format_args!("[mark-control-plane] adding the labels: [{labels}]"));
    api::retry(Duration::from_secs(60), async || {
        let node = serde_json::to_value(nodes.get(name).await?).map_err(Error::SerdeError)?;
        let patch = Patch::Strategic(control_plane_mark(&node, taints));
        nodes.patch(name, &PatchParams::default(), &patch).await.map(drop)
    })
    .await
    .with_context(|| format!("marking the node {name}"))
}

/// Waits until the node has registered.
///
/// # Errors
/// When it does not in time, with the kubelet's last words.
pub async fn registered(host: &Host, client: &Client, name: &str, patience: Duration) -> Result<()> {
    let there = |node: Option<&Node>| {
        node.and_then(|n| n.metadata.labels.as_ref())
            .is_some_and(|l| l.contains_key("kubernetes.io/hostname"))
    };
    let waiting = await_condition(Api::<Node>::all(client.clone()), name, there);
    match tokio::time::timeout(patience, waiting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error).with_context(|| format!("waiting for the node {name}")),
        Err(_) => bail!(
            "the node {name} did not register within {} s; the kubelet's last words:\n{}",
            patience.as_secs(),
            host.services().last_words(daemons::KUBELET, 12)
        ),
    }
}

/// Where the node was last seen.
pub fn address(node: &Value) -> String {
    let first = node.pointer("/status/addresses/0/address").and_then(Value::as_str);
    first.unwrap_or("an unknown address").to_string()
}

/// Is the node Ready by its conditions?
pub fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}
