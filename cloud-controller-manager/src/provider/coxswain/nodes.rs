//! Machines without a cloud: they exist as long as their nodes do, and are what the configuration says of them.

use anyhow::{Result, bail};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::config::{NodeSettings, Settings};
use crate::provider::{Instances, Metadata};

/// What the kubelet was told by `--node-ip`.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";

#[async_trait]
impl Instances for Settings {
    /// A machine that does not answer is still in its rack: removing nodes is the administrator's business.
    async fn exists(&self, _node: &Node) -> Result<bool> {
        Ok(true)
    }

    async fn shutdown(&self, node: &Node) -> Result<bool> {
        Ok(self.of(node).is_some_and(|s| s.shutdown))
    }

    async fn metadata(&self, node: &Node) -> Result<Metadata> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let known = self.of(node).cloned().unwrap_or_default();
        let first = |a: &String, b: &String| if a.is_empty() { b.clone() } else { a.clone() };
        Ok(Metadata {
            provider_id: first(&known.provider_id, &format!("coxswain://{name}")),
            addresses: addresses(node, &known)?,
            instance_type: known.instance_type.clone(),
            zone: first(&known.zone, &self.zone),
            region: first(&known.region, &self.region),
            labels: known.labels,
        })
    }
}

impl Settings {
    fn of(&self, node: &Node) -> Option<&NodeSettings> {
        self.nodes.get(node.metadata.name.as_deref()?)
    }
}

/// From the file, else what the node has already, else what its kubelet was told.
fn addresses(node: &Node, known: &NodeSettings) -> Result<Vec<NodeAddress>> {
    if !known.addresses.is_empty() {
        return Ok(known.addresses.clone());
    }
    let have = node.status.as_ref().and_then(|s| s.addresses.clone()).unwrap_or_default();
    if have.iter().any(|a| a.type_ == "InternalIP") {
        return Ok(have);
    }
    let one = |type_: &str, address: &str| NodeAddress { type_: type_.into(), address: address.into() };
    let told = node.metadata.annotations.as_ref().and_then(|a| a.get(PROVIDED_IP));
    let mut all: Vec<NodeAddress> =
        told.iter().flat_map(|t| t.split(',')).map(|ip| one("InternalIP", ip.trim())).collect();
    if all.is_empty() {
        bail!(
            "no address is known: give the kubelet --node-ip, or name the node and its addresses under nodes in --cloud-config"
        );
    }
    let hostname = node.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/hostname"));
    all.extend(hostname.map(|h| one("Hostname", h)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_known_of_a_machine() {
        let settings = Settings::read(
            "apiVersion: cloud.coxswain.io/v1alpha1\nkind: CloudConfiguration\nzone: z\nnodes:\n- {name: b, zone: rack2, instanceType: big, addresses: [{type: InternalIP, address: 10.0.0.2}]}\n",
        )
        .unwrap();
        let node = |name: &str, told: Option<&str>| -> Node {
            let annotations = told.map(|t| json!({PROVIDED_IP: t}));
            let meta =
                json!({"name": name, "annotations": annotations, "labels": {"kubernetes.io/hostname": name}});
            serde_json::from_value(json!({ "metadata": meta })).unwrap()
        };
        let told = settings.metadata(&node("a", Some("10.0.0.1"))).await.unwrap();
        let list: Vec<&str> = told.addresses.iter().map(|a| a.address.as_str()).collect();
        assert_eq!(
            (told.provider_id.as_str(), told.zone.as_str(), list),
            ("coxswain://a", "z", vec!["10.0.0.1", "a"])
        );
        let filed = settings.metadata(&node("b", None)).await.unwrap();
        assert_eq!((filed.instance_type.as_str(), filed.zone.as_str()), ("big", "rack2"));
        assert!(
            settings
                .metadata(&node("c", None))
                .await
                .unwrap_err()
                .to_string()
                .starts_with("no address is known")
        );
        assert!(settings.exists(&node("c", None)).await.unwrap());
    }
}
