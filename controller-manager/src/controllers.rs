//! All controllers, in reading order. Adding one is a room and a line here.

use std::future::Future;
use std::pin::Pin;

use crate::kit::Context;
use crate::rooms::*;

/// A controller as the manager knows it.
pub struct Controller {
    /// Upstream's name.
    pub name: &'static str,
    /// The older name `--controllers` also takes.
    pub alias: &'static str,
    /// Its service account in kube-system, empty for the manager's own identity.
    pub account: &'static str,
    /// Whether `*` includes it.
    pub default: bool,
    /// Starts it; its tasks are in the context.
    pub start: fn(Context) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

macro_rules! list {
    ($($name:literal $alias:literal $account:literal $default:ident $start:expr;)*) => {
        vec![$(Controller {
            name: $name,
            alias: $alias,
            account: $account,
            default: list!(@ $default),
            start: |context| Box::pin(async move { $start(context) }),
        }),*]
    };
    (@ on) => { true };
    (@ off) => { false };
}

/// The list.
pub fn all() -> Vec<Controller> {
    list! {
        // Workloads
        "deployment-controller" "deployment" "deployment-controller" on deployment::start;
        "replicaset-controller" "replicaset" "replicaset-controller" on replicaset::start;
        "replicationcontroller-controller" "replicationcontroller" "replication-controller" on replicaset::start_replication_controllers;
        "statefulset-controller" "statefulset" "statefulset-controller" on statefulset::start;
        "daemonset-controller" "daemonset" "daemon-set-controller" on daemonset::start;
        "job-controller" "job" "job-controller" on job::start;
        "cronjob-controller" "cronjob" "cronjob-controller" on cronjob::start;
        "ttl-after-finished-controller" "ttl-after-finished" "ttl-after-finished-controller" on ttlafterfinished::start;
        "horizontal-pod-autoscaler-controller" "horizontalpodautoscaling" "horizontal-pod-autoscaler" on autoscaler::start;
        "disruption-controller" "disruption" "disruption-controller" on disruption::start;
        "resourcequota-controller" "resourcequota" "resourcequota-controller" on resourcequota::start;
        // Services
        "endpointslice-controller" "endpointslice" "endpointslice-controller" on endpointslice::start;
        "endpointslice-mirroring-controller" "endpointslicemirroring" "endpointslicemirroring-controller" on mirroring::start;
        "endpoints-controller" "endpoint" "endpoint-controller" on endpoints::start;
        // Volumes
        "persistentvolume-binder-controller" "persistentvolume-binder" "persistent-volume-binder" on volumebinder::start;
        "persistentvolumeclaim-protection-controller" "pvc-protection" "pvc-protection-controller" on volumeprotection::start_claims;
        "persistentvolume-protection-controller" "pv-protection" "pv-protection-controller" on volumeprotection::start_volumes;
        "ephemeral-volume-controller" "ephemeral-volume" "ephemeral-volume-controller" on ephemeralvolume::start;
        "persistentvolume-expander-controller" "persistentvolume-expander" "expand-controller" on volumeexpander::start;
        // Namespaces and identities
        "namespace-controller" "namespace" "namespace-controller" on namespace::start;
        "serviceaccount-controller" "serviceaccount" "service-account-controller" on serviceaccount::start;
        "serviceaccount-token-controller" "serviceaccount-token" "" on accounttokens::start;
        "legacy-serviceaccount-token-cleaner-controller" "legacy-service-account-token-cleaner" "legacy-service-account-token-cleaner" on legacytokens::start;
        "root-ca-certificate-publisher-controller" "root-ca-cert-publisher" "root-ca-cert-publisher" on serviceaccount::start_root_ca;
        "clusterrole-aggregation-controller" "clusterrole-aggregation" "clusterrole-aggregation-controller" on clusterroles::start;
        "garbage-collector-controller" "garbagecollector" "generic-garbage-collector" on garbage::start;
        "certificatesigningrequest-approving-controller" "csrapproving" "certificate-controller" on certificates::start_approver;
        "certificatesigningrequest-signing-controller" "csrsigning" "certificate-controller" on certificates::start_signer;
        "certificatesigningrequest-cleaner-controller" "csrcleaner" "certificate-controller" on certificates::start_cleaner;
        "certificatesigningrequest-serving-approving-controller" "csrservingapproving" "kubelet-serving-approver" on certificates::start_serving_approver;
        "bootstrap-signer-controller" "bootstrapsigner" "bootstrap-signer" off bootstrap::start_signer;
        "token-cleaner-controller" "tokencleaner" "token-cleaner" off bootstrap::start_cleaner;
        // Nodes
        "node-ipam-controller" "nodeipam" "node-controller" on nodeipam::start;
        "ttl-controller" "ttl" "ttl-controller" on ttl::start;
        "node-lifecycle-controller" "nodelifecycle" "node-controller" on nodelifecycle::start;
        "taint-eviction-controller" "" "node-controller" on tainteviction::start;
        "pod-garbage-collector-controller" "podgc" "pod-garbage-collector" on podgc::start;
    }
}

/// Whether `--controllers` turns a controller on: its name decides, then `*`.
pub fn enabled(controller: &Controller, wanted: &[String]) -> bool {
    let is = |w: &str| w == controller.name || (!controller.alias.is_empty() && w == controller.alias);
    if wanted.iter().any(|w| is(w)) {
        return true;
    }
    if wanted.iter().any(|w| w.strip_prefix('-').is_some_and(is)) {
        return false;
    }
    controller.default && wanted.iter().any(|w| w == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beat_the_star() {
        let find = |name: &str| all().into_iter().find(|c| c.name == name).unwrap();
        let on = |name: &str, wanted: &[&str]| {
            enabled(&find(name), &wanted.iter().map(|w| w.to_string()).collect::<Vec<_>>())
        };
        assert!(on("deployment-controller", &["*"]));
        assert!(!on("deployment-controller", &["*", "-deployment"]));
        assert!(on("deployment-controller", &["deployment"]));
        assert!(!on("replicaset-controller", &["deployment-controller"]));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|c| c.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
