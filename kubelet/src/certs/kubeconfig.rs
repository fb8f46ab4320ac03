//! The kubelet's kubeconfig: what identity it holds, and its making and change.

use super::store;
use anyhow::Context as _;
use base64::Engine;
use jiff::Timestamp;
use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};
use std::path::Path;

fn auth(path: &Path) -> Option<AuthInfo> {
    let config = Kubeconfig::read_from(path).ok()?;
    let current = config.current_context.as_deref().unwrap_or_default();
    let context = config.contexts.iter().find(|c| c.name == current)?.context.as_ref()?;
    let user = context.user.as_deref()?;
    config.auth_infos.iter().find(|a| a.name == user)?.auth_info.clone()
}

/// Does the kubeconfig name an identity that is good at `now`?
pub fn usable(path: &Path, now: Timestamp) -> bool {
    let Some(auth) = auth(path) else { return false };
    client_cert(&auth).map_or(has_other_credentials(&auth), |pem| in_date(&pem, now))
}

/// Why the kubeconfig is not usable, in words.
pub fn trouble(path: &Path, now: Timestamp) -> String {
    let what = path.display();
    if !path.exists() {
        return format!("{what} is not there");
    }
    let Some(auth) = auth(path) else { return format!("{what} cannot be read as a kubeconfig with a user") };
    match client_cert(&auth).map(|pem| store::validity(&pem)) {
        Some(Ok((_, end))) if end <= now => format!("the client certificate of {what} expired at {end}"),
        Some(Err(error)) => format!("the client certificate of {what} cannot be read: {error:#}"),
        _ => format!("{what} holds no usable identity"),
    }
}

/// PEM of the client certificate; an unreadable one is empty, which is never in date.
fn client_cert(auth: &AuthInfo) -> Option<Vec<u8>> {
    if let Some(data) = &auth.client_certificate_data {
        return Some(base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default());
    }
    auth.client_certificate.as_ref().map(|file| std::fs::read(file).unwrap_or_default())
}

fn has_other_credentials(auth: &AuthInfo) -> bool {
    auth.token.is_some() || auth.token_file.is_some() || auth.exec.is_some()
}

/// Is the first certificate of a PEM text good until after `now`?
pub fn in_date(pem: &[u8], now: Timestamp) -> bool {
    store::validity(pem).is_ok_and(|(_, not_after)| now < not_after)
}

/// The bootstrap kubeconfig's cluster with the identity of `pair`.
pub fn write(bootstrap: &Path, kubeconfig: &Path, pair: &Path) -> anyhow::Result<()> {
    let made = made_of(&read(bootstrap)?, pair).context("bootstrap kubeconfig has no cluster")?;
    if let Some(dir) = kubeconfig.parent() {
        std::fs::create_dir_all(dir)?;
    }
    store::write_private(kubeconfig, serde_yaml::to_string(&made)?.as_bytes())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

/// Certificate and key that stand in the kubeconfig itself.
pub fn embedded(path: &Path) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut file = read(path)?;
    let Some(user) = user_mut(&mut file) else { return Ok(None) };
    let text = |key: &str| user.get(key).and_then(Value::as_str).map(str::trim);
    let (Some(cert), Some(key)) = (text("client-certificate-data"), text("client-key-data")) else {
        return Ok(None);
    };
    let engine = base64::engine::general_purpose::STANDARD;
    Ok(Some((engine.decode(cert)?, engine.decode(key)?)))
}

/// Has the current user refer to the files of `pair` instead; all else stays.
pub fn refer(path: &Path, pair: &Path) -> anyhow::Result<()> {
    let mut file = read(path)?;
    let user = user_mut(&mut file).and_then(Value::as_object_mut).context("kubeconfig without a user")?;
    for key in ["client-certificate", "client-key"] {
        user.remove(&format!("{key}-data"));
        user.insert(key.into(), json!(pair));
    }
    store::write_private(path, serde_yaml::to_string(&file)?.as_bytes())
}

fn user_mut(file: &mut Value) -> Option<&mut Value> {
    let current = file.get("current-context")?.as_str()?.to_owned();
    let context = named(file, "contexts", &current)?;
    let user = context.pointer("/context/user")?.as_str()?.to_owned();
    let users = file.get_mut("users")?.as_array_mut()?;
    users.iter_mut().find(|u| u.get("name").and_then(Value::as_str) == Some(user.as_str()))?.get_mut("user")
}

fn named(file: &Value, list: &str, name: &str) -> Option<Value> {
    let all = file.get(list)?.as_array()?;
    all.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(name)).cloned()
}

fn made_of(bootstrap: &Value, pair: &Path) -> Option<Value> {
    let context = named(bootstrap, "contexts", bootstrap.get("current-context")?.as_str()?)?;
    let cluster = context.pointer("/context/cluster")?.as_str()?;
    let cluster = named(bootstrap, "clusters", cluster)?.get("cluster")?.clone();
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

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;

    #[test]
    fn kubeconfigs_are_judged_by_their_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.conf");
        let now = Timestamp::now();
        assert!(!usable(&path, now) && trouble(&path, now).ends_with("is not there"));
        let bootstrap = dir.path().join("bootstrap.conf");
        std::fs::write(
            &bootstrap,
            "clusters: [{name: k, cluster: {server: 'https://a:6443', certificate-authority-data: Zm9v}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\nusers: [{name: u, user: {token: a.b}}]\n",
        )
        .unwrap();
        assert!(usable(&bootstrap, now));
        let store = Store::new(dir.path(), "kubelet-client");
        write(&bootstrap, &path, &store.current()).unwrap();
        assert!(!usable(&path, now) && trouble(&path, now).contains("cannot be read"));
        let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
        store.put(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes(), now).unwrap();
        assert!(usable(&path, now));
        let (_, to) = store::validity(&store.read().unwrap()).unwrap();
        assert!(!usable(&path, to) && trouble(&path, to).contains("expired at"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("server: https://a:6443") && !text.contains("a.b"));
    }
}
