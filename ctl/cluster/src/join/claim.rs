//! One name, one machine: of two that join under one name at the same moment, the first to write itself down on the Node
//! object has it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use kube::Error;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Run;
use crate::{api, daemons, nodes, paths, say};

/// Holds the id (machine-id) of the machine that joined under this name.
const MACHINE: &str = "coxswain.io/machine-id";
/// The node registers within this time.
const REGISTERING: Duration = Duration::from_secs(20);
/// What would go on fighting for the name.
const FIGHTERS: [&str; 3] = [daemons::KUBELET, daemons::PROXY, daemons::NETWORK];

/// This machine's id; empty when it has none.
pub fn own() -> String {
    std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_string()
}

/// The machine a Node object belongs to, as it was written down at its join.
pub fn holder(node: &Value) -> Option<String> {
    node["metadata"]["annotations"][MACHINE].as_str().map(str::to_string)
}

/// Writes this machine down on its Node, as the node itself; `before` is who was written there when this join began. A
/// cluster that does not let nodes do so is believed.
///
/// # Errors
/// When another machine was quicker; then this one's node daemons are stopped.
pub async fn claim(run: &Run, before: Option<String>) -> Result<()> {
    let ours = own();
    if ours.is_empty() {
        return Ok(());
    }
    let client = api::client(Path::new(paths::KUBELET_CONF), None).await?;
    nodes::registered(&run.host, &client, run.node(), REGISTERING).await?;
    let once = async || match write(&client, run.node(), &ours, before.as_deref()).await {
        // Somebody wrote in between: look again.
        Err(Error::Api(mut status)) if status.code == 409 => {
            status.code = 503;
            Err(Error::Api(status))
        }
        other => other,
    };
    match api::retry(REGISTERING, once).await {
        Ok(true) => Ok(()),
        Ok(false) => give_way(run),
        Err(error) => {
            say::detail(format_args!(
                "[kubelet-start] the machine can't be written down on its Node: {error:#}"
            ));
            Ok(())
        }
    }
}

/// Writes this machine down on the Node; false when another one has the name.
async fn write(client: &kube::Client, name: &str, ours: &str, before: Option<&str>) -> Result<bool, Error> {
    let node = api::get(client, "Node", None, name).await?;
    let now = holder(&node);
    if now.as_deref() == Some(ours) {
        return Ok(true);
    }
    if now.is_some() && now.as_deref() != before {
        return Ok(false);
    }
    let version = node["metadata"]["resourceVersion"].clone();
    let patch = json!({"metadata": {"resourceVersion": version, "annotations": {MACHINE: ours}}});
    let all = api::dynamic(client, "v1", "Node", None);
    all.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| true)
}

fn give_way(run: &Run) -> Result<()> {
    for name in FIGHTERS {
        if run.host.made().has_unit(name) {
            run.host.services().stop(name)?;
        }
    }
    bail!(
        "another machine joined as {:?} at the same moment and has the name; this one gave way and stopped its kubelet: run \"coxctl reset --force\" here and join again with another --node-name",
        run.node()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_its_machine() {
        let node = json!({"metadata": {"annotations": {MACHINE: "a"}}});
        assert_eq!(holder(&node).as_deref(), Some("a"));
        assert_eq!(holder(&json!({"metadata": {}})), None);
    }
}
