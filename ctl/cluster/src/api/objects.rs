//! The objects kubeadm puts into a cluster, and ours.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::paths::{BOOTSTRAPPERS, CONTROL_PLANE};

/// The ConfigMap that says how nodes run the network agent.
pub const NETWORK: &str = "coxswain-network";
const RBAC: &str = "rbac.authorization.k8s.io";
const SYSTEM: &str = "kube-system";
const LOAD_BALANCER: &str = include_str!("../../../../deploy/manifests/load-balancer.yaml");
const BOOTSTRAP: &str = include_str!("../../../../deploy/manifests/bootstrap.yaml");
const DNS: &str = include_str!("../../../../deploy/manifests/dns.yaml");
const METRICS: &str = include_str!("../../../../deploy/manifests/metrics-server.yaml");
const LOCAL_PATH: &str = include_str!("../../../../deploy/manifests/local-path.yaml");
/// The annotation that says a ConfigMap's document was made, not given by the user.
const HASH: &str = "kubeadm.kubernetes.io/component-config.hash";

fn group(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "Group", "name": name})
}

fn user(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "User", "name": name})
}

/// A Role of one rule and its binding of the same name.
fn role(namespace: &str, name: &str, resource: &str, object: &str, subjects: Value) -> Vec<Value> {
    let meta = json!({"name": name, "namespace": namespace});
    vec![
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": meta, "rules":
            [{"apiGroups": [""], "resources": [resource], "resourceNames": [object], "verbs": ["get"]}]}),
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": meta, "subjects": subjects,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}}),
    ]
}

fn cluster_binding(name: &str, role: &str, subject: Value) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": [subject]})
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SYSTEM}, "data": data})
}

fn hashed(mut map: Value, text: &str) -> Value {
    use sha2::{Digest, Sha256};
    map["metadata"]["annotations"] = json!({HASH: format!("sha256:{}", hex::encode(Sha256::digest(text)))});
    map
}

/// What makes administrators administrators.
pub fn cluster_admins() -> Value {
    cluster_binding("kubeadm:cluster-admins", "cluster-admin", group("kubeadm:cluster-admins"))
}

/// ConfigMap kubeadm-config and who may read it.
pub fn kubeadm_config(document: &str) -> Vec<Value> {
    let mut all = vec![config_map("kubeadm-config", json!({"ClusterConfiguration": document}))];
    let readers = json!([group(BOOTSTRAPPERS), group("system:nodes")]);
    all.extend(role(SYSTEM, "kubeadm:nodes-kubeadm-config", "configmaps", "kubeadm-config", readers));
    all
}

/// ConfigMap kubelet-config and who may read it.
pub fn kubelet_config(document: &str) -> Vec<Value> {
    let mut all = vec![hashed(config_map("kubelet-config", json!({"kubelet": document})), document)];
    let readers = json!([group("system:nodes"), group(BOOTSTRAPPERS)]);
    all.extend(role(SYSTEM, "kubeadm:kubelet-config", "configmaps", "kubelet-config", readers));
    all
}

/// ConfigMap kube-proxy, who may read it, and the rights of nodes' proxies and network agents.
pub fn proxy(document: &str, kubeconfig: &str) -> Vec<Value> {
    let data = json!({"config.conf": document, "kubeconfig.conf": kubeconfig});
    let mut map = hashed(config_map("kube-proxy", data), document);
    map["metadata"]["labels"] = json!({"app": "kube-proxy"});
    let mut all = vec![map];
    all.extend(role(SYSTEM, "kube-proxy", "configmaps", "kube-proxy", json!([group(BOOTSTRAPPERS)])));
    all.push(cluster_binding("coxswain:node-agents", "system:node-proxier", group("system:nodes")));
    all
}

/// The rights of the nodes' network agents, and how joining nodes are to run theirs.
///
/// # Errors
/// When the built-in manifest is damaged.
pub fn network(pod_subnet: &str, args: &[coxctl_config::Arg]) -> Result<Vec<Value>> {
    let mut all = documents(BOOTSTRAP)?;
    all.retain(|o| o["metadata"]["name"] == "system:coxswain:network" && o["kind"] == "ClusterRole");
    all.push(cluster_binding("coxswain:node-network", "system:coxswain:network", group("system:nodes")));
    all.push(config_map(NETWORK, json!({"podSubnet": pod_subnet, "args": serde_json::to_string(args)?})));
    let readers = json!([group("system:nodes"), group(BOOTSTRAPPERS)]);
    all.extend(role(SYSTEM, "coxswain:network-config", "configmaps", NETWORK, readers));
    Ok(all)
}

