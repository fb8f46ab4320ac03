//! The little of a pod that says what it needs, read from its JSON without building the rest.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::graph::{Key, Vertex};

/// A pod, as the graph sees it. Missing and null members count as empty.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Pod {
    /// Its name.
    pub metadata: Metadata,
    /// Where it is and what it refers to.
    #[serde(deserialize_with = "lax")]
    pub spec: Spec,
    #[serde(deserialize_with = "lax")]
    status: Status,
}

/// Namespace, name, and whether it is a mirror.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Metadata {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    #[serde(deserialize_with = "lax")]
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

/// What a pod refers to.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Its node; empty while it has none.
    #[serde(deserialize_with = "lax")]
    pub node_name: String,
    #[serde(deserialize_with = "lax")]
    service_account_name: String,
    #[serde(deserialize_with = "lax")]
    image_pull_secrets: Vec<Named>,
    #[serde(deserialize_with = "lax")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "lax")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "lax")]
    ephemeral_containers: Vec<Container>,
    #[serde(deserialize_with = "lax")]
    volumes: Vec<Value>,
    #[serde(deserialize_with = "lax")]
    resource_claims: Vec<Claim>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "lax")]
    resource_claim_statuses: Vec<Claim>,
    #[serde(deserialize_with = "lax")]
    extended_resource_claim_status: Claim,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    #[serde(deserialize_with = "lax")]
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Claim {
    #[serde(deserialize_with = "lax")]
    resource_claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    #[serde(deserialize_with = "lax")]
    env: Vec<Env>,
    #[serde(deserialize_with = "lax")]
    env_from: Vec<EnvFrom>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Env {
    #[serde(deserialize_with = "lax")]
    value_from: ValueFrom,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ValueFrom {
    #[serde(deserialize_with = "lax")]
    secret_key_ref: Named,
    #[serde(deserialize_with = "lax")]
    config_map_key_ref: Named,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EnvFrom {
    #[serde(deserialize_with = "lax")]
    secret_ref: Named,
    #[serde(deserialize_with = "lax")]
    config_map_ref: Named,
}

/// Null is as good as missing.
fn lax<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

struct Needs<'a> {
    namespace: &'a str,
    out: BTreeSet<Key>,
}

impl Needs<'_> {
    fn add(&mut self, vertex: Vertex, name: &str) {
        if !name.is_empty() {
            self.out.insert((vertex, self.namespace.to_owned(), name.to_owned()));
        }
    }

    /// Adds `vertex` of the name found at a pointer.
    fn at(&mut self, vertex: Vertex, value: &Value, pointer: &str) {
        self.add(vertex, value.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    }
}

/// Where a pod's volume names a secret.
const VOLUME_SECRETS: [&str; 10] = [
    "/secret/secretName",
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/csi/nodePublishSecretRef/name",
    "/flexVolume/secretRef/name",
    "/iscsi/secretRef/name",
    "/rbd/secretRef/name",
    "/scaleIO/secretRef/name",
    "/storageos/secretRef/name",
];

impl Pod {
    /// What the pod needs. Mirror pods come from the node itself and are given nothing.
    pub fn needs(&self) -> BTreeSet<Key> {
        let mut needs = Needs { namespace: &self.metadata.namespace, out: BTreeSet::new() };
        if self.metadata.annotations.mirror.is_some() {
            return needs.out;
        }
        let spec = &self.spec;
        needs.add(Vertex::ServiceAccount, &spec.service_account_name);
        spec.image_pull_secrets.iter().for_each(|s| needs.add(Vertex::Secret, &s.name));
        for container in spec.containers.iter().chain(&spec.init_containers).chain(&spec.ephemeral_containers)
        {
            container.add_to(&mut needs);
        }
        spec.volumes.iter().for_each(|v| self.add_volume(v, &mut needs));
        let claims = spec.resource_claims.iter().chain(&self.status.resource_claim_statuses);
        for claim in claims.chain([&self.status.extended_resource_claim_status]) {
            needs.add(Vertex::ResourceClaim, &claim.resource_claim_name);
        }
        needs.out
    }

    fn add_volume(&self, volume: &Value, needs: &mut Needs<'_>) {
        VOLUME_SECRETS.iter().for_each(|p| needs.at(Vertex::Secret, volume, p));
        needs.at(Vertex::ConfigMap, volume, "/configMap/name");
        needs.at(Vertex::Claim, volume, "/persistentVolumeClaim/claimName");
        if volume.get("ephemeral").is_some() {
            let volume = volume.get("name").and_then(Value::as_str).unwrap_or_default();
            needs.add(Vertex::Claim, &format!("{}-{volume}", self.metadata.name));
        }
        let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
        for source in sources.into_iter().flatten() {
            needs.at(Vertex::Secret, source, "/secret/name");
            needs.at(Vertex::ConfigMap, source, "/configMap/name");
        }
    }
}

impl Container {
    fn add_to(&self, needs: &mut Needs<'_>) {
        for env in &self.env {
            needs.add(Vertex::Secret, &env.value_from.secret_key_ref.name);
            needs.add(Vertex::ConfigMap, &env.value_from.config_map_key_ref.name);
        }
        for source in &self.env_from {
            needs.add(Vertex::Secret, &source.secret_ref.name);
            needs.add(Vertex::ConfigMap, &source.config_map_ref.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_as_good_as_missing() {
        let text = r#"{"metadata":{"name":"p","namespace":"a","annotations":null},"spec":{"nodeName":null,"volumes":null,
            "containers":[{"env":null,"envFrom":[{"secretRef":null,"configMapRef":{"name":"c"}}]}]},"status":null}"#;
        let pod: Pod = serde_json::from_str(text).expect("a pod");
        assert_eq!(
            pod.needs().into_iter().collect::<Vec<_>>(),
            [(Vertex::ConfigMap, "a".into(), "c".into())]
        );
    }
}
