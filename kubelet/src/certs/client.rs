//! The kubelet's client certificate: TLS bootstrap when there is none, rotation while it runs.

use super::request::{self, Wish};
use super::store::{self, Store};
use crate::config::Config;
use crate::context::Context;
use anyhow::Context as _;
use jiff::Timestamp;
use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SERVER_PATIENCE: Duration = Duration::from_secs(60);
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(3600);
const ROTATION_PATIENCE: Duration = Duration::from_secs(900);

fn store_of(config: &Config) -> Store {
    Store::new(&config.cert_dir, "kubelet-client")
}

/// Makes sure that --kubeconfig exists and its client certificate is in date, by TLS bootstrap if need be. Does
/// nothing without --bootstrap-kubeconfig. To be called before the API client is made.
pub async fn bootstrap(config: &Config) -> anyhow::Result<()> {
    let (Some(kubeconfig), Some(with)) = (&config.kubeconfig, &config.bootstrap_kubeconfig) else {
        return Ok(());
    };
    let now = Timestamp::now();
    if usable(kubeconfig, now) {
        return Ok(());
    }
    let store = store_of(config);
    let held = store.read().is_some_and(|pem| in_date(&pem, now));
    if held && with.exists() {
        // A crash between certificate and kubeconfig.
        return write_kubeconfig(with, kubeconfig, &store.current());
    }
    tracing::info!("no valid kubeconfig, asking for a client certificate by TLS bootstrap");
    let client = daemon::client::from_kubeconfig(with, "kubelet").await?;
    wait_for_server(&client).await;
    fetch(&client, &store, &config.node_name, BOOTSTRAP_PATIENCE).await?;
    write_kubeconfig(with, kubeconfig, &store.current())
}

/// The first request may come before the API server does.
async fn wait_for_server(client: &kube::Client) {
    let asking = async {
        let mut attempt = 0;
        while let Err(error) = client.apiserver_version().await {
            tracing::debug!(%error, "the API server does not answer yet");
            tokio::time::sleep(super::backoff(attempt).min(Duration::from_secs(5))).await;
            attempt += 1;
        }
    };
    if tokio::time::timeout(SERVER_PATIENCE, asking).await.is_err() {
        tracing::warn!("the API server did not answer within a minute, trying all the same");
    }
}

async fn fetch(client: &kube::Client, store: &Store, node: &str, patience: Duration) -> anyhow::Result<()> {
    let key = store.pending_key()?;
    match request::obtain(client, &Wish::client(node), &key, patience).await {
        Ok(cert) => {
            let pair = key.serialize_pem();
            daemon::cert::certified_key(&cert, pair.as_bytes()).context("the issued certificate")?;
            let path = store.put(&cert, pair.as_bytes(), Timestamp::now())?;
            tracing::info!(path = %path.display(), "new client certificate");
            store.drop_pending_key();
            Ok(())
        }
        Err(error) => {
            // Refused or too old: the next attempt is a new request.
            store.drop_pending_key();
            Err(error)
        }
    }
}

/// Does the kubeconfig name an identity that is good now?
fn usable(path: &Path, now: Timestamp) -> bool {
    let Ok(config) = Kubeconfig::read_from(path) else { return false };
    let current = config.current_context.as_deref().unwrap_or_default();
    let context = config.contexts.iter().find(|c| c.name == current).and_then(|c| c.context.as_ref());
    let Some(user) = context.and_then(|c| c.user.as_deref()) else { return false };
    let auth = config.auth_infos.iter().find(|a| a.name == user).and_then(|a| a.auth_info.as_ref());
    match auth {
        Some(auth) => client_cert(auth).map_or(has_other_credentials(auth), |pem| in_date(&pem, now)),
        None => false,
    }
}

/// PEM of the client certificate; an unreadable one is empty, which is never in date.
fn client_cert(auth: &AuthInfo) -> Option<Vec<u8>> {
    use base64::Engine;
    if let Some(data) = &auth.client_certificate_data {
        return Some(base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default());
    }
    auth.client_certificate.as_ref().map(|file| std::fs::read(file).unwrap_or_default())
}

fn has_other_credentials(auth: &AuthInfo) -> bool {
    auth.token.is_some() || auth.token_file.is_some() || auth.exec.is_some()
}

fn in_date(pem: &[u8], now: Timestamp) -> bool {
    store::validity(pem).is_ok_and(|(_, not_after)| now < not_after)
}

/// The bootstrap kubeconfig's cluster with the new identity.
fn write_kubeconfig(bootstrap: &Path, kubeconfig: &Path, pair: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(bootstrap).with_context(|| format!("read {}", bootstrap.display()))?;
    let made =
        kubeconfig_of(&serde_yaml::from_str(&text)?, pair).context("bootstrap kubeconfig has no cluster")?;
    if let Some(dir) = kubeconfig.parent() {
        std::fs::create_dir_all(dir)?;
    }
    store::write_private(kubeconfig, serde_yaml::to_string(&made)?.as_bytes())
}

fn kubeconfig_of(bootstrap: &Value, pair: &Path) -> Option<Value> {
    let named = |list: &str, name: &str| {
        let all = bootstrap.get(list)?.as_array()?;
        all.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(name)).cloned()
    };
    let current = bootstrap.get("current-context")?.as_str()?;
    let context = named("contexts", current)?;
    let cluster = named("clusters", context.pointer("/context/cluster")?.as_str()?)?.get("cluster")?.clone();
    Some(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "default-cluster", "cluster": cluster }],
        "contexts": [{
            "name": "default-context",
            "context": { "cluster": "default-cluster", "user": "default-auth", "namespace": "default" },
        }],
        "current-context": "default-context",
        "preferences": {},
        "users": [{
            "name": "default-auth",
            "user": { "client-certificate": pair, "client-key": pair },
        }],
    }))
}

/// Renews the client certificate in time, until cancelled. The API client takes up the new file by itself.
pub async fn rotate(ctx: Arc<Context>) {
    let store = store_of(&ctx.config);
    let Some(client) = ctx.client.clone().filter(|_| ctx.config.file.rotate_certificates) else { return };
    let mut attempt = 0;
    loop {
        let Some((from, to)) = store.read().and_then(|pem| store::validity(&pem).ok()) else {
            // The kubeconfig carries a certificate of its own, which is its maker's to renew.
            tracing::info!("no client certificate of our own to rotate");
            return;
        };
        super::sleep_until(super::renew_at(from, to, rand::random())).await;
        match fetch(&client, &store, &ctx.config.node_name, ROTATION_PATIENCE).await {
            Ok(()) => attempt = 0,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "rotating the client certificate");
                tokio::time::sleep(super::backoff(attempt)).await;
                attempt += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfigs_are_judged_by_their_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.conf");
        let now = Timestamp::now();
        assert!(!usable(&path, now));
        let bootstrap = dir.path().join("bootstrap.conf");
        std::fs::write(
            &bootstrap,
            "clusters: [{name: k, cluster: {server: 'https://a:6443', certificate-authority-data: Zm9v}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\nusers: [{name: u, user: {token: a.b}}]\n",
        )
        .unwrap();
        assert!(usable(&bootstrap, now));
        let store = Store::new(dir.path(), "kubelet-client");
        write_kubeconfig(&bootstrap, &path, &store.current()).unwrap();
        assert!(!usable(&path, now), "the file it names is missing");
        let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
        store.put(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes(), now).unwrap();
        assert!(usable(&path, now));
        let (_, to) = store::validity(&store.read().unwrap()).unwrap();
        assert!(!usable(&path, to));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("server: https://a:6443") && !text.contains("a.b"));
    }
}