/// The rights of cloud-controller-manager and of those who announce addresses, and what other control planes are to run.
///
/// # Errors
/// When the built-in manifest is damaged.
pub fn load_balancer(config: &str) -> Result<Vec<Value>> {
    use crate::loadbalancer::{KEY, NAME};
    let mut all = documents(LOAD_BALANCER)?;
    all.push(config_map(NAME, json!({KEY: config})));
    all.extend(role(SYSTEM, "coxswain:cloud-config", "configmaps", NAME, json!([group(BOOTSTRAPPERS)])));
    Ok(all)
}

/// Takes the mark of a made document off: the user gave it.
pub fn unhash(all: &mut [Value]) {
    for meta in all.iter_mut().filter_map(|o| o["metadata"].as_object_mut()) {
        meta.remove("annotations");
    }
}

/// The rights by which nodes introduce themselves, have their certificates approved and are called by API servers.
///
/// # Errors
/// When the built-in manifest is damaged.
pub fn bootstrap_rights() -> Result<Vec<Value>> {
    let ours = ["kubeadm:cluster-admins", "system:coxswain:network"];
    let mut all = documents(BOOTSTRAP)?;
    all.retain(|o| !ours.iter().any(|name| o["metadata"]["name"] == *name));
    Ok(all)
}

/// Anyone may read cluster-info.
pub fn cluster_info_rights() -> Vec<Value> {
    role(
        "kube-public",
        "kubeadm:bootstrap-signer-clusterinfo",
        "configmaps",
        "cluster-info",
        json!([user("system:anonymous")]),
    )
}

/// The secret with the control planes' shared files, owned by the token that limits its life.
pub fn uploaded_certs(data: &Value, owner: Option<(&str, &str)>) -> Vec<Value> {
    let mut meta = json!({"name": crate::upload::NAME, "namespace": SYSTEM});
    if let Some((name, uid)) = owner {
        meta["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": true}]);
    }
    let mut all =
        vec![json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": meta, "data": data})];
    all.extend(role(
        SYSTEM,
        "kubeadm:kubeadm-certs",
        "secrets",
        crate::upload::NAME,
        json!([group(BOOTSTRAPPERS)]),
    ));
    all
}

/// Cluster DNS at `ip` for `domain`.
///
/// # Errors
/// When the built-in manifest is damaged.
pub fn dns(ip: &str, domain: &str, image: Option<&str>) -> Result<Vec<Value>> {
    let mut all = documents(DNS)?;
    for object in &mut all {
        if object["kind"] == "Service" {
            object["spec"]["clusterIP"] = json!(ip);
        }
        if let Some(container) = object.pointer_mut("/spec/template/spec/containers/0") {
            set_domain(container, domain);
            add_address(container, ip);
            if let Some(image) = image {
                container["image"] = json!(image);
            }
        }
    }
    Ok(all)
}

/// The metrics server and its place in the API.
///
/// # Errors
/// When the built-in manifest is damaged.
pub fn metrics(image: &str) -> Result<Vec<Value>> {
    with_image(METRICS, image)
}

/// What makes volumes out of the nodes' disks, and the class that asks for them.
///
/// # Errors
/// When the built-in manifest is damaged.
pub fn local_path(image: &str) -> Result<Vec<Value>> {
    with_image(LOCAL_PATH, image)
}

fn with_image(manifest: &str, image: &str) -> Result<Vec<Value>> {
    let mut all = documents(manifest)?;
    for container in all.iter_mut().filter_map(|o| o.pointer_mut("/spec/template/spec/containers/0")) {
        container["image"] = json!(image);
    }
    Ok(all)
}

/// Its own address, when it isn't the usual one; one of IPv6 is of a cluster where it must listen on more than IPv4.
fn add_address(container: &mut Value, ip: &str) {
    let Some(args) = container["args"].as_array_mut().filter(|_| ip != "10.96.0.10") else { return };
    args.push(json!(format!("--cluster-dns={ip}")));
    if ip.contains(':') {
        let all =
            [("listen", 53), ("health-address", 8080), ("ready-address", 8181), ("metrics-address", 9153)];
        args.extend(all.map(|(flag, port)| json!(format!("--{flag}=[::]:{port}"))));
    }
}

fn set_domain(container: &mut Value, domain: &str) {
    for arg in container["args"].as_array_mut().into_iter().flatten() {
        if arg.as_str().is_some_and(|a| a.starts_with("--cluster-domain=")) {
            *arg = json!(format!("--cluster-domain={domain}"));
        }
    }
}

