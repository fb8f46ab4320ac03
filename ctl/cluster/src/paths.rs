//! Where things lie on a machine: kubeadm's paths, and ours beside them.

/// Configuration of the cluster's daemons.
pub const KUBERNETES: &str = "/etc/kubernetes";
/// The kubelet's own directory.
pub const KUBELET: &str = "/var/lib/kubelet";
/// The kubelet's client certificate, a link to the newest one.
pub const KUBELET_CLIENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// The kubelet's configuration document.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// The container runtime's socket, a patch of the kubelet's configuration.
pub const KUBELET_INSTANCE: &str = "/var/lib/kubelet/instance-config.yaml";
/// The kubelet's flags.
pub const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
/// The administrator's kubeconfig.
pub const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// The kubeconfig above all rights.
pub const SUPER_ADMIN: &str = "/etc/kubernetes/super-admin.conf";
/// The kubelet's kubeconfig.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// The kubeconfig with the token a kubelet introduces itself with.
pub const BOOTSTRAP_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// The controller manager's kubeconfig.
pub const CONTROLLER_MANAGER_CONF: &str = "/etc/kubernetes/controller-manager.conf";
/// The scheduler's kubeconfig.
pub const SCHEDULER_CONF: &str = "/etc/kubernetes/scheduler.conf";
/// The cloud controller manager's kubeconfig.
pub const CLOUD_CONF: &str = "/etc/kubernetes/cloud-controller-manager.conf";
/// The provider's configuration.
pub const CLOUD_CONFIG: &str = "/etc/kubernetes/cloud.yaml";
/// kube-proxy's kubeconfig.
pub const PROXY_CONF: &str = "/etc/kubernetes/kube-proxy.conf";
/// kube-proxy's configuration document.
pub const PROXY_CONFIG: &str = "/etc/kubernetes/kube-proxy.yaml";
/// The network agent's kubeconfig.
pub const NETWORK_CONF: &str = "/etc/kubernetes/network.conf";
/// What the local balancer knows before it has learned anything.
pub const BALANCER_CONFIG: &str = "/etc/kubernetes/balancer.yaml";
/// Where the local balancer listens, as daemons of the node call it.
pub const BALANCER_URL: &str = "https://127.0.0.1:6444";
/// The name every API server's certificate carries, by which it is known behind the balancer.
pub const BALANCER_SERVER_NAME: &str = "kubernetes";
/// kubeadm's directory of static pods; the kubelet still looks there for the user's own.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// The directory of dry runs and backups.
pub const TMP: &str = "/etc/kubernetes/tmp";
/// Whom bootstrap tokens belong to.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";
/// The label and taint of control-plane nodes.
pub const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
