//! Wakes, observes and applies for EndpointSlices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue, Recorder};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use super::instruments::Instruments;
use super::plan::{Observed, SERVICE_LABEL, ours, plan};
use super::source::{self, Family};
use super::topology::{self, Shares, ZONE};
use crate::kit::meta::{label, name, namespace, selects_map};
use crate::kit::seen::Seen;
use crate::kit::{Context, Step, pods};

const COMPONENT: &str = "endpoint-slice-controller";
const BY_SERVICE: &str = "service";

struct Room {
    context: Context,
    services: Cache<Service>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    slices: Cache<EndpointSlice>,
    seen: Seen<Key>,
    recorder: Recorder,
    instruments: Instruments,
    /// Whether a Service's endpoints have hints by zone, as last told.
    told: Mutex<HashMap<(Key, Family), Result<(), String>>>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        services: context.caches.of(),
        pods: context.pods(),
        nodes: context.nodes(),
        slices: context.caches.of(),
        seen: Seen::default(),
        recorder: Recorder::start(context.writer.client(), COMPONENT, None, &context.tasks),
        instruments: Instruments::register(&context.metrics),
        told: Mutex::default(),
        context: context.clone(),
    });
    source::index(&room.services);
    room.slices.add_index(BY_SERVICE, |slice: &EndpointSlice| {
        service_of(slice).map(|k| k.to_string()).into_iter().collect()
    });
    let queue = Queue::with_backoff(Duration::from_millis(50), Duration::from_secs(100));
    wake(&room, &queue);
    let workers = context.config.workers("service-endpoint", 5);
    context.run(Options::new("endpointslice-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    Some(Key::new(namespace(&slice.metadata), label(&slice.metadata, SERVICE_LABEL)?))
}

fn wake(room: &Arc<Room>, queue: &Queue<Key>) {
    let (q, seen) = (queue.clone(), room.clone());
    room.services.handle(move |event| {
        if event.new.is_none() {
            seen.told.lock().retain(|(key, _), _| *key != event.key);
            seen.instruments.slices.forget(&event.key);
        }
        seen.instruments.service(event.old.as_deref(), event.new.as_deref());
        q.add(event.key.clone());
    });
    let (q, services) = (queue.clone(), room.services.clone());
    room.pods.handle(move |event| source::affected(&services, event).into_iter().for_each(|k| q.add(k)));
    let q = queue.clone();
    room.slices.handle(move |event| {
        for slice in event.old.iter().chain(&event.new).filter(|s| ours(s)) {
            service_of(slice).into_iter().for_each(|k| q.add(k));
        }
    });
    // What zones have of the CPU matters to all Services that go by it.
    let (q, seen) = (queue.clone(), room.clone());
    room.nodes.handle(move |event| {
        let facts = |n: &Option<Arc<Node>>| n.as_ref().and_then(|n| topology::facts(n));
        if facts(&event.old) != facts(&event.new) {
            let services = seen.services.list();
            services.iter().filter(|s| topology::wanted(s)).for_each(|s| q.add(Key::of(&**s)));
        }
    });
    // A node that appears, or moves to another zone, matters to the pods on it.
    let (q, services, pods) = (queue.clone(), room.services.clone(), room.pods.clone());
    room.nodes.handle(move |event| {
        let zone = |n: &Option<Arc<Node>>| n.as_ref().map(|n| label(&n.metadata, ZONE).map(str::to_string));
        if zone(&event.old) == zone(&event.new) {
            return;
        }
        for pod in pods.by_index(pods::BY_NODE, &event.key.name) {
            let seen = control::Event { key: Key::of(&*pod), old: None, new: Some(pod) };
            source::affected(&services, &seen).into_iter().for_each(|k| q.add(k));
        }
    });
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(service) = self.services.get_key(&key) else { return Ok(None) };
        let Some(selector) = source::selector(&service) else { return Ok(None) };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if self.seen.behind(&key, self.slices.resource_version()) {
            self.instruments.stale();
            // The slice's event wakes us; the time is for the event that never comes.
            return Ok(Some(Duration::from_secs(1)));
        }
        let fits = |p: &&Arc<Pod>| selects_map(selector, p.metadata.labels.as_ref());
        let pods = self.pods.by_namespace(&key.namespace);
        let pods: Vec<&Pod> = pods.iter().filter(fits).map(|p| &**p).collect();
        let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
        let slices: Vec<&EndpointSlice> = slices.iter().filter(|s| ours(s)).map(|s| &**s).collect();
        let zones = self.zones(&pods);
        let max = self.context.config.max_endpoints_per_slice.clamp(1, 1000);
        let shares = topology::wanted(&service).then(|| self.shares());
        let observed =
            Observed { service: &service, pods, slices, zones: &zones, shares: shares.as_ref(), max };
        let outcome = plan(&observed);
        self.instruments.looked(&key, &observed, &outcome);
        let applied = self.apply(&key, outcome.plan.steps).await;
        self.instruments.synced(applied.is_ok());
        applied?;
        self.tell(&key, &service, outcome.hinted);
        if !outcome.homeless.is_empty() {
            tracing::debug!(service = %key, pods = ?outcome.homeless, "nodes of pods are not known yet");
        }
        Ok(None)
    }

    fn shares(&self) -> Shares {
        let nodes = self.nodes.list();
        topology::shares(nodes.iter().map(|n| &**n))
    }

    /// Says when hints by zone begin, and when and why they end or cannot be given.
    fn tell(&self, key: &Key, service: &Service, hinted: Vec<(Family, Option<Result<(), String>>)>) {
        let mut told = self.told.lock();
        for (family, now) in hinted {
            let at = (key.clone(), family);
            let before = match &now {
                Some(state) => told.insert(at, state.clone()),
                None => told.remove(&at),
            };
            if now == before {
                continue;
            }
            let of = format!("addressType: {}", family.as_str());
            let (object, off) = (reference(service), "TopologyAwareHintsDisabled");
            match (now, before) {
                (Some(Ok(())), _) => {
                    let message = format!("Topology Aware Hints has been enabled, {of}");
                    self.recorder.normal(&object, "TopologyAwareHintsEnabled", message);
                }
                (Some(Err(why)), _) => self.recorder.warning(&object, off, format!("{why}, {of}")),
                (None, Some(Ok(()))) => {
                    let message = format!("Topology Aware Hints has been disabled, {of}");
                    self.recorder.warning(&object, off, message);
                }
                (None, _) => {}
            }
        }
    }

    fn zones(&self, pods: &[&Pod]) -> HashMap<String, Option<String>> {
        let names = pods.iter().filter_map(|p| pods::node(p));
        let known = names.filter_map(|n| self.nodes.get("", n));
        known.map(|n| (name(&n.metadata).to_string(), label(&n.metadata, ZONE).map(str::to_string))).collect()
    }

    async fn apply(&self, key: &Key, steps: Vec<Step>) -> anyhow::Result<()> {
        for step in steps {
            let (Step::Write(write) | Step::Vanishing(write)) = &step else { continue };
            match self.context.writer.send(write).await {
                Ok(answer) => self.seen.wrote(key.clone(), &answer),
                Err(failure) if failure.not_found() && matches!(step, Step::Vanishing(_)) => {}
                Err(failure) if failure.namespace_terminating() => return Ok(()),
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }
}
