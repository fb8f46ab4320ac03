//! Which node needs which objects: edges from pods, persistent volumes, attachments and slices.

use std::collections::{BTreeSet, HashMap};

use parking_lot::RwLock;
use serde_json::Value;

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
    /// What each pod, slice or attachment needs, by its own key: its node and the objects.
    needs: HashMap<Key, (String, BTreeSet<Key>)>,
    /// How many owners on each node need an object.
    nodes: HashMap<Key, HashMap<String, usize>>,
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
    pub fn put_pod(&self, pod: &Value) {
        let key = key(Vertex::Pod, pod);
        let node = text(pod, "/spec/nodeName");
        let mut state = self.state.write();
        state.forget(&key);
        if !node.is_empty() {
            let needs = pod_needs(pod, &key.1);
            state.learn(key, node, needs);
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
    fn needed(&self, node: &str, key: &Key) -> bool {
        self.nodes.get(key).is_some_and(|n| n.contains_key(node))
    }

    fn needed_by_volume(&self, node: &str, secret: &Key) -> bool {
        let volumes = self.of_secret.get(secret).into_iter().flatten();
        volumes.filter_map(|v| self.volumes.get(v)).any(|(claim, _)| self.needed(node, claim))
    }

    fn learn(&mut self, owner: Key, node: &str, mut needs: BTreeSet<Key>) {
        needs.insert(owner.clone());
        for key in &needs {
            *self.nodes.entry(key.clone()).or_default().entry(node.to_owned()).or_default() += 1;
        }
        self.needs.insert(owner, (node.to_owned(), needs));
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

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn key(vertex: Vertex, object: &Value) -> Key {
    (vertex, text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

/// Adds `vertex` of the name found at one of the pointers.
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

    fn at(&mut self, vertex: Vertex, value: &Value, pointer: &str) {
        self.add(vertex, text(value, pointer));
    }
}

/// Where a pod's volume names a secret.
const VOLUME_SECRETS: [&str; 9] = [
    "/secret/secretName",
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/csi/nodePublishSecretRef/name",
    "/flexVolume/secretRef/name",
    "/iscsi/secretRef/name",
    "/rbd/secretRef/name",
    "/scaleIO/secretRef/name",
];

/// What a pod needs. Mirror pods come from the node itself and are given nothing.
fn pod_needs(pod: &Value, namespace: &str) -> BTreeSet<Key> {
    let mut needs = Needs { namespace, out: BTreeSet::new() };
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return needs.out;
    }
    needs.at(Vertex::ServiceAccount, pod, "/spec/serviceAccountName");
    items(pod, "/spec/imagePullSecrets").for_each(|s| needs.at(Vertex::Secret, s, "/name"));
    for list in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
        items(pod, list).for_each(|c| container_needs(c, &mut needs));
    }
    items(pod, "/spec/volumes").for_each(|v| pod_volume_needs(pod, v, &mut needs));
    pod_claims(pod, &mut needs);
    needs.out
}

fn container_needs(container: &Value, needs: &mut Needs<'_>) {
    for env in items(container, "/env") {
        needs.at(Vertex::Secret, env, "/valueFrom/secretKeyRef/name");
        needs.at(Vertex::ConfigMap, env, "/valueFrom/configMapKeyRef/name");
    }
    for source in items(container, "/envFrom") {
        needs.at(Vertex::Secret, source, "/secretRef/name");
        needs.at(Vertex::ConfigMap, source, "/configMapRef/name");
    }
}

fn pod_volume_needs(pod: &Value, volume: &Value, needs: &mut Needs<'_>) {
    VOLUME_SECRETS.iter().for_each(|p| needs.at(Vertex::Secret, volume, p));
    needs.at(Vertex::Secret, volume, "/storageos/secretRef/name");
    needs.at(Vertex::ConfigMap, volume, "/configMap/name");
    needs.at(Vertex::Claim, volume, "/persistentVolumeClaim/claimName");
    if volume.get("ephemeral").is_some() {
        let claim = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
        needs.add(Vertex::Claim, &claim);
    }
    for source in items(volume, "/projected/sources") {
        needs.at(Vertex::Secret, source, "/secret/name");
        needs.at(Vertex::ConfigMap, source, "/configMap/name");
    }
}

fn pod_claims(pod: &Value, needs: &mut Needs<'_>) {
    items(pod, "/spec/resourceClaims").for_each(|c| needs.at(Vertex::ResourceClaim, c, "/resourceClaimName"));
    let made = items(pod, "/status/resourceClaimStatuses");
    made.for_each(|c| needs.at(Vertex::ResourceClaim, c, "/resourceClaimName"));
    needs.at(Vertex::ResourceClaim, pod, "/status/extendedResourceClaimStatus/resourceClaimName");
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

    #[test]
    fn pods_lead_to_what_they_need() {
        let graph = Graph::new();
        graph.put_pod(&pod());
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
        graph.put_pod(&pod());
        graph.put_pod(&second);
        graph.put_pod(&second);
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
        graph.put_pod(&loose);
        assert!(!graph.reaches("", Vertex::Secret, "a", "env"));
        let mut mirror = pod();
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        graph.put_pod(&mirror);
        assert!(graph.reaches("n1", Vertex::Pod, "a", "p"));
        assert!(!graph.reaches("n1", Vertex::Secret, "a", "env"));
    }

    #[test]
    fn volumes_lead_through_their_claim() {
        let graph = Graph::new();
        graph.put_pod(&pod());
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
