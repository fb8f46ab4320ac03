//! Who a pod of a StatefulSet is: its name, labels, host name and volumes.

use std::ops::Range;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use serde_json::{Value, json};

use super::claims;
use crate::kit::history::{self, POD_HASH};
use crate::kit::meta::{controller_ref, label, name, namespace};
use crate::kit::pods::{from_template, phase, ready};
use crate::kit::write::Format;
use crate::kit::{Write, pods};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The place in line that a pod's name says, if it is a name this set gives.
pub fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let number: u32 = digits.parse().ok()?;
    // One spelling per place, or two pods could claim it.
    (number.to_string() == digits && number <= i32::MAX as u32).then_some(i64::from(number))
}

/// The places there are to be.
pub fn range(set: &StatefulSet) -> Range<i64> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0).max(0);
    let count = spec.map_or(0, |s| s.replicas.unwrap_or(1)).max(0);
    i64::from(start)..i64::from(start) + i64::from(count)
}

/// The name of a pod.
pub fn pod_name(set: &StatefulSet, ordinal: i64) -> String {
    format!("{}-{ordinal}", name(&set.metadata))
}

/// The revision a pod is of.
pub fn revision(pod: &Pod) -> &str {
    label(&pod.metadata, POD_HASH).unwrap_or_default()
}

/// Whether the kubelet or the server has seen it at all.
pub fn is_created(pod: &Pod) -> bool {
    !phase(pod).is_empty()
}

/// Running and ready.
pub fn is_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && ready(pod)
}

/// Running, ready, and not on its way out.
pub fn is_healthy(pod: &Pod) -> bool {
    is_ready(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// The pod at a place, of a revision, as it is to be made.
pub fn make(set: &StatefulSet, spec: &StatefulSetSpec, of: &ControllerRevision, ordinal: i64) -> Pod {
    let template = history::template(of).unwrap_or_else(|| spec.template.clone());
    let mut pod = blank(set, &template);
    let pod_name = pod_name(set, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(identity(&pod_name, ordinal));
    labels.insert(POD_HASH.into(), name(&of.metadata).into());
    let inside = pod.spec.get_or_insert_default();
    inside.hostname = Some(pod_name.clone());
    inside.subdomain = spec.service_name.clone().filter(|s| !s.is_empty());
    let own = volumes(set, spec, ordinal);
    if !own.is_empty() {
        let volumes = inside.volumes.get_or_insert_default();
        volumes.retain(|v| !own.iter().any(|o| o.name == v.name));
        volumes.extend(own);
    }
    pod.metadata.name = Some(pod_name);
    pod
}

fn blank(set: &StatefulSet, template: &PodTemplateSpec) -> Pod {
    from_template(template, name(&set.metadata), namespace(&set.metadata), controller_ref(set))
}

fn identity(pod_name: &str, ordinal: i64) -> [(String, String); 2] {
    [(NAME_LABEL.into(), pod_name.into()), (INDEX_LABEL.into(), ordinal.to_string())]
}

/// The volumes that the claims of a place are.
fn volumes(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i64) -> Vec<Volume> {
    let one = |template| Volume {
        name: name(template).into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claims::claim_name(template, name(&set.metadata), ordinal),
            ..Default::default()
        }),
        ..Default::default()
    };
    spec.volume_claim_templates.iter().flatten().map(|c| one(&c.metadata)).collect()
}

fn has_volume(pod: &Pod, wanted: &Volume) -> bool {
    let claim = |v: &Volume| v.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone());
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.into_iter().any(|v| v.name == wanted.name && claim(v) == claim(wanted))
}

/// What would give an existing pod the labels and volumes of its place; nothing if it has them.
pub fn correct(set: &StatefulSet, spec: &StatefulSetSpec, pod: &Pod, ordinal: i64) -> Option<Write> {
    let wrong = |(key, value): &(String, String)| label(&pod.metadata, key) != Some(value);
    let labels: Vec<_> = identity(name(&pod.metadata), ordinal).into_iter().filter(wrong).collect();
    let missing: Vec<_> = volumes(set, spec, ordinal).into_iter().filter(|v| !has_volume(pod, v)).collect();
    if labels.is_empty() && missing.is_empty() {
        return None;
    }
    let mut body = json!({"metadata": {"uid": pod.metadata.uid}});
    if !labels.is_empty() {
        body["metadata"]["labels"] =
            labels.into_iter().map(|(k, v)| (k, Value::from(v))).collect::<serde_json::Map<_, _>>().into();
    }
    if !missing.is_empty() {
        body["spec"]["volumes"] = serde_json::to_value(missing).unwrap_or_default();
    }
    Some(Write::patch(pod, Format::Strategic, body).note("identity"))
}

/// Whether a pod counts as available.
pub fn is_available(pod: &Pod, min_ready: i32, now: jiff::Timestamp) -> bool {
    is_ready(pod) && pods::available(pod, min_ready, now)
}
