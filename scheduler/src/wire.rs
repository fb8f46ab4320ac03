//! Pods and nodes as they come over the wire, of which only that is read which [`PodInfo`](crate::model::pod::PodInfo) and
//! [`NodeSpec`](crate::model::node::NodeSpec) are made of. What else there is, most of an object, is passed over without a copy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    AWSElasticBlockStoreVolumeSource, Affinity, Container, ContainerImage, ContainerPort, ContainerStatus,
    EphemeralVolumeSource, GCEPersistentDiskVolumeSource, ISCSIVolumeSource, ImageVolumeSource, Node,
    NodeSpec, NodeStatus, PersistentVolumeClaimVolumeSource, Pod, PodCondition, PodSchedulingGate, PodSpec,
    PodStatus, RBDVolumeSource, ResourceRequirements, Taint, Toleration, TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::labels::Labels;

type List<T> = Option<Vec<T>>;
type Amounts = BTreeMap<String, Quantity>;

fn whole<T, U: From<T>>(list: List<T>) -> List<U> {
    list.map(|list| list.into_iter().map(U::from).collect())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<Labels>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl From<Meta> for ObjectMeta {
    fn from(m: Meta) -> Self {
        Self {
            name: m.name,
            namespace: m.namespace,
            uid: m.uid,
            resource_version: m.resource_version,
            labels: m.labels,
            creation_timestamp: m.creation_timestamp,
            deletion_timestamp: m.deletion_timestamp,
            owner_references: m.owner_references,
            ..Self::default()
        }
    }
}

/// A pod.
#[derive(Deserialize)]
pub struct WirePod {
    #[serde(default)]
    metadata: Meta,
    spec: Option<WirePodSpec>,
    status: Option<WirePodStatus>,
}

impl From<WirePod> for Pod {
    fn from(p: WirePod) -> Self {
        Self { metadata: p.metadata.into(), spec: p.spec.map(Into::into), status: p.status.map(Into::into) }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePodSpec {
    affinity: Option<Affinity>,
    containers: List<WireContainer>,
    init_containers: List<WireContainer>,
    node_name: Option<String>,
    node_selector: Option<BTreeMap<String, String>>,
    overhead: Option<Amounts>,
    preemption_policy: Option<String>,
    priority: Option<i32>,
    resources: Option<ResourceRequirements>,
    scheduler_name: Option<String>,
    scheduling_gates: List<PodSchedulingGate>,
    tolerations: List<Toleration>,
    topology_spread_constraints: List<TopologySpreadConstraint>,
    volumes: List<WireVolume>,
}

impl From<WirePodSpec> for PodSpec {
    fn from(s: WirePodSpec) -> Self {
        Self {
            affinity: s.affinity,
            containers: whole(s.containers).unwrap_or_default(),
            init_containers: whole(s.init_containers),
            node_name: s.node_name,
            node_selector: s.node_selector,
            overhead: s.overhead,
            preemption_policy: s.preemption_policy,
            priority: s.priority,
            resources: s.resources,
            scheduler_name: s.scheduler_name,
            scheduling_gates: s.scheduling_gates,
            tolerations: s.tolerations,
            topology_spread_constraints: s.topology_spread_constraints,
            volumes: whole(s.volumes),
            ..Self::default()
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireContainer {
    name: String,
    image: Option<String>,
    ports: List<ContainerPort>,
    resources: Option<ResourceRequirements>,
    restart_policy: Option<String>,
}

impl From<WireContainer> for Container {
    fn from(c: WireContainer) -> Self {
        Self {
            name: c.name,
            image: c.image,
            ports: c.ports,
            resources: c.resources,
            restart_policy: c.restart_policy,
            ..Self::default()
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireVolume {
    name: String,
    aws_elastic_block_store: Option<AWSElasticBlockStoreVolumeSource>,
    ephemeral: Option<IgnoredAny>,
    gce_persistent_disk: Option<GCEPersistentDiskVolumeSource>,
    image: Option<ImageVolumeSource>,
    iscsi: Option<ISCSIVolumeSource>,
    persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    rbd: Option<RBDVolumeSource>,
}

impl From<WireVolume> for Volume {
    fn from(v: WireVolume) -> Self {
        Self {
            name: v.name,
            aws_elastic_block_store: v.aws_elastic_block_store,
            ephemeral: v.ephemeral.map(|_| EphemeralVolumeSource::default()),
            gce_persistent_disk: v.gce_persistent_disk,
            image: v.image,
            iscsi: v.iscsi,
            persistent_volume_claim: v.persistent_volume_claim,
            rbd: v.rbd,
            ..Self::default()
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePodStatus {
    conditions: List<WireCondition>,
    container_statuses: List<WireContainerStatus>,
    nominated_node_name: Option<String>,
    phase: Option<String>,
    start_time: Option<Time>,
}

impl From<WirePodStatus> for PodStatus {
    fn from(s: WirePodStatus) -> Self {
        Self {
            conditions: whole(s.conditions),
            container_statuses: whole(s.container_statuses),
            nominated_node_name: s.nominated_node_name,
            phase: s.phase,
            start_time: s.start_time,
            ..Self::default()
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireCondition {
    r#type: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
}

impl From<WireCondition> for PodCondition {
    fn from(c: WireCondition) -> Self {
        Self { type_: c.r#type, status: c.status, reason: c.reason, message: c.message, ..Self::default() }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireContainerStatus {
    name: String,
    allocated_resources: Option<Amounts>,
    resources: Option<ResourceRequirements>,
}

impl From<WireContainerStatus> for ContainerStatus {
    fn from(s: WireContainerStatus) -> Self {
        Self {
            name: s.name,
            allocated_resources: s.allocated_resources,
            resources: s.resources,
            ..Self::default()
        }
    }
}

/// A node.
#[derive(Deserialize)]
pub struct WireNode {
    #[serde(default)]
    metadata: Meta,
    spec: Option<WireNodeSpec>,
    status: Option<WireNodeStatus>,
}

impl From<WireNode> for Node {
    fn from(n: WireNode) -> Self {
        Self { metadata: n.metadata.into(), spec: n.spec.map(Into::into), status: n.status.map(Into::into) }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNodeSpec {
    taints: List<Taint>,
    unschedulable: Option<bool>,
}

impl From<WireNodeSpec> for NodeSpec {
    fn from(s: WireNodeSpec) -> Self {
        Self { taints: s.taints, unschedulable: s.unschedulable, ..Self::default() }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNodeStatus {
    allocatable: Option<Amounts>,
    images: List<ContainerImage>,
}

impl From<WireNodeStatus> for NodeStatus {
    fn from(s: WireNodeStatus) -> Self {
        Self { allocatable: s.allocatable, images: s.images, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node::NodeSpec as Kept;
    use crate::model::pod::PodInfo;
    use serde_json::{Value, json};

    fn same_pod(object: Value) {
        let text = object.to_string();
        let lean = PodInfo::of(&serde_json::from_str::<WirePod>(&text).unwrap().into());
        let full = PodInfo::of(&serde_json::from_str::<Pod>(&text).unwrap());
        assert_eq!(format!("{lean:?}"), format!("{full:?}"));
    }

    fn rich() -> Value {
        let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}});
        let requests =
            json!({"requests": {"cpu": "1", "memory": "1Gi", "x.y/z": "2"}, "limits": {"cpu": "2"}});
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
                "annotations": {"long": "text"}, "managedFields": [{"manager": "m", "fieldsV1": {"f:x": {}}}],
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true}]},
            "spec": {
                "schedulerName": "mine", "priority": 3, "preemptionPolicy": "Never", "nodeSelector": {"disk": "ssd"},
                "overhead": {"cpu": "10m"}, "resources": requests, "schedulingGates": [{"name": "g"}],
                "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5}],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                    "minDomains": 2, "nodeTaintsPolicy": "Honor", "labelSelector": {"matchLabels": {"a": "b"}}}],
                "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
                    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}},
                "initContainers": [{"name": "i", "image": "init", "restartPolicy": "Always", "resources": requests,
                    "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1", "protocol": "UDP"}]}],
                "containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "v"}], "resources": requests,
                    "ports": [{"containerPort": 8080, "hostPort": 8080}], "livenessProbe": {"httpGet": {"port": 80}}}],
                "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "e", "ephemeral": {
                    "volumeClaimTemplate": {"spec": {}}}}, {"name": "g", "gcePersistentDisk": {"pdName": "d", "readOnly": true}},
                    {"name": "w", "awsElasticBlockStore": {"volumeID": "x"}}, {"name": "o", "image": {"reference": "oci"}},
                    {"name": "s", "iscsi": {"iqn": "q", "lun": 1, "targetPortal": "t"}}, {"name": "r", "rbd": {"image": "ri",
                    "monitors": ["m"]}}, {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "status": {"phase": "Running", "startTime": "2026-01-01T00:00:01Z", "nominatedNodeName": "n",
                "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                    "allocatedResources": {"cpu": "3"}, "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}}}],
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "why",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}, {"type": "DisruptionTarget", "status": "True",
                    "reason": "PreemptionByScheduler"}]},
        })
    }

    #[test]
    fn nothing_that_is_looked_at_is_passed_over() {
        same_pod(rich());
        let mut bound = rich();
        bound["spec"]["nodeName"] = json!("n");
        same_pod(bound);
        same_pod(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}], "volumes": null}}),
        );
        same_pod(json!({"metadata": {"name": "p", "labels": null}}));
    }

    #[test]
    fn nothing_of_a_node_either() {
        let text = json!({"metadata": {"name": "n", "labels": {"zone": "a"}}, "spec": {"unschedulable": true,
            "podCIDR": "10.0.0.0/24", "taints": [{"key": "k", "effect": "NoSchedule"}]}, "status": {
            "capacity": {"cpu": "5"}, "allocatable": {"cpu": "4", "pods": "110", "x.y/z": "1"},
            "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"machineID": "m"},
            "images": [{"names": ["a", "b:1"], "sizeBytes": 7}]}})
        .to_string();
        let lean = Kept::of(&serde_json::from_str::<WireNode>(&text).unwrap().into());
        assert_eq!(lean, Kept::of(&serde_json::from_str::<Node>(&text).unwrap_or_default()));
        assert_eq!((lean.taints.len(), lean.max_pods, lean.images.len()), (1, 110, 2));
    }
}
