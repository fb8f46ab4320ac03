//! Talking to the API server: clients from kubeconfigs, objects made or changed until they stand.

pub mod objects;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind, Status};
use kube::{Client, Config, Error};
use serde_json::Value;

/// Deadline of one call, kubeadm's.
pub const CALL: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// A starting server may not know a right yet; one that refuses for longer means it.
const REFUSING: Duration = Duration::from_secs(6);
/// An address that was taken for a service which was never stored is its rest after this many seconds.
const REST: i64 = 2;

/// What the server refused, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// HTTP status.
    pub code: u16,
    message: String,
}

/// A client with the identity in a kubeconfig; `server` replaces the one named there, known by `kubernetes`, a name every
/// API server's certificate carries.
///
/// # Errors
/// When the file can't be read or is no kubeconfig.
pub async fn client(path: &Path, server: Option<&str>) -> Result<Client> {
    let config = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
    client_of(config, server).await.with_context(|| format!("kubeconfig {}", path.display()))
}

/// As [`client`], from a kubeconfig at hand.
///
/// # Errors
/// When it names no usable cluster or user.
pub async fn client_of(mut config: Kubeconfig, server: Option<&str>) -> Result<Client> {
    daemon::init_crypto();
    if let Some(server) = server {
        for cluster in config.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
            cluster.server = Some(server.to_string());
            cluster.tls_server_name = Some(crate::paths::BALANCER_SERVER_NAME.into());
        }
    }
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.proxy_url = config.proxy_url.filter(|_| server.is_none());
    Ok(Client::try_from(config)?)
}

/// A client from the text of a kubeconfig.
///
/// # Errors
/// As [`client_of`].
pub async fn client_from(text: &str) -> Result<Client> {
    client_of(Kubeconfig::from_yaml(text)?, None).await
}

/// May the same call succeed a little later? True of a server that is starting: no connection, 5xx, and refusals until its
/// rights and namespaces are there.
pub fn transient(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code >= 500 || matches!(status.code, 401 | 403 | 404 | 429),
        Error::Auth(_) | Error::SerdeError(_) | Error::InferConfig(_) => false,
        _ => true,
    }
}

/// The server's own words, without their envelope.
pub fn plain(error: Error) -> anyhow::Error {
    match error {
        Error::Api(status) => Refused { code: status.code, message: status.message.clone() }.into(),
        other => other.into(),
    }
}

