//! Events of component "kubelet", over the shared aggregating recorder.

use control::events::{Kind, Recorder};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Event types.
pub const NORMAL: &str = "Normal";
/// See [`NORMAL`].
pub const WARNING: &str = "Warning";

/// The recorder. Never blocks: when the queue is full the event is dropped.
pub struct Events {
    recorder: Recorder,
    #[cfg(test)]
    log: parking_lot::Mutex<Vec<String>>,
}

impl Events {
    /// Starts the writing task; without a client events go to the log alone.
    pub fn start(client: Option<kube::Client>, node: &str, cancel: CancellationToken) -> Arc<Self> {
        let recorder = match client {
            Some(client) => Recorder::start(client, "kubelet", Some(node), &Tasks::new(cancel)),
            None => Recorder::silent(),
        };
        Arc::new(Self {
            recorder,
            #[cfg(test)]
            log: parking_lot::Mutex::default(),
        })
    }

    /// Records an event.
    pub fn record(
        &self,
        object: ObjectReference,
        kind: &'static str,
        reason: &str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        #[cfg(test)]
        self.log.lock().push(format!("{kind} {reason} {message}"));
        let kind = if kind == WARNING { Kind::Warning } else { Kind::Normal };
        self.recorder.record(&object, kind, reason, message);
    }

    /// What was recorded, for tests.
    #[cfg(test)]
    pub fn recorded(&self) -> Vec<String> {
        self.log.lock().clone()
    }
}

/// A reference to a pod.
pub fn pod_ref(pod: &Pod) -> ObjectReference {
    let m = &pod.metadata;
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: m.name.clone(),
        namespace: m.namespace.clone(),
        uid: m.uid.clone(),
        resource_version: m.resource_version.clone(),
        field_path: None,
    }
}

/// A reference to a container of a pod; `field` is spec.containers, spec.initContainers or spec.ephemeralContainers.
pub fn container_ref(pod: &Pod, field: &str, name: &str) -> ObjectReference {
    ObjectReference { field_path: Some(format!("{field}{{{name}}}")), ..pod_ref(pod) }
}

/// A reference to the node, with the node's name as UID as upstream does.
pub fn node_ref(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        name: Some(name.into()),
        uid: Some(name.into()),
        ..Default::default()
    }
}
