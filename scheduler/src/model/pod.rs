//! A pod as the scheduler sees it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec, Toleration};

use super::affinity::NodeWishes;
use super::labels::{Labels, share};
use super::resources::{self, Resources};
use super::spread::Spread;
use super::terms::PodAffinity;
use super::volumes::Volumes;

/// A port on the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The address asked for; `0.0.0.0` stands for all.
    pub ip: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both can't be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ALL || other.ip == ALL)
    }
}

/// What is needed of a pod to place it, or to count it on its node.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// Name and namespace.
    pub name: String,
    pub namespace: String,
    /// Distinguishes a pod from a later one of the same name.
    pub uid: String,
    /// Higher goes first.
    pub priority: i32,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Which scheduler it wants.
    pub scheduler: String,
    /// The node it is on, or was asked to be on.
    pub node: Option<String>,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// What it asks for.
    pub request: Resources,
    /// The same for scores, see [`resources::pod_score_request`].
    pub score_request: Resources,
    /// Ports on the node.
    pub host_ports: Vec<HostPort>,
    /// Taints it stands.
    pub tolerations: Vec<Toleration>,
    /// Nodes it wants.
    pub wishes: NodeWishes,
    /// Images of all its containers, with a tag.
    pub images: Vec<String>,
    /// Names of the gates that keep it from being scheduled.
    pub gates: Vec<String>,
    /// It is being deleted.
    pub deleting: bool,
    /// It has ended for good and holds nothing.
    pub ended: bool,
    /// What it says about other pods.
    pub affinity: Option<Box<PodAffinity>>,
    /// How it wants its like to be spread.
    pub spread: Vec<Spread>,
    /// Volumes that matter.
    pub volumes: Option<Box<Volumes>>,
    /// Kind and name of its controller.
    pub owner: Option<(String, String)>,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// The node that is being cleared for it, or was chosen for it.
    pub nominated: Option<String>,
    /// It must not push others away.
    pub never_preempts: bool,
    /// It is being pushed away by the scheduler.
    pub preempted: bool,
    /// The message of its PodScheduled condition, if that is False; to write it only when it changes.
    pub refusal: Option<String>,
}

impl PodInfo {
    /// Derives it from the API's object.
    pub fn of(pod: &Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let meta = &pod.metadata;
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let labels = meta.labels.clone().unwrap_or_default();
        let (name, namespace) = (text(&meta.name), text(&meta.namespace));
        let labels = share(labels);
        let node = spec.node_name.clone().filter(|n| !n.is_empty());
        // What matters only while the pod looks for a node: most pods have theirs.
        let sought = if node.is_none() { spec } else { &empty };
        let owner = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true));
        let mut all = Self {
            affinity: PodAffinity::of(spec, &namespace, &labels),
            spread: Spread::of(sought, &namespace, &labels),
            volumes: Volumes::of(spec, &name),
            owner: owner.map(|o| (o.kind.clone(), o.name.clone())),
            started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            nominated: status.and_then(|s| s.nominated_node_name.clone()).filter(|n| !n.is_empty()),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            preempted: preempted(pod),
            name,
            namespace,
            labels,
            uid: text(&meta.uid),
            priority: spec.priority.unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            scheduler: spec.scheduler_name.clone().unwrap_or_else(|| "default-scheduler".into()),
            node,
            request: resources::pod_request(&resources::as_running(spec, status)),
            score_request: resources::pod_score_request(spec),
            host_ports: host_ports(spec),
            tolerations: sought.tolerations.clone().unwrap_or_default(),
            wishes: NodeWishes::of(sought),
            images: images(sought),
            gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.clone()).collect(),
            deleting: meta.deletion_timestamp.is_some(),
            ended: matches!(phase, "Succeeded" | "Failed"),
            refusal: refusal(pod),
        };
        if all.node.is_some() {
            all.settle();
        }
        all
    }

    /// Forgets the rest of what mattered only while the pod looked for a node.
    fn settle(&mut self) {
        self.owner = None;
        self.refusal = None;
        self.nominated = None;
    }

    /// Whether the same pod as seen later counts the same on its node: only these parts of a pod with a node can change.
    pub fn counts_as(&self, later: &Self) -> bool {
        self.labels == later.labels && self.deleting == later.deleting && self.takes_as(later)
    }

    /// Whether it takes the same of its node, though selectors may tell both apart.
    pub fn takes_as(&self, later: &Self) -> bool {
        self.request == later.request && self.score_request == later.score_request
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn preempted(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| {
        c.type_ == "DisruptionTarget"
            && c.status == "True"
            && c.reason.as_deref() == Some("PreemptionByScheduler")
    })
}

fn refusal(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    condition.message.clone()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| resources::is_sidecar(c));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports.filter(|p| p.host_port.is_some_and(|n| n > 0)).map(host_port).collect()
}

fn host_port(port: &ContainerPort) -> HostPort {
    let or = |s: &Option<String>, d: &str| s.clone().filter(|s| !s.is_empty()).unwrap_or_else(|| d.into());
    HostPort {
        ip: or(&port.host_ip, "0.0.0.0"),
        protocol: or(&port.protocol, "TCP"),
        port: port.host_port.unwrap_or(0),
    }
}

fn images(spec: &PodSpec) -> Vec<String> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let volumes = spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref()?.reference.as_deref());
    all.filter_map(|c| c.image.as_deref()).chain(volumes).map(with_tag).collect()
}

/// An image without a tag or digest means the one tagged latest.
pub fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') { image.to_string() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_conflict_by_address_protocol_and_number() {
        let port =
            |ip: &str, protocol: &str, port| HostPort { ip: ip.into(), protocol: protocol.into(), port };
        let all = port("0.0.0.0", "TCP", 80);
        assert!(all.conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(!all.conflicts(&port("0.0.0.0", "UDP", 80)));
        assert!(!port("10.0.0.1", "TCP", 80).conflicts(&port("10.0.0.2", "TCP", 80)));
    }

    #[test]
    fn tags() {
        for (image, want) in
            [("a", "a:latest"), ("r:5000/a", "r:5000/a:latest"), ("a:1", "a:1"), ("a@sha256:x", "a@sha256:x")]
        {
            assert_eq!(with_tag(image), want);
        }
    }
}
