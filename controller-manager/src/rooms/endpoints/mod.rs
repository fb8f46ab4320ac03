//! Endpoints, the older form of what EndpointSlices say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpointslice::plan::TRIGGER;
use super::endpointslice::source::{self, HEADLESS, Port};
use crate::kit::meta::{annotation, label, name, selects_map};
use crate::kit::{Context, Plan, Write, pods};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// More addresses than this are cut off, ready ones last.
const MAX: usize = 1000;

struct Room {
    context: Context,
    services: Cache<Service>,
    pods: Cache<Pod>,
    endpoints: Cache<Endpoints>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        services: context.caches.of(),
        pods: context.pods(),
        endpoints: context.caches.of(),
        context: context.clone(),
    });
    source::index(&room.services);
    let queue = Queue::with_backoff(Duration::from_millis(50), Duration::from_secs(100));
    let q = queue.clone();
    room.services.handle(move |event| q.add(event.key.clone()));
    // Endpoints somebody else made are left alone, whether or not their Service is there yet.
    let (q, services) = (queue.clone(), room.services.clone());
    room.endpoints.handle(move |event| {
        let ours = event.object().is_some_and(|e| label(&e.metadata, MANAGED_BY) == Some(MANAGER));
        if ours || services.get_key(&event.key).is_some() {
            q.add(event.key.clone());
        }
    });
    let (q, services) = (queue.clone(), room.services.clone());
    room.pods.handle(move |event| source::affected(&services, event).into_iter().for_each(|k| q.add(k)));
    let workers = context.config.workers("endpoint", 5);
    context.run(Options::new("endpoints-controller", workers).max_retries(15), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let current = self.endpoints.get_key(&key);
        let Some(service) = self.services.get_key(&key) else {
            return orphaned(current.as_deref()).apply(&self.context).await;
        };
        let Some(selector) = source::selector(&service) else { return Ok(None) };
        let pods = self.pods.by_namespace(&key.namespace);
        let pods = pods.iter().filter(|p| selects_map(selector, p.metadata.labels.as_ref()));
        let pods: Vec<&Pod> = pods.map(|p| &**p).collect();
        match plan(&service, &pods, current.as_deref()).apply(&self.context).await {
            Err(error)
                if error
                    .downcast_ref::<crate::kit::write::Failure>()
                    .is_some_and(|f| f.namespace_terminating()) =>
            {
                Ok(None)
            }
            other => other,
        }
    }
}

/// Endpoints of our making whose Service is gone. (Locks of old leader elections look alike and are not ours.)
fn orphaned(current: Option<&Endpoints>) -> Plan {
    let mut plan = Plan::nothing("no such service");
    if let Some(endpoints) = current.filter(|e| annotation(&e.metadata, LEADER).is_none()) {
        plan.vanishing(Write::delete(endpoints));
    }
    plan
}

/// What the Endpoints object should be.
fn plan(service: &Service, pods: &[&Pod], current: Option<&Endpoints>) -> Plan {
    let (subsets, truncated) = subsets(service, pods);
    let mut fresh = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        subsets: None,
    });
    fresh.subsets = Some(subsets).filter(|s| !s.is_empty());
    let labels = fresh.metadata.labels.insert(Default::default());
    labels.extend(service.metadata.labels.clone().into_iter().flatten());
    labels.remove(HEADLESS);
    if source::headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let annotations = fresh.metadata.annotations.get_or_insert_default();
    match truncated {
        true => annotations.insert(CAPACITY.into(), "truncated".into()),
        false => annotations.remove(CAPACITY),
    };
    let same = |c: &Endpoints| {
        c.subsets == fresh.subsets
            && c.metadata.labels == fresh.metadata.labels
            && (annotation(&c.metadata, CAPACITY).is_some() == truncated)
    };
    if current.is_some_and(same) {
        return Plan::nothing("as it should be");
    }
    let changed = |p: &&Pod| pods::condition(p, "Ready").and_then(|c| c.last_transition_time.clone());
    if let Some(time) = pods.iter().filter_map(changed).map(|t| t.0).max() {
        fresh.metadata.annotations.get_or_insert_default().insert(TRIGGER.into(), time.to_string());
    }
    let mut plan = Plan::because(format!("{} pods", pods.len()));
    plan.write(match current {
        Some(_) => Write::update(&fresh),
        None => Write::create(&fresh),
    });
    plan
}

