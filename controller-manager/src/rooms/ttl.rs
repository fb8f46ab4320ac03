//! How long kubelets may believe a Secret or ConfigMap they have read: the larger the cluster, the longer. Nodes carry
//! it as an annotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::kit::meta::annotation;
use crate::kit::write::Format;
use crate::kit::{Context, Plan, Write};

const TTL: &str = "node.alpha.kubernetes.io/ttl";

/// A step: up to `most` nodes, and back to the step below under `least`; the seconds.
struct Step {
    least: usize,
    most: usize,
    seconds: u32,
}

const STEPS: [Step; 5] = [
    Step { least: 0, most: 100, seconds: 0 },
    Step { least: 90, most: 500, seconds: 15 },
    Step { least: 450, most: 1000, seconds: 30 },
    Step { least: 900, most: 2000, seconds: 60 },
    Step { least: 1800, most: usize::MAX, seconds: 300 },
];

struct Room {
    context: Context,
    nodes: Cache<Node>,
    /// The step the cluster's size is on.
    step: AtomicUsize,
}

/// Starts the controller.
pub fn start(context: Context) {
    let nodes = context.nodes();
    let room = Arc::new(Room { nodes: nodes.clone(), step: AtomicUsize::new(0), context: context.clone() });
    let queue: Queue<Key> = Queue::new();
    let (q, seen) = (queue.clone(), room.clone());
    nodes.handle(move |event| {
        let before = seen.step.load(Ordering::Relaxed);
        let now = step(before, seen.nodes.len());
        seen.step.store(now, Ordering::Relaxed);
        if now != before {
            seen.nodes.keys().into_iter().for_each(|k| q.add(k));
        }
        let value =
            |n: &Option<Arc<Node>>| n.as_ref().map(|n| annotation(&n.metadata, TTL).map(str::to_string));
        if value(&event.old) != value(&event.new) {
            q.add(event.key.clone());
        }
    });
    let workers = context.config.workers("ttl", 5);
    context.run(Options::new("ttl-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

/// The step for a number of nodes, coming from another: each is left a little later than it is entered.
fn step(mut at: usize, nodes: usize) -> usize {
    while at + 1 < STEPS.len() && nodes > STEPS[at].most {
        at += 1;
    }
    while at > 0 && nodes < STEPS[at].least {
        at -= 1;
    }
    at
}

fn plan(node: &Node, seconds: u32) -> Plan {
    let wanted = seconds.to_string();
    if annotation(&node.metadata, TTL) == Some(&wanted) {
        return Plan::nothing("carries it");
    }
    let mut plan = Plan::because("the time to live follows the size of the cluster");
    let body = json!({"metadata": {"annotations": {TTL: wanted}}});
    plan.vanishing(Write::patch(node, Format::Strategic, body).note(format!("ttl {seconds}s")));
    plan
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(node) = self.nodes.get_key(&key) else { return Ok(None) };
        let seconds = STEPS[self.step.load(Ordering::Relaxed)].seconds;
        plan(&node, seconds).apply(&self.context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_left_later_than_entered() {
        // nodes, one after the other -> seconds
        let walk = [
            (1, 0),
            (100, 0),
            (101, 15),
            (90, 15),
            (89, 0),
            (5000, 300),
            (1800, 300),
            (1799, 60),
            (900, 60),
            (600, 30),
            (449, 15),
            (1, 0),
            (700, 30),
        ];
        let mut at = 0;
        for (nodes, seconds) in walk {
            at = step(at, nodes);
            assert_eq!(STEPS[at].seconds, seconds, "{nodes} nodes");
        }
    }

    #[test]
    fn nodes_are_told_once() {
        let mut node = Node::default();
        node.metadata.name = Some("n".into());
        let told = "why: the time to live follows the size of the cluster\npatch nodes n: ttl 15s\n";
        assert_eq!(plan(&node, 15).to_string(), told);
        node.metadata.annotations = Some([(TTL.to_string(), "15".to_string())].into());
        assert!(plan(&node, 15).steps.is_empty());
        assert!(!plan(&node, 0).steps.is_empty());
    }
}