/// Calls until it succeeds, fails for good, or `limit` is over.
///
/// # Errors
/// The last error.
pub async fn retry<T>(limit: Duration, call: impl AsyncFn() -> Result<T, Error>) -> Result<T> {
    let (mut pause, begin) = (FIRST_PAUSE, Instant::now());
    loop {
        let mut patience = limit;
        let error = match tokio::time::timeout(CALL, call()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if !transient(&error) => return Err(plain(error)),
            Ok(Err(error)) => {
                if matches!(&error, Error::Api(status) if matches!(status.code, 401 | 403)) {
                    patience = limit.min(REFUSING);
                }
                plain(error)
            }
            Err(_) => anyhow::anyhow!("the API server did not answer within {CALL:?}"),
        };
        if begin.elapsed() + pause > patience {
            return Err(error);
        }
        crate::say::detail(format_args!("[api] {error:#}; trying again"));
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

/// Creates all objects, or changes those that are there, at the same time.
///
/// # Errors
/// The first that could not be made within `limit`, with its name.
pub async fn apply_all(client: &Client, objects: Vec<Value>, limit: Duration) -> Result<()> {
    let each = objects.iter().map(|o| apply(client, o, limit));
    futures::future::try_join_all(each).await.map(drop)
}

/// Creates one object, or changes the one that is there.
///
/// # Errors
/// When the server refuses it for longer than `limit`.
pub async fn apply(client: &Client, object: &Value, limit: Duration) -> Result<()> {
    retry(limit, async || apply_once(client, object).await).await.with_context(|| title(object))
}

/// Kind and name, for messages.
pub fn title(object: &Value) -> String {
    let text = |p: &str| object.pointer(p).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

async fn apply_once(client: &Client, object: &Value) -> Result<(), Error> {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).map_err(Error::SerdeError)?;
    let api = api_for(client, object);
    let name = parsed.metadata.name.clone().unwrap_or_default();
    match api.create(&PostParams::default(), &parsed).await {
        // A service that is there has its address, which is found taken before its name is.
        Err(Error::Api(status)) if matches!(status.code, 409 | 422) => {
            let changed = api.patch(&name, &PatchParams::default(), &Patch::Merge(object)).await;
            match changed {
                Err(Error::Api(absent)) if absent.code == 404 => {
                    Err(Error::Api(half_made(client, object, status).await))
                }
                other => other.map(drop),
            }
        }
        other => other.map(drop),
    }
}

/// A service's address may be left of a try that was killed before the service was stored. It is given back, and the error
/// becomes one that passes.
async fn half_made(client: &Client, object: &Value, mut error: Box<Status>) -> Box<Status> {
    let Some(ip) = object.pointer("/spec/clusterIP").and_then(Value::as_str) else { return error };
    if !error.message.contains("already allocated") {
        return error;
    }
    error.code = 503;
    let addresses = dynamic(client, "networking.k8s.io/v1", "IPAddress", None);
    let Ok(found) = addresses.get(ip).await else { return error };
    let text = |p: &str| found.data.pointer(p).and_then(Value::as_str).unwrap_or_default().to_string();
    let same = ["namespace", "name"]
        .iter()
        .all(|part| object["metadata"][part].as_str() == Some(&text(&format!("/spec/parentRef/{part}"))));
    let made = found.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |t| t.0.as_second());
    if same && jiff::Timestamp::now().as_second().saturating_sub(made) >= REST {
        let exactly =
            found.metadata.uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions: exactly, ..DeleteParams::default() };
        let _ = addresses.delete(ip, &params).await;
    }
    error
}

/// Creates an object; one of its name that is there already is left as it is.
///
/// # Errors
/// Those of the server.
pub async fn create(client: &Client, object: &Value) -> Result<(), Error> {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).map_err(Error::SerdeError)?;
    match api_for(client, object).create(&PostParams::default(), &parsed).await {
        Err(Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        other => other.map(drop),
    }
}

fn api_for(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |p: &str| object.pointer(p).and_then(Value::as_str).unwrap_or_default();
    dynamic(
        client,
        text("/apiVersion"),
        text("/kind"),
        object.pointer("/metadata/namespace").and_then(Value::as_str),
    )
}

/// The API of a kind by its name.
pub fn dynamic(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// One object as plain JSON.
///
/// # Errors
/// Those of the server, and its absence.
pub async fn get(client: &Client, kind: &str, namespace: Option<&str>, name: &str) -> Result<Value, Error> {
    let object = dynamic(client, "v1", kind, namespace).get(name).await?;
    serde_json::to_value(object).map_err(Error::SerdeError)
}

/// One key of a ConfigMap in kube-system, tried for `limit`.
///
/// # Errors
/// When it can't be read or has no such key.
pub async fn config_map(client: &Client, name: &str, key: &str, limit: Duration) -> Result<String> {
    let found = retry(limit, async || get(client, "ConfigMap", Some("kube-system"), name).await).await;
    let found = found.with_context(|| format!("reading ConfigMap kube-system/{name}"))?;
    let text = found.get("data").and_then(|d| d.get(key)).and_then(Value::as_str);
    text.map(str::to_string).with_context(|| format!("ConfigMap kube-system/{name} has no key {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starting_server_is_asked_again_a_refusing_one_is_not() {
        let answer = |code: u16| Error::Api(Box::new(Status { code, ..Status::default() }));
        for code in [403, 404, 429, 500, 503] {
            assert!(transient(&answer(code)), "{code}");
        }
        for code in [400, 409, 422] {
            assert!(!transient(&answer(code)), "{code}");
        }
    }
}
