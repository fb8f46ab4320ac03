//! Small objects for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use serde_json::{Value, json};

use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

pub fn pod_spec(spec: Value) -> PodSpec {
    serde_json::from_value(spec).expect("a pod spec")
}

/// A pod object of namespace `ns`; `spec` is laid over one with a single container.
pub fn pod_object(name: &str, spec: Value) -> Pod {
    let mut all = json!({"containers": [{"name": "c", "image": "i"}]});
    merge(&mut all, spec);
    let meta = json!({"name": name, "namespace": "ns", "uid": format!("uid-{name}")});
    serde_json::from_value(json!({"metadata": meta, "spec": all})).expect("a pod")
}

pub fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::of(&pod_object(name, spec)))
}

/// A pod whose one container asks for this much CPU.
pub fn cpu_pod(name: &str, cpu: &str) -> Arc<PodInfo> {
    pod(name, json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}))
}

/// A node with 4 CPUs, 8 GiB and room for 110 pods; `over` is laid over it.
pub fn node(name: &str, over: Value) -> Node {
    let mut all = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut all, over);
    serde_json::from_value(all).expect("a node")
}

/// The same as the scheduler keeps it.
pub fn node_spec(name: &str, over: Value) -> Arc<NodeSpec> {
    Arc::new(NodeSpec::of(&node(name, over)))
}

/// A cluster of these nodes.
pub fn cluster(nodes: &[Node]) -> Snapshot {
    let mut all = Snapshot::default();
    nodes.iter().for_each(|n| drop(all.set_node(Arc::new(NodeSpec::of(n)))));
    all.refresh();
    all
}

/// A pod whose metadata is overlaid too: `over` may have `metadata`, `spec` and `status`.
pub fn pod_with(name: &str, over: Value) -> Arc<PodInfo> {
    let mut all = serde_json::to_value(pod_object(name, json!({}))).expect("a pod");
    merge(&mut all, over);
    Arc::new(PodInfo::of(&serde_json::from_value(all).expect("a pod")))
}

pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
