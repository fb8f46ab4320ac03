//! A cluster's certificates and kubeconfigs: kubeadm's files, names and identities; made, kept, checked, renewed, rotated.
//!
//! Functions that write take a [`Record`], called with each path before it is made, so that a reset can take it away.
//! Nothing here talks to the network.

pub mod authority;
pub mod cluster;
pub mod command;
pub mod csr;
pub mod der;
pub mod expiry;
pub mod files;
pub mod fitness;
pub mod hash;
pub mod key;
pub mod kubeconfig;
pub mod nodeconf;
pub mod rotation;
pub mod seal;
mod subject;
pub mod table;
pub mod token;
pub mod watch;
pub mod x509;

use std::path::Path;

pub use cluster::{CertSpec, Outcome, Report, SHARED_FILES, cluster_certificates, ensure, ensure_all, fits};
pub use command::{CertsCommand, KubeconfigCommand, run_certs, run_kubeconfig};
pub use expiry::{Dirs, Expiry, Known, expiry, renew};
pub use hash::ca_hashes;
pub use nodeconf::{
    KubeconfigSpec, bootstrap_kubeconfig, cloud_kubeconfig, cluster_kubeconfigs, ensure_kubeconfig,
    finalize_kubelet_conf, kubeconfig_fits, node_agent_kubeconfig,
};

/// Called with a path before it is made; an error keeps it from being made.
pub type Record<'a> = &'a mut dyn FnMut(&Path) -> anyhow::Result<()>;

/// A record that keeps nothing.
pub fn unrecorded(_: &Path) -> anyhow::Result<()> {
    Ok(())
}
