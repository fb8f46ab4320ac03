//! Which node needs which objects: edges from pods, persistent volumes, attachments and slices.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::pod::Pod;

/// A kind of object that nodes may only read when one of their pods needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vertex {
    /// core secrets
    Secret,
    /// core configmaps
    ConfigMap,
    /// core persistentvolumeclaims
    Claim,
    /// core persistentvolumes
    Volume,
    /// core serviceaccounts
    ServiceAccount,
    /// core pods
    Pod,
    /// resource.k8s.io resourceclaims
    ResourceClaim,
    /// resource.k8s.io resourceslices
    ResourceSlice,
    /// storage.k8s.io volumeattachments
    Attachment,
}

/// Kind, namespace (empty at cluster scope), name.
pub type Key = (Vertex, String, String);

#[derive(Debug, Default)]
struct State {
    /// What each pod, slice or attachment needs beside itself, by its own key: its node and the objects.
    needs: HashMap<Key, (Arc<str>, Box<[Key]>)>,
    /// How many owners on each node need an object.
    nodes: HashMap<Key, HashMap<Arc<str>, usize>>,
    /// Claim of each volume and the secrets its driver needs, by volume name.
    volumes: HashMap<String, (Key, BTreeSet<Key>)>,
    /// Volumes that need a secret.
    of_secret: HashMap<Key, BTreeSet<String>>,
}

/// The graph; fed with objects, asked for paths.
#[derive(Debug, Default)]
pub struct Graph {
    state: RwLock<State>,
}

impl Graph {
    /// A graph without edges.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Takes in a created or changed pod.
    pub fn put_pod(&self, pod: &Pod) {
        let key = (Vertex::Pod, pod.metadata.namespace.clone(), pod.metadata.name.clone());
        let mut state = self.state.write();
        state.forget(&key);
        if !pod.spec.node_name.is_empty() {
            state.learn(key, &pod.spec.node_name, pod.needs());
        }
    }

    /// Takes in a created or changed persistent volume.
    pub fn put_volume(&self, volume: &Value) {
        let name = text(volume, "/metadata/name").to_owned();
        let mut state = self.state.write();
        state.forget_volume(&name);
        let claim = text(volume, "/spec/claimRef/name");
        if !claim.is_empty() {
            let namespace = text(volume, "/spec/claimRef/namespace");
            let claim = (Vertex::Claim, namespace.to_owned(), claim.to_owned());
            state.learn_volume(name, claim, volume_secrets(volume, namespace));
        }
    }

    /// Takes in a created or changed attachment or resource slice.
    pub fn put_owned(&self, vertex: Vertex, object: &Value) {
        let key = key(vertex, object);
        let node = text(object, "/spec/nodeName");
        let mut state = self.state.write();
        state.forget(&key);
        if !node.is_empty() {
            state.learn(key, node, BTreeSet::new());
        }
    }

    /// Forgets a deleted object.
    pub fn remove(&self, vertex: Vertex, namespace: &str, name: &str) {
        let mut state = self.state.write();
        match vertex {
            Vertex::Volume => state.forget_volume(name),
            v => state.forget(&(v, namespace.to_owned(), name.to_owned())),
        }
    }

    /// True when something on the node needs the object.
    pub fn reaches(&self, node: &str, vertex: Vertex, namespace: &str, name: &str) -> bool {
        let state = self.state.read();
        let key = (vertex, namespace.to_owned(), name.to_owned());
        match vertex {
            Vertex::Volume => state.volumes.get(name).is_some_and(|(claim, _)| state.needed(node, claim)),
            Vertex::Secret => state.needed(node, &key) || state.needed_by_volume(node, &key),
            _ => state.needed(node, &key),
        }
    }
}

impl State {
    /// Its own node needs an owner; other objects are needed by owners.
    fn needed(&self, node: &str, key: &Key) -> bool {
        self.needs.get(key).is_some_and(|(own, _)| **own == *node)
            || self.nodes.get(key).is_some_and(|n| n.contains_key(node))
    }

    fn needed_by_volume(&self, node: &str, secret: &Key) -> bool {
        let volumes = self.of_secret.get(secret).into_iter().flatten();
        volumes.filter_map(|v| self.volumes.get(v)).any(|(claim, _)| self.needed(node, claim))
    }

