//! NodeRestriction: a kubelet writes its own node, lease and pods, and nobody else's.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{Lookup, items, text};
use crate::authz::node::node_of;

/// The plugin. Off by default, as upstream has it; every installer turns it on.
pub struct NodeRestriction {
    /// Where pods and drivers are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, op: Operation, resource: &Resource, _subresource: &str) -> bool {
        let known = matches!(
            (resource.group.as_str(), resource.plural.as_str()),
            ("", "pods" | "nodes" | "serviceaccounts" | "persistentvolumeclaims")
                | ("coordination.k8s.io", "leases")
                | ("storage.k8s.io", "csinodes")
                | ("resource.k8s.io", "resourceslices")
                | ("certificates.k8s.io", "certificatesigningrequests")
        );
        known && op != Operation::Connect
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = node_of(a.user) else { return Ok(()) };
        if node.is_empty() {
            return Err(a.forbidden(format!("could not determine node from user {:?}", a.user.name)));
        }
        if is_lookup(a) && self.objects.get("pods", a.namespace, a.name).is_none() {
            a.app.reader.caught_up().await?;
        }
        self.judge(node, a).map_err(|why| a.forbidden(why))
    }
}

/// Writes that are judged by a pod which may have come a moment ago.
fn is_lookup(a: &Attributes<'_>) -> bool {
    a.resource.plural == "pods" && (a.op == Operation::Delete || a.subresource == "eviction")
}

impl NodeRestriction {
    fn judge(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let own = |what: &str| own_name(node, a, what);
        match (a.resource.plural.as_str(), a.subresource) {
            ("pods", "") => self.pod(node, a),
            ("pods", "status") => pod_status(node, a),
            ("pods", "eviction") => self.eviction(node, a),
            ("pods", other) => {
                Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
            }
            ("nodes", _) => node_write(node, a),
            ("serviceaccounts", "token") => self.token(node, a),
            ("persistentvolumeclaims", "status") => claim_status(node, a),
            ("leases", _) if a.namespace != "kube-node-lease" => {
                Err("can only access leases in the \"kube-node-lease\" system namespace".into())
            }
            ("leases", _) => own("node lease"),
            ("csinodes", _) => own("CSINode"),
            ("resourceslices", _) => slice(node, a),
            ("certificatesigningrequests", "") => certificate_request(node, a),
            _ => Ok(()),
        }
    }

    fn pod(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.op, a.object.as_deref()) {
            (Operation::Create, Some(pod)) => mirror_pod(node, pod, &*self.objects),
            (Operation::Delete, _) => match self.bound_node(a.namespace, a.name).as_deref() {
                None => Ok(()),
                Some(bound) if bound == node => Ok(()),
                Some(_) => {
                    Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
                }
            },
            _ => Err(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                a.op
            )),
        }
    }

    fn bound_node(&self, namespace: &str, name: &str) -> Option<String> {
        self.objects.get("pods", namespace, name).map(|p| text(&p, "/spec/nodeName").to_owned())
    }

    fn eviction(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let body = a.object.as_deref().map(machinery::meta::name).unwrap_or_default();
        let name = if a.name.is_empty() { body } else { a.name };
        if !body.is_empty() && body != name {
            return Err(format!("node {node:?} can only evict the pod named by the request"));
        }
        match self.bound_node(a.namespace, name).as_deref() {
            None => Ok(()),
            Some(bound) if bound == node => Ok(()),
            Some(_) => Err(format!("node {node} can only evict pods with spec.nodeName set to itself")),
        }
    }

    fn token(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let Some(request) = a.object.as_deref() else { return Ok(()) };
        let reference = |key: &str| text(request, &format!("/spec/boundObjectRef/{key}"));
        if reference("apiVersion") != "v1" || reference("kind") != "Pod" || reference("name").is_empty() {
            return Err("node requested token not bound to a pod".into());
        }
        if reference("uid").is_empty() {
            return Err("node requested token with a pod binding without a uid".into());
        }
        let pod = self.objects.get("pods", a.namespace, reference("name"));
        let pod = pod.ok_or_else(|| format!("pod {:?} not found", reference("name")))?;
        if reference("uid") != machinery::meta::uid(&pod) {
            return Err("the UID in the bound object reference does not match the UID in record. The object might have been deleted and then recreated".into());
        }
        if text(&pod, "/spec/nodeName") != node {
            return Err("node requested token bound to a pod scheduled on a different node".into());
        }
        self.token_audiences(&pod, request, a)
    }

    /// Only audiences the pod's volumes, or the CSI drivers it uses, ask for; the API's own are the default.
    fn token_audiences(&self, pod: &Value, request: &Value, a: &Attributes<'_>) -> Result<(), String> {
        let wanted: Vec<&str> = items(request, "/spec/audiences").filter_map(Value::as_str).collect();
        let known = known_audiences(pod, &*self.objects);
        let own = a.app.authenticator.tokens().map(|t| t.audiences.clone()).unwrap_or_default();
        let good = |w: &str| known.contains(w) || own.iter().any(|o| o == w);
        match wanted.iter().find(|w| !good(w)) {
            Some(w) => Err(format!("audience {w:?} not found in pod spec volume")),
            None => Ok(()),
        }
    }
}

