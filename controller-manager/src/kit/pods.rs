//! Small questions about pods.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use control::Cache;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::meta::{annotation, controller, created, name, namespace, uid, until};

/// Index of pods by the UID of their controller; pods without one are under `orphan:<namespace>`.
pub const BY_CONTROLLER: &str = "controller";
/// Index of pods by the node they are bound to.
pub const BY_NODE: &str = "node";

/// Conditions nobody asks for while they are true.
const ROUTINE: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled"];

/// Adds the indices the rooms use.
pub fn index(cache: &Cache<Pod>) {
    cache.add_index(BY_CONTROLLER, |pod: &Pod| vec![owner_value(&pod.metadata)]);
    cache.add_index(BY_NODE, |pod: &Pod| node(pod).map(str::to_string).into_iter().collect());
}

fn owner_value(meta: &ObjectMeta) -> String {
    controller(meta).map_or_else(|| format!("orphan:{}", namespace(meta)), |c| c.uid.clone())
}

/// Pods controlled by an owner, and pods of its namespace that nobody controls.
pub fn owned_and_orphans(cache: &Cache<Pod>, owner: &ObjectMeta) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let orphans = format!("orphan:{}", namespace(owner));
    (cache.by_index(BY_CONTROLLER, uid(owner)), cache.by_index(BY_CONTROLLER, &orphans))
}

/// Drops what no room reads, and the room that lists were given to grow.
pub fn trim(pod: &mut Pod) {
    if let Some(spec) = pod.spec.as_mut() {
        trim_spec(spec);
    }
    if let (Some(status), spec) = (pod.status.as_mut(), pod.spec.as_ref()) {
        trim_status(status, spec.map_or(&[], |s| &s.containers));
    }
    fit(&mut pod.metadata.owner_references);
    fit(&mut pod.metadata.finalizers);
}

fn trim_spec(spec: &mut PodSpec) {
    spec.dns_policy = None;
    spec.preemption_policy = None;
    spec.scheduler_name = None;
    spec.service_account = None;
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(trim_container);
    spec.security_context = None;
    spec.containers.shrink_to_fit();
    fit(&mut spec.init_containers);
    fit(&mut spec.tolerations);
    fit(&mut spec.volumes);
}

fn trim_container(container: &mut Container) {
    container.env = None;
    container.env_from = None;
    container.command = None;
    container.args = None;
    container.volume_mounts = None;
    container.liveness_probe = None;
    container.readiness_probe = None;
    container.startup_probe = None;
    container.lifecycle = None;
    container.security_context = None;
    container.image_pull_policy = None;
    container.termination_message_path = None;
    container.termination_message_policy = None;
    fit(&mut container.ports);
}

fn trim_status(status: &mut PodStatus, containers: &[Container]) {
    let all = [&mut status.container_statuses, &mut status.init_container_statuses];
    for list in all {
        list.iter_mut().flatten().for_each(|s| trim_container_status(s, containers));
        fit(list);
    }
    // A failure policy may ask a failed pod for any condition.
    if status.phase.as_deref() != Some("Failed")
        && let Some(conditions) = &mut status.conditions
    {
        conditions.retain(|c| !(c.status == "True" && ROUTINE.contains(&c.type_.as_str())));
    }
    fit(&mut status.conditions);
    fit(&mut status.pod_ips);
    status.host_ips = None;
}

fn trim_container_status(status: &mut ContainerStatus, containers: &[Container]) {
    let asked = containers.iter().find(|c| c.name == status.name).and_then(|c| c.resources.as_ref());
    // What a container was granted tells something only while it differs from what it asks for.
    if let Some(asked) = asked {
        status.resources = status.resources.take().filter(|r| r != asked);
        status.allocated_resources =
            status.allocated_resources.take().filter(|a| Some(a) != asked.requests.as_ref());
    }
    status.image = String::new();
    status.image_id = String::new();
    status.container_id = None;
    status.last_state = None;
    status.volume_mounts = None;
    status.user = None;
}

fn fit<T>(list: &mut Option<Vec<T>>) {
    if let Some(list) = list {
        list.shrink_to_fit();
    }
}

/// The node a pod is bound to.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// The phase, empty if none was reported.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Succeeded or Failed.
pub fn finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn active(pod: &Pod) -> bool {
    !finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Being deleted and not finished yet.
pub fn terminating(pod: &Pod) -> bool {
    !finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// A condition by type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// The Ready condition is True.
pub fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod is ready.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|t| t.0)
}

/// Ready, and for at least `min_ready` seconds.
pub fn available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    ready(pod) && (min_ready == 0 || becomes_available(pod, min_ready, now) == Some(Duration::ZERO))
}

/// How long until a ready pod counts as available; `None` if it is not ready.
pub fn becomes_available(pod: &Pod, min_ready: i32, now: Timestamp) -> Option<Duration> {
    let at = ready_since(pod)?.checked_add(jiff::SignedDuration::from_secs(i64::from(min_ready))).ok()?;
    Some(until(at, now))
}

