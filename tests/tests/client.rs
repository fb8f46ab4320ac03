//! The Rust client against the lab's API server, over mutual TLS with the user's kubeconfig: what operators written in Rust do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{
    Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, ResourceExt, WatchEvent,
    WatchParams,
};
use kube::{Client, Error};
use serde_json::{Value, json};

const NAMESPACE: &str = "rust-client";

async fn client() -> Result<Client> {
    std::env::var("COXSWAIN_LAB").context("no lab: run this test by tests/run")?;
    daemon::init_crypto();
    Client::try_default().await.context("kubeconfig")
}

/// A namespace of this name, empty, once an older one is gone.
async fn fresh(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    let _ = api.delete(name, &DeleteParams::default()).await;
    let made = tokio::time::timeout(Duration::from_secs(60), async {
        while let Err(error) = api.create(&PostParams::default(), &namespace).await {
            ensure!(code(&error) == Some(409), "create namespace: {error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    });
    made.await.context("the old namespace does not go")?
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn map(name: &str, data: Value) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"of": "client"}}, "data": data}))?)
}

/// Pages, selectors, conflicts, the three patches that need no server-side apply, and deletion of a collection.
#[tokio::test]
async fn objects() -> Result<()> {
    let client = client().await?;
    let name = format!("{NAMESPACE}-objects");
    fresh(&client, &name).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, &name);
    for i in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("m{i}"), json!({"n": i.to_string()}))?).await?;
    }
    let page = maps.list(&ListParams::default().labels("of=client").limit(2)).await?;
    ensure!(page.items.len() == 2, "a page of two has {}", page.items.len());
    let token = page.metadata.continue_.context("token of the next page")?;
    let rest = maps.list(&ListParams::default().labels("of=client").continue_token(&token)).await?;
    ensure!(rest.items.len() == 3, "the rest has {}", rest.items.len());

    let mut first = maps.get("m0").await?;
    let old = first.clone();
    first.data.get_or_insert_default().insert("more".into(), "yes".into());
    maps.replace("m0", &PostParams::default(), &first).await?;
    let stale = maps.replace("m0", &PostParams::default(), &old).await.err().and_then(|e| code(&e));
    ensure!(stale == Some(409), "a stale update gives {stale:?}");
    let merged =
        maps.patch("m0", &PatchParams::default(), &Patch::Merge(json!({"data": {"more": null}}))).await?;
    ensure!(merged.data.as_ref().is_some_and(|d| !d.contains_key("more")), "null removes");
    let labelled = json!({"metadata": {"labels": {"x": "y"}}});
    let strategic = maps.patch("m0", &PatchParams::default(), &Patch::Strategic(labelled)).await?;
    ensure!(strategic.labels().len() == 2, "labels are merged: {:?}", strategic.labels());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map("never", json!({}))?).await?;
    ensure!(maps.get_opt("never").await?.is_none(), "a dry run leaves nothing");
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("of=client")).await?;
    ensure!(maps.list(&ListParams::default().labels("of=client")).await?.items.is_empty());
    Ok(())
}

/// A watch from a version shows each change once, in order.
#[tokio::test]
async fn watches() -> Result<()> {
    let client = client().await?;
    let name = format!("{NAMESPACE}-watches");
    fresh(&client, &name).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, &name);
    let version = maps.list(&ListParams::default()).await?.metadata.resource_version.context("version")?;
    maps.create(&PostParams::default(), &map("w", json!({}))?).await?;
    maps.patch("w", &PatchParams::default(), &Patch::Merge(json!({"data": {"a": "b"}}))).await?;
    maps.delete("w", &DeleteParams::default()).await?;
    let mut events =
        Box::pin(maps.watch(&WatchParams::default().labels("of=client").timeout(30), &version).await?);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.try_next().await?.context("the watch ended early")? {
            WatchEvent::Added(m) => seen.push(format!("added {}", m.name_any())),
            WatchEvent::Modified(m) => seen.push(format!("modified {}", m.name_any())),
            WatchEvent::Deleted(m) => seen.push(format!("deleted {}", m.name_any())),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => anyhow::bail!("{status:?}"),
        }
    }
    ensure!(seen == ["added w", "modified w", "deleted w"], "{seen:?}");
    Ok(())
}

/// A service account's token speaks for it and for no one else.
#[tokio::test]
async fn tokens() -> Result<()> {
    let client = client().await?;
    let name = format!("{NAMESPACE}-tokens");
    fresh(&client, &name).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
    let robot: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "robot"}}))?;
    accounts.create(&PostParams::default(), &robot).await?;
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 600}}))?;
    let token = accounts.create_token_request("robot", &PostParams::default(), &request).await?;
    let token = token.status.context("status")?.token;
    let mut config = kube::Config::infer().await?;
    config.auth_info = serde_json::from_value(json!({"token": token}))?;
    let as_robot = Client::try_from(config)?;
    let maps: Api<ConfigMap> = Api::namespaced(as_robot, &name);
    let refused = maps.list(&ListParams::default()).await.err().context("a robot without a role may list")?;
    ensure!(code(&refused) == Some(403), "{refused}");
    ensure!(refused.to_string().contains(&format!("system:serviceaccount:{name}:robot")), "{refused}");
    Ok(())
}

/// A pod is created, becomes ready, and is evicted.
#[tokio::test]
async fn pods() -> Result<()> {
    let client = client().await?;
    let name = format!("{NAMESPACE}-pods");
    fresh(&client, &name).await?;
    let pods: Api<Pod> = Api::namespaced(client, &name);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "coxswain.local/echo:1"}]},
    }))?;
    pods.create(&PostParams::default(), &pod).await?;
    let ready = kube::runtime::conditions::is_pod_running();
    let running = kube::runtime::wait::await_condition(pods.clone(), "p", ready);
    tokio::time::timeout(Duration::from_secs(60), running).await.context("the pod does not run")??;
    pods.evict("p", &EvictParams::default()).await?;
    let gone = kube::runtime::wait::await_condition(pods.clone(), "p", |p: Option<&Pod>| p.is_none());
    tokio::time::timeout(Duration::from_secs(60), gone).await.context("the pod does not go")??;
    Ok(())
}
