//! The objects every new cluster has: the administrators' and kubelets' rights, the bootstrap token, cluster-info and DNS.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::spec::Spec;

const BOOTSTRAP: &str = include_str!("../../../deploy/manifests/bootstrap.yaml");
const DNS: &str = include_str!("../../../deploy/manifests/dns.yaml");
/// How long one object is tried for, while the server may still be starting.
const LIMIT: Duration = Duration::from_secs(60);

/// Rights and the bootstrap token: what the other nodes need to join. Needs a client of `system:masters`.
///
/// # Errors
/// When the API server refuses an object for longer than a minute.
pub async fn bootstrap(client: &Client, spec: &Spec, ca_pem: &str) -> Result<()> {
    apply_all(client, documents(BOOTSTRAP)?).await?;
    apply_all(client, vec![token_secret(spec)?, cluster_info(spec, ca_pem)?]).await?;
    apply_all(client, cluster_info_rights()).await
}

/// Cluster DNS.
///
/// # Errors
/// As [`bootstrap`].
pub async fn dns(client: &Client) -> Result<()> {
    apply_all(client, documents(DNS)?).await
}

fn documents(text: &str) -> Result<Vec<Value>> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text)
        .map(|d| Value::deserialize(d).context("a built-in manifest"))
        .collect()
}

fn token_secret(spec: &Spec) -> Result<Value> {
    let (id, secret) = spec.bootstrap_token.split_once('.').context("the bootstrap token has no dot")?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "stringData": {
            "description": "The token the lab's workers join with.",
            "token-id": id, "token-secret": secret,
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }))
}

fn cluster_info(spec: &Spec, ca_pem: &str) -> Result<Value> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let cluster =
        json!({"certificate-authority-data": BASE64_STANDARD.encode(ca_pem), "server": spec.api_url()?});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "", "contexts": null, "users": null,
        "clusters": [{"name": "", "cluster": cluster}],
    });
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": serde_yaml::to_string(&config)?},
    }))
}

fn cluster_info_rights() -> Vec<Value> {
    let meta = json!({"name": "kubeadm:bootstrap-signer-clusterinfo", "namespace": "kube-public"});
    let group = "rbac.authorization.k8s.io";
    vec![
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta, "rules":
            [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"]}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "kubeadm:bootstrap-signer-clusterinfo"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "system:anonymous"}]}),
    ]
}

async fn apply_all(client: &Client, objects: Vec<Value>) -> Result<()> {
    for object in objects {
        let name = format!(
            "{} {}",
            object["kind"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        apply_until(client, &object).await.with_context(|| name)?;
    }
    Ok(())
}

/// Retries what a starting server may answer: connection errors, 5xx, and 403 until its rights are loaded.
async fn apply_until(client: &Client, object: &Value) -> Result<()> {
    let (mut pause, end) = (Duration::from_millis(20), Instant::now() + LIMIT);
    loop {
        match apply(client, object).await {
            Err(Error::Api(status)) if status.code < 500 && !matches!(status.code, 403 | 404 | 429) => {
                return Err(Error::Api(status).into());
            }
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => tokio::time::sleep(pause).await,
            Ok(()) => return Ok(()),
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

async fn apply(client: &Client, object: &Value) -> Result<(), Error> {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).map_err(Error::SerdeError)?;
    let api = api_for(client, object);
    let name = parsed.metadata.name.clone().unwrap_or_default();
    match api.create(&PostParams::default(), &parsed).await {
        Err(Error::Api(status)) if status.code == 409 => {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(object)).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn api_for(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_manifests_are_objects_with_names() {
        for text in [BOOTSTRAP, DNS] {
            for object in documents(text).unwrap() {
                assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{object}");
            }
        }
    }
}
