//! Watches nodes and their leases, and applies what follows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use control::cache::Options as CacheOptions;
use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::Api;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::instruments::Instruments;
use super::plan::{self, Permit, condition, ready};
use super::zones::{Rates, Zones, zone};
use crate::kit::meta::{created, name, until};
use crate::kit::write::Format;
use crate::kit::{Context, Write, pods};

const LEASES: &str = "kube-node-lease";
/// Nodes worked on at a time.
const WORKERS: usize = 8;

/// The last sign of life of a node, and when (by our clock) it was seen.
struct Probe {
    heartbeat: Option<Time>,
    renewed: Option<MicroTime>,
    at: Instant,
}

struct Room {
    context: Context,
    nodes: Cache<Node>,
    leases: Cache<Lease>,
    pods: Cache<Pod>,
    probes: Mutex<HashMap<String, Probe>>,
    zones: Mutex<Zones>,
    /// Nodes whose pods were marked not ready since they were last ready.
    marked: Mutex<HashSet<String>>,
    instruments: Instruments,
}

/// Starts the controller.
pub fn start(context: Context) {
    let config = &context.config;
    let rates = Rates {
        normal: config.node_eviction_rate,
        secondary: config.secondary_node_eviction_rate,
        large: config.large_cluster_size_threshold,
        threshold: config.unhealthy_zone_threshold,
    };
    let leases = Api::namespaced(context.root.clone(), LEASES);
    let room = Arc::new(Room {
        nodes: context.nodes(),
        leases: Cache::start(leases, CacheOptions::default(), &context.tasks),
        pods: context.pods(),
        probes: Mutex::default(),
        zones: Mutex::new(Zones::new(rates)),
        marked: Mutex::default(),
        instruments: Instruments::new(&context.metrics),
        context: context.clone(),
    });
    let queue: Queue<Key> = Queue::new();
    let (q, seen) = (queue.clone(), room.clone());
    room.nodes.handle(move |event| {
        seen.node_changed(event);
        q.add(event.key.clone());
    });
    // A pod bound to a node that is not ready starts as not ready.
    let (q, seen) = (queue.clone(), room.clone());
    room.pods.handle(move |event| {
        let Some(pod) = &event.new else { return };
        let bound = pods::node(pod).filter(|n| event.old.as_deref().and_then(pods::node) != Some(n));
        let Some(node) = bound.and_then(|n| seen.nodes.get("", n)) else { return };
        if ready(&node) != Some("True") && pods::ready(pod) {
            seen.marked.lock().remove(name(&node.metadata));
            q.add(Key::of(&*node));
        }
    });
    let (watcher, q) = (room.clone(), queue.clone());
    context.tasks.spawn("node monitor", async move { watcher.monitor(&q).await });
    context.run(Options::new("node-lifecycle-controller", WORKERS), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

impl Room {
    fn node_changed(&self, event: &control::Event<Node>) {
        let recorder = &self.context.recorder;
        match (&event.old, &event.new) {
            (None, Some(node)) => {
                let n = name(&node.metadata);
                let message = format!("Node {n} event: Registered Node {n} in Controller");
                recorder.normal(&reference(&**node), "RegisteredNode", message);
            }
            (Some(node), None) => {
                let n = name(&node.metadata);
                let message = format!("Node {n} event: Removing Node {n} from Controller");
                recorder.normal(&reference(&**node), "RemovingNode", message);
                self.probes.lock().remove(n);
                self.marked.lock().remove(n);
            }
            _ => {}
        }
    }

    /// Looks at the clock: silence makes no event of its own. Reads caches only.
    async fn monitor(&self, queue: &Queue<Key>) {
        self.nodes.synced().await;
        self.leases.synced().await;
        let mut ticks =
            tokio::time::interval(self.context.config.node_monitor_period.max(Duration::from_millis(100)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let began = Instant::now();
            let nodes = self.nodes.list();
            futures::future::join_all(nodes.iter().map(|node| self.look(node))).await;
            if self.count_zones() {
                // Taints go from all nodes when all zones are down, and may come again when one is back.
                self.nodes.keys().into_iter().for_each(|k| queue.add(k));
            }
            self.instruments.round.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Sees whether a node is silent, and says so.
    async fn look(&self, node: &Node) {
        let began = Instant::now();
        if let Some(write) = self.check(node) {
            self.tell(node, &write).await;
        }
        self.instruments.node.observe(began.elapsed().as_secs_f64());
    }

    /// The write that says a node is silent, if it is and does not say so yet.
    fn check(&self, node: &Node) -> Option<Write> {
        let silence = self.silence(node);
        let config = &self.context.config;
        let never = condition(node, "Ready").is_none();
        let grace = if never { config.node_startup_grace_period } else { config.node_monitor_grace_period };
        let conditions = plan::silenced(node, silence, grace, Timestamp::now())?;
        let body = json!({"status": {"conditions": conditions}});
        Some(Write::patch(node, Format::Strategic, body).subresource("status").note("silent"))
    }

    /// How long ago the last sign of life came, by our own clock.
    fn silence(&self, node: &Node) -> Duration {
        let heartbeat = condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
        let lease = self.leases.get(LEASES, name(&node.metadata));
        let renewed = lease.as_ref().and_then(|l| l.spec.as_ref()).and_then(|s| s.renew_time.clone());
        let mut probes = self.probes.lock();
        let now = Instant::now();
        match probes.get_mut(name(&node.metadata)) {
            Some(probe) => {
                if probe.heartbeat != heartbeat || probe.renewed != renewed {
                    *probe = Probe { heartbeat, renewed, at: now };
                }
                now - probe.at
            }
            None => {
                // Never seen before: a node that has reported is given the whole grace, one that has not is as old as it is.
                let age = match heartbeat {
                    Some(_) => Duration::ZERO,
                    None => until(Timestamp::now(), created(&node.metadata)),
                };
                let at = now.checked_sub(age).unwrap_or(now);
                probes.insert(name(&node.metadata).into(), Probe { heartbeat, renewed, at });
                age
            }
        }
    }

    async fn tell(&self, node: &Node, write: &Write) {
        tracing::info!(node = name(&node.metadata), "node has fallen silent");
        match self.context.writer.send(write).await {
            Err(failure) if !failure.not_found() => {
                tracing::warn!(node = name(&node.metadata), %failure, "silence could not be written");
            }
            _ => {}
        }
    }

    /// Counts the zones anew; says whether "all are down" has just begun or ended.
    fn count_zones(&self) -> bool {
        let nodes = self.nodes.list();
        let mut zones = self.zones.lock();
        let changed = zones.count(nodes.iter().map(|n| &**n));
        self.instruments.zones(&zones);
        if !changed {
            return false;
        }
        tracing::info!(all_down = zones.all_down, "the state of all zones changed");
        if !zones.all_down {
            // We may have been cut off ourselves: everyone starts afresh.
            self.probes.lock().values_mut().for_each(|p| p.at = Instant::now());
        }
        true
    }

    async fn sync(&self, key: Key) -> Outcome {
        let Some(node) = self.nodes.get_key(&key) else { return Ok(None) };
        if ready(&node) == Some("True") {
            self.marked.lock().remove(&*key.name);
        } else if ready(&node).is_some() && self.marked.lock().insert(key.name.to_string()) {
            self.mark_pods(&node).await;
        }
        let permit = match plan::needs_permit(&node) {
            true => self.zones.lock().permit(&zone(&node)),
            false if self.zones.lock().all_down => Permit::AllDown,
            false => Permit::Granted,
        };
        let evicts = permit == Permit::Granted && plan::needs_permit(&node);
        match plan::plan(&node, permit, Timestamp::now()).apply(&self.context).await {
            Err(error)
                if error.downcast_ref::<crate::kit::write::Failure>().is_some_and(|f| f.not_found()) =>
            {
                Ok(None)
            }
            other => {
                if evicts && other.is_ok() {
                    self.instruments.evicted(&zone(&node));
                }
                other
            }
        }
    }

    /// The pods of a node that stopped being ready are not ready either, whatever they last said.
    async fn mark_pods(&self, node: &Node) {
        self.context.recorder.normal(
            &reference(node),
            "NodeNotReady",
            plan::status_now(node, "NodeNotReady"),
        );
        let on_node = self.pods.by_index(pods::BY_NODE, name(&node.metadata));
        for pod in on_node.iter().filter(|p| pods::ready(p)) {
            let condition =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(Timestamp::now())});
            let body = json!({"status": {"conditions": [condition]}});
            self.context.recorder.warning(&reference(&**pod), "NodeNotReady", "Node is not ready");
            let write =
                Write::patch(&**pod, Format::Strategic, body).subresource("status").note("node not ready");
            if let Err(failure) = self.context.writer.send(&write).await
                && !failure.not_found()
            {
                tracing::warn!(%failure, "pod could not be marked");
            }
        }
    }
}