/// The patch that marks a control-plane node: labels, and the taints added to those it has. `None` for the taints leaves
/// them alone.
pub fn control_plane_mark(node: &Value, taints: &[Value]) -> Value {
    let mut patch = json!({"metadata": {"labels": {
        CONTROL_PLANE: "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}}});
    let mut all = node.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = all.len();
    let same = |a: &Value, b: &Value| a["key"] == b["key"] && a["effect"] == b["effect"];
    for taint in taints {
        if !all.iter().any(|t| same(t, taint)) {
            all.push(taint.clone());
        }
    }
    if all.len() > before {
        patch["spec"] = json!({"taints": all});
    }
    patch
}

/// The taint that keeps ordinary pods away from control planes.
pub fn control_plane_taint() -> Value {
    json!({"key": CONTROL_PLANE, "effect": "NoSchedule"})
}

/// A kubeconfig whose user is `credentials`; the server is known by `server_name` if that is given.
pub fn kubeconfig(
    server: &str,
    server_name: Option<&str>,
    ca: &Ca<'_>,
    user: &str,
    credentials: Value,
) -> Value {
    let mut cluster = json!({"server": server});
    match ca {
        Ca::Pem(pem) => cluster["certificate-authority-data"] = json!(BASE64_STANDARD.encode(pem)),
        Ca::File(path) => cluster["certificate-authority"] = json!(path),
    }
    if let Some(name) = server_name {
        cluster["tls-server-name"] = json!(name);
    }
    let context = format!("{user}@kubernetes");
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {},
        "clusters": [{"name": "kubernetes", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": context, "context": {"cluster": "kubernetes", "user": user}}],
        "current-context": context,
    })
}

/// How a kubeconfig names its authority.
pub enum Ca<'a> {
    /// Embedded.
    Pem(&'a str),
    /// By path.
    File(&'a str),
}

fn documents(text: &str) -> Result<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text)
        .map(|d| Value::deserialize(d).context("a built-in manifest"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_listens_where_it_is_asked() {
        let args = |ip: &str| {
            let all = dns(ip, "cluster.local", None).unwrap();
            let deployment = all.into_iter().find(|o| o["kind"] == "Deployment").unwrap();
            deployment.pointer("/spec/template/spec/containers/0/args").unwrap().to_string()
        };
        assert!(!args("10.96.0.10").contains("cluster-dns"));
        assert!(
            args("10.0.0.10").contains("--cluster-dns=10.0.0.10") && !args("10.0.0.10").contains("listen")
        );
        assert!(args("fd00::a").contains("--listen=[::]:53") && args("fd00::a").contains("=[::]:8181"));
    }

    #[test]
    fn built_in_objects_have_names_and_no_two_are_the_same() {
        let mut all = [
            bootstrap_rights().unwrap(),
            network("10.0.0.0/8", &[]).unwrap(),
            dns("10.0.0.10", "x.y", None).unwrap(),
            metrics("r/metrics-server:2").unwrap(),
            local_path("r/local-path:2").unwrap(),
        ]
        .concat();
        all.extend(
            [kubeadm_config("a"), kubelet_config("b"), proxy("c", "d"), cluster_info_rights()].concat(),
        );
        all.push(cluster_admins());
        let names: Vec<String> = all.iter().map(crate::api::title).collect();
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(
            names.contains(&"ClusterRoleBinding kubeadm:node-autoapprove-bootstrap".to_string()),
            "{names:?}"
        );
        assert!(all.iter().all(|o| o["metadata"]["name"].is_string()));
    }

    #[test]
    fn dns_follows_the_configuration() {
        let all = dns("10.7.0.10", "example.org", Some("r/dns:2")).unwrap();
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.contains(r#""clusterIP":"10.7.0.10""#) && text.contains("--cluster-domain=example.org"));
        assert!(text.contains("r/dns:2") && !text.contains("10.96.0.10"));
    }

    #[test]
    fn the_metrics_server_has_the_image_and_a_service_that_the_api_server_knows() {
        let all = metrics("r/metrics-server:2").unwrap();
        let of = |kind: &str| all.iter().find(|o| o["kind"] == kind).unwrap();
        let image = of("Deployment").pointer("/spec/template/spec/containers/0/image").unwrap();
        assert_eq!(image, "r/metrics-server:2");
        assert_eq!(of("APIService")["spec"]["service"]["name"], of("Service")["metadata"]["name"]);
    }

    #[test]
    fn taints_are_added_once() {
        let bare = json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}});
        let patch = control_plane_mark(&bare, &[control_plane_taint()]);
        assert_eq!(patch["spec"]["taints"].as_array().unwrap().len(), 2);
        let marked = json!({"spec": patch["spec"]});
        assert!(control_plane_mark(&marked, &[control_plane_taint()]).get("spec").is_none());
    }
}