/// `namespace/name`.
pub fn key(pod: &Pod) -> String {
    format!("{}/{}", namespace(&pod.metadata), name(&pod.metadata))
}

/// A pod of a template, for an owner. The name is generated unless set afterwards.
pub fn from_template(template: &PodTemplateSpec, owner_name: &str, ns: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(owner_name)),
            namespace: Some(ns.into()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// `<owner>-`, or the bare name where that would not do as the beginning of a name.
fn prefix(owner: &str) -> String {
    let dashed = format!("{owner}-");
    let trial = format!("{owner}-a");
    if machinery::names::is_dns1123_subdomain(&trial).is_empty() { dashed } else { owner.into() }
}

/// What the ranking for deletion knows about a pod.
pub struct Candidate<'a> {
    pub pod: &'a Pod,
    /// Active pods of the same family on the same node.
    pub neighbours: usize,
}

/// What pods are ordered by for deletion, those to go first coming first. The rules are upstream's, in its order; times
/// count by the order of magnitude of how long ago they were, and what is alike after all falls to chance, that is the
/// UID. (A key rather than comparisons, so that the order is total whatever the pods say.)
pub fn rank(c: &Candidate<'_>, now: Timestamp) -> impl Ord + use<> {
    let pod = c.pod;
    let age = |t: Timestamp| now.duration_since(t).as_nanos().max(1).ilog2();
    let place = (node(pod).is_some(), phase_rank(pod), ready(pod), cost(pod), Reverse(c.neighbours));
    let ready_for = ready_since(pod).map(age);
    (place, ready_for, Reverse(restarts(pod)), age(created(&pod.metadata)), uid(&pod.metadata).to_string())
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

/// The annotation that says how dear a pod is.
fn cost(pod: &Pod) -> i32 {
    annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|c| c.parse().ok())
        .unwrap_or(0)
}

/// The highest restart count of containers, then of sidecars.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = pod.status.as_ref() else { return (0, 0) };
    let max = |list: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        list.iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
    };
    (max(&status.container_statuses), max(&status.init_container_statuses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn order(texts: &[&str]) -> Vec<String> {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let pods: Vec<Pod> = texts.iter().map(|t| pod(t)).collect();
        let mut all: Vec<_> = pods.iter().map(|pod| Candidate { pod, neighbours: 0 }).collect();
        all.sort_by_cached_key(|c| rank(c, now));
        all.iter().map(|c| name(&c.pod.metadata).to_string()).collect()
    }

    const STARTED: &str = r#"{"metadata": {"name": "a"}, "spec": {"dnsPolicy": "ClusterFirst", "containers":
        [{"name": "c", "image": "i", "env": [{"name": "A"}], "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"},
        {"type": "ContainersReady", "status": "False"}, {"type": "Ready", "status": "True"}, {"type": "x.io/y", "status": "True"}],
        "containerStatuses": [{"name": "c", "ready": true, "restartCount": 1, "image": "i", "imageID": "d",
        "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "2"}}}]}}"#;

    #[test]
    fn what_a_trimmed_pod_keeps() {
        let whole: Pod = serde_json::from_str(STARTED).unwrap();
        let mut pod = whole.clone();
        trim(&mut pod);
        let (spec, status) = (pod.spec.unwrap(), pod.status.as_mut().unwrap());
        assert_eq!((spec.dns_policy, &spec.containers[0].env), (None, &None));
        assert_eq!(spec.containers[0].resources, whole.spec.as_ref().unwrap().containers[0].resources);
        let kinds =
            |s: &PodStatus| s.conditions.iter().flatten().map(|c| c.type_.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(status), ["ContainersReady", "Ready", "x.io/y"]);
        let granted = &status.container_statuses.as_ref().unwrap()[0];
        assert_eq!((&granted.allocated_resources, granted.resources.is_some()), (&None, true));
        let mut failed = whole;
        failed.status.as_mut().unwrap().phase = Some("Failed".into());
        trim(&mut failed);
        assert_eq!(kinds(failed.status.as_ref().unwrap()).len(), 4, "a failure policy may ask for any");
    }

    #[test]
    fn deletion_order() {
        assert_eq!(order(&["a Running node=n ready", "b Pending node=n", "c Pending"]), ["c", "b", "a"]);
        assert_eq!(order(&["a Running node=n ready cost=5", "b Running node=n ready cost=-1"]), ["b", "a"]);
        assert_eq!(
            order(&["a Running node=n ready restarts=1", "b Running node=n ready restarts=7"]),
            ["b", "a"]
        );
        assert_eq!(
            order(&[
                "a Running node=n created=2026-01-01T09:59:59Z",
                "b Running node=n created=2025-01-01T09:00:00Z"
            ]),
            ["a", "b"]
        );
    }
}
