//! The kinds with rules of their own: what each question reads, and who answers it.

use crate::case::Case;
use crate::finding::Finding;
use crate::gather::Want::{self, Everywhere, Here, Remains, Selected, Target};
use crate::workload::{daemon_set, deployment, replica_set, stateful_set};
use crate::{claim, cron_job, generic, hpa, job, namespace, node, pod, service};

/// A kind that can be asked about.
pub struct Subject {
    pub kind: &'static str,
    pub group: &'static str,
    /// What is read besides the object.
    pub wants: &'static [Want],
    pub explain: fn(&Case<'_>) -> Finding,
}

const fn subject(
    kind: &'static str,
    group: &'static str,
    wants: &'static [Want],
    explain: fn(&Case<'_>) -> Finding,
) -> Subject {
    Subject { kind, group, wants, explain }
}

const PODS: &[Want] = &[Selected("Pod"), Here("Event")];

/// All kinds, in the order a whole namespace is told.
pub const SUBJECTS: &[Subject] = &[
    subject("Node", "", &[Want::OnNode, Here("Event"), Want::Lease], node::explain),
    subject("Namespace", "", &[Remains, Want::Inside("ResourceQuota")], namespace::explain),
    subject(
        "Deployment",
        "apps",
        &[Selected("Pod"), Selected("ReplicaSet"), Here("Event")],
        deployment::explain,
    ),
    subject(
        "StatefulSet",
        "apps",
        &[Selected("Pod"), Here("PersistentVolumeClaim"), Here("Event")],
        stateful_set::explain,
    ),
    subject("DaemonSet", "apps", &[Selected("Pod"), Everywhere("Node"), Here("Event")], daemon_set::explain),
    subject("ReplicaSet", "apps", PODS, replica_set::explain),
    subject("ReplicationController", "", PODS, replica_set::explain),
    subject("CronJob", "batch", &[Here("Job"), Here("Pod"), Here("Event")], cron_job::explain),
    subject("Job", "batch", PODS, job::explain),
    subject("Pod", "", &[Here("Event")], pod::explain),
    subject(
        "HorizontalPodAutoscaler",
        "autoscaling",
        &[Target, Everywhere("APIService"), Here("Event")],
        hpa::explain,
    ),
    subject(
        "PersistentVolumeClaim",
        "",
        &[Everywhere("PersistentVolume"), Everywhere("StorageClass"), Here("Pod"), Here("Event")],
        claim::explain,
    ),
    subject("Service", "", &[Here("Pod"), Here("EndpointSlice"), Here("Event")], service::explain),
];

/// Any other kind.
const OTHER: Subject = subject("", "", &[Here("Event")], generic::explain);

/// Who answers for a kind.
pub fn of(kind: &str, group: &str) -> &'static Subject {
    SUBJECTS.iter().find(|subject| subject.kind == kind && subject.group == group).unwrap_or(&OTHER)
}