fn known_audiences(pod: &Value, objects: &dyn Lookup) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for volume in items(pod, "/spec/volumes") {
        let projected = items(volume, "/projected/sources").map(|s| text(s, "/serviceAccountToken/audience"));
        known.extend(projected.filter(|t| !t.is_empty()).map(str::to_owned));
        let mut drivers = vec![text(volume, "/csi/driver").to_owned()];
        drivers.extend(claim_driver(pod, volume, objects));
        for driver in drivers.iter().filter(|d| !d.is_empty()) {
            if let Some(driver) = objects.get("csidrivers.storage.k8s.io", "", driver) {
                known.extend(items(&driver, "/spec/tokenRequests").map(|t| text(t, "/audience").to_owned()));
            }
        }
    }
    known
}

fn claim_driver(pod: &Value, volume: &Value, objects: &dyn Lookup) -> Option<String> {
    let namespace = machinery::meta::namespace(pod);
    let claim = match text(volume, "/persistentVolumeClaim/claimName") {
        "" if volume.get("ephemeral").is_some() => {
            format!("{}-{}", machinery::meta::name(pod), text(volume, "/name"))
        }
        name => name.to_owned(),
    };
    let claim = objects.get("persistentvolumeclaims", namespace, &claim)?;
    let volume = objects.get("persistentvolumes", "", text(&claim, "/spec/volumeName"))?;
    Some(text(&volume, "/spec/csi/driver").to_owned())
}

fn own_name(node: &str, a: &Attributes<'_>, what: &str) -> Result<(), String> {
    let body = a.object.as_deref().map(machinery::meta::name).unwrap_or_default();
    let name = if a.name.is_empty() { body } else { a.name };
    if name == node && (body.is_empty() || body == node) {
        return Ok(());
    }
    Err(format!("can only access {what} with the same name as the requesting node"))
}

