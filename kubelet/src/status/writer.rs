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

/// What shall be true in the API.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// the status; None before the first one is made
    pub status: Option<Arc<PodStatus>>,
    /// nothing is left on the node and the pod is to be deleted from the API
    pub delete: bool,
}

/// The writing task's handle.
pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
}

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
            known: serde_json::to_value(known).unwrap_or_default(),
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
    known: Value,
    wanted: watch::Receiver<Wanted>,
}

enum Answer {
    Done,
    Gone,
    Retry(String),
}

impl Task {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut told_delete = false;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            match self.settle(&wanted, &mut told_delete).await {
                Answer::Gone => return,
                Answer::Done => {
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

    async fn settle(&mut self, wanted: &Wanted, told_delete: &mut bool) -> Answer {
        if let Some(status) = &wanted.status {
            match self.patch(status).await {
                Answer::Done => {}
                other => return other,
            }
        }
        if wanted.delete && !*told_delete {
            match self.delete().await {
                Answer::Done => *told_delete = true,
                other => return other,
            }
        }
        Answer::Done
    }

    async fn patch(&mut self, status: &PodStatus) -> Answer {
        let new = serde_json::to_value(status).unwrap_or_default();
        let Some(diff) = status_patch(&self.known, &new) else { return Answer::Done };
        let body = json!({"metadata": {"uid": self.uid}, "status": diff});
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let request = Request::new(path).patch_subresource(
            "status",
            &self.name,
            &PatchParams::default(),
            &Patch::Strategic(&body),
        );
        match self.send(request).await {
            Answer::Done => {
                self.known = new;
                self.ctx.metrics.status_patches.inc();
                Answer::Done
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
            Ok(Ok((200..=299, _))) => Answer::Done,
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
        let value = match (merged_by, old.get(key)) {
            (Some(by), Some(before)) => merge_list(by, before, value),
            _ => value.clone(),
        };
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

/// A list merged by key: changed items, and deletions of what is no longer there.
fn merge_list(by: &str, old: &Value, new: &Value) -> Value {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let (old, new) = (list(old), list(new));
    let mut out: Vec<Value> = new.iter().filter(|n| !old.contains(n)).cloned().collect();
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
        if by == "ip" {
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
        let new = json!({"phase": "Running", "qosClass": "B",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "A", "status": "True"}],
            "podIPs": [{"ip": "2"}]});
        assert_eq!(
            status_patch(&old, &new),
            Some(json!({"phase": "Running", "reason": null,
                "conditions": [{"type": "Ready", "status": "True", "reason": null}],
                "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}]}))
        );
        assert_eq!(status_patch(&new, &new), None);
    }
}
