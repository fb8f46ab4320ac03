//! All kinds that are described in a way of their own.

use super::page::Page;
use super::subject::Subject;
use super::{
    autoscaler, claim, config, csr, generic, ingress, job, namespace, network_policy, node, pod, policy,
    rbac, service, storage, workload,
};

/// What is read from the server besides the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Nothing,
    Events,
    /// Events of a pod, whatever kind they name.
    PodEvents,
    /// Pods its selector selects, and events.
    Pods,
    ReplicaSets,
    Slices,
    Backends,
    Node,
    Quotas,
    /// Pods that use a claim.
    Users,
    /// The newest version of an autoscaler, whatever version was asked for.
    Autoscaler,
}

/// How a kind is written.
#[derive(Clone, Copy)]
pub enum Write {
    Page(fn(&Subject, &mut Page)),
    /// One that may fail.
    Checked(fn(&Subject, &mut Page) -> Result<(), String>),
}

/// A kind of a group (in whatever version), what is read for it, and how it is written.
pub struct Describer {
    pub group: &'static str,
    pub kind: &'static str,
    pub reads: Reads,
    pub write: Write,
}

const fn of(
    group: &'static str,
    kind: &'static str,
    reads: Reads,
    write: fn(&Subject, &mut Page),
) -> Describer {
    Describer { group, kind, reads, write: Write::Page(write) }
}

/// The list.
pub const DESCRIBERS: &[Describer] = &[
    of("", "Pod", Reads::PodEvents, pod::page),
    of("", "ReplicationController", Reads::Pods, workload::replication_controller),
    of("", "Secret", Reads::Nothing, config::secret),
    of("", "Service", Reads::Slices, service::page),
    of("", "ServiceAccount", Reads::Events, config::service_account),
    of("", "Node", Reads::Node, node::page),
    of("", "LimitRange", Reads::Nothing, namespace::range_page),
    of("", "ResourceQuota", Reads::Nothing, namespace::quota_page),
    of("", "PersistentVolume", Reads::Events, claim::volume_page),
    of("", "PersistentVolumeClaim", Reads::Users, claim::page),
    of("", "Namespace", Reads::Quotas, namespace::page),
    of("", "Endpoints", Reads::Events, service::endpoints_page),
    of("", "ConfigMap", Reads::Events, config::config_map),
    of("", "PriorityClass", Reads::Events, policy::priority),
    of("discovery.k8s.io", "EndpointSlice", Reads::Events, service::slice_page),
    of("autoscaling", "HorizontalPodAutoscaler", Reads::Autoscaler, autoscaler::page),
    of("networking.k8s.io", "Ingress", Reads::Backends, ingress::page),
    of("networking.k8s.io", "IngressClass", Reads::Events, ingress::class_page),
    of("networking.k8s.io", "ServiceCIDR", Reads::Events, policy::service_cidr),
    of("networking.k8s.io", "IPAddress", Reads::Events, policy::ip_address),
    of("networking.k8s.io", "NetworkPolicy", Reads::Nothing, network_policy::page),
    of("batch", "Job", Reads::Events, job::page),
    of("batch", "CronJob", Reads::Events, job::cron_page),
    of("apps", "StatefulSet", Reads::Pods, workload::stateful_set),
    of("apps", "Deployment", Reads::ReplicaSets, workload::deployment),
    of("apps", "DaemonSet", Reads::Pods, workload::daemon_set),
    of("apps", "ReplicaSet", Reads::Pods, workload::replica_set),
    Describer {
        group: "certificates.k8s.io",
        kind: "CertificateSigningRequest",
        reads: Reads::Events,
        write: Write::Checked(csr::page),
    },
    of("storage.k8s.io", "StorageClass", Reads::Events, storage::class_page),
    of("storage.k8s.io", "CSINode", Reads::Events, storage::node_page),
    of("storage.k8s.io", "VolumeAttributesClass", Reads::Events, storage::attributes_page),
    of("policy", "PodDisruptionBudget", Reads::Events, policy::budget),
    of("rbac.authorization.k8s.io", "Role", Reads::Nothing, rbac::role),
    of("rbac.authorization.k8s.io", "ClusterRole", Reads::Nothing, rbac::role),
    of("rbac.authorization.k8s.io", "RoleBinding", Reads::Nothing, rbac::binding),
    of("rbac.authorization.k8s.io", "ClusterRoleBinding", Reads::Nothing, rbac::binding),
    of("scheduling.k8s.io", "PriorityClass", Reads::Events, policy::priority),
];

/// For all other kinds.
pub const GENERIC: Describer = of("", "", Reads::Events, generic::page);

/// The describer of a kind.
pub fn find(group: &str, kind: &str) -> &'static Describer {
    DESCRIBERS.iter().find(|one| one.group == group && one.kind == kind).unwrap_or(&GENERIC)
}

impl Describer {
    /// The page of a subject.
    ///
    /// # Errors
    /// When the object holds something that can't be read.
    pub fn page(&self, subject: &Subject) -> Result<String, String> {
        let mut page = Page::default();
        match self.write {
            Write::Page(write) => write(subject, &mut page),
            Write::Checked(write) => write(subject, &mut page)?,
        }
        Ok(page.finish())
    }
}
