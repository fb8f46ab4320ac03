//! The kubelet's client certificate: TLS bootstrap when there is none, rotation while it runs.

use super::request::{self, Wish};
use super::store::{self, Store};
use super::{kubeconfig, node_user};
use crate::config::Config;
use crate::context::Context;
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SERVER_PATIENCE: Duration = Duration::from_secs(60);
/// A refused token may be one that was made a moment ago.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(10);
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(3600);
const ROTATION_PATIENCE: Duration = Duration::from_secs(900);
/// So long after its certificate's end a kubelet goes on trying; then it ends, to begin anew.
const AFTER_END: Duration = Duration::from_secs(300);

fn store_of(config: &Config) -> Store {
    Store::new(&config.cert_dir, "kubelet-client")
}

/// Makes sure that --kubeconfig exists and its client certificate is in date, by TLS bootstrap if need be. A
/// certificate inside the kubeconfig moves to the certificate directory when it is to be rotated. To be called before
/// the API client is made.
///
/// # Errors
/// When there is no identity and none to be had, with the likely cause.
pub async fn bootstrap(config: &Config) -> anyhow::Result<()> {
    let Some(path) = &config.kubeconfig else { return Ok(()) };
    let store = store_of(config);
    store.heal();
    let now = Timestamp::now();
    if kubeconfig::usable(path, now) {
        if config.file.rotate_certificates
            && let Err(error) = adopt(config, path, &store, now)
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "the kubeconfig's certificate stays in it, unrotated"
            );
        }
        return Ok(());
    }
    let Some(with) = &config.bootstrap_kubeconfig else { return Ok(()) };
    if !with.exists() {
        bail!(
            "{}, and {}, to ask for a new one with, is not there: join this node again with a new token",
            kubeconfig::trouble(path, now),
            with.display()
        );
    }
    if !store.read().is_some_and(|pem| kubeconfig::in_date(&pem, now)) {
        ask(config, with, &store).await?;
    }
    // Also after a crash between certificate and kubeconfig.
    kubeconfig::write(with, path, &store.current())
}

async fn ask(config: &Config, with: &Path, store: &Store) -> anyhow::Result<()> {
    tracing::info!(kubeconfig = %with.display(), "asking for a client certificate by TLS bootstrap");
    let client = daemon::client::from_kubeconfig(with, "kubelet").await?;
    wait_for_server(&client).await;
    let began = tokio::time::Instant::now();
    let mut attempt = 0;
    loop {
        let Err(error) = fetch(&client, store, &config.node_name, BOOTSTRAP_PATIENCE).await else {
            return Ok(());
        };
        let Some(cause) = cause(request::code(&error)) else { return Err(error) };
        let error = error.context(format!("{} was refused: {cause}", with.display()));
        if began.elapsed() >= REFUSAL_PATIENCE {
            return Err(error);
        }
        if attempt == 0 {
            tracing::error!(error = format!("{error:#}"), "TLS bootstrap, trying again");
        }
        tokio::time::sleep(super::backoff(attempt).min(REFUSAL_PAUSE)).await;
        attempt += 1;
    }
}

/// What an API server's refusal of a bootstrap token most likely means.
fn cause(code: Option<u16>) -> Option<&'static str> {
    match code? {
        401 => Some(
            "the bootstrap token is wrong, has expired or was deleted; make a new one (coxctl token create) and join again",
        ),
        403 => Some(
            "the bootstrap token's groups may not ask for certificates (ClusterRole system:node-bootstrapper, bound by kubeadm:kubelet-bootstrap)",
        ),
        _ => None,
    }
}

