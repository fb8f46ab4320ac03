//! cloud-node: gives a node that waits for it (a taint of the kubelet's) its provider id, labels and addresses, and keeps
//! the addresses of all nodes as the provider has them.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use control::runner::{self, Options};
use control::{Key, Queue, Recorder};
use k8s_openapi::api::core::v1::{Node, NodeAddress};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::{NODE, age, label, name, tainted, within};
use crate::Context;
use crate::provider::{Instances, Metadata};

/// Set by kubelets that were told `--cloud-provider=external`.
pub const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// What the kubelet was told by `--node-ip`.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";

/// What is to be changed of a node, and why.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// A merge patch of the Node.
    pub node: Option<Value>,
    /// All addresses, when they are others than before.
    pub addresses: Option<Vec<NodeAddress>>,
    /// The node was waiting to be initialised.
    pub initialises: bool,
}

/// What the node should be by what the provider knows.
///
/// # Errors
/// When the provider does not know the address that the kubelet was told.
pub fn plan(node: &Node, known: &Metadata) -> Result<Plan> {
    let addresses = addresses(node, known)?;
    let have = node.status.as_ref().and_then(|s| s.addresses.clone()).unwrap_or_default();
    let initialises = tainted(node, UNINITIALIZED);
    let mut metadata = labels(node, known, initialises);
    let mut spec = Map::new();
    if initialises {
        let unset = node.spec.as_ref().and_then(|s| s.provider_id.as_deref()).is_none_or(str::is_empty);
        if unset && !known.provider_id.is_empty() {
            spec.insert("providerID".into(), json!(known.provider_id));
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let rest: Vec<_> = taints.into_iter().filter(|t| t.key != UNINITIALIZED).collect();
        spec.insert("taints".into(), json!(rest));
        // Taints are one list: somebody else's change in between must not be lost.
        metadata.insert("resourceVersion".into(), json!(node.metadata.resource_version));
    }
    let mut patch = Map::new();
    for (key, part) in [("metadata", metadata), ("spec", spec)] {
        if !part.is_empty() {
            patch.insert(key.into(), part.into());
        }
    }
    Ok(Plan {
        node: (!patch.is_empty()).then(|| patch.into()),
        addresses: Some(addresses).filter(|a| !a.is_empty() && *a != have),
        initialises,
    })
}

/// Labels that are missing or, at first, others. Later only zone and region follow the provider, as upstream has it.
fn labels(node: &Node, known: &Metadata, initialises: bool) -> Map<String, Value> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (keys, value) in [
        (["node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"], &known.instance_type),
        (["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"], &known.zone),
        (["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"], &known.region),
    ] {
        if !value.is_empty() && (initialises || !keys[0].ends_with("type")) {
            wanted.extend(keys.map(|k| (k, value.as_str())));
        }
    }
    if initialises {
        let own = known.labels.iter().filter(|(k, _)| !reserved(k));
        wanted.extend(own.map(|(k, v)| (k.as_str(), v.as_str())));
    }
    let lacking = wanted.into_iter().filter(|(k, v)| label(node, k) != Some(*v));
    let labels: Map<String, Value> = lacking.map(|(k, v)| (k.to_string(), json!(v))).collect();
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".into(), labels.into());
    }
    metadata
}

/// Is the label Kubernetes' own?
fn reserved(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["kubernetes.io", "k8s.io"].iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}")))
}

