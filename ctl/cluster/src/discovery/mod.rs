//! Finding a cluster and coming to trust it: by token and pin, or by file.

pub mod fault;
pub mod probe;
pub mod token;

pub use fault::Fault;

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use coxctl_config::{Discovery, split_host_port};
use serde_json::Value;
use std::time::Duration;

use crate::clusterinfo::{Cluster, cluster_of};

/// The cluster that was found, and how to log in to it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Server and authority.
    pub cluster: Cluster,
    /// User credentials of a kubeconfig: a token, or what a discovery file holds.
    pub credentials: Value,
    /// The server's clock less ours in seconds, when it said.
    pub skew: Option<i64>,
}

/// The host of `HOST:PORT`.
pub fn host_of(address: &str) -> &str {
    split_host_port(address).0
}

/// `HOST:PORT` of a URL.
pub fn address_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let address = rest.split('/').next().unwrap_or_default();
    let (host, port) = split_host_port(address);
    coxctl_config::join_host_port(host, port.unwrap_or(443))
}

/// Finds the cluster as configured.
///
/// # Errors
/// A [`Fault`], in words that name cause and cure.
pub async fn find(discovery: &Discovery, limit: Duration, explicit: bool) -> Result<Found> {
    if let Some(by_token) = &discovery.bootstrap_token {
        return token::find(by_token, &discovery.tls_bootstrap_token, limit, explicit).await;
    }
    match &discovery.file {
        Some(file) => by_file(&file.kube_config_path, &discovery.tls_bootstrap_token).await,
        None => bail!("neither a token nor a file says how to find the cluster"),
    }
}

/// Trusts the kubeconfig in a file or at an https URL.
async fn by_file(path: &str, token: &str) -> Result<Found> {
    let text = match path.starts_with("https://") {
        true => fetch(path).await?,
        false => {
            std::fs::read_to_string(path).with_context(|| format!("reading the discovery file {path}"))?
        }
    };
    let cluster = cluster_of(&text).with_context(|| format!("discovery file {path}"))?;
    let credentials = match token {
        "" => {
            let found = credentials(&text).with_context(|| format!("discovery file {path}"))?;
            found.with_context(|| {
                format!("discovery file {path} has no credentials; add --tls-bootstrap-token")
            })?
        }
        token => serde_json::json!({"token": token}),
    };
    let address = address_of(&cluster.server);
    let answer = probe::get(&address, token::CLUSTER_INFO, Some(&cluster.ca_pem)).await?;
    let skew = answer.date.as_deref().and_then(token::skew);
    // Newer authorities, when the cluster shows its cluster-info to anybody.
    let refreshed = token::kubeconfig_in(&answer.body).and_then(|t| cluster_of(&t).ok());
    let cluster = match refreshed {
        Some(fresh) if answer.status == 200 => Cluster { server: cluster.server, ca_pem: fresh.ca_pem },
        _ => cluster,
    };
    Ok(Found { cluster, credentials, skew })
}

async fn fetch(url: &str) -> Result<String> {
    let rest = url.trim_start_matches("https://");
    let path = rest.find('/').map_or("/", |i| &rest[i..]);
    let roots = system_roots()?;
    let answer = match probe::get(&address_of(url), path, Some(&roots)).await {
        Err(Fault::Untrusted { address, cause }) => bail!(
            "this machine does not trust the certificate of {address}: {cause}; add its authority to the machine's own (update-ca-certificates), or fetch {url} by other means and give the file"
        ),
        answer => answer?,
    };
    anyhow::ensure!(answer.status == 200, "{url} answers {}", answer.status);
    String::from_utf8(answer.body).with_context(|| format!("{url} is no text"))
}

fn system_roots() -> Result<String> {
    const PLACES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    // Go's programs look there first, too.
    if let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(|f| !f.is_empty()) {
        let place = std::path::PathBuf::from(file);
        return std::fs::read_to_string(&place)
            .with_context(|| format!("reading {} (SSL_CERT_FILE)", place.display()));
    }
    PLACES
        .iter()
        .find_map(|p| std::fs::read_to_string(p).ok())
        .context("this machine has no list of authorities")
}

/// The user of a kubeconfig's current context (else the first), its files put into it.
fn credentials(text: &str) -> Result<Option<Value>> {
    let value: Value = serde_yaml::from_str(text).context("it is no YAML")?;
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    let current = list("contexts").into_iter().find(|c| c["name"] == value["current-context"]);
    let users = list("users");
    let chosen = match current {
        Some(context) => users.iter().find(|u| u["name"] == context["context"]["user"]),
        None => users.first(),
    };
    let Some(Value::Object(mut user)) = chosen.map(|u| u["user"].clone()) else { return Ok(None) };
    for (file, data, encoded) in [
        ("client-certificate", "client-certificate-data", true),
        ("client-key", "client-key-data", true),
        ("tokenFile", "token", false),
    ] {
        let Some(Value::String(path)) = user.remove(file) else { continue };
        let content = std::fs::read(&path).with_context(|| format!("reading {path}"))?;
        let text = String::from_utf8_lossy(&content);
        let put = if encoded { BASE64_STANDARD.encode(&content) } else { text.trim().to_string() };
        user.insert(data.into(), put.into());
    }
    Ok((!user.is_empty()).then_some(user.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_urls() {
        for (url, want) in [
            ("https://10.0.0.1:6443", "10.0.0.1:6443"),
            ("https://api.example/x", "api.example:443"),
            ("https://[fd00::1]:6443/", "[fd00::1]:6443"),
        ] {
            assert_eq!(address_of(url), want);
        }
    }

    #[test]
    fn files_may_hold_credentials() {
        let of = |text: &str| credentials(text).unwrap();
        assert_eq!(of("users: [{user: {token: t}}]").unwrap(), serde_json::json!({"token": "t"}));
        assert!(of("clusters: []").is_none() && of("users: [{user: {}}]").is_none());
        let two = "{current-context: b, contexts: [{name: b, context: {user: y}}], users: [{name: x, user: {token: t}}, {name: y, user: {token: u}}]}";
        assert_eq!(of(two).unwrap()["token"], "u");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "secret\n").unwrap();
        let text = format!("users: [{{user: {{tokenFile: {}}}}}]", file.display());
        assert_eq!(of(&text).unwrap(), serde_json::json!({"token": "secret"}));
        assert!(credentials("users: [{user: {tokenFile: /nowhere}}]").is_err());
    }
}