/// The first request may come before the API server does. Any answer is one, a refusal too.
async fn wait_for_server(client: &kube::Client) {
    let asking = async {
        let (mut attempt, mut said) = (0, String::new());
        loop {
            let error = match client.apiserver_version().await {
                Ok(_) | Err(kube::Error::Api(_)) => return,
                Err(error) => daemon::logging::brief(&error),
            };
            if attempt > 2 && error != said {
                tracing::warn!(error, "the API server cannot be reached yet");
                said = error;
            }
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
    let outcome = request::obtain(client, &Wish::client(node), &key, patience).await;
    // Refused, too old or for another key: the next attempt is a new request.
    if !outcome.as_ref().is_err_and(|e| cause(request::code(e)).is_some()) {
        store.drop_pending_key();
    }
    let (cert, pair) = (outcome?, key.serialize_pem());
    daemon::cert::certified_key(&cert, pair.as_bytes()).context("the issued certificate")?;
    let path = store.put(&cert, pair.as_bytes(), Timestamp::now())?;
    tracing::info!(path = %path.display(), "new client certificate");
    Ok(())
}

/// Moves a node's certificate out of its kubeconfig into the store, unless there is a newer one, and has the
/// kubeconfig refer to the store from now on: all who read either follow the rotation.
fn adopt(config: &Config, path: &Path, store: &Store, now: Timestamp) -> anyhow::Result<()> {
    let Some((cert, key)) = kubeconfig::embedded(path)? else { return Ok(()) };
    if store::common_name(&cert).is_none_or(|name| name != node_user(&config.node_name)) {
        return Ok(());
    }
    let (begin, _) = store::validity(&cert)?;
    let held = store.read().and_then(|pem| store::validity(&pem).ok());
    if held.is_none_or(|(from, to)| to <= now || from < begin) {
        daemon::cert::certified_key(&cert, &key).context("the kubeconfig's certificate")?;
        store.put(&cert, &key, now)?;
    }
    kubeconfig::refer(path, &store.current())?;
    tracing::info!(kubeconfig = %path.display(), store = %store.current().display(), "the kubeconfig refers to the certificate directory now");
    Ok(())
}

/// Renews the client certificate in time. The API client takes up the new file by itself.
///
/// # Errors
/// Ends only when the certificate has been out of date for minutes and there is no other to be had.
pub async fn rotate(ctx: Arc<Context>) -> anyhow::Result<()> {
    let store = store_of(&ctx.config);
    let client = ctx.client.clone().filter(|_| ctx.config.file.rotate_certificates);
    let Some(client) = client.filter(|_| store.read().is_some()) else {
        // A certificate of the kubeconfig's own is its maker's to renew.
        tracing::info!("no client certificate of our own to rotate");
        return std::future::pending().await;
    };
    let mut attempt = 0;
    loop {
        let held = store.read().and_then(|pem| store::validity(&pem).ok());
        if let Some(validity) = held.filter(|_| attempt == 0) {
            let due = super::renewal(validity, store.obtained(), rand::random(), Timestamp::now());
            super::sleep_until(due).await;
        }
        let Err(error) = renew(&ctx.config, &client, &store).await else {
            attempt = 0;
            continue;
        };
        tracing::warn!(error = format!("{error:#}"), "rotating the client certificate");
        let end = held.and_then(|(_, to)| to.checked_add(AFTER_END).ok());
        if end.is_some_and(|end| Timestamp::now() > end) {
            return Err(error.context("the client certificate has expired and cannot be renewed"));
        }
        tokio::time::sleep(super::backoff(attempt)).await;
        attempt += 1;
    }
}

/// Asks with the certificate itself; once that is too old, as at the very first time.
async fn renew(config: &Config, client: &kube::Client, store: &Store) -> anyhow::Result<()> {
    let end = store.read().and_then(|pem| store::validity(&pem).ok()).map(|(_, to)| to);
    let left = end.map_or(0, |to| to.as_second().saturating_sub(Timestamp::now().as_second()));
    if left <= 0
        && let Some(with) = config.bootstrap_kubeconfig.as_deref().filter(|with| with.exists())
    {
        return ask(config, with, store).await;
    }
    let patience = Duration::from_secs(left.max(30).unsigned_abs()).min(ROTATION_PATIENCE);
    fetch(client, store, &config.node_name, patience).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_certificate(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_inside_the_kubeconfig_moves_to_the_store() {
        use base64::Engine;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.conf");
        let b64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let write = |name: &str| {
            let (cert, key) = node_certificate(name);
            let text = format!(
                "clusters: [{{name: k, cluster: {{server: 'https://a:6443', tls-server-name: kubernetes}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\ncurrent-context: c\nusers: [{{name: u, user: {{client-certificate-data: {}, client-key-data: {}}}}}]\n",
                b64(&cert),
                b64(&key)
            );
            std::fs::write(&path, text).unwrap();
        };
        let config = Config { node_name: "n1".into(), ..Config::default() };
        let store = Store::new(&dir.path().join("pki"), "kubelet-client");
        let now = Timestamp::now();
        write("kubernetes-admin");
        adopt(&config, &path, &store, now).unwrap();
        assert!(store.read().is_none(), "not a node's");
        write("system:node:n1");
        adopt(&config, &path, &store, now).unwrap();
        assert!(store.read().is_some());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("kubelet-client-current.pem") && !text.contains("-data"));
        assert!(text.contains("tls-server-name: kubernetes"));
        assert!(kubeconfig::usable(&path, now));
        adopt(&config, &path, &store, now).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[tokio::test]
    async fn an_expired_identity_without_a_way_to_a_new_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            kubeconfig: Some(dir.path().join("kubelet.conf")),
            bootstrap_kubeconfig: Some(dir.path().join("bootstrap-kubelet.conf")),
            cert_dir: dir.path().into(),
            ..Config::default()
        };
        let error = bootstrap(&config).await.unwrap_err().to_string();
        assert!(
            error.contains("bootstrap-kubelet.conf") && error.contains("join this node again"),
            "{error}"
        );
    }

    #[test]
    fn refusals_have_causes() {
        assert!(cause(Some(401)).unwrap().contains("expired"));
        assert!(cause(Some(403)).unwrap().contains("node-bootstrapper"));
        assert_eq!((cause(Some(500)), cause(None)), (None, None));
    }
}
