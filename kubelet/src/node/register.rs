//! Making the Node, or adopting the one that is there.

use super::machine::Facts;
use crate::config::Config;
use crate::context::Context;
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ATTACH_DETACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// What --node-ip names, for a cloud controller.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
const CALL_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(7);

/// Tries until the Node is there and ours.
pub async fn until_done(ctx: &Arc<Context>, facts: &Facts) {
    let mut wait = FIRST_WAIT;
    while let Err(error) = once(ctx, facts).await {
        tracing::warn!(error = format!("{error:#}"), "registering the node");
        tokio::time::sleep(wait.mul_f64(rand::random_range(1.0..1.2))).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    tracing::info!(node = ctx.config.node_name, "the node is registered");
}

async fn once(ctx: &Arc<Context>, facts: &Facts) -> anyhow::Result<()> {
    let Some(client) = ctx.client.clone() else { return Ok(()) };
    let api: Api<Node> = Api::all(client);
    let mut wanted = initial(&ctx.config, &facts.info.architecture);
    wanted.status = Some(super::report::first_status(ctx, facts));
    let params = PostParams::default();
    match tokio::time::timeout(CALL_DEADLINE, api.create(&params, &wanted)).await? {
        Ok(made) => super::publish(ctx, Some(Arc::new(made))),
        Err(kube::Error::Api(e)) if e.code == 409 => adopt(ctx, &api, &wanted).await?,
        // Some identities may not create nodes but own one that is there.
        Err(kube::Error::Api(e)) if e.code == 403 => {
            adopt(ctx, &api, &wanted).await.map_err(|_| anyhow::anyhow!(e.message.clone()))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn adopt(ctx: &Context, api: &Api<Node>, wanted: &Node) -> anyhow::Result<()> {
    let name = &ctx.config.node_name;
    let existing = tokio::time::timeout(CALL_DEADLINE, api.get(name)).await??;
    let node = match reconcile(&existing, wanted) {
        Some(patch) => {
            let params = PatchParams::default();
            let patch = Patch::Strategic(patch);
            tokio::time::timeout(CALL_DEADLINE, api.patch(name, &params, &patch)).await??
        }
        None => existing,
    };
    super::publish(ctx, Some(Arc::new(node)));
    Ok(())
}

/// The Node as it is first made, without its status.
pub fn initial(config: &Config, architecture: &str) -> Node {
    let mut taints = config.file.register_with_taints.clone();
    if config.external_cloud {
        taints.push(Taint {
            key: "node.cloudprovider.kubernetes.io/uninitialized".into(),
            value: Some("true".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        });
    }
    let mut labels = default_labels(config, architecture);
    labels.extend(config.node_labels.clone());
    let managed = config.file.enable_controller_attach_detach;
    let mut annotations = BTreeMap::new();
    if managed {
        annotations.insert(ATTACH_DETACH.to_owned(), "true".to_owned());
    }
    let given = super::addresses::given(config);
    if config.external_cloud && !given.is_empty() {
        let list: Vec<String> = given.iter().map(ToString::to_string).collect();
        annotations.insert(PROVIDED_IP.to_owned(), list.join(","));
    }
    let some = |s: &String| Some(s.clone()).filter(|s| !s.is_empty());
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            provider_id: some(&config.file.provider_id),
            taints: Some(taints).filter(|t| !t.is_empty()),
            ..Default::default()
        }),
        status: None,
    }
}

fn default_labels(config: &Config, architecture: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), config.hostname.clone())]);
    for prefix in ["", "beta."] {
        labels.insert(format!("{prefix}kubernetes.io/os"), "linux".into());
        labels.insert(format!("{prefix}kubernetes.io/arch"), architecture.to_owned());
    }
    labels
}

/// What an existing Node lacks of what every node of ours has: the default labels and the annotations.
pub fn reconcile(existing: &Node, wanted: &Node) -> Option<Value> {
    let have = existing.metadata.labels.clone().unwrap_or_default();
    let defaults = wanted.metadata.labels.iter().flatten().filter(|(k, _)| is_default(k));
    let labels: Map<String, Value> =
        defaults.filter(|(k, v)| have.get(*k) != Some(*v)).map(|(k, v)| (k.clone(), json!(v))).collect();
    let has = |n: &Node, key: &str| n.metadata.annotations.as_ref().and_then(|a| a.get(key)).cloned();
    let own = [ATTACH_DETACH, PROVIDED_IP];
    let differing = own.iter().filter(|key| has(existing, key) != has(wanted, key));
    let annotations: Map<String, Value> =
        differing.map(|key| ((*key).to_owned(), json!(has(wanted, key)))).collect();
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".into(), labels.into());
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), annotations.into());
    }
    (!metadata.is_empty()).then(|| json!({ "metadata": metadata }))
}

fn is_default(label: &str) -> bool {
    let plain = label.strip_prefix("beta.").unwrap_or(label);
    matches!(plain, "kubernetes.io/hostname" | "kubernetes.io/os" | "kubernetes.io/arch")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config { node_name: "n1".into(), hostname: "host1".into(), ..Default::default() };
        config.node_labels.insert("a".into(), "b".into());
        config.file.provider_id = "x://1".into();
        config
    }

    #[test]
    fn a_new_node() {
        let mut config = config();
        config.external_cloud = true;
        config.node_ips = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let node = serde_json::to_value(initial(&config, "amd64")).unwrap();
        assert_eq!(
            node["metadata"]["labels"],
            json!({
                "a": "b",
                "kubernetes.io/hostname": "host1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
            })
        );
        assert_eq!(node["metadata"]["annotations"][ATTACH_DETACH], "true");
        assert_eq!(node["metadata"]["annotations"][PROVIDED_IP], "10.0.0.1,fd00::1");
        assert_eq!(node["spec"]["providerID"], "x://1");
        assert_eq!(node["spec"]["taints"][0]["key"], "node.cloudprovider.kubernetes.io/uninitialized");
    }

    #[test]
    fn an_existing_node_gets_defaults_only() {
        let wanted = initial(&config(), "amd64");
        assert_eq!(reconcile(&wanted, &wanted), None);
        let mut existing = wanted.clone();
        existing.metadata.annotations = None;
        let labels = existing.metadata.labels.as_mut().unwrap();
        labels.remove("a");
        labels.insert("kubernetes.io/arch".into(), "arm64".into());
        let patch = reconcile(&existing, &wanted).unwrap();
        assert_eq!(
            patch,
            json!({ "metadata": { "labels": { "kubernetes.io/arch": "amd64" }, "annotations": { ATTACH_DETACH: "true" } } })
        );
    }
}
