//! Writes one pod's status to the API: latest value only, as a small patch, retried until it is there.
//! It also makes the final deletion once the worker says that nothing is left.

use crate::context::Context;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, Request};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What shall be true in the API.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// the status; None before the first one is made
    pub status: Option<Arc<PodStatus>>,
    /// nothing is left on the node and the pod is to be deleted from the API
    pub delete: bool,
    /// what the API was last seen to say, with its resource version
    pub seen: Option<(u64, Arc<PodStatus>)>,
}

/// The writing task's handle.
pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
}

/// Least time between two corrections of what somebody else wrote.
const CORRECTION: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);

impl StatusWriter {
    /// Starts the task for one API object (a mirror pod's identity for static pods). `known` is the API's status.
    pub fn start(ctx: Arc<Context>, namespace: &str, name: &str, uid: &str, known: &PodStatus) -> Self {
        let wanted = watch::Sender::new(Wanted::default());
        let task = Task {
            ctx: ctx.clone(),
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            known: value(known),
            version: 0,
            wanted: wanted.subscribe(),
        };
        if ctx.client.is_some() {
            ctx.spawn("status writer", task.run());
        }
        Self { wanted }
    }

    /// Replaces the status to be written.
    pub fn set(&self, status: Arc<PodStatus>) {
        self.wanted.send_modify(|w| w.status = Some(status));
    }

    /// Tells what the API says now; if somebody else has changed what is ours, it is written again.
    pub fn observe(&self, version: u64, status: Arc<PodStatus>) {
        self.wanted.send_modify(|w| w.seen = Some((version, status)));
    }

    /// Asks for the final deletion, after the last status.
    pub fn delete(&self) {
        self.wanted.send_modify(|w| w.delete = true);
    }
}

struct Task {
    ctx: Arc<Context>,
    namespace: String,
    name: String,
    uid: String,
    /// what the API says, as far as we know
    known: Value,
    /// its resource version, once known
    version: u64,
    wanted: watch::Receiver<Wanted>,
}

enum Answer {
    /// with the resource version the object has now
    Done(Option<u64>),
    Gone,
    Retry(String),
}

impl Task {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut told_delete = false;
        let mut corrected = Instant::now() - CORRECTION;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if self.changed_by_others(&wanted) {
                tokio::time::sleep_until(corrected + CORRECTION).await;
                corrected = Instant::now();
            }
            match self.settle(&wanted, &mut told_delete).await {
                Answer::Gone => return,
                Answer::Done(_) => {
                    retry = FIRST_RETRY;
                    if self.wanted.changed().await.is_err() {
                        return;
                    }
                }
                Answer::Retry(why) => {
                    tracing::debug!(pod = %self.name, error = %why, "pod status not written, will retry");
                    let jitter = 1.0 + rand::random::<f64>() * 0.2;
                    tokio::time::sleep(retry.mul_f64(jitter)).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Takes over what the API says unless it is older than our own last write. True: there is something to mend.
    fn changed_by_others(&mut self, wanted: &Wanted) -> bool {
        let Some((version, seen)) = wanted.seen.as_ref().filter(|(v, _)| *v > self.version) else {
            return false;
        };
        (self.version, self.known) = (*version, value(seen));
        let ours = wanted.status.as_deref().map(value);
        ours.is_some_and(|ours| status_patch(&self.known, &ours).is_some())
    }

    async fn settle(&mut self, wanted: &Wanted, told_delete: &mut bool) -> Answer {
        if let Some(status) = &wanted.status {
            match self.patch(status).await {
                Answer::Done(_) => {}
                other => return other,
            }
        }
        if wanted.delete && !*told_delete {
            match self.delete().await {
                Answer::Done(_) => *told_delete = true,
                other => return other,
            }
        }
        Answer::Done(None)
    }

    async fn patch(&mut self, status: &PodStatus) -> Answer {
        let new = value(status);
        let Some(diff) = status_patch(&self.known, &new) else { return Answer::Done(None) };
        let body = json!({"metadata": {"uid": self.uid}, "status": diff});
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let request = Request::new(path).patch_subresource(
            "status",
            &self.name,
            &PatchParams::default(),
            &Patch::Strategic(&body),
        );
        match self.send(request).await {
            Answer::Done(version) => {
                self.known = new;
                self.version = version.unwrap_or(self.version);
                self.ctx.metrics.status_patches.inc();
                Answer::Done(version)
            }
            other => other,
        }
    }

    async fn delete(&mut self) -> Answer {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..Default::default()
        };
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        self.send(Request::new(path).delete(&self.name, &params)).await
    }

    async fn send(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Answer {
        let Some(client) = &self.ctx.client else { return Answer::Gone };
        let request = match request {
            Ok(r) => r.map(kube::client::Body::from),
            Err(e) => return Answer::Retry(e.to_string()),
        };
        let exchange = async {
            let answer = client.send(request).await.map_err(|e| e.to_string())?;
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
            Ok::<_, String>((code, body))
        };
        match tokio::time::timeout(CALL, exchange).await {
            Err(_) => Answer::Retry("deadline exceeded".into()),
            Ok(Err(e)) => Answer::Retry(e),
            Ok(Ok((200..=299, body))) => Answer::Done(version_of(&body)),
            // not there any more, or another pod of the same name has taken its place
            Ok(Ok((404 | 409, body))) => {
                let text = String::from_utf8_lossy(&body);
                if text.contains("NotFound")
                    || text.contains("recondition")
                    || text.contains("UID")
                    || text.contains("uid")
                {
                    return Answer::Gone;
                }
                Answer::Retry(text.chars().take(200).collect())
            }
            Ok(Ok((code, body))) => Answer::Retry(format!(
                "{code}: {}",
                String::from_utf8_lossy(&body).chars().take(200).collect::<String>()
            )),
        }
    }
}

fn version_of(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        resource_version: String,
    }
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Meta,
    }
    serde_json::from_slice::<Object>(body).ok()?.metadata.resource_version.parse().ok()
}

