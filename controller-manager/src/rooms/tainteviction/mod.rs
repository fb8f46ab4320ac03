//! Pods that do not tolerate a NoExecute taint of their node, or not for ever, are deleted.

use std::collections::HashSet;
use std::sync::Arc;

use crate::kit::nodes::tolerates;
use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;

use crate::kit::meta::{created, until};
use crate::kit::write::Format;
use crate::kit::{Context, Write, pods};

const WORKERS: usize = 8;

struct Room {
    context: Context,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    /// Pods that were told they will go.
    doomed: Mutex<HashSet<Key>>,
}

/// Starts the controller. Keys are pods.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        nodes: context.nodes(),
        pods: context.pods(),
        doomed: Mutex::default(),
        context: context.clone(),
    });
    let queue: Queue<Key> = Queue::new();
    let (q, seen) = (queue.clone(), room.clone());
    room.pods.handle(move |event| {
        if event.new.is_none() {
            seen.doomed.lock().remove(&event.key);
        } else if event.new.as_ref().and_then(|p| pods::node(p)).is_some_and(|n| seen.is_tainted(n)) {
            q.add(event.key.clone());
        }
    });
    let (q, pods) = (queue.clone(), room.pods.clone());
    room.nodes.handle(move |event| {
        let taints = |n: &Option<Arc<Node>>| n.as_ref().map(|n| no_execute(n)).unwrap_or_default();
        if taints(&event.old) != taints(&event.new) {
            pods.by_index(pods::BY_NODE, &event.key.name).iter().for_each(|p| q.add(Key::of(&**p)));
        }
    });
    context.run(Options::new("taint-eviction-controller", WORKERS), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == "NoExecute").cloned().collect()
}

/// What becomes of a pod.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays,
    GoesAt(Timestamp),
}

/// The shortest of the tolerations used decides, counted from the newest taint or the pod's own beginning.
fn fate(taints: &[Taint], tolerations: &[Toleration], pod_since: Timestamp, now: Timestamp) -> Fate {
    if taints.is_empty() {
        return Fate::Stays;
    }
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let mut using = tolerations.iter().filter(|t| tolerates(t, taint)).peekable();
        if using.peek().is_none() {
            return Fate::GoesAt(now);
        }
        for seconds in using.filter_map(|t| t.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    let Some(seconds) = shortest else { return Fate::Stays };
    let since = taints.iter().filter_map(|t| t.time_added.as_ref()).map(|t| t.0).max().unwrap_or(now);
    Fate::GoesAt(since.max(pod_since) + SignedDuration::from_secs(seconds.max(0)))
}

impl Room {
    fn is_tainted(&self, node: &str) -> bool {
        self.nodes.get("", node).is_some_and(|n| !no_execute(&n).is_empty())
    }

    async fn sync(&self, key: Key) -> Outcome {
        let Some(pod) = self.pods.get_key(&key) else { return Ok(None) };
        let Some(node) = pods::node(&pod).and_then(|n| self.nodes.get("", n)) else { return Ok(None) };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let now = Timestamp::now();
        match fate(&no_execute(&node), tolerations, created(&pod.metadata), now) {
            Fate::Stays => {
                if self.doomed.lock().remove(&key) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.context.recorder.normal(&reference(&*pod), "TaintManagerEviction", message);
                }
                Ok(None)
            }
            Fate::GoesAt(at) if at > now => {
                self.doomed.lock().insert(key);
                Ok(Some(until(at, now)))
            }
            Fate::GoesAt(_) => self.evict(&key, &pod).await,
        }
    }

    async fn evict(&self, key: &Key, pod: &Pod) -> Outcome {
        self.doomed.lock().remove(key);
        let message = format!("Marking for deletion Pod {key}");
        self.context.recorder.normal(&reference(pod), "TaintManagerEviction", message);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(Timestamp::now()),
        });
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        for write in [Write::patch(pod, Format::Strategic, body).subresource("status"), Write::delete(pod)] {
            match self.context.writer.send(&write).await {
                Err(failure) if failure.not_found() => return Ok(None),
                other => drop(other?),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, time};

    fn taint(key: &str) -> Taint {
        let time_added = Some(time("2026-01-01T09:58:00Z"));
        Taint { key: key.into(), effect: "NoExecute".into(), value: None, time_added }
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Default::default()
        }
    }

    #[test]
    fn fates() {
        let old = time("2026-01-01T00:00:00Z").0;
        let go = |t: &[Taint], o: &[Toleration]| fate(t, o, old, now());
        let at = |t: &str| Fate::GoesAt(time(t).0);
        assert_eq!(go(&[], &[]), Fate::Stays);
        assert_eq!(go(&[taint("a")], &[]), Fate::GoesAt(now()));
        assert_eq!(go(&[taint("a")], &[toleration("a", None)]), Fate::Stays);
        assert_eq!(go(&[taint("a")], &[toleration("a", Some(300))]), at("2026-01-01T10:03:00Z"));
        assert_eq!(
            go(&[taint("a"), taint("b")], &[toleration("a", Some(300)), toleration("b", Some(10))]),
            at("2026-01-01T09:58:10Z")
        );
        assert_eq!(go(&[taint("a"), taint("b")], &[toleration("a", Some(300))]), Fate::GoesAt(now()));
        let young = fate(&[taint("a")], &[toleration("a", Some(60))], time("2026-01-01T09:59:30Z").0, now());
        assert_eq!(young, at("2026-01-01T10:00:30Z"));
    }

    #[test]
    fn everything_is_tolerated_by_exists_without_a_key() {
        let all = Toleration { operator: Some("Exists".into()), ..Default::default() };
        assert!(tolerates(&all, &taint("x")));
        assert!(!tolerates(&Toleration::default(), &taint("x")));
    }
}
