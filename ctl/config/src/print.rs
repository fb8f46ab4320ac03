//! Documents into text.

use serde::Serialize;
use serde_json::Value;

use crate::{API_VERSION, ClusterConfiguration};

/// The text of the ConfigMap kube-system/kubeadm-config.
pub fn cluster_document(cluster: &ClusterConfiguration) -> String {
    documents(&[object("ClusterConfiguration", cluster)])
}

/// A part as an object with its kind.
pub fn object(kind: &str, part: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(part).unwrap_or_default();
    value["apiVersion"] = API_VERSION.into();
    value["kind"] = kind.into();
    value
}

/// Several documents as one YAML text, keys sorted, `---` between.
pub fn documents(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(|v| serde_yaml::to_string(v).unwrap_or_default()).collect();
    texts.join("---\n")
}
