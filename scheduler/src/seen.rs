//! Pods and nodes as the caches keep them: what the plugins read of them, made as they are read from the wire, and nothing else. With
//! tens of thousands of pods this is what the scheduler's memory consists of.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};

use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::wire::{WireNode, WirePod};

/// An object of a kind with only its name, uid and version kept, and what was made of it.
#[derive(Debug, Clone)]
pub struct Seen<I> {
    metadata: ObjectMeta,
    /// What was made of it.
    pub info: Arc<I>,
}

/// A pod.
pub type SeenPod = Seen<PodInfo>;
/// A node.
pub type SeenNode = Seen<NodeSpec>;

fn kept(meta: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        ..ObjectMeta::default()
    }
}

impl<'de> Deserialize<'de> for SeenPod {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pod = Pod::from(WirePod::deserialize(from)?);
        Ok(Self { info: Arc::new(PodInfo::of(&pod)), metadata: kept(pod.metadata) })
    }
}

impl<'de> Deserialize<'de> for SeenNode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let node = Node::from(WireNode::deserialize(from)?);
        Ok(Self { info: Arc::new(NodeSpec::of(&node)), metadata: kept(node.metadata) })
    }
}

/// Which kind of the API is read.
pub trait Kind {
    /// It.
    type Of: Resource<DynamicType = (), Scope: Send>;
}

impl Kind for PodInfo {
    type Of = Pod;
}

impl Kind for NodeSpec {
    type Of = Node;
}

impl<I: Kind> Resource for Seen<I> {
    type DynamicType = ();
    type Scope = <I::Of as Resource>::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        I::Of::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        I::Of::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        I::Of::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        I::Of::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_of_a_pod() {
        let pod: SeenPod = serde_json::from_value(json!({"kind": "Pod", "apiVersion": "v1", "metadata": {
            "name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
            "annotations": {"long": "text"}, "managedFields": [{"manager": "m", "fieldsV1": {"f:x": {}}}]},
            "spec": {"containers": [{"name": "c", "image": "i"}], "priority": 3}, "status": {"phase": "Pending"}}))
        .unwrap();
        assert_eq!((pod.info.priority, pod.info.labels["a"].as_str()), (3, "b"));
        assert_eq!(pod.meta().resource_version.as_deref(), Some("7"));
        assert!(pod.meta().labels.is_none() && pod.meta().annotations.is_none());
        assert_eq!(SeenPod::url_path(&(), Some("ns")), Pod::url_path(&(), Some("ns")));
    }
}
