//! Writes the scheduler's choices and refusals to the API server (DefaultBinder).

use std::time::Duration;

use anyhow::{Context, Result};
use control::events::Recorder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::framework::message::Refusal;
use crate::model::pod::PodInfo;

/// How long one write may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Messages of events are cut here.
const MESSAGE_LIMIT: usize = 1024;

/// A handle to write with.
#[derive(Clone)]
pub struct Binder {
    client: kube::Client,
    events: Recorder,
}

impl Binder {
    /// Writes with this client and recorder.
    pub fn new(client: kube::Client, events: Recorder) -> Self {
        Self { client, events }
    }

    /// Binds the pod to the node.
    ///
    /// # Errors
    /// When the API server refuses, or does not answer in time.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace, pod.name);
        let body = serde_json::to_vec(&binding(pod, node))?;
        let request = http::Request::post(path).header("content-type", "application/json").body(body)?;
        let call = self.client.request::<Value>(request);
        tokio::time::timeout(DEADLINE, call).await.context("binding took too long")??;
        let message = format!("Successfully assigned {} to {node}", pod.key());
        self.events.normal(&reference(pod), "Scheduled", message);
        Ok(())
    }

    /// Says in the pod's condition and in an event why it has no node. A condition that says so already is left alone.
    pub async fn refuse(&self, pod: &PodInfo, refusal: &Refusal) {
        self.say(pod, "Unschedulable", &refusal.message()).await;
    }

    /// Says that the scheduler itself failed with this pod.
    pub async fn fail(&self, pod: &PodInfo, error: &anyhow::Error) {
        self.say(pod, "SchedulerError", &format!("{error:#}")).await;
    }

    async fn say(&self, pod: &PodInfo, reason: &str, message: &str) {
        self.events.warning(&reference(pod), "FailedScheduling", cut(message));
        if pod.refusal.as_deref() == Some(message) {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let patch = Patch::Strategic(condition(pod, reason, message));
        let params = PatchParams::default();
        match tokio::time::timeout(DEADLINE, api.patch_status(&pod.name, &params, &patch)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(pod = pod.key(), %error, "the pod's condition could not be written")
            }
            Err(_) => tracing::warn!(pod = pod.key(), "writing the pod's condition took too long"),
        }
    }
}

fn binding(pod: &PodInfo, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    })
}

fn condition(pod: &PodInfo, reason: &str, message: &str) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "metadata": {"uid": pod.uid},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastTransitionTime": now,
        }]},
    })
}

fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name.clone()),
        namespace: Some(pod.namespace.clone()),
        uid: Some(pod.uid.clone()),
        ..Default::default()
    }
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE_LIMIT {
        return message.into();
    }
    let mut end = MESSAGE_LIMIT - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let cut = cut(&"ä".repeat(1000));
        assert!(cut.len() <= MESSAGE_LIMIT && cut.ends_with(" ..."));
    }
}
