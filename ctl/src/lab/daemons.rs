//! The daemons of a node and their flags: kubeadm's files and identities, as arguments.

use super::init::NodeFile;
use super::spec::{NodeSpec, Role, Spec};
use anyhow::Result;
use coxctl_machine::supervisor::Daemon;

/// Addresses of services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Addresses of pods, a /24 of them per node.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Where cluster DNS answers: the tenth service address.
pub const DNS_IP: &str = "10.96.0.10";
const PKI: &str = "/etc/kubernetes/pki";

/// Directories that a node has for itself; everything else of the disk is shared with the machine.
pub const OWN: &[&str] = &[
    "/etc/cni",
    "/etc/containerd",
    "/etc/kubernetes",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/lib/etcd",
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/coxswain",
];

/// The node's description for its first process.
///
/// # Errors
/// When the lab has no control plane.
pub fn node_file(spec: &Spec, node: &NodeSpec) -> Result<NodeFile> {
    let mut daemons =
        vec![daemon("containerd", vec!["containerd".into(), flag("config", "/etc/containerd/config.toml")])];
    if node.role == Role::ControlPlane && !spec.bare {
        daemons.extend([etcd(node), api_server(spec, node), controller_manager(spec), scheduler(spec)]);
    }
    if !spec.bare {
        daemons.extend([kubelet(spec, node), kube_proxy(spec, node), network(spec, node)]);
    }
    let own = OWN.iter().map(|s| s.to_string()).collect();
    Ok(NodeFile { name: node.name.clone(), own, daemons, bare: spec.bare })
}

