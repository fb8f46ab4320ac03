//! Writes the scheduler's choices and refusals to the API server (DefaultBinder).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use control::events::Recorder;
use daemon::direct::Direct;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde::Serialize;
use serde_json::{Value, json};

use crate::framework::message::Refusal;
use crate::model::pod::PodInfo;

/// How long one write may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Most bindings are shorter.
const BINDING: usize = 320;
/// Messages of events are cut here.
const MESSAGE_LIMIT: usize = 1024;

/// A handle to write with.
#[derive(Clone)]
pub struct Binder {
    client: kube::Client,
    /// For what is written once for every pod.
    direct: Direct,
    /// By scheduler name: events say which one speaks.
    events: Arc<HashMap<String, Recorder>>,
}

impl Binder {
    /// Writes with this client, and with a recorder for each scheduler name.
    pub fn new(client: kube::Client, events: HashMap<String, Recorder>) -> Self {
        Self { direct: client.clone().into(), client, events: Arc::new(events) }
    }

    /// Writes bindings by this way.
    #[must_use]
    pub fn by(self, direct: Direct) -> Self {
        Self { direct, ..self }
    }

    /// Binds the pod to the node.
    ///
    /// # Errors
    /// When the API server refuses, or does not answer in time.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace, pod.name);
        let mut body = Vec::with_capacity(BINDING);
        serde_json::to_writer(&mut body, &binding(pod, node))?;
        let call = self.direct.post(&path, body.into());
        tokio::time::timeout(DEADLINE, call).await.context("binding took too long")??;
        self.bound(pod, node);
        Ok(())
    }

    /// Where the API server says the pod is: `None` if it is gone, and an empty name if it has no node.
    ///
    /// # Errors
    /// When that can't be learnt either.
    pub async fn place(&self, pod: &PodInfo) -> Result<Option<String>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let answer = tokio::time::timeout(DEADLINE, api.get(&pod.name)).await;
        let found = unless_missing(answer.context("asking for the pod took too long")?)?;
        let same = found.filter(|p| p.metadata.uid.as_deref() == Some(&pod.uid));
        Ok(same.map(|p| p.spec.and_then(|s| s.node_name).unwrap_or_default()))
    }

    /// The client behind it.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Says where the pod will go once what it needs there is ready.
    pub async fn expect(&self, pod: &PodInfo, node: &str) {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}});
        self.patch(pod, Patch::Strategic(patch)).await;
    }

    /// Says that an extender wrote the choice.
    pub fn bound(&self, pod: &PodInfo, node: &str) {
        // In a flood most are dropped: then they are not put together first.
        if self.events.get(&pod.scheduler).is_none_or(|events| !events.has_room()) {
            return;
        }
        let message = format!("Successfully assigned {} to {node}", pod.key());
        self.event(&pod.scheduler, pod, "Scheduled", message);
    }

    /// Says in the pod's condition and in an event why it has no node; `nominated` is the node that is being cleared for it. A
    /// condition that says so already is left alone.
    pub async fn refuse(&self, pod: &PodInfo, refusal: &Refusal, nominated: Option<&str>) {
        self.say(pod, "Unschedulable", &refusal.message(), nominated).await;
    }

    /// Says that the scheduler itself failed with this pod.
    pub async fn fail(&self, pod: &PodInfo, error: &anyhow::Error) {
        self.say(pod, "SchedulerError", &format!("{error:#}"), pod.nominated.as_deref()).await;
    }

    /// A Normal event about a pod, said by a scheduler.
    pub fn event(&self, scheduler: &str, pod: &PodInfo, reason: &str, message: String) {
        if let Some(events) = self.events.get(scheduler) {
            events.normal(&reference(pod), reason, message);
        }
    }

    /// Pushes a pod away: says so in its condition, and deletes it. One that is gone already is no error.
    ///
    /// # Errors
    /// When the API server refuses, or does not answer in time.
    pub async fn evict(&self, pod: &PodInfo, scheduler: &str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let patch = Patch::Strategic(disruption(pod, scheduler));
        let params = PatchParams::default();
        let said = tokio::time::timeout(DEADLINE, api.patch_status(&pod.name, &params, &patch)).await;
        if !self.was_there(pod, said.context("writing the condition took too long")?).await? {
            return Ok(());
        }
        let only = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        let deleted = tokio::time::timeout(DEADLINE, api.delete(&pod.name, &params)).await;
        self.was_there(pod, deleted.context("deleting took too long")?).await?;
        Ok(())
    }

    /// Whether a write met its pod. One that is gone, or another of the same name, is as good as deleted; a conflict alone does not
    /// say so: the API server may have had too many at once.
    async fn was_there<T>(&self, pod: &PodInfo, written: kube::Result<T>) -> Result<bool> {
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(kube::Error::Api(status)) if status.code == 409 && self.place(pod).await?.is_none() => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// No node is being cleared for the pod any more.
    pub async fn withdraw(&self, pod: &PodInfo) {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": null}});
        self.patch(pod, Patch::Strategic(patch)).await;
    }

    async fn say(&self, pod: &PodInfo, reason: &str, message: &str, nominated: Option<&str>) {
        if let Some(events) = self.events.get(&pod.scheduler) {
            events.warning(&reference(pod), "FailedScheduling", cut(message));
        }
        if pod.refusal.as_deref() == Some(message) && pod.nominated.as_deref() == nominated {
            return;
        }
        self.patch(pod, Patch::Strategic(condition(pod, reason, message, nominated))).await;
    }

    async fn patch(&self, pod: &PodInfo, patch: Patch<Value>) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
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

/// A v1 Binding.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Binding<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Named<'a>,
    target: Target<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Target<'a> {
    api_version: &'static str,
    kind: &'static str,
    name: &'a str,
}

fn binding<'a>(pod: &'a PodInfo, node: &'a str) -> Binding<'a> {
    Binding {
        api_version: "v1",
        kind: "Binding",
        metadata: Named { name: &pod.name, namespace: &pod.namespace, uid: &pod.uid },
        target: Target { api_version: "v1", kind: "Node", name: node },
    }
}

fn condition(pod: &PodInfo, reason: &str, message: &str, nominated: Option<&str>) -> Value {
    json!({
        "metadata": {"uid": pod.uid},
        "status": {"nominatedNodeName": nominated, "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastTransitionTime": now(),
        }]},
    })
}

fn disruption(pod: &PodInfo, scheduler: &str) -> Value {
    let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
    json!({
        "metadata": {"uid": pod.uid},
        "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
            "lastTransitionTime": now(),
        }]},
    })
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn unless_missing<T>(result: kube::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
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
