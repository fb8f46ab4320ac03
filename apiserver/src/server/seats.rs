//! How many requests are served at once. What keeps the cluster alive is counted apart, so that a flood of other requests can't
//! starve it: leader elections, and what nodes say about themselves (upstream's levels `leader-election` and `node-high`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::app::App;
use crate::request::{RequestInfo, UserInfo};

/// Seats of a lane beyond the two of the flags.
const LEADERS: usize = 100;
const NODES: usize = 200;

/// Who shares seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Reads,
    Writes,
    Leaders,
    Nodes,
}

/// A place among the requests being served; given back when dropped.
pub struct Seat {
    app: Arc<App>,
    lane: Lane,
}

impl Seat {
    /// A seat for a request; the inner None for one that needs none, the outer for one that gets none.
    pub fn take(app: &Arc<App>, user: &UserInfo, info: &RequestInfo) -> Option<Option<Self>> {
        if info.is_long_running() {
            return Some(None);
        }
        let lane = Lane::of(user, info);
        let limit = match lane {
            Lane::Reads => app.config.max_requests_inflight,
            Lane::Writes => app.config.max_mutating_requests_inflight,
            Lane::Leaders => LEADERS,
            Lane::Nodes => NODES,
        };
        let before = app.metrics.inflight[lane as usize].fetch_add(1, Ordering::Relaxed);
        let seat = Self { app: app.clone(), lane };
        if limit > 0 && before >= limit as i64 && !user.in_group("system:masters") {
            app.metrics.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Some(seat))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.app.metrics.inflight[self.lane as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    fn of(user: &UserInfo, info: &RequestInfo) -> Self {
        match info.resource.as_str() {
            "leases" if info.namespace == "kube-system" && leads(user) => Self::Leaders,
            "leases" | "nodes" if user.in_group("system:nodes") => Self::Nodes,
            _ if info.is_read() => Self::Reads,
            _ => Self::Writes,
        }
    }
}

/// The daemons that elect leaders in kube-system.
fn leads(user: &UserInfo) -> bool {
    matches!(user.name.as_str(), "system:kube-controller-manager" | "system:kube-scheduler")
        || user.name.starts_with("system:serviceaccount:kube-system:")
        || user.name.starts_with("system:cloud-controller-manager")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes() {
        let user = |name: &str, group: &str| UserInfo {
            name: name.into(),
            groups: vec![group.into()],
            ..UserInfo::default()
        };
        let info = |verb: &str, namespace: &str, resource: &str| RequestInfo {
            is_resource: true,
            verb: verb.into(),
            namespace: namespace.into(),
            resource: resource.into(),
            ..RequestInfo::default()
        };
        let scheduler = user("system:kube-scheduler", "system:authenticated");
        let node = user("system:node:a", "system:nodes");
        for (user, verb, namespace, resource, want) in [
            (&scheduler, "update", "kube-system", "leases", Lane::Leaders),
            (&scheduler, "update", "other", "leases", Lane::Writes),
            (&scheduler, "create", "a", "pods", Lane::Writes),
            (&scheduler, "list", "", "pods", Lane::Reads),
            (&node, "update", "kube-node-lease", "leases", Lane::Nodes),
            (&node, "patch", "", "nodes", Lane::Nodes),
            (&node, "get", "a", "secrets", Lane::Reads),
            (&user("me", "us"), "update", "kube-system", "leases", Lane::Writes),
        ] {
            assert_eq!(
                Lane::of(user, &info(verb, namespace, resource)),
                want,
                "{} {verb} {resource}",
                user.name
            );
        }
    }
}