/// The provider's addresses, that which the kubelet was told first of its type, and the node's host name if the provider
/// has none.
fn addresses(node: &Node, known: &Metadata) -> Result<Vec<NodeAddress>> {
    let mut all = known.addresses.clone();
    if all.is_empty() {
        return Ok(all);
    }
    let have = node.status.as_ref().and_then(|s| s.addresses.as_ref());
    if !all.iter().any(|a| a.type_ == "Hostname") {
        all.extend(have.into_iter().flatten().find(|a| a.type_ == "Hostname").cloned());
    }
    let told = node.metadata.annotations.as_ref().and_then(|a| a.get(PROVIDED_IP));
    let Some(told) = told else { return Ok(all) };
    let mut front: Vec<NodeAddress> = Vec::new();
    for ip in told.split(',').map(str::trim).filter(|ip| !ip.is_empty()) {
        let types: Vec<String> = all.iter().filter(|a| a.address == ip).map(|a| a.type_.clone()).collect();
        if types.is_empty() {
            bail!("failed to get node address from cloud provider that matches ip: {ip}");
        }
        front.extend(types.into_iter().map(|type_| NodeAddress { type_, address: ip.into() }));
    }
    // Of a type that has the told address, that one alone counts; other types stay as they are.
    let rest = all.into_iter().filter(|a| !front.iter().any(|f| f.type_ == a.type_));
    let rest: Vec<NodeAddress> = rest.collect();
    front.extend(rest);
    Ok(front)
}

/// Starts the controller: nodes are looked at when they come or get the taint, and all of them every few minutes.
pub fn start(context: &Context) {
    let queue: Queue<Key> = Queue::new();
    let waking = queue.clone();
    context.nodes.handle(move |event| {
        if event.new.as_ref().is_some_and(|node| tainted(node, UNINITIALIZED)) {
            waking.add(event.key.clone());
        }
    });
    let (all, nodes, period) =
        (queue.clone(), context.nodes.clone(), context.config.node_status_update_frequency);
    context.tasks.spawn("cloud-node refresh", async move {
        loop {
            nodes.keys().into_iter().for_each(|key| all.add(key));
            tokio::time::sleep(period).await;
        }
    });
    let recorder = Recorder::start(context.client.clone(), "cloud-node-controller", None, &context.tasks);
    let room = Arc::new(Room { context: context.clone(), recorder });
    let workers = usize::from(context.config.concurrent_node_syncs);
    runner::start(Options::new(NODE.0, workers), queue, &context.tasks, move |key: Key| {
        let room = room.clone();
        async move { room.sync(&key).await.map(|()| None) }
    });
}

struct Room {
    context: Context,
    recorder: Recorder,
}

impl Room {
    async fn sync(&self, key: &Key) -> Result<()> {
        let Some(node) = self.context.nodes.get_key(key) else { return Ok(()) };
        let Some(instances) = self.context.provider.instances() else { return Ok(()) };
        let initialises = tainted(&node, UNINITIALIZED);
        if initialises {
            self.context.tally.initial_sync_delay.observe(age(&node));
        }
        let known = metadata(instances, &node).await?;
        let plan = plan(&node, &known)?;
        let api: Api<Node> = Api::all(self.context.client.clone());
        let params = PatchParams::default();
        // The addresses first: once the taint is off nobody would look for them for minutes.
        if let Some(addresses) = &plan.addresses {
            // Two addresses may be of one type, which is the merge key: the list is replaced as a whole.
            let mut list = vec![json!({"$patch": "replace"})];
            list.extend(addresses.iter().map(|a| json!(a)));
            let body = json!({"status": {"addresses": list}});
            within("node status", api.patch_status(&key.name, &params, &Patch::Strategic(body))).await?;
        }
        if let Some(mut patch) = plan.node {
            if plan.addresses.is_some() && initialises {
                // The status was just written: the version is another now, the taints are looked at again.
                let fresh = within("node", api.get(&key.name)).await?;
                let Some(again) = self::plan(&fresh, &known)?.node else { return Ok(()) };
                patch = again;
            }
            within("node", api.patch(&key.name, &params, &Patch::Merge(patch))).await?;
        }
        if plan.initialises {
            self.context.tally.taint_removal_delay.observe(age(&node));
            tracing::info!(node = %key, provider_id = known.provider_id, "node initialised");
            self.recorder.normal(&control::events::reference(&*node), "Synced", "Node synced successfully");
        }
        Ok(())
    }
}

