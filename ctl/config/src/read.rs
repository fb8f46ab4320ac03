//! Files into documents.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ClusterConfiguration, Init, Join, ResetConfiguration, UpgradeConfiguration, Warning};

/// Why a file can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is neither YAML nor JSON.
    #[error("the configuration file is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// A document is not what the command reads, or reads wrongly.
    #[error("{0}")]
    Document(String),
}

/// Reads the documents of `init`: InitConfiguration, ClusterConfiguration, KubeletConfiguration, KubeProxyConfiguration,
/// each at most once, in any order.
///
/// # Errors
/// Bad syntax, unknown or old kinds, documents given twice, values of a wrong type.
pub fn read_init(text: &str) -> Result<(Init, Vec<Warning>), Error> {
    let mut out = Init::default();
    for document in split(text)? {
        match document["kind"].as_str() {
            Some("InitConfiguration") => out.init = typed(document)?,
            Some("ClusterConfiguration") => out.cluster = typed(document)?,
            Some("KubeletConfiguration") => (out.kubelet, out.kubelet_given) = (document, true),
            Some("KubeProxyConfiguration") => (out.proxy, out.proxy_given) = (document, true),
            _ => return Err(Error::Document("unknown kind".into())),
        }
    }
    Ok((out, Vec::new()))
}

/// Reads the document of `join`.
///
/// # Errors
/// As [`read_init`].
pub fn read_join(text: &str) -> Result<(Join, Vec<Warning>), Error> {
    Ok((Join { join: only(text)? }, Vec::new()))
}

/// Reads the document of `reset`.
///
/// # Errors
/// As [`read_init`].
pub fn read_reset(text: &str) -> Result<(ResetConfiguration, Vec<Warning>), Error> {
    Ok((only(text)?, Vec::new()))
}

/// Reads the document of the `upgrade` commands.
///
/// # Errors
/// As [`read_init`].
pub fn read_upgrade(text: &str) -> Result<(UpgradeConfiguration, Vec<Warning>), Error> {
    Ok((only(text)?, Vec::new()))
}

/// Reads the ClusterConfiguration kept in the cluster (ConfigMap kube-system/kubeadm-config).
///
/// # Errors
/// As [`read_init`].
pub fn read_cluster(text: &str) -> Result<(ClusterConfiguration, Vec<Warning>), Error> {
    Ok((only(text)?, Vec::new()))
}

fn only<T: DeserializeOwned + Default>(text: &str) -> Result<T, Error> {
    split(text)?.into_iter().next().map_or_else(|| Ok(T::default()), typed)
}

fn split(text: &str) -> Result<Vec<Value>, Error> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text)
        .map(|d| Value::deserialize(d).map_err(|e| Error::Syntax(e.to_string())))
        .collect()
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|e| Error::Document(e.to_string()))
}
