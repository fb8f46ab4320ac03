//! ServiceAccount: every pod has an account that exists, its token volume and its pull secrets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use rand::Rng;
use serde_json::{Value, json};

use super::pods::{self, is_mirror};
use super::{Attributes, Operation, Plugin};
use crate::authn::lookup::{Lookup, items, text};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Life of a projected token in seconds; the odd number marks tokens nobody configured.
const TOKEN_SECONDS: i64 = 3607;
/// How long a new namespace's default account is waited for, as its controller makes it.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The plugin.
pub struct ServiceAccount {
    /// Where accounts are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create && pods::is_pods(resource) && subresource.is_empty()
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let name = match a.object.as_deref_mut() {
            Some(pod) if !is_mirror(pod) => account_name(pod),
            _ => return Ok(()),
        };
        let account = self.find(a, &name).await?;
        if let Some(pod) = a.object.as_deref_mut() {
            complete(pod, &account);
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        match a.object.as_deref().filter(|p| is_mirror(p)) {
            Some(pod) => validate_mirror(pod).map_err(|why| a.forbidden(why)),
            None => Ok(()),
        }
    }
}

impl ServiceAccount {
    async fn find(&self, a: &Attributes<'_>, name: &str) -> Result<Arc<Value>, Status> {
        let get = || self.objects.get("serviceaccounts", a.namespace, name);
        if let Some(found) = get() {
            return Ok(found);
        }
        let mut changed = a.app.reader.changed("serviceaccounts");
        a.app.reader.caught_up().await?;
        let patience = if name == "default" { PATIENCE } else { Duration::ZERO };
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some(found) = get() {
                return Ok(found);
            }
            let more = match changed.as_mut() {
                Some(changed) => {
                    tokio::time::timeout_at(deadline, changed.changed()).await.is_ok_and(|r| r.is_ok())
                }
                None => false,
            };
            if !more && get().is_none() {
                let why = format!(
                    "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                    a.namespace
                );
                return Err(a.forbidden(why));
            }
        }
    }
}

/// Sets the account's name where the pod has none; answers it.
fn account_name(pod: &mut Value) -> String {
    let name = match text(pod, "/spec/serviceAccountName") {
        "" => "default".to_owned(),
        name => name.to_owned(),
    };
    let spec = machinery::meta::member_mut(pod, "spec");
    spec.insert("serviceAccountName".into(), json!(name));
    spec.insert("serviceAccount".into(), json!(name));
    name
}

fn complete(pod: &mut Value, account: &Value) {
    let of_pod = pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool);
    let of_account = account.get("automountServiceAccountToken").and_then(Value::as_bool);
    if of_pod.or(of_account).unwrap_or(true) {
        mount_token(pod);
    }
    let secrets: Vec<Value> = items(account, "/imagePullSecrets").cloned().collect();
    if items(pod, "/spec/imagePullSecrets").next().is_none() && !secrets.is_empty() {
        machinery::meta::member_mut(pod, "spec").insert("imagePullSecrets".into(), json!(secrets));
    }
}

fn mount_token(pod: &mut Value) {
    let existing =
        items(pod, "/spec/volumes").map(|v| text(v, "/name")).find(|n| n.starts_with(VOLUME_PREFIX));
    let existing = existing.map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", random_suffix()));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in pods::members_mut(pod, list) {
            needed |= mount_into(container, &name);
        }
    }
    if needed && existing.is_none() {
        let volumes = machinery::meta::member_mut(pod, "spec").entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(token_volume(&name));
        }
    }
}

/// Adds the mount unless something is mounted there already.
fn mount_into(container: &mut Value, volume: &str) -> bool {
    if items(container, "/volumeMounts").any(|m| text(m, "/mountPath") == MOUNT_PATH) {
        return false;
    }
    let Some(container) = container.as_object_mut() else { return false };
    let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
    if mounts.is_null() {
        *mounts = json!([]);
    }
    if let Some(mounts) = mounts.as_array_mut() {
        mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    }
    true
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..5).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

/// Mirror pods show what a node runs of its own accord and may refer to nothing stored.
fn validate_mirror(pod: &Value) -> Result<(), String> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts".into());
    }
    let mut projected = items(pod, "/spec/volumes").flat_map(|v| items(v, "/projected/sources"));
    if projected.any(|s| s.get("serviceAccountToken").is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections".into());
    }
    let mut containers = pods::containers(pod);
    let secret = |e: &Value| e.pointer("/valueFrom/secretKeyRef").is_some() || e.get("secretRef").is_some();
    let by_env = containers.any(|c| items(c, "/env").chain(items(c, "/envFrom")).any(secret));
    let by_volume = items(pod, "/spec/volumes").any(|v| v.get("secret").is_some());
    if by_env || by_volume { Err("a mirror pod may not reference secrets".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": spec})
    }

    #[test]
    fn the_default_account() {
        let mut bare = pod(json!({}));
        assert_eq!(account_name(&mut bare), "default");
        assert_eq!(
            (&bare["spec"]["serviceAccountName"], &bare["spec"]["serviceAccount"]),
            (&json!("default"), &json!("default"))
        );
        let mut named = pod(json!({"serviceAccountName": "bot"}));
        assert_eq!(account_name(&mut named), "bot");
    }

    #[test]
    fn the_token_is_mounted() {
        let own = json!([{"name": "mine", "mountPath": MOUNT_PATH}]);
        let mut pod = pod(
            json!({"initContainers": [{}], "containers": [{"volumeMounts": null}, {"volumeMounts": own.clone()}]}),
        );
        complete(&mut pod, &json!({"imagePullSecrets": [{"name": "reg"}]}));
        let volume = &pod["spec"]["volumes"][0];
        let name = volume["name"].as_str().expect("name");
        assert!(name.starts_with(VOLUME_PREFIX) && name.len() == VOLUME_PREFIX.len() + 5);
        assert_eq!(volume["projected"]["defaultMode"], 420);
        assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
        let mount = json!([{"name": name, "readOnly": true, "mountPath": MOUNT_PATH}]);
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], mount);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"], own, "what is there stays");
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "reg"}]));
        let again = pod.clone();
        complete(&mut pod, &json!({}));
        assert_eq!(pod, again, "a second time changes nothing");
    }

    #[test]
    fn who_decides_on_mounting() {
        for (of_pod, of_account, mounted) in [
            (json!(null), json!(null), true),
            (json!(null), json!(false), false),
            (json!(true), json!(false), true),
            (json!(false), json!(true), false),
        ] {
            let mut pod = pod(json!({"containers": [{}], "automountServiceAccountToken": of_pod}));
            complete(&mut pod, &json!({"automountServiceAccountToken": of_account}));
            assert_eq!(pod["spec"].get("volumes").is_some(), mounted, "{of_pod} {of_account}");
        }
    }

    #[test]
    fn mirror_pods() {
        for (spec, good) in [
            (json!({"containers": [{}]}), true),
            (json!({"serviceAccountName": "x"}), false),
            (json!({"volumes": [{"secret": {"secretName": "x"}}]}), false),
            (json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}), false),
            (json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "x"}}}]}]}), false),
            (json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "x"}}]}]}), false),
        ] {
            assert_eq!(validate_mirror(&pod(spec.clone())).is_ok(), good, "{spec}");
        }
    }
}