/// A status as JSON without what says nothing: nulls and empty objects.
fn value(status: &PodStatus) -> Value {
    fn lean(v: Value) -> Option<Value> {
        match v {
            Value::Null => None,
            Value::Object(map) => {
                let keep = |(k, v): (String, Value)| match (k.as_str(), v) {
                    // an empty one says that nothing was asked for
                    ("resources", v @ Value::Object(_)) => Some((k, v)),
                    (_, v) => Some((k, lean(v)?)),
                };
                let map: Map<_, _> = map.into_iter().filter_map(keep).collect();
                (!map.is_empty()).then_some(Value::Object(map))
            }
            Value::Array(list) => {
                let list: Vec<_> = list.into_iter().filter_map(lean).collect();
                (!list.is_empty()).then_some(Value::Array(list))
            }
            other => Some(other),
        }
    }
    serde_json::to_value(status).ok().and_then(lean).unwrap_or_default()
}

/// The strategic merge patch that makes `new` of `old`; None when they are equal.
pub fn status_patch(old: &Value, new: &Value) -> Option<Value> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut patch = Map::new();
    for (key, value) in new.iter().filter(|(k, v)| old.get(*k) != Some(*v)) {
        let merged_by = match key.as_str() {
            "conditions" => Some("type"),
            "podIPs" | "hostIPs" => Some("ip"),
            _ => None,
        };
        let none = Value::Null;
        let value = match merged_by {
            Some(by) => merge_list(by, old.get(key).unwrap_or(&none), value),
            None => value.clone(),
        };
        if key == "conditions" {
            if value.as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            if let Some(order) = order(old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none)) {
                patch.insert("$setElementOrder/conditions".into(), order);
            }
        }
        patch.insert(key.clone(), value);
    }
    for key in old.keys().filter(|k| !new.contains_key(*k) && OWNED.contains(&k.as_str())) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Fields that the kubelet may take away.
const OWNED: [&str; 8] = [
    "reason",
    "message",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "hostIPs",
];

/// Conditions that are the kubelet's to write.
const CONDITIONS: [&str; 9] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "DisruptionTarget",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

fn foreign(condition: &Value) -> bool {
    !condition.get("type").and_then(Value::as_str).is_some_and(|t| CONDITIONS.contains(&t))
}

/// The conditions in our order, when the API has them in another.
fn order(old: &Value, new: &Value) -> Option<Value> {
    let types = |v: &Value| {
        let list = v.as_array().into_iter().flatten();
        list.filter_map(|c| c.get("type")?.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let (old, new) = (types(old), types(new));
    let order: Vec<Value> = new.iter().map(|t| json!({ "type": t })).collect();
    (old != new).then_some(Value::Array(order))
}

/// A list merged by key: changed items, and deletions of what is no longer there.
fn merge_list(by: &str, old: &Value, new: &Value) -> Value {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let (old, new) = (list(old), list(new));
    let mut out: Vec<Value> =
        new.iter().filter(|n| !old.contains(n) && (by != "type" || !foreign(n))).cloned().collect();
    for item in &mut out {
        // what the old item has and the new one lacks must be nulled, or merging would keep it
        let Some(before) = old.iter().find(|o| o.get(by) == item.get(by)).and_then(Value::as_object) else {
            continue;
        };
        if let Some(map) = item.as_object_mut() {
            for key in before.keys() {
                map.entry(key.clone()).or_insert(Value::Null);
            }
        }
    }
    for gone in old.iter().filter(|o| !new.iter().any(|n| n.get(by) == o.get(by))) {
        let resize = gone.get("type").and_then(Value::as_str).is_some_and(|t| t.starts_with("PodResize"));
        if by == "ip" || resize {
            out.push(json!({"$patch": "delete", by: gone.get(by)}));
        }
    }
    Value::Array(out)
}

/// The status a pod object carries.
pub fn status_of(pod: &Pod) -> PodStatus {
    pod.status.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_differences() {
        let old = json!({"phase": "Pending", "reason": "x", "qosClass": "B", "foreign": 1,
            "conditions": [{"type": "Ready", "status": "False", "reason": "r"}, {"type": "A", "status": "True"}],
            "podIPs": [{"ip": "1"}]});
        let theirs = json!({"type": "x.y/z", "status": "True"});
        let new = json!({"phase": "Running", "qosClass": "B",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "A", "status": "True"}, theirs],
            "podIPs": [{"ip": "2"}]});
        assert_eq!(
            status_patch(&old, &new),
            Some(json!({"phase": "Running", "reason": null,
                "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "A"}, {"type": "x.y/z"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}],
                "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}]}))
        );
        assert_eq!(status_patch(&new, &new), None);
    }
}