fn daemon(name: &str, command: Vec<String>) -> Daemon {
    Daemon { name: name.into(), command, env: Default::default() }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn pki(file: &str) -> String {
    format!("{PKI}/{file}")
}

fn program(spec: &Spec, name: &str) -> String {
    spec.bin_dir.join(name).display().to_string()
}

fn etcd(node: &NodeSpec) -> Daemon {
    let (client, peer) = (format!("https://{}:2379", node.ip()), format!("https://{}:2380", node.ip()));
    daemon(
        "etcd",
        vec![
            "etcd".into(),
            flag("name", &node.name),
            flag("data-dir", "/var/lib/etcd"),
            flag("advertise-client-urls", &client),
            flag("listen-client-urls", format!("https://127.0.0.1:2379,{client}")),
            flag("initial-advertise-peer-urls", &peer),
            flag("listen-peer-urls", &peer),
            flag("initial-cluster", format!("{}={peer}", node.name)),
            flag("listen-metrics-urls", "http://127.0.0.1:2381"),
            flag("cert-file", pki("etcd/server.crt")),
            flag("key-file", pki("etcd/server.key")),
            flag("trusted-ca-file", pki("etcd/ca.crt")),
            flag("client-cert-auth", true),
            flag("peer-cert-file", pki("etcd/peer.crt")),
            flag("peer-key-file", pki("etcd/peer.key")),
            flag("peer-trusted-ca-file", pki("etcd/ca.crt")),
            flag("peer-client-cert-auth", true),
            flag("snapshot-count", 10000),
            flag("logger", "zap"),
            flag("log-outputs", "stderr"),
        ],
    )
}

fn api_server(spec: &Spec, node: &NodeSpec) -> Daemon {
    daemon(
        "kube-apiserver",
        vec![
            program(spec, "kube-apiserver"),
            flag("advertise-address", node.ip()),
            flag("secure-port", 6443),
            flag("allow-privileged", true),
            flag("authorization-mode", "Node,RBAC"),
            flag("enable-admission-plugins", "NodeRestriction"),
            flag("enable-bootstrap-token-auth", true),
            flag("client-ca-file", pki("ca.crt")),
            flag("tls-cert-file", pki("apiserver.crt")),
            flag("tls-private-key-file", pki("apiserver.key")),
            flag("etcd-servers", "https://127.0.0.1:2379"),
            flag("etcd-cafile", pki("etcd/ca.crt")),
            flag("etcd-certfile", pki("apiserver-etcd-client.crt")),
            flag("etcd-keyfile", pki("apiserver-etcd-client.key")),
            flag("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
            flag("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            flag("kubelet-certificate-authority", pki("ca.crt")),
            flag("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname"),
            flag("proxy-client-cert-file", pki("front-proxy-client.crt")),
            flag("proxy-client-key-file", pki("front-proxy-client.key")),
            flag("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
            flag("requestheader-allowed-names", "front-proxy-client"),
            flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            flag("requestheader-group-headers", "X-Remote-Group"),
            flag("requestheader-username-headers", "X-Remote-User"),
            flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            flag("service-account-key-file", pki("sa.pub")),
            flag("service-account-signing-key-file", pki("sa.key")),
            flag("service-cluster-ip-range", SERVICE_CIDR),
        ],
    )
}

/// Flags that say where a control-plane daemon's kubeconfig is, for calling and for asking about its own callers.
fn kubeconfigs(path: &str) -> Vec<String> {
    ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"].map(|f| flag(f, path)).to_vec()
}

fn controller_manager(spec: &Spec) -> Daemon {
    let mut command = vec![program(spec, "kube-controller-manager")];
    command.extend(kubeconfigs("/etc/kubernetes/controller-manager.conf"));
    command.extend([
        flag("bind-address", "127.0.0.1"),
        flag("leader-elect", true),
        flag("allocate-node-cidrs", true),
        flag("cluster-cidr", POD_CIDR),
        flag("service-cluster-ip-range", SERVICE_CIDR),
        flag("cluster-name", "kubernetes"),
        flag("client-ca-file", pki("ca.crt")),
        flag("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        flag("cluster-signing-cert-file", pki("ca.crt")),
        flag("cluster-signing-key-file", pki("ca.key")),
        flag("root-ca-file", pki("ca.crt")),
        flag("service-account-private-key-file", pki("sa.key")),
        flag("use-service-account-credentials", true),
        flag("controllers", "*,bootstrapsigner,tokencleaner"),
    ]);
    daemon("kube-controller-manager", command)
}

fn scheduler(spec: &Spec) -> Daemon {
    let mut command = vec![program(spec, "kube-scheduler")];
    command.extend(kubeconfigs("/etc/kubernetes/scheduler.conf"));
    command.extend([flag("bind-address", "127.0.0.1"), flag("leader-elect", true)]);
    daemon("kube-scheduler", command)
}

fn kubelet(spec: &Spec, node: &NodeSpec) -> Daemon {
    let mut command = vec![
        program(spec, "kubelet"),
        flag("config", "/var/lib/kubelet/config.yaml"),
        flag("kubeconfig", "/etc/kubernetes/kubelet.conf"),
        flag("bootstrap-kubeconfig", "/etc/kubernetes/bootstrap-kubelet.conf"),
        flag("hostname-override", &node.name),
        flag("node-ip", node.ip()),
    ];
    if node.role == Role::ControlPlane && spec.nodes.len() > 1 {
        command.push(flag("register-with-taints", "node-role.kubernetes.io/control-plane:NoSchedule"));
    }
    daemon("kubelet", command)
}

fn kube_proxy(spec: &Spec, node: &NodeSpec) -> Daemon {
    daemon(
        "kube-proxy",
        vec![
            program(spec, "kube-proxy"),
            flag("config", "/etc/kubernetes/kube-proxy.yaml"),
            flag("hostname-override", &node.name),
        ],
    )
}

fn network(spec: &Spec, node: &NodeSpec) -> Daemon {
    daemon(
        "network",
        vec![
            program(spec, "coxswain-network"),
            flag("kubeconfig", "/etc/kubernetes/network.conf"),
            flag("node-name", &node.name),
            flag("cluster-cidr", POD_CIDR),
        ],
    )
}
