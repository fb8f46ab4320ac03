//! What a Job asks about its pods.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ContainerStatus, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use serde_json::json;

use crate::kit::meta::{annotation, controller_ref, created, cut, has_finalizer, name, namespace, uid};
use crate::kit::write::Format;
use crate::kit::{Write, pods};

/// Keeps a pod until its end is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The index a pod works on (annotation and label).
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Failures of the index before this pod that count against the limit per index.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Failures of the index before this pod that a policy ignored.
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_ENV: &str = "JOB_COMPLETION_INDEX";
/// Names are generated from at most this many letters.
const LONGEST_PREFIX: usize = 58;

/// Whether the Job's pods are told apart by index.
pub fn indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a pod is replaced only when it has really ended.
pub fn only_failed_replaced(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// The index of a pod, if it carries one.
pub fn index_of(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, INDEX)?.parse().ok().filter(|i| *i >= 0)
}

/// The index of a pod, if it is one the Job has.
pub fn valid_index(pod: &Pod, spec: &JobSpec) -> Option<i32> {
    index_of(pod).filter(|i| *i < spec.completions.unwrap_or(0))
}

/// Whether the pod's end is still to be counted, as far as the pod itself says.
pub fn tracked(pod: &Pod) -> bool {
    has_finalizer(&pod.metadata, FINALIZER)
}

/// The pod came to a good end.
pub fn succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// The pod failed; one that is being deleted counts as failed too, unless only ended pods are replaced.
pub fn failed(pod: &Pod, spec: &JobSpec) -> bool {
    pods::phase(pod) == "Failed"
        || (!only_failed_replaced(spec) && pod.metadata.deletion_timestamp.is_some() && !succeeded(pod))
}

/// How often the index failed before this pod: counted, ignored.
pub fn failures_before(pod: &Pod) -> (i32, i32) {
    let count = |key| annotation(&pod.metadata, key).and_then(|c| c.parse().ok()).unwrap_or(0).max(0);
    (count(FAILURES), count(IGNORED))
}

fn statuses(pod: &Pod) -> (&[ContainerStatus], &[ContainerStatus]) {
    let status = pod.status.as_ref();
    (
        status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default(),
        status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default(),
    )
}

/// The statuses of containers, then of init containers.
pub fn all_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let (containers, init) = statuses(pod);
    containers.iter().chain(init)
}

/// Restarts of all containers together.
pub fn restarts(pod: &Pod) -> i32 {
    all_statuses(pod).map(|c| c.restart_count).sum()
}

/// When the pod ended: by its containers, else since when it is not ready, else by its deletion, else its creation.
pub fn finish_time(pod: &Pod) -> Timestamp {
    containers_finished(pod)
        .or_else(|| not_ready_since(pod))
        .or_else(|| deletion_began(pod))
        .unwrap_or_else(|| created(&pod.metadata))
}

fn containers_finished(pod: &Pod) -> Option<Timestamp> {
    let (containers, init) = statuses(pod);
    let spec = pod.spec.as_ref();
    let sidecar = |c: &&ContainerStatus| {
        let mut specs = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten());
        specs.any(|s| s.name == c.name && s.restart_policy.as_deref() == Some("Always"))
    };
    let end = |c: &ContainerStatus| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
    let main: Option<Vec<Timestamp>> = containers.iter().map(end).collect();
    let last = main?.into_iter().max()?;
    Some(init.iter().filter(sidecar).filter_map(end).fold(last, Timestamp::max))
}

fn not_ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = pods::condition(pod, "Ready").filter(|c| c.status == "False")?;
    condition.last_transition_time.as_ref().map(|t| t.0)
}

fn deletion_began(pod: &Pod) -> Option<Timestamp> {
    let at = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    at.checked_sub(SignedDuration::from_secs(grace)).ok()
}

/// Which pods to do without first: those furthest from being of use.
pub fn rank(pod: &Pod) -> impl Ord + use<> {
    let phase = match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let ready = pods::condition(pod, "Ready").filter(|c| c.status == "True");
    let since = ready.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let place = (pods::node(pod).is_some(), phase, ready.is_some(), Reverse(since), Reverse(restarts(pod)));
    (place, Reverse(created(&pod.metadata)), uid(&pod.metadata).to_string())
}

/// What the replacement of an index is told about its predecessors: failures counted and ignored.
pub type Failures = Option<(i32, i32)>;

/// A pod of the Job; `index` for Indexed ones, `failures` where they are limited per index.
pub fn make(job: &Job, index: Option<i32>, failures: Failures) -> Pod {
    let template = job.spec.as_ref().map(|s| &s.template).cloned().unwrap_or_default();
    let (owner, ns) = (name(&job.metadata), namespace(&job.metadata));
    let mut pod = pods::from_template(&template, owner, ns, controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let Some(index) = index else { return pod };
    let infix = format!("-{index}-");
    let room = LONGEST_PREFIX.saturating_sub(infix.len());
    pod.metadata.generate_name = Some(format!("{}{infix}", cut(owner, room)));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if let Some((counted, ignored)) = failures {
        annotations.insert(FAILURES.into(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.into(), ignored.to_string());
        }
    }
    if let Some(spec) = pod.spec.as_mut() {
        spec.hostname = Some(format!("{owner}-{index}"));
        for container in spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut()) {
            add_env(container.env.get_or_insert_default());
        }
    }
    pod
}

fn add_env(env: &mut Vec<EnvVar>) {
    if env.iter().any(|e| e.name == INDEX_ENV) {
        return;
    }
    let field = ObjectFieldSelector {
        field_path: format!("metadata.annotations['{INDEX}']"),
        ..ObjectFieldSelector::default()
    };
    let from = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    env.push(EnvVar { name: INDEX_ENV.into(), value_from: Some(from), ..EnvVar::default() });
}

/// Lets a pod go whose end is counted.
pub fn free(pod: &Pod) -> Write {
    let body = json!({"metadata": {
        "uid": uid(&pod.metadata),
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    }});
    Write::patch(pod, Format::Strategic, body).note("free")
}

/// Lets a pod go that has not ended, if it is still as it was at `version`: had it ended, its end would be lost.
pub fn disown(pod: &Pod, version: &str) -> Write {
    let mut write = free(pod).note("disown");
    write.body["metadata"]["resourceVersion"] = version.into();
    write
}
