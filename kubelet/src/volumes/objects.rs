//! ConfigMaps and Secrets that pods of this node refer to: one watch per object while somebody refers to it.

use control::Namespaced;
use control::cache::{Cache, Options};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a reader waits for the first answer of a new watch.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

type Users = Arc<Mutex<HashMap<String, Arc<Notify>>>>;
type Id = (String, String);

struct Entry<T> {
    cache: Cache<T>,
    tasks: Tasks,
    users: Users,
}

/// Watched objects of one kind.
struct Watched<T> {
    entries: Mutex<HashMap<Id, Entry<T>>>,
    fixed: Mutex<HashMap<Id, Arc<T>>>,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self { entries: Mutex::default(), fixed: Mutex::default() }
    }
}

impl<T: Namespaced> Watched<T> {
    fn add(&self, client: Option<&kube::Client>, parent: &Tasks, id: &Id, uid: &str, wake: &Arc<Notify>) {
        let Some(client) = client else { return };
        let mut entries = self.entries.lock();
        let entry = entries.entry(id.clone()).or_insert_with(|| start(client, parent, id));
        entry.users.lock().insert(uid.to_owned(), wake.clone());
    }

    fn drop_user(&self, id: &Id, uid: &str) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get(id) else { return };
        entry.users.lock().remove(uid);
        if entry.users.lock().is_empty() {
            entry.tasks.token().cancel();
            entries.remove(id);
        }
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<T>>, String> {
        let id = (namespace.to_owned(), name.to_owned());
        if let Some(object) = self.fixed.lock().get(&id) {
            return Ok(Some(object.clone()));
        }
        let cache = self.entries.lock().get(&id).map(|e| e.cache.clone());
        let Some(cache) = cache else { return Ok(None) };
        if !cache.is_synced() && tokio::time::timeout(FIRST_ANSWER, cache.synced()).await.is_err() {
            let kind = T::kind(&()).to_lowercase();
            return Err(format!("failed to sync {kind} cache: timed out waiting for the condition"));
        }
        Ok(cache.get(namespace, name))
    }
}

fn start<T: Namespaced>(client: &kube::Client, parent: &Tasks, id: &Id) -> Entry<T> {
    let tasks = parent.child();
    let users: Users = Arc::default();
    let options = Options::default().fields(format!("metadata.name={}", id.1));
    let cache = Cache::start(Api::namespaced(client.clone(), &id.0), options, &tasks);
    let woken = users.clone();
    cache.handle(move |_| woken.lock().values().for_each(|wake| wake.notify_one()));
    Entry { cache, tasks, users }
}

/// The referenced objects of all pods.
pub struct Objects {
    client: Option<kube::Client>,
    tasks: Tasks,
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
    registered: Mutex<HashMap<String, References>>,
}

/// What one pod refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    namespace: String,
    /// ConfigMap names
    pub config_maps: BTreeSet<String>,
    /// Secret names
    pub secrets: BTreeSet<String>,
}

impl Objects {
    /// Watches through `client`; without one only objects put in by hand are found.
    pub fn new(client: Option<kube::Client>, tasks: Tasks) -> Self {
        Self {
            client,
            tasks,
            config_maps: Watched::default(),
            secrets: Watched::default(),
            registered: Mutex::default(),
        }
    }

    /// Keeps the watches a pod needs; `wake` is notified of every change of its objects.
    pub fn register(&self, pod: &Pod, wake: &Arc<Notify>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let new = references(pod);
        let old = self.registered.lock().insert(uid.clone(), new.clone()).unwrap_or_default();
        if old == new {
            return;
        }
        let id = |name: &String| (new.namespace.clone(), name.clone());
        for name in new.config_maps.difference(&old.config_maps) {
            self.config_maps.add(self.client.as_ref(), &self.tasks, &id(name), &uid, wake);
        }
        for name in new.secrets.difference(&old.secrets) {
            self.secrets.add(self.client.as_ref(), &self.tasks, &id(name), &uid, wake);
        }
        for name in old.config_maps.difference(&new.config_maps) {
            self.config_maps.drop_user(&id(name), &uid);
        }
        for name in old.secrets.difference(&new.secrets) {
            self.secrets.drop_user(&id(name), &uid);
        }
    }

    /// The pod is gone.
    pub fn unregister(&self, uid: &str) {
        let Some(old) = self.registered.lock().remove(uid) else { return };
        for name in &old.config_maps {
            self.config_maps.drop_user(&(old.namespace.clone(), name.clone()), uid);
        }
        for name in &old.secrets {
            self.secrets.drop_user(&(old.namespace.clone(), name.clone()), uid);
        }
    }

    /// A ConfigMap some pod refers to; None when it does not exist.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        self.config_maps.get(namespace, name).await
    }

    /// A Secret some pod refers to; None when it does not exist.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        self.secrets.get(namespace, name).await
    }

    /// Puts an object in by hand (standalone mode, tests).
    pub fn put_config_map(&self, namespace: &str, name: &str, object: ConfigMap) {
        self.config_maps.fixed.lock().insert((namespace.into(), name.into()), Arc::new(object));
    }

    /// As [`Self::put_config_map`].
    pub fn put_secret(&self, namespace: &str, name: &str, object: Secret) {
        self.secrets.fixed.lock().insert((namespace.into(), name.into()), Arc::new(object));
    }
}

/// All ConfigMaps and Secrets a pod mentions.
pub fn references(pod: &Pod) -> References {
    let mut out =
        References { namespace: pod.metadata.namespace.clone().unwrap_or_default(), ..Default::default() };
    let Some(spec) = &pod.spec else { return out };
    for volume in spec.volumes.iter().flatten() {
        out.config_maps.extend(volume.config_map.as_ref().map(|c| c.name.clone()));
        out.secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            out.config_maps.extend(source.config_map.as_ref().map(|c| c.name.clone()));
            out.secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    out.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let plain = plain.map(|c| (c.env.as_ref(), c.env_from.as_ref()));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (c.env.as_ref(), c.env_from.as_ref()));
    for (env, env_from) in plain.chain(ephemeral) {
        for from in env.into_iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            out.config_maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            out.secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
        for from in env_from.into_iter().flatten() {
            out.config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
            out.secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    out.config_maps.remove("");
    out.secrets.remove("");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mention_is_found() {
        let pod: Pod = serde_yaml::from_str(
            "metadata: {namespace: n}\nspec: {imagePullSecrets: [{name: s1}], volumes: [{name: v, configMap: {name: c1}}, {name: w, secret: {secretName: s2}}, {name: x, projected: {sources: [{configMap: {name: c2}}, {secret: {name: s3}}]}}], containers: [{name: c, env: [{name: e, valueFrom: {configMapKeyRef: {name: c3, key: k}}}], envFrom: [{secretRef: {name: s4}}]}]}",
        )
        .unwrap();
        let r = references(&pod);
        assert_eq!(r.config_maps.into_iter().collect::<Vec<_>>(), ["c1", "c2", "c3"]);
        assert_eq!(r.secrets.into_iter().collect::<Vec<_>>(), ["s1", "s2", "s3", "s4"]);
    }
}
