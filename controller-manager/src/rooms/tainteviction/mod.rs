//! Pods that do not tolerate a NoExecute taint of their node, or not for ever, are deleted.

#[cfg(test)]
mod simulation;

use std::collections::HashMap;
use std::sync::Arc;

use crate::kit::nodes::tolerates;
use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use serde_json::json;

use crate::kit::meta::{created, uid, until};
use crate::kit::write::Format;
use crate::kit::{Context, Write, pods};

const WORKERS: usize = 8;

struct Room {
    context: Context,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    /// When pods that may stay a while will go, each with its UID.
    doomed: Mutex<HashMap<Key, (String, Timestamp)>>,
    deletions: Counter,
    /// From the moment a pod had to go until it was deleted.
    latency: Histogram,
    /// What time it is.
    now: fn() -> Timestamp,
}

const LATENCIES: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0];

/// Starts the controller. Keys are pods.
pub fn start(context: Context) {
    let room = Arc::new(Room::new(context.clone(), context.nodes(), context.pods()));
    let queue: Queue<Key> = Queue::new();
    wake(&room, &queue);
    context.run(Options::new("taint-eviction-controller", WORKERS), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn wake(room: &Arc<Room>, queue: &Queue<Key>) {
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
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == "NoExecute").cloned().collect()
}

/// What becomes of a pod.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays,
    GoesNow,
    GoesAt(Timestamp),
}

impl Fate {
    /// With a time set before: that stands, whatever taints or tolerations have come since, as long as the pod may
    /// stay for a while at all.
    fn kept(self, before: Option<Timestamp>) -> Self {
        match (self, before) {
            (Fate::GoesAt(_), Some(at)) => Fate::GoesAt(at),
            (fate, _) => fate,
        }
    }
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
            return Fate::GoesNow;
        }
        for seconds in using.filter_map(|t| t.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    let Some(seconds) = shortest else { return Fate::Stays };
    let begin = since(taints).unwrap_or(now).max(pod_since);
    Fate::GoesAt(begin + SignedDuration::from_secs(seconds.max(0)))
}

/// When the newest of the taints was added.
fn since(taints: &[Taint]) -> Option<Timestamp> {
    taints.iter().filter_map(|t| t.time_added.as_ref()).map(|t| t.0).max()
}

impl Room {
    /// A room that remembers nothing yet.
    fn new(context: Context, nodes: Cache<Node>, pods: Cache<Pod>) -> Self {
        let deletions = context.metrics.register(
            "taint_eviction_controller_pod_deletions",
            "Total number of Pods deleted by TaintEvictionController since its start",
            Counter::default(),
        );
        let latency = context.metrics.register(
            "taint_eviction_controller_pod_deletion_duration_seconds",
            "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion",
            Histogram::new(LATENCIES),
        );
        Self { context, nodes, pods, doomed: Mutex::default(), deletions, latency, now: Timestamp::now }
    }

    fn is_tainted(&self, node: &str) -> bool {
        self.nodes.get("", node).is_some_and(|n| !no_execute(&n).is_empty())
    }

    async fn sync(&self, key: Key) -> Outcome {
        let Some(pod) = self.pods.get_key(&key) else { return Ok(None) };
        let Some(node) = pods::node(&pod).and_then(|n| self.nodes.get("", n)) else {
            // Should it come back, its taints are new ones.
            self.doomed.lock().remove(&key);
            return Ok(None);
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let now = (self.now)();
        // Another pod may have had the name before.
        let before =
            self.doomed.lock().get(&key).filter(|(id, _)| id == uid(&pod.metadata)).map(|(_, at)| *at);
        match fate(&no_execute(&node), tolerations, created(&pod.metadata), now).kept(before) {
            Fate::Stays => {
                if self.doomed.lock().remove(&key).is_some() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.context.recorder.normal(&reference(&*pod), "TaintManagerEviction", message);
                }
                Ok(None)
            }
            Fate::GoesAt(at) if at > now => {
                self.doomed.lock().insert(key, (uid(&pod.metadata).to_string(), at));
                Ok(Some(until(at, now)))
            }
            Fate::GoesAt(at) => self.evict(&key, &pod, at).await,
            Fate::GoesNow => self.evict(&key, &pod, since(&no_execute(&node)).unwrap_or(now)).await,
        }
    }

    /// Deletes a pod that had to go at `due`. A time set for it stands until it is gone, should this fail.
    async fn evict(&self, key: &Key, pod: &Pod, due: Timestamp) -> Outcome {
        let message = format!("Marking for deletion Pod {key}");
        self.context.recorder.normal(&reference(pod), "TaintManagerEviction", message);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time((self.now)()),
        });
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        for write in [Write::patch(pod, Format::Strategic, body).subresource("status"), Write::delete(pod)] {
            match self.context.writer.send(&write).await {
                Err(failure) if failure.not_found() => return Ok(None),
                other => drop(other?),
            }
        }
        self.deletions.inc();
        self.latency.observe(until((self.now)(), due).as_secs_f64());
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
        assert_eq!(go(&[taint("a")], &[]), Fate::GoesNow);
        assert_eq!(go(&[taint("a")], &[toleration("a", None)]), Fate::Stays);
        assert_eq!(go(&[taint("a")], &[toleration("a", Some(300))]), at("2026-01-01T10:03:00Z"));
        assert_eq!(
            go(&[taint("a"), taint("b")], &[toleration("a", Some(300)), toleration("b", Some(10))]),
            at("2026-01-01T09:58:10Z")
        );
        assert_eq!(go(&[taint("a"), taint("b")], &[toleration("a", Some(300))]), Fate::GoesNow);
        let young = fate(&[taint("a")], &[toleration("a", Some(60))], time("2026-01-01T09:59:30Z").0, now());
        assert_eq!(young, at("2026-01-01T10:00:30Z"));
    }

    #[test]
    fn a_time_once_set_stands() {
        let (early, late) = (time("2026-01-01T10:00:30Z").0, time("2026-01-01T10:05:00Z").0);
        assert_eq!(Fate::GoesAt(early).kept(Some(late)), Fate::GoesAt(late));
        assert_eq!(Fate::GoesAt(late).kept(Some(early)), Fate::GoesAt(early));
        assert_eq!(Fate::GoesAt(late).kept(None), Fate::GoesAt(late));
        assert_eq!(
            (Fate::GoesNow.kept(Some(late)), Fate::Stays.kept(Some(late))),
            (Fate::GoesNow, Fate::Stays)
        );
    }

    #[test]
    fn everything_is_tolerated_by_exists_without_a_key() {
        let all = Toleration { operator: Some("Exists".into()), ..Default::default() };
        assert!(tolerates(&all, &taint("x")));
        assert!(!tolerates(&Toleration::default(), &taint("x")));
    }
}
