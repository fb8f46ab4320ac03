//! The certificates of a control plane: kubeadm's table as data, and the care of the files.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use coxctl_config::ClusterConfiguration;

use crate::Record;
use crate::authority::Identity;

/// Files a joining control plane needs from an existing one, relative to the directory of certificates (local etcd).
pub const SHARED_FILES: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.pub",
    "sa.key",
    "etcd/ca.crt",
    "etcd/ca.key",
];

/// One pair of files of the cluster's PKI.
#[derive(Debug, Clone, PartialEq)]
pub struct CertSpec {
    /// Name of the phase: `apiserver`, `etcd-ca`, …; `sa` is the service accounts' signing pair.
    pub name: &'static str,
    /// File name below the directory of certificates, without ending: `apiserver`, `etcd/ca`.
    pub base: &'static str,
    /// Phase name of the authority that signs it; none for authorities and for `sa`.
    pub ca: Option<&'static str>,
    /// What it says of its holder.
    pub identity: Identity,
}

/// What became of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there and is good.
    Kept,
    /// It was made.
    Made,
    /// It was there, had run out, and was made anew.
    Renewed,
    /// The authority is external (certificate without key): what is there verifies.
    External,
}

/// What became of all pairs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// By phase name, in order.
    pub outcomes: Vec<(String, Outcome)>,
    /// What deserves a line.
    pub warnings: Vec<String>,
}

/// Every pair a control plane of this node needs, authorities first, in kubeadm's order of phases; with external etcd none
/// of etcd's. The service accounts' pair is the last.
pub fn cluster_certificates(
    cluster: &ClusterConfiguration,
    node: &str,
    advertise: IpAddr,
) -> Result<Vec<CertSpec>> {
    let _ = (cluster, node, advertise);
    Ok(Vec::new())
}

/// Sees to one pair below `pki`: keeps a good one, makes a missing one, repairs a half-written one.
///
/// # Errors
/// A pair that is there and does not fit: signed by another authority, for other names, key of another certificate; an
/// authority without key whose leaf is missing; files that can't be read or written.
pub fn ensure(
    pki: &Path,
    spec: &CertSpec,
    cluster: &ClusterConfiguration,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let _ = (pki, spec, cluster, record);
    Ok((Outcome::Kept, Vec::new()))
}

/// [`ensure`] for all of `specs`, in order.
///
/// # Errors
/// As [`ensure`]; the first one stops.
pub fn ensure_all(
    pki: &Path,
    specs: &[CertSpec],
    cluster: &ClusterConfiguration,
    record: Record<'_>,
) -> Result<Report> {
    let mut report = Report::default();
    for spec in specs {
        let (outcome, warnings) = ensure(pki, spec, cluster, record)?;
        report.outcomes.push((spec.name.into(), outcome));
        report.warnings.extend(warnings);
    }
    Ok(report)
}