/// Addresses grouped by the ports they offer; says whether some were left out.
fn subsets(service: &Service, pods: &[&Pod]) -> (Vec<EndpointSubset>, bool) {
    let Some(spec) = &service.spec else { return (Vec::new(), false) };
    let tolerant = spec.publish_not_ready_addresses == Some(true);
    let Some(family) = source::families(service).first().copied() else { return (Vec::new(), false) };
    let mut counted: Vec<&&Pod> = pods
        .iter()
        .filter(|p| !pods::finished(p) && (tolerant || p.metadata.deletion_timestamp.is_none()))
        .filter(|p| source::address(p, family).is_some())
        .collect();
    counted.sort_by_key(|p| (!(tolerant || pods::ready(p)), source::address(p, family)));
    let truncated = counted.len() > MAX;
    counted.truncate(MAX);
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for pod in counted {
        let mut ports = source::ports(spec, pod);
        if ports.is_empty() && spec.ports.iter().flatten().next().is_some() {
            continue;
        }
        ports.sort();
        let Some(ip) = source::address(pod, family) else { continue };
        let group = groups.entry(ports).or_default();
        let side = if tolerant || pods::ready(pod) { &mut group.0 } else { &mut group.1 };
        side.push(address(service, pod, ip));
    }
    (groups.into_iter().map(|(ports, (ready, not))| subset(ports, ready, not)).collect(), truncated)
}

fn subset(ports: Vec<Port>, ready: Vec<EndpointAddress>, not_ready: Vec<EndpointAddress>) -> EndpointSubset {
    let some = |list: Vec<EndpointAddress>| Some(list).filter(|l| !l.is_empty());
    let port = |p: Port| EndpointPort {
        name: Some(p.name).filter(|n| !n.is_empty()),
        port: p.port,
        protocol: Some(p.protocol),
        app_protocol: p.app_protocol,
    };
    let ports: Vec<EndpointPort> = ports.into_iter().map(port).collect();
    EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(not_ready),
        ports: Some(ports).filter(|p| !p.is_empty()),
    }
}

fn address(service: &Service, pod: &Pod, ip: &str) -> EndpointAddress {
    EndpointAddress {
        ip: ip.into(),
        hostname: source::hostname(pod, service),
        node_name: pods::node(pod).map(str::to_string),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: Some(name(&pod.metadata).into()),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"clusterIP": "10.96.0.9", "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 8080}]}
        }))
        .unwrap()
    }

    fn shown(plan: &Plan) -> serde_json::Value {
        let Some(crate::kit::Step::Write(write)) = plan.steps.first() else { panic!("no write") };
        let list = |v: &serde_json::Value| {
            v.as_array().into_iter().flatten().map(|a| a["ip"].clone()).collect::<Vec<_>>()
        };
        let subset = &write.body["subsets"][0];
        json!([list(&subset["addresses"]), list(&subset["notReadyAddresses"]), subset["ports"][0]["port"]])
    }

    #[test]
    fn ready_and_not_ready_are_told_apart_and_terminating_left_out() {
        let pods = [
            pod("a Running node=n ip=10.0.0.2 ready"),
            pod("b Running node=n ip=10.0.0.1"),
            pod("c Running node=n ip=10.0.0.3 ready deleting"),
        ];
        let pods: Vec<&Pod> = pods.iter().collect();
        let made = plan(&service(), &pods, None);
        assert_eq!(shown(&made), json!([["10.0.0.2"], ["10.0.0.1"], 8080]));
        let Some(crate::kit::Step::Write(write)) = made.steps.first() else { panic!() };
        let current: Endpoints = serde_json::from_value(write.body.clone()).unwrap();
        assert!(plan(&service(), &pods, Some(&current)).steps.is_empty());
    }
}
