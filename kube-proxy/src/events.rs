//! Events on the Node and on Services, in upstream's words.

use control::events::{Kind, Recorder};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::ObjectReference;

const COMPONENT: &str = "kube-proxy";

/// Tells of what people should know.
#[derive(Clone)]
pub struct Teller {
    recorder: Recorder,
    node: String,
}

impl Teller {
    /// Writes events through this client.
    pub fn start(client: kube::Client, node: &str, tasks: &Tasks) -> Self {
        Self { recorder: Recorder::start(client, COMPONENT, Some(node), tasks), node: node.to_owned() }
    }

    /// The node's reference has its name for a UID, as the proxy may run before it has seen the Node.
    fn reference(&self) -> ObjectReference {
        let name = Some(self.node.clone());
        ObjectReference {
            kind: Some("Node".into()),
            name: name.clone(),
            uid: name,
            ..ObjectReference::default()
        }
    }

    /// The proxy started.
    pub fn started(&self) {
        self.recorder.record(&self.reference(), Kind::Normal, "Starting", "");
    }

    /// A warning about this node.
    pub fn of_node(&self, reason: &str, message: String) {
        self.recorder.warning(&self.reference(), reason, message);
    }

    /// A service's health check node port (`namespace/name`) cannot be had.
    pub fn of_health_port(&self, service: &str, port: u16, error: &anyhow::Error) {
        let Some((namespace, name)) = service.split_once('/') else { return };
        let object = ObjectReference {
            kind: Some("Service".into()),
            api_version: Some("v1".into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectReference::default()
        };
        let message =
            format!("node {} failed to start healthcheck {service:?} on port {port}: {error:#}", self.node);
        self.recorder.warning(&object, "FailedToStartServiceHealthcheck", message);
    }
}
