//! The public cluster-info: a kubeconfig without a user.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// The kubeconfig in cluster-info: one nameless cluster, nothing else.
///
/// # Errors
/// Never in practice; when YAML can't be written.
pub fn kubeconfig(server: &str, ca_pem: &str) -> Result<String> {
    let cluster = json!({"certificate-authority-data": BASE64_STANDARD.encode(ca_pem), "server": server});
    Ok(serde_yaml::to_string(&json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "", "contexts": null,
        "users": null, "clusters": [{"name": "", "cluster": cluster}],
    }))?)
}

/// The ConfigMap that carries it.
pub fn object(kubeconfig: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig}})
}

/// The key a signature lies under.
pub fn signature_key(token_id: &str) -> String {
    format!("jws-kubeconfig-{token_id}")
}

/// Server and authority of a kubeconfig like the one in cluster-info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `https://HOST:PORT`.
    pub server: String,
    /// The authority's certificates, PEM.
    pub ca_pem: String,
}

/// Reads the first (or current context's) cluster of a kubeconfig.
///
/// # Errors
/// When there is none with a server and embedded authority.
pub fn cluster_of(kubeconfig: &str) -> Result<Cluster> {
    let value: Value = serde_yaml::from_str(kubeconfig).context("the kubeconfig is no YAML")?;
    let current = value["current-context"].as_str().unwrap_or_default();
    let contexts = value["contexts"].as_array().cloned().unwrap_or_default();
    let wanted = contexts.iter().find(|c| c["name"] == current).map(|c| c["context"]["cluster"].clone());
    let clusters = value["clusters"].as_array().cloned().unwrap_or_default();
    let chosen = match wanted {
        Some(name) => clusters.iter().find(|c| c["name"] == name),
        None => clusters.first(),
    };
    let cluster = &chosen.context("the kubeconfig names no cluster")?["cluster"];
    let server = cluster["server"].as_str().context("the kubeconfig's cluster has no server")?.to_string();
    Ok(Cluster { server, ca_pem: authority_of(cluster)? })
}

fn authority_of(cluster: &Value) -> Result<String> {
    if let Some(data) = cluster["certificate-authority-data"].as_str() {
        let raw = BASE64_STANDARD.decode(data).context("the kubeconfig's authority is no base64")?;
        return String::from_utf8(raw).context("the kubeconfig's authority is no PEM");
    }
    let file =
        cluster["certificate-authority"].as_str().context("the kubeconfig's cluster has no authority")?;
    std::fs::read_to_string(file).with_context(|| format!("reading {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_info_reads_back() {
        let text = kubeconfig("https://10.0.0.1:6443", "PEM\n").unwrap();
        let want = Cluster { server: "https://10.0.0.1:6443".into(), ca_pem: "PEM\n".into() };
        assert_eq!(cluster_of(&text).unwrap(), want);
        assert!(cluster_of("clusters: []").is_err());
    }
}