fn mirror_pod(node: &str, pod: &Value, objects: &dyn Lookup) -> Result<(), String> {
    if !pods::is_mirror(pod) {
        return Err(format!(
            "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
            pods::MIRROR
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let refuse = |what: &str| Err(format!("node {node:?} can not create pods that reference {what}"));
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return refuse("a service account");
    }
    let needs = |keys: &[&str]| {
        items(pod, "/spec/volumes").any(|v| keys.iter().any(|k| v.pointer(k).is_some()))
            || items(pod, "/spec/volumes")
                .flat_map(|v| items(v, "/projected/sources"))
                .any(|s| keys.iter().any(|k| s.pointer(k).is_some()))
    };
    let env = |a: &str, b: &str| {
        pods::containers(pod).any(|c| {
            items(c, "/env").any(|e| e.pointer(a).is_some())
                || items(c, "/envFrom").any(|e| e.pointer(b).is_some())
        })
    };
    match () {
        () if needs(&["/secret"])
            || env("/valueFrom/secretKeyRef", "/secretRef")
            || items(pod, "/spec/imagePullSecrets").next().is_some() =>
        {
            refuse("secrets")
        }
        () if needs(&["/configMap"]) || env("/valueFrom/configMapKeyRef", "/configMapRef") => {
            refuse("configmaps")
        }
        () if needs(&["/persistentVolumeClaim"]) => refuse("persistentvolumeclaims"),
        () if items(pod, "/spec/resourceClaims").next().is_some() => refuse("resourceclaims"),
        () => mirror_owner(node, pod, objects),
    }
}

/// A mirror pod's one owner is its node.
fn mirror_owner(node: &str, pod: &Value, objects: &dyn Lookup) -> Result<(), String> {
    let [owner] = machinery::meta::owner_refs(pod) else {
        return Err(format!(
            "node {node:?} can only create pods with a single owner reference set to itself"
        ));
    };
    let flag = |key: &str| owner.get(key).and_then(Value::as_bool).unwrap_or(false);
    let itself =
        text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Node" && text(owner, "/name") == node;
    if !itself || !flag("controller") {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if flag("blockOwnerDeletion") {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    match objects.get("nodes", "", node) {
        Some(stored) if machinery::meta::uid(&stored) != text(owner, "/uid") => {
            Err(format!("node {node:?} UID mismatch: expected {:?}", machinery::meta::uid(&stored)))
        }
        _ => Ok(()),
    }
}

fn pod_status(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let (Some(new), Some(old)) = (a.object.as_deref(), a.old) else { return Ok(()) };
    if text(old, "/spec/nodeName") != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |v: &Value| machinery::meta::labels(v).cloned().unwrap_or_default();
    if labels(new) != labels(old) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn claim_status(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let (Some(new), Some(old)) = (a.object.as_deref(), a.old) else { return Ok(()) };
    let bare = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.remove("status");
        }
        let meta = machinery::meta::metadata_mut(&mut v);
        meta.remove("managedFields");
        meta.remove("resourceVersion");
        v
    };
    if bare(new) != bare(old) {
        return Err(format!(
            "node {node:?} is not allowed to update fields other than status of a persistentvolumeclaim"
        ));
    }
    Ok(())
}

/// Labels a kubelet may give its node, beside all that are outside kubernetes.io and k8s.io.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "beta.kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/arch",
];

fn label_is_free(key: &str) -> bool {
    let Some((space, _)) = key.split_once('/') else { return true };
    let inside = |domain: &str| space == domain || space.ends_with(&format!(".{domain}"));
    if !inside("kubernetes.io") && !inside("k8s.io") {
        return true;
    }
    let own = |domain: &str| space == domain || space.ends_with(&format!(".{domain}"));
    KUBELET_LABELS.contains(&key) || own("kubelet.kubernetes.io") || own("node.kubernetes.io")
}

/// Labels that differ between two objects and are not a kubelet's to give.
fn forbidden_labels(old: Option<&Value>, new: &Value) -> Vec<String> {
    let labels = |v: &Value| machinery::meta::labels(v).cloned().unwrap_or_default();
    let (old, new) = (old.map(labels).unwrap_or_default(), labels(new));
    let keys: BTreeSet<&String> =
        old.keys().chain(new.keys()).filter(|k| old.get(*k) != new.get(*k)).collect();
    keys.into_iter().filter(|k| !label_is_free(k)).cloned().collect()
}

fn node_write(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let body = a.object.as_deref().map(machinery::meta::name).unwrap_or_default();
    let name = if a.name.is_empty() { body } else { a.name };
    if name != node || (!body.is_empty() && body != node) {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let Some(new) = a.object.as_deref() else { return Ok(()) };
    let forbidden = forbidden_labels(a.old, new);
    let list = forbidden.join(", ");
    match a.op {
        Operation::Create if new.pointer("/spec/configSource").is_some_and(|v| !v.is_null()) => {
            Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"))
        }
        Operation::Create if !forbidden.is_empty() => {
            Err(format!("node {node:?} is not allowed to set the following labels: {list}"))
        }
        Operation::Update => node_update(node, a.old, new, &list),
        _ => Ok(()),
    }
}

fn node_update(node: &str, old: Option<&Value>, new: &Value, forbidden: &str) -> Result<(), String> {
    let differs = |pointer: &str| {
        let part = |v: &Value| {
            v.pointer(pointer).filter(|p| !p.is_null() && p.as_array().is_none_or(|l| !l.is_empty())).cloned()
        };
        old.and_then(part) != part(new)
    };
    if differs("/spec/configSource") {
        return Err(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if differs("/spec/taints") {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if !forbidden.is_empty() {
        return Err(format!("is not allowed to modify labels: {forbidden}"));
    }
    if differs("/metadata/ownerReferences") {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    Ok(())
}

fn slice(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let of = a.object.as_deref().or(a.old);
    match of.map(|s| text(s, "/spec/nodeName")) {
        Some(name) if name != node => Err(
            "can only create, update or delete ResourceSlices with the same NodeName as the requesting node"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// A node asks for certificates in its own name only.
fn certificate_request(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    use base64::Engine;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let Some(request) = a.object.as_deref().filter(|_| a.op == Operation::Create) else { return Ok(()) };
    let signer = text(request, "/spec/signerName");
    if !matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    let pem =
        base64::engine::general_purpose::STANDARD.decode(text(request, "/spec/request")).unwrap_or_default();
    let Ok(Some((rustls_pemfile::Item::Csr(der), _))) = rustls_pemfile::read_one_from_slice(&pem) else {
        return Err(format!("unable to parse CSR {:?}", machinery::meta::name(request)));
    };
    let Ok((_, csr)) = X509CertificationRequest::from_der(der.as_ref()) else {
        return Err(format!("unable to parse CSR {:?}", machinery::meta::name(request)));
    };
    let name = csr.certification_request_info.subject.iter_common_name().last().and_then(|n| n.as_str().ok());
    if name != Some(&format!("system:node:{node}")) {
        return Err(format!("can only create a node CSR with CN=system:node:{node}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::lookup::fixture::Fixed;

    fn mirror() -> Value {
        json!({"metadata": {"name": "p", "annotations": {pods::MIRROR: "x"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n", "containers": [{}]}})
    }

    #[test]
    fn mirror_pods_only() {
        let store = Fixed::default().with("nodes", json!({"metadata": {"name": "n", "uid": "u"}}));
        assert_eq!(mirror_pod("n", &mirror(), &store), Ok(()));
        for (pointer, value, why) in [
            ("/metadata/annotations", json!({}), "can only create mirror pods"),
            ("/spec/nodeName", json!("m"), "set to itself"),
            ("/spec/serviceAccountName", json!("x"), "a service account"),
            ("/spec/volumes", json!([{"secret": {}}]), "secrets"),
            ("/spec/volumes", json!([{"projected": {"sources": [{"configMap": {}}]}}]), "configmaps"),
            ("/spec/volumes", json!([{"persistentVolumeClaim": {}}]), "persistentvolumeclaims"),
            ("/spec/containers", json!([{"env": [{"valueFrom": {"secretKeyRef": {}}}]}]), "secrets"),
            ("/metadata/ownerReferences", json!([]), "owner reference"),
            (
                "/metadata/ownerReferences",
                json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "other", "controller": true}]),
                "UID",
            ),
        ] {
            let mut pod = mirror();
            let (parent, key) = pointer.rsplit_once('/').expect("pointer");
            pod.pointer_mut(parent).expect("parent")[key] = value.clone();
            let err = mirror_pod("n", &pod, &store).expect_err(pointer);
            assert!(err.contains(why), "{pointer} {value}: {err}");
        }
    }

    #[test]
    fn labels_of_nodes() {
        for (key, free) in [
            ("example.com/role", true),
            ("role", true),
            ("kubernetes.io/hostname", true),
            ("kubernetes.io/arch", true),
            ("kubelet.kubernetes.io/x", true),
            ("node.kubernetes.io/x", true),
            ("topology.kubernetes.io/zone", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/x", false),
            ("kubernetes.io/other", false),
            ("x.k8s.io/y", false),
        ] {
            assert_eq!(label_is_free(key), free, "{key}");
        }
    }

    #[test]
    fn node_updates() {
        let node = |labels: Value, taints: Value| json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}});
        let old = node(json!({"a": "b"}), json!(null));
        for (new, good) in [
            (node(json!({"a": "c"}), json!([])), true),
            (node(json!({"a": "b"}), json!([{"key": "x"}])), false),
            (node(json!({"a": "b", "node-role.kubernetes.io/x": ""}), json!(null)), false),
        ] {
            let list = forbidden_labels(Some(&old), &new).join(", ");
            assert_eq!(node_update("n", Some(&old), &new, &list).is_ok(), good, "{new}");
        }
    }

    #[test]
    fn audiences_a_pod_needs() {
        let pod = json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {"volumes": [
            {"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}},
            {"csi": {"driver": "d1"}}, {"persistentVolumeClaim": {"claimName": "c"}}]}});
        let driver = |name: &str, audience: &str| json!({"metadata": {"name": name}, "spec": {"tokenRequests": [{"audience": audience}]}});
        let store = Fixed::default()
            .with("csidrivers.storage.k8s.io", driver("d1", "one"))
            .with("csidrivers.storage.k8s.io", driver("d2", "two"))
            .with(
                "persistentvolumeclaims",
                json!({"metadata": {"namespace": "a", "name": "c"}, "spec": {"volumeName": "v"}}),
            )
            .with("persistentvolumes", json!({"metadata": {"name": "v"}, "spec": {"csi": {"driver": "d2"}}}));
        let known: Vec<String> = known_audiences(&pod, &store).into_iter().collect();
        assert_eq!(known, ["one", "two", "vault"]);
    }
}
