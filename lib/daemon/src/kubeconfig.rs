//! The parts of a kubeconfig a daemon uses: current context, its cluster and its user.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<ContextEntry>>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: Option<T>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Cluster {
    pub server: String,
    pub certificate_authority: Option<PathBuf>,
    pub certificate_authority_data: Option<String>,
    #[serde(default)]
    pub insecure_skip_tls_verify: bool,
    pub tls_server_name: Option<String>,
}

/// How the user proves itself. Paths are absolute.
#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct User {
    pub client_certificate: Option<PathBuf>,
    pub client_certificate_data: Option<String>,
    pub client_key: Option<PathBuf>,
    pub client_key_data: Option<String>,
    pub token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub token_file: Option<PathBuf>,
    pub exec: Option<serde_json::Value>,
    pub auth_provider: Option<serde_json::Value>,
}

#[derive(Deserialize, Clone)]
struct ContextEntry {
    cluster: String,
    #[serde(default)]
    user: String,
    namespace: Option<String>,
}

pub(crate) struct Resolved {
    pub cluster: Cluster,
    pub user: User,
    pub namespace: Option<String>,
}

/// Reads the file and follows its current context. Relative paths are relative to the file.
pub(crate) fn read(path: &Path) -> Result<Resolved> {
    let text = std::fs::read_to_string(path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    resolve(serde_yaml::from_str(&text)?, dir)
}

fn resolve(file: File, dir: &Path) -> Result<Resolved> {
    let context = find(&file.contexts, &file.current_context).context("current-context")?;
    let mut cluster = find(&file.clusters, &context.cluster).context("cluster")?;
    let mut user = find(&file.users, &context.user).unwrap_or_default();
    let paths = [
        &mut cluster.certificate_authority,
        &mut user.client_certificate,
        &mut user.client_key,
        &mut user.token_file,
    ];
    for path in paths.into_iter().flatten() {
        *path = dir.join(&path);
    }
    Ok(Resolved { cluster, user, namespace: context.namespace })
}

fn find<T: Clone>(list: &[Named<T>], name: &str) -> Result<T> {
    let found = list.iter().find(|n| n.name == name).and_then(|n| n.value.clone());
    found.ok_or_else(|| anyhow!("no entry named {name:?}"))
}

/// Text data in a kubeconfig is base64 of PEM.
pub(crate) fn decode(data: &str) -> Result<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(data.trim()).context("base64 data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = "apiVersion: v1\nclusters: [{name: c, cluster: {server: 'https://h:6443', certificate-authority: ca.crt}}]\n\
            users: [{name: u, user: {tokenFile: /abs/token, client-certificate: pki/a.pem}}]\n\
            contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";
        let resolved = resolve(serde_yaml::from_str(text).unwrap(), Path::new("/etc/k")).unwrap();
        assert_eq!(resolved.cluster.certificate_authority.unwrap(), Path::new("/etc/k/ca.crt"));
        assert_eq!(resolved.user.token_file.unwrap(), Path::new("/abs/token"));
        assert_eq!(resolved.user.client_certificate.unwrap(), Path::new("/etc/k/pki/a.pem"));
    }

    #[test]
    fn a_missing_context_is_named() {
        let text = "contexts: []\ncurrent-context: gone\n";
        let error = resolve(serde_yaml::from_str(text).unwrap(), Path::new("/")).err().unwrap();
        assert!(format!("{error:#}").contains("\"gone\""));
    }
}
