//! A cluster of the lab's machines, made as on any machines: by `coxctl init` on the first and `coxctl join` on the others,
//! run inside them. All begin at once; those that join wait for the first to answer. That works because the authority of the
//! cluster is made beforehand, so that everyone can be told its hash.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::node;
use super::spec::{Lab, NodeSpec, Role, Spec};
use crate::pki::{Authority, write_file};

/// Addresses of services.
const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Addresses of pods, a /24 of them per node.
const POD_CIDR: &str = "10.244.0.0/16";
/// Addresses of Services of type LoadBalancer: of the nodes' own network, and no node's.
const POOL: &str = "172.30.0.200-172.30.0.250";
const API: &str = "kubeadm.k8s.io/v1beta4";
/// Where a node finds its part of the configuration.
const CONFIG: &str = "/etc/kubernetes/lab.yaml";
/// Checks about the size of a machine, which say nothing of one that is shared by all nodes.
const IGNORED: &str = "NumCPU,Mem,Swap";

/// Runs `init` and `join` on all nodes side by side; nodes that are part of the cluster already are brought in order.
///
/// # Errors
/// Of the first node that failed, with the last lines its command printed.
pub fn make(lab: &Lab, spec: &Spec) -> Result<()> {
    let hash = authority(lab, spec)?;
    for node in &spec.nodes {
        let text = documents(spec, node, &hash)?;
        write_file(&lab.node_path(node, CONFIG), text.as_bytes(), 0o600)?;
    }
    std::thread::scope(|scope| {
        let jobs: Vec<_> = spec.nodes.iter().map(|n| scope.spawn(move || command(lab, spec, n))).collect();
        jobs.into_iter().try_for_each(|job| job.join().unwrap_or_else(|_| bail!("making the cluster failed")))
    })
}

/// The cluster's authority, made on the first node where `init` takes it up; returns the hash others know it by.
fn authority(lab: &Lab, spec: &Spec) -> Result<String> {
    let pki = lab.node_path(spec.control_plane()?, "/etc/kubernetes/pki");
    let ca = Authority::load_or_create(&pki, "ca", "kubernetes")?;
    coxctl_pki::ca_hashes(&ca.cert_pem)?.into_iter().next().context("the authority has no certificate")
}

fn is_first(spec: &Spec, node: &NodeSpec) -> bool {
    spec.nodes.first().is_some_and(|n| n.name == node.name)
}

fn command(lab: &Lab, spec: &Spec, node: &NodeSpec) -> Result<()> {
    let verb = if is_first(spec, node) { "init" } else { "join" };
    super::images::wait_for_runtime(lab, node)?;
    let log = lab.node_dir(node).join("logs").join(format!("{verb}.log"));
    let out = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "exec", "--name", &lab.name, &node.name, "--"]).arg(std::env::current_exe()?);
    command.args([verb, "--config", CONFIG, "--ignore-preflight-errors", IGNORED, "--bin-dir"]);
    command.arg(&spec.bin_dir);
    if verb == "init" {
        // A lab made of other programs may have none.
        if spec.bin_dir.join("cloud-controller-manager").exists() {
            command.args(["--load-balancer-pool", POOL]);
        }
        command.args(["--skip-phases", "show-join-command"]);
        if spec.control_planes() > 1 {
            command.arg("--upload-certs");
        }
    }
    let done = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).status()?;
    if !done.success() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        bail!("coxctl {verb} on {} failed; its last words:\n{}", node.name, node::tail(&said, 15));
    }
    Ok(())
}

fn documents(spec: &Spec, node: &NodeSpec, hash: &str) -> Result<String> {
    let all = if is_first(spec, node) {
        vec![init(spec, node), cluster(), kubelet()]
    } else {
        vec![join(spec, node, hash)?]
    };
    let texts = all.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join("---\n"))
}

fn registration(spec: &Spec, node: &NodeSpec) -> Value {
    // Images come from files, while the cluster is made.
    let mut value = json!({
        "name": node.name, "imagePullPolicy": "Never", "kubeletExtraArgs": [{"name": "node-ip", "value": node.ip()}],
    });
    // Alone, the control plane has to take the pods.
    if spec.nodes.len() == 1 {
        value["taints"] = json!([]);
    }
    value
}

fn local(node: &NodeSpec) -> Value {
    json!({"advertiseAddress": node.ip(), "bindPort": 6443})
}

fn init(spec: &Spec, node: &NodeSpec) -> Value {
    let token = json!({"token": spec.bootstrap_token, "ttl": "0s", "description": "The token the lab's nodes join with."});
    let mut value = json!({
        "apiVersion": API, "kind": "InitConfiguration",
        "bootstrapTokens": [token], "localAPIEndpoint": local(node), "nodeRegistration": registration(spec, node),
    });
    if spec.control_planes() > 1 {
        value["certificateKey"] = json!(spec.certificate_key);
    }
    value
}

fn cluster() -> Value {
    json!({
        "apiVersion": API, "kind": "ClusterConfiguration",
        "networking": {"podSubnet": POD_CIDR, "serviceSubnet": SERVICE_CIDR},
        // The host reaches the API server through its loopback.
        "apiServer": {"certSANs": ["localhost", IpAddr::from([127, 0, 0, 1])]},
    })
}

/// The nodes share one disk; how full it is says nothing about any of them.
fn kubelet() -> Value {
    let hard = json!({"memory.available": "100Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"});
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "failSwapOn": false, "imageGCHighThresholdPercent": 100, "evictionHard": hard,
    })
}

fn join(spec: &Spec, node: &NodeSpec, hash: &str) -> Result<Value> {
    let endpoint = format!("{}:6443", spec.control_plane()?.ip());
    let discovery =
        json!({"token": spec.bootstrap_token, "apiServerEndpoint": endpoint, "caCertHashes": [hash]});
    let mut value = json!({
        "apiVersion": API, "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": discovery}, "nodeRegistration": registration(spec, node),
    });
    if node.role == Role::ControlPlane {
        value["controlPlane"] =
            json!({"localAPIEndpoint": local(node), "certificateKey": spec.certificate_key});
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_get_documents_that_are_valid() {
        let spec = Spec {
            nodes: Spec::nodes_of(5, 3),
            certificate_key: "00".repeat(32),
            bootstrap_token: "abcdef.0123456789abcdef".into(),
            ..Spec::default()
        };
        let hash = format!("sha256:{}", "0".repeat(64));
        let (init, warnings) =
            coxctl_config::read_init(&documents(&spec, &spec.nodes[0], &hash).unwrap()).unwrap();
        assert_eq!((init.init.node_registration.name.as_str(), warnings.len()), ("control-plane", 0));
        let joins = spec.nodes[1..]
            .iter()
            .map(|n| coxctl_config::read_join(&documents(&spec, n, &hash).unwrap()).unwrap().0);
        let planes: Vec<bool> = joins.map(|j| j.join.control_plane.is_some()).collect();
        assert_eq!(planes, [true, true, false, false]);
    }
}
