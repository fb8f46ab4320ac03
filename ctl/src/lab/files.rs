//! Certificates, kubeconfigs and configuration files of the nodes, written where the daemons of a kubeadm cluster look.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::daemons::{self, DNS_IP, POD_CIDR};
use super::spec::{Lab, NodeSpec, Role, Spec};
use crate::kubeconfig;
use crate::pki::{Authority, Identity, service_account_pair, write_file};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The first service address, at which pods reach the API server.
const API_SERVICE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));

/// Writes everything the lab's nodes need before they start; what is there is kept.
///
/// # Errors
/// When a file can't be written.
pub fn write_all(lab: &Lab, spec: &Spec) -> Result<()> {
    if spec.bare {
        return spec.nodes.iter().try_for_each(|node| machine_files(lab, spec, node));
    }
    let first = spec.control_plane()?;
    let pki = lab.node_path(first, "/etc/kubernetes/pki");
    let ca = Authority::load_or_create(&pki, "ca", "kubernetes")?;
    control_plane_certificates(lab, &ca, &pki, first)?;
    for node in &spec.nodes {
        node_files(lab, spec, node, &ca)?;
    }
    control_plane_kubeconfigs(lab, spec, &ca)
}

fn control_plane_certificates(lab: &Lab, ca: &Authority, pki: &Path, node: &NodeSpec) -> Result<()> {
    let ip = IpAddr::V4(node.ip());
    let names = [
        node.name.as_str(),
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let api = Identity::server("kube-apiserver", &names, &[API_SERVICE_IP, ip, LOCALHOST], false);
    ca.issue_files(pki, "apiserver", &api)?;
    ca.issue_files(pki, "apiserver-kubelet-client", &Identity::client("kube-apiserver-kubelet-client", &[]))?;
    let front = Authority::load_or_create(pki, "front-proxy-ca", "front-proxy-ca")?;
    front.issue_files(pki, "front-proxy-client", &Identity::client("front-proxy-client", &[]))?;
    let etcd = Authority::load_or_create(pki, "etcd/ca", "etcd-ca")?;
    let member = Identity::server(&node.name, &[&node.name, "localhost"], &[ip, LOCALHOST], true);
    etcd.issue_files(pki, "etcd/server", &member)?;
    etcd.issue_files(pki, "etcd/peer", &member)?;
    etcd.issue_files(pki, "etcd/healthcheck-client", &Identity::client("kube-etcd-healthcheck-client", &[]))?;
    etcd.issue_files(pki, "apiserver-etcd-client", &Identity::client("kube-apiserver-etcd-client", &[]))?;
    fs::create_dir_all(lab.node_path(node, "/var/lib/etcd"))?;
    set_mode(&lab.node_path(node, "/var/lib/etcd"), 0o700)?;
    service_account_pair(pki)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

fn control_plane_kubeconfigs(lab: &Lab, spec: &Spec, ca: &Authority) -> Result<()> {
    let node = spec.control_plane()?;
    let users: [(&str, &str, &[&str]); 4] = [
        ("admin.conf", "kubernetes-admin", &["kubeadm:cluster-admins"]),
        ("super-admin.conf", "kubernetes-super-admin", &["system:masters"]),
        ("controller-manager.conf", "system:kube-controller-manager", &[]),
        ("scheduler.conf", "system:kube-scheduler", &[]),
    ];
    for (file, cn, orgs) in users {
        client_kubeconfig(lab, spec, node, ca, file, &Identity::client(cn, orgs))?;
    }
    Ok(())
}

fn client_kubeconfig(
    lab: &Lab,
    spec: &Spec,
    node: &NodeSpec,
    ca: &Authority,
    file: &str,
    who: &Identity,
) -> Result<()> {
    let path = lab.node_path(node, "/etc/kubernetes").join(file);
    if path.exists() {
        return Ok(());
    }
    let credentials = kubeconfig::certificate_credentials(ca, who)?;
    kubeconfig::write(
        &path,
        &kubeconfig::document("kubernetes", &who.cn, &spec.api_url()?, &ca.cert_pem, credentials),
    )
}

/// What makes a node a machine: its disk, identity, containerd's configuration, and what its first process reads.
fn machine_files(lab: &Lab, spec: &Spec, node: &NodeSpec) -> Result<()> {
    let dir = lab.node_dir(node);
    for own in daemons::OWN {
        fs::create_dir_all(lab.node_path(node, own))
            .with_context(|| format!("making a disk for {}", node.name))?;
    }
    for sub in ["run", "logs"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    machine_id(&dir.join("machine-id"))?;
    let at = |path: &str| lab.node_path(node, path);
    write_file(&at("/etc/containerd/config.toml"), CONTAINERD.as_bytes(), 0o644)?;
    fs::create_dir_all(at("/etc/containerd/certs.d"))?;
    let file = serde_json::to_vec_pretty(&daemons::node_file(spec, node)?)?;
    write_file(&dir.join("node.json"), &file, 0o600)
}

fn node_files(lab: &Lab, spec: &Spec, node: &NodeSpec, ca: &Authority) -> Result<()> {
    machine_files(lab, spec, node)?;
    let at = |path: &str| lab.node_path(node, path);
    let ip = IpAddr::V4(node.ip());
    let serving = Identity::server(&format!("system:node:{}", node.name), &[&node.name], &[ip], false);
    ca.issue_files(&at("/var/lib/kubelet/pki"), "kubelet-serving", &serving)?;
    write_file(&at("/etc/kubernetes/pki/ca.crt"), ca.cert_pem.as_bytes(), 0o644)?;
    write_yaml(&at("/var/lib/kubelet/config.yaml"), &kubelet_config())?;
    write_yaml(&at("/etc/kubernetes/kube-proxy.yaml"), &proxy_config())?;
    kubelet_identity(lab, spec, node, ca)?;
    client_kubeconfig(lab, spec, node, ca, "kube-proxy.conf", &Identity::client("system:kube-proxy", &[]))?;
    client_kubeconfig(lab, spec, node, ca, "network.conf", &Identity::client("system:coxswain:network", &[]))
}

/// The control plane's kubelet gets its certificate from the authority at hand; the others introduce themselves with the
/// bootstrap token and are given one through the API.
fn kubelet_identity(lab: &Lab, spec: &Spec, node: &NodeSpec, ca: &Authority) -> Result<()> {
    if node.role == Role::ControlPlane {
        let who = Identity::client(&format!("system:node:{}", node.name), &["system:nodes"]);
        return client_kubeconfig(lab, spec, node, ca, "kubelet.conf", &who);
    }
    let path = lab.node_path(node, "/etc/kubernetes/bootstrap-kubelet.conf");
    if path.exists() {
        return Ok(());
    }
    let token = json!({"token": spec.bootstrap_token});
    let user = "tls-bootstrap-token-user";
    kubeconfig::write(&path, &kubeconfig::document("kubernetes", user, &spec.api_url()?, &ca.cert_pem, token))
}

fn machine_id(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    write_file(path, format!("{}\n", hex::encode(rand::random::<[u8; 16]>())).as_bytes(), 0o444)
}

fn write_yaml(path: &Path, value: &Value) -> Result<()> {
    write_file(path, serde_yaml::to_string(value)?.as_bytes(), 0o644)
}

fn kubelet_config() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // The default refuses cgroup v1; a lab takes the machine as it is.
        "failCgroupV1": false,
        "staticPodPath": "/etc/kubernetes/manifests",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "rotateCertificates": true,
        "tlsCertFile": "/var/lib/kubelet/pki/kubelet-serving.crt",
        "tlsPrivateKeyFile": "/var/lib/kubelet/pki/kubelet-serving.key",
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failSwapOn": false,
        // The nodes share one disk; how full it is says nothing about any of them.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
    })
}

fn proxy_config() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "bindAddress": "0.0.0.0",
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
    })
}

/// Works with containerd 1.6 and later on machines that may lack the right to lower a process's out-of-memory score:
/// without `restrict_oom_score_adj` no sandbox starts there. Plugins that no lab needs are left out to start sooner.
const CONTAINERD: &str = r#"version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "coxswain.local/pause:1"
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"#;