async fn metadata(instances: &dyn Instances, node: &Node) -> Result<Metadata> {
    let what = || format!("failed to get instance metadata for node {}", name(&node.metadata));
    within("instance metadata", instances.metadata(node)).await.with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn known() -> Metadata {
        let address =
            |type_: &str, address: &str| NodeAddress { type_: type_.into(), address: address.into() };
        Metadata {
            provider_id: "fake://7".into(),
            instance_type: "big".into(),
            addresses: vec![
                address("InternalIP", "10.0.0.1"),
                address("InternalIP", "10.0.0.2"),
                address("ExternalIP", "1.2.3.4"),
            ],
            zone: "z1".into(),
            region: "r1".into(),
            labels: [("rack", "7"), ("x.k8s.io/y", "no"), ("own.dev/a", "b")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
        }
    }

    fn waiting() -> Node {
        node(json!({
            "metadata": {"name": "n", "resourceVersion": "5"},
            "spec": {"taints": [{"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]},
            "status": {"addresses": [{"type": "Hostname", "address": "n"}]},
        }))
    }

    #[test]
    fn a_waiting_node_is_initialised() {
        let plan = plan(&waiting(), &known()).unwrap();
        assert!(plan.initialises);
        let patch = plan.node.unwrap();
        assert_eq!(
            patch["spec"],
            json!({"providerID": "fake://7", "taints": [{"key": "a", "effect": "NoExecute"}]})
        );
        assert_eq!(
            patch["metadata"]["labels"],
            json!({
                "node.kubernetes.io/instance-type": "big", "beta.kubernetes.io/instance-type": "big",
                "topology.kubernetes.io/zone": "z1", "failure-domain.beta.kubernetes.io/zone": "z1",
                "topology.kubernetes.io/region": "r1", "failure-domain.beta.kubernetes.io/region": "r1",
                "rack": "7", "own.dev/a": "b",
            })
        );
        assert_eq!(patch["metadata"]["resourceVersion"], "5");
        let addresses: Vec<String> =
            plan.addresses.unwrap().iter().map(|a| format!("{}={}", a.type_, a.address)).collect();
        assert_eq!(
            addresses.join(" "),
            "InternalIP=10.0.0.1 InternalIP=10.0.0.2 ExternalIP=1.2.3.4 Hostname=n"
        );
    }

    #[test]
    fn the_address_the_kubelet_was_told_is_the_one() {
        let mut given = waiting();
        given.metadata.annotations = Some([(PROVIDED_IP.to_string(), "10.0.0.2".to_string())].into());
        let got = plan(&given, &known()).unwrap().addresses.unwrap();
        let got: Vec<&str> = got.iter().map(|a| a.address.as_str()).collect();
        assert_eq!(got, ["10.0.0.2", "1.2.3.4", "n"]);
        given.metadata.annotations = Some([(PROVIDED_IP.to_string(), "10.9.9.9".to_string())].into());
        let error = plan(&given, &known()).unwrap_err().to_string();
        assert_eq!(error, "failed to get node address from cloud provider that matches ip: 10.9.9.9");
    }

    #[test]
    fn a_node_that_is_done_is_left_alone() {
        let done = node(json!({
            "metadata": {"name": "n", "labels": {
                "topology.kubernetes.io/zone": "z1", "failure-domain.beta.kubernetes.io/zone": "z1",
                "topology.kubernetes.io/region": "r1", "failure-domain.beta.kubernetes.io/region": "r1"}},
            "spec": {"providerID": "fake://7"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "10.0.0.2"},
                {"type": "ExternalIP", "address": "1.2.3.4"}]},
        }));
        assert_eq!(plan(&done, &known()).unwrap(), Plan::default());
        assert_eq!(plan(&done, &Metadata::default()).unwrap(), Plan::default());
        let moved = Metadata { zone: "z2".into(), ..known() };
        let patch = plan(&done, &moved).unwrap().node.unwrap();
        assert_eq!(patch["metadata"]["labels"]["topology.kubernetes.io/zone"], "z2");
    }
}
