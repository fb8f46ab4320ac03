//! Objects from a line of text, for tests; and what simulations stand on.

pub mod clock;
pub mod faults;
pub mod histories;
pub mod queue;
pub mod server;
pub mod store;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

pub use histories::{caught, histories};

/// A time in RFC 3339.
pub fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

/// The moment tests call now unless they say otherwise.
pub fn now() -> Timestamp {
    time("2026-01-01T10:00:00Z").0
}

/// `name phase [node=N] [ready[=since]] [ip=A] [owner=UID] [deleting[=at]] [cost=N] [restarts=N] [created=T] [l:key=value]`
pub fn pod(text: &str) -> Pod {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap();
    let mut pod =
        Pod { spec: Some(PodSpec::default()), status: Some(PodStatus::default()), ..Pod::default() };
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some(format!("uid-{name}"));
    pod.metadata.creation_timestamp = Some(time("2026-01-01T09:00:00Z"));
    let mut ready = ("False", None);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let (spec, status) = (pod.spec.as_mut().unwrap(), pod.status.as_mut().unwrap());
        match key {
            "node" => spec.node_name = Some(value.into()),
            "ip" => {
                status.pod_ip = Some(value.into());
                status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip: value.into() }]);
            }
            "ready" => {
                ready = ("True", Some(time(if value.is_empty() { "2026-01-01T09:01:00Z" } else { value })))
            }
            "deleting" => {
                let at = if value.is_empty() { "2026-01-01T09:59:00Z" } else { value };
                pod.metadata.deletion_timestamp = Some(time(at));
            }
            "owner" => {
                pod.metadata.owner_references = Some(vec![OwnerReference {
                    uid: value.into(),
                    controller: Some(true),
                    kind: "ReplicaSet".into(),
                    api_version: "apps/v1".into(),
                    ..Default::default()
                }])
            }
            "cost" => {
                let annotations = pod.metadata.annotations.get_or_insert_default();
                annotations.insert("controller.kubernetes.io/pod-deletion-cost".into(), value.into());
            }
            "restarts" => {
                let count = ContainerStatus { restart_count: value.parse().unwrap(), ..Default::default() };
                status.container_statuses = Some(vec![count]);
            }
            "created" => pod.metadata.creation_timestamp = Some(time(value)),
            _ if key.starts_with("l:") => {
                pod.metadata.labels.get_or_insert_default().insert(key[2..].into(), value.into());
            }
            phase => status.phase = Some(phase.into()),
        }
    }
    let condition = PodCondition {
        type_: "Ready".into(),
        status: ready.0.into(),
        last_transition_time: ready.1,
        ..Default::default()
    };
    pod.status.as_mut().unwrap().conditions = Some(vec![condition]);
    pod
}
