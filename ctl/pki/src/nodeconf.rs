//! The kubeconfigs of a machine: who calls which API server, with what.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use coxctl_config::{ApiEndpoint, ClusterConfiguration};
use serde_json::Value;

use crate::Record;
use crate::cluster::Outcome;

/// Where the node-local balancer listens.
pub const BALANCER: &str = "https://127.0.0.1:6444";
/// The name in every API server certificate that the balancer's callers check.
pub const BALANCER_SERVER_NAME: &str = "kubernetes";
/// The kubelet's rotating client certificate and key, which the node's other daemons use too.
pub const KUBELET_CLIENT_PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/// One kubeconfig of kubeadm's table.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeconfigSpec {
    /// Phase name: `admin`, `super-admin`, `kubelet`, `controller-manager`, `scheduler`.
    pub name: &'static str,
    /// File name in the directory of kubeconfigs: `admin.conf`.
    pub file: &'static str,
    /// Common name of the client certificate, and name of the user.
    pub user: String,
    /// Organisations of the client certificate.
    pub orgs: Vec<String>,
    /// URL of the API server.
    pub server: String,
    /// Name checked in the server's certificate in place of the URL's host.
    pub tls_server_name: Option<String>,
}

/// All kubeconfigs of a control plane, in order: admin, super-admin (init only), kubelet, controller-manager, scheduler.
pub fn cluster_kubeconfigs(
    cluster: &ClusterConfiguration,
    node: &str,
    local: &ApiEndpoint,
    super_admin: bool,
) -> Vec<KubeconfigSpec> {
    let _ = (cluster, node, local, super_admin);
    Vec::new()
}

/// Sees to one kubeconfig in `dir` with a client certificate of `pki`'s authority: an existing file is kept when it trusts
/// that authority (another server is worth a warning).
///
/// # Errors
/// An existing file that trusts another authority or is no kubeconfig; no file and no authority's key.
pub fn ensure_kubeconfig(
    dir: &Path,
    pki: &Path,
    spec: &KubeconfigSpec,
    cluster: &ClusterConfiguration,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let _ = (dir, pki, spec, cluster, record);
    Ok((Outcome::Kept, Vec::new()))
}

/// Makes kubelet.conf refer to the rotating certificate at `pem` in place of the embedded one; true when it changed. Does
/// nothing while `pem` is not there.
///
/// # Errors
/// A file that is no kubeconfig or can't be written.
pub fn finalize_kubelet_conf(path: &Path, pem: &Path) -> Result<bool> {
    let _ = (path, pem);
    Ok(false)
}

/// A kubeconfig (kube-proxy.conf, network.conf) that calls the balancer with the kubelet's rotating certificate by path.
pub fn node_agent_kubeconfig(cluster_name: &str, user: &str, ca_pem: &str) -> Value {
    let _ = (cluster_name, user, ca_pem);
    Value::Null
}

/// bootstrap-kubelet.conf: the token as user tls-bootstrap-token-user.
pub fn bootstrap_kubeconfig(
    cluster_name: &str,
    server: &str,
    tls_server_name: Option<&str>,
    ca_pem: &str,
    token: &str,
) -> Value {
    let _ = (cluster_name, server, tls_server_name, ca_pem, token);
    Value::Null
}

/// The address of a control plane, from its text.
///
/// # Errors
/// A text that is no address.
pub fn advertise_ip(local: &ApiEndpoint) -> Result<IpAddr> {
    use anyhow::Context;
    local
        .advertise_address
        .parse()
        .with_context(|| format!("advertise address {:?}", local.advertise_address))
}