    fn learn(&mut self, owner: Key, node: &str, needs: BTreeSet<Key>) {
        let node: Arc<str> = node.into();
        for key in &needs {
            *self.nodes.entry(key.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.needs.insert(owner, (node, needs.into_iter().collect()));
    }

    fn forget(&mut self, owner: &Key) {
        let Some((node, needs)) = self.needs.remove(owner) else { return };
        for key in needs {
            self.release(&node, &key);
        }
    }

    fn release(&mut self, node: &str, key: &Key) {
        let Some(nodes) = self.nodes.get_mut(key) else { return };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.nodes.remove(key);
        }
    }

    fn learn_volume(&mut self, name: String, claim: Key, secrets: BTreeSet<Key>) {
        for secret in &secrets {
            self.of_secret.entry(secret.clone()).or_default().insert(name.clone());
        }
        self.volumes.insert(name, (claim, secrets));
    }

    fn forget_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else { return };
        for secret in secrets {
            if let Some(volumes) = self.of_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.of_secret.remove(&secret);
                }
            }
        }
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn key(vertex: Vertex, object: &Value) -> Key {
    (vertex, text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

/// Secrets a persistent volume's driver needs, with the claim's namespace where none is given.
fn volume_secrets(volume: &Value, claim_namespace: &str) -> BTreeSet<Key> {
    let mut out = BTreeSet::new();
    let mut add = |name: &str, namespace: &str| {
        let ns = if namespace.is_empty() { claim_namespace } else { namespace };
        if !name.is_empty() {
            out.insert((Vertex::Secret, ns.to_owned(), name.to_owned()));
        }
    };
    add(text(volume, "/spec/azureFile/secretName"), text(volume, "/spec/azureFile/secretNamespace"));
    for source in ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
        if let Some(r) = volume.pointer(&format!("/spec/{source}/secretRef")) {
            add(text(r, "/name"), text(r, "/namespace"));
        }
    }
    for field in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        if let Some(r) = volume.pointer(&format!("/spec/csi/{field}")) {
            add(text(r, "/name"), text(r, "/namespace"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "nodeName": "n1", "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}],
                            "envFrom": [{"configMapRef": {"name": "from"}}]}],
            "initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "init"}}}]}],
            "volumes": [{"secret": {"secretName": "vol"}},
                {"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "proj"}}]}},
                {"persistentVolumeClaim": {"claimName": "data"}},
                {"name": "scratch", "ephemeral": {}}]}})
    }

    fn put(graph: &Graph, pod: Value) {
        graph.put_pod(&serde_json::from_value(pod).expect("a pod"));
    }

    #[test]
    fn pods_lead_to_what_they_need() {
        let graph = Graph::new();
        put(&graph, pod());
        let table = "
            Secret pull|Secret env|Secret vol|Secret proj|ConfigMap from|ConfigMap init
            ConfigMap kube-root-ca.crt|Claim data|Claim p-scratch|ServiceAccount sa|Pod p";
        let vertices =
            [Vertex::Secret, Vertex::ConfigMap, Vertex::Claim, Vertex::ServiceAccount, Vertex::Pod];
        for cell in table.split(['|', '\n']).map(str::trim).filter(|c| !c.is_empty()) {
            let (kind, name) = cell.split_once(' ').expect("two words");
            let vertex = *vertices.iter().find(|v| format!("{v:?}") == kind).expect("vertex");
            assert!(graph.reaches("n1", vertex, "a", name), "{cell}");
            assert!(!graph.reaches("n2", vertex, "a", name), "{cell} elsewhere");
            assert!(!graph.reaches("n1", vertex, "b", name), "{cell} in another namespace");
        }
        graph.remove(Vertex::Pod, "a", "p");
        assert!(!graph.reaches("n1", Vertex::Secret, "a", "env"));
    }

    #[test]
    fn two_pods_share_a_need() {
        let graph = Graph::new();
        let mut second = pod();
        second["metadata"]["name"] = json!("q");
        put(&graph, pod());
        put(&graph, second.clone());
        put(&graph, second.clone());
        graph.remove(Vertex::Pod, "a", "p");
        assert!(graph.reaches("n1", Vertex::Secret, "a", "env"));
        graph.remove(Vertex::Pod, "a", "q");
        assert!(!graph.reaches("n1", Vertex::Secret, "a", "env"));
    }

    #[test]
    fn unbound_and_mirror_pods_open_nothing() {
        let graph = Graph::new();
        let mut loose = pod();
        loose["spec"]["nodeName"] = json!("");
        put(&graph, loose);
        assert!(!graph.reaches("", Vertex::Secret, "a", "env"));
        let mut mirror = pod();
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        put(&graph, mirror);
        assert!(graph.reaches("n1", Vertex::Pod, "a", "p"));
        assert!(!graph.reaches("n1", Vertex::Secret, "a", "env"));
    }

    #[test]
    fn volumes_lead_through_their_claim() {
        let graph = Graph::new();
        put(&graph, pod());
        let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "a", "name": "data"},
            "csi": {"nodePublishSecretRef": {"name": "key", "namespace": "x"}}}});
        graph.put_volume(&volume);
        assert!(graph.reaches("n1", Vertex::Volume, "", "pv"));
        assert!(graph.reaches("n1", Vertex::Secret, "x", "key"));
        assert!(!graph.reaches("n2", Vertex::Secret, "x", "key"));
        graph.remove(Vertex::Volume, "", "pv");
        assert!(!graph.reaches("n1", Vertex::Secret, "x", "key"));
    }
}
