//! Kubeconfig files: those of the daemons, and the user's own, into which a lab's context is merged and taken out again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::authority::{Authority, Identity, write_file};

/// One cluster, one user, one context, everything embedded: what kubeadm writes.
pub fn document(cluster: &str, user: &str, server: &str, ca_pem: &str, credentials: Value) -> Value {
    let context = format!("{user}@{cluster}");
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {},
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": b64(ca_pem)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "current-context": context,
    })
}

/// Credentials of a new client certificate signed by `ca`.
///
/// # Errors
/// When the authority can't sign.
pub fn certificate_credentials(ca: &Authority, who: &Identity) -> Result<Value> {
    let (crt, key) = ca.issue(who)?;
    Ok(json!({"client-certificate-data": b64(&crt), "client-key-data": b64(&key)}))
}

/// Writes a kubeconfig of mode 0600.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, document: &Value) -> Result<()> {
    write_file(path, serde_yaml::to_string(document)?.as_bytes(), 0o600)
}

/// The file kubectl would write to: the first of `KUBECONFIG`, else `~/.kube/config`.
pub fn user_path() -> PathBuf {
    let listed = std::env::var_os("KUBECONFIG")
        .and_then(|v| std::env::split_paths(&v).find(|p| !p.as_os_str().is_empty()));
    listed.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".kube/config")
    })
}

/// Puts the cluster, user and context of `document` under `name` into the file and makes it current.
///
/// # Errors
/// When the file is there but is no kubeconfig, or can't be written.
pub fn merge_into(path: &Path, name: &str, document: &Value) -> Result<()> {
    let mut config = read_or_empty(path)?;
    for (list, inner) in [("clusters", "cluster"), ("users", "user")] {
        let body = document[list][0][inner].clone();
        put(&mut config, list, name, json!({"name": name, inner: body}));
    }
    put(&mut config, "contexts", name, json!({"name": name, "context": {"cluster": name, "user": name}}));
    config["current-context"] = json!(name);
    write(path, &config)
}

/// Takes everything named `name` out of the file; a current context of that name is unset. A file that held nothing
/// else is removed. Missing files are fine.
///
/// # Errors
/// When the file is there but can't be read or written.
pub fn remove_from(path: &Path, name: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut config = read_or_empty(path)?;
    let mut left = 0;
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|e| e["name"] != name);
            left += entries.len();
        }
    }
    if config["current-context"] == name {
        config["current-context"] = json!("");
    }
    if left == 0 {
        return std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()));
    }
    write(path, &config)
}

fn put(config: &mut Value, list: &str, name: &str, entry: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    if let Some(entries) = config[list].as_array_mut() {
        entries.retain(|e| e["name"] != name);
        entries.push(entry);
    }
}

fn read_or_empty(path: &Path) -> Result<Value> {
    if !path.exists() {
        return Ok(json!({"apiVersion": "v1", "kind": "Config", "preferences": {}}));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let value: Value =
        serde_yaml::from_str(&text).with_context(|| format!("{} is no kubeconfig", path.display()))?;
    if value.is_null() {
        return Ok(json!({"apiVersion": "v1", "kind": "Config", "preferences": {}}));
    }
    anyhow::ensure!(value.is_object(), "{} is no kubeconfig", path.display());
    Ok(value)
}

fn b64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_and_goes_without_touching_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let mine = document("kubernetes", "admin", "https://127.0.0.1:6443", "CA", json!({"token": "t"}));
        merge_into(&path, "other", &mine).unwrap();
        let before = read_or_empty(&path).unwrap();
        merge_into(&path, "coxswain-lab", &mine).unwrap();
        assert_eq!(read_or_empty(&path).unwrap()["current-context"], "coxswain-lab");
        remove_from(&path, "coxswain-lab").unwrap();
        let after = read_or_empty(&path).unwrap();
        assert_eq!((&before["clusters"], &before["contexts"]), (&after["clusters"], &after["contexts"]));
        assert_eq!(after["current-context"], "");
        remove_from(&path, "other").unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_foreign_file_is_named_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "- just\n- a list\n").unwrap();
        let err = merge_into(&path, "x", &json!({})).unwrap_err().to_string();
        assert!(err.contains("is no kubeconfig"), "{err}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "- just\n- a list\n");
    }
}
