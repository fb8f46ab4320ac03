//! When certificates end, and their renewal.

use std::path::PathBuf;

use anyhow::Result;

/// Where a control plane's files are.
#[derive(Debug, Clone, PartialEq)]
pub struct Dirs {
    /// Certificates.
    pub pki: PathBuf,
    /// Kubeconfigs.
    pub kubeconfigs: PathBuf,
}

/// One certificate's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Expiry {
    /// kubeadm's name: `admin.conf`, `apiserver`, `etcd-ca`.
    pub name: String,
    /// Phase name of its authority; empty for authorities.
    pub authority: String,
    /// Is an authority itself.
    pub is_ca: bool,
    /// Not there.
    pub missing: bool,
    /// Start of its life, seconds since 1970.
    pub not_before: i64,
    /// End of its life, seconds since 1970.
    pub not_after: i64,
    /// Its authority's key is elsewhere, so it can't be renewed here.
    pub externally_managed: bool,
}

/// Every certificate and kubeconfig of a control plane, kubeadm's order, then the authorities.
///
/// # Errors
/// A file that is there and holds no certificate.
pub fn expiry(dirs: &Dirs) -> Result<Vec<Expiry>> {
    let _ = dirs;
    Ok(Vec::new())
}

/// Renews one certificate or kubeconfig by kubeadm's name: new key; names, groups and usages copied. False when its
/// authority's key is not there.
///
/// # Errors
/// An unknown name, a missing or unreadable file, a file that can't be written.
pub fn renew(dirs: &Dirs, name: &str, life: std::time::Duration) -> Result<bool> {
    let _ = (dirs, name, life);
    Ok(false)
}
