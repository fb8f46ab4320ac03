//! Decisions per second of the pure core, without any I/O, in the shapes of upstream's scheduler_perf. Built only when asked for:
//! `cargo run --release -p kube-scheduler --features bench --example decisions -- [nodes] [pods]`.
//!
//! One decision is everything between taking a pod from the queue and counting it on its node: counts, filters, scores, choice, and
//! the update of the running counts.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube_scheduler::framework::preempt;
use kube_scheduler::framework::profile::Profile;
use kube_scheduler::model::node::NodeSpec;
use kube_scheduler::model::pod::PodInfo;
use kube_scheduler::model::snapshot::Snapshot;
use kube_scheduler::plugins;
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn cluster(nodes: usize) -> Snapshot {
    let mut all = Snapshot::default();
    for i in 0..nodes {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": format!("node-{i}"), "labels": {ZONE: format!("zone-{}", i % 3), HOST: format!("node-{i}")}},
            "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
        }))
        .unwrap_or_default();
        all.set_node(Arc::new(NodeSpec::of(&node)));
    }
    all
}

fn pod(name: &str, over: Value) -> Arc<PodInfo> {
    let requests = json!({"cpu": "100m", "memory": "500Mi"});
    let mut all = json!({
        "metadata": {"name": name, "namespace": "sched", "uid": name, "labels": {"color": "c"}},
        "spec": {"containers": [{"name": "c", "image": "pause:1", "resources": {"requests": requests}}]},
    });
    merge(&mut all, over);
    let pod: Pod = serde_json::from_value(all).unwrap_or_default();
    Arc::new(PodInfo::of(&pod))
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.into_iter().for_each(|(key, value)| merge(base.entry(key).or_insert(Value::Null), value));
        }
        (base, over) => *base = over,
    }
}

fn term(key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"color": "c"}}, "topologyKey": key})
}

fn required(kind: &str, key: &str) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(key)]}}}})
}

fn preferred(kind: &str, key: &str) -> Value {
    let terms = json!([{"weight": 1, "podAffinityTerm": term(key)}]);
    json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

fn spread(key: &str, skew: i32, when: &str) -> Value {
    json!({"spec": {"topologySpreadConstraints": [{"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"color": "c"}}}]}})
}

/// A small generator: the bench must not depend on the machine's.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

fn place_all(profile: &Profile, all: &mut Snapshot, pods: &[Arc<PodInfo>]) -> usize {
    let (mut start, mut placed, mut state) = (0, 0, 1u64);
    for pod in pods {
        let outcome = profile.decide(pod, all, start, &mut |n| random(&mut state) % n.max(1));
        start = outcome.next_start;
        if let Ok(node) = outcome.choice {
            all.add_pod(&node, pod.clone());
            placed += 1;
        }
    }
    placed
}

fn shape(name: &str, nodes: usize, pods: usize, over: Value) {
    let profile = plugins::default_profile();
    let mut all = cluster(nodes);
    let pods: Vec<_> = (0..pods).map(|i| pod(&format!("{name}-{i}"), over.clone())).collect();
    let begin = Instant::now();
    let placed = place_all(&profile, &mut all, &pods);
    report(name, nodes, pods.len(), placed, begin);
}

fn report(name: &str, nodes: usize, pods: usize, placed: usize, begin: Instant) {
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{name:<28} nodes={nodes} pods={pods} placed={placed} decisions/s={:.0} us/decision={:.1}",
        pods as f64 / took,
        took * 1e6 / pods as f64
    );
}

/// Every node is full of pods of lower priority; each newcomer finds its victims, which leave at once.
fn preemption(nodes: usize, pods: usize) {
    let profile = plugins::default_profile();
    let mut all = cluster(nodes);
    let with = |cpu: &str, priority: i32| {
        json!({"spec": {"priority": priority, "containers": [{"name": "c", "image": "pause:1",
            "resources": {"requests": {"cpu": cpu, "memory": "500Mi"}}}]}})
    };
    for i in 0..nodes {
        for j in 0..4 {
            all.add_pod(&format!("node-{i}"), pod(&format!("low-{i}-{j}"), with("900m", 0)));
        }
    }
    let pods: Vec<_> = (0..pods).map(|i| pod(&format!("high-{i}"), with("1200m", 10))).collect();
    let (mut placed, mut state) = (0, 1u64);
    let begin = Instant::now();
    for pod in &pods {
        let found = profile.find(pod, &mut all, 0, true);
        let offset = random(&mut state);
        let args = profile.preemption.unwrap_or_default();
        let chosen = preempt::candidates(pod, &all, &found, args, offset).ok().and_then(preempt::choose);
        drop(found);
        if let Some(chosen) = chosen {
            chosen.victims.iter().for_each(|v| drop(all.remove_pod(&chosen.node, &v.uid)));
            all.add_pod(&chosen.node, pod.clone());
            placed += 1;
        }
    }
    report("Preemption", nodes, pods.len(), placed, begin);
}

/// No node has room: every decision looks at all of them.
fn unschedulable(nodes: usize, pods: usize) {
    let over = json!({"spec": {"containers": [{"name": "c", "image": "pause:1", "resources": {"requests": {"cpu": "9"}}}]}});
    shape("Unschedulable", nodes, pods, over);
}

fn main() {
    let number = |n: usize, or: usize| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (nodes, pods) = (number(1, 5000), number(2, 10_000));
    shape("SchedulingBasic", nodes, pods, json!({}));
    shape("TopologySpreading", nodes, pods, spread(ZONE, 5, "DoNotSchedule"));
    shape("PreferredTopologySpreading", nodes, pods, spread(ZONE, 5, "ScheduleAnyway"));
    shape("TopologySpreadingHosts", nodes, pods, spread(HOST, 1, "DoNotSchedule"));
    shape("PodAffinity", nodes, pods, required("podAffinity", ZONE));
    shape("PodAntiAffinity", nodes, pods.min(nodes), required("podAntiAffinity", HOST));
    shape("PreferredPodAffinity", nodes, pods, preferred("podAffinity", HOST));
    shape("PreferredPodAntiAffinity", nodes, pods, preferred("podAntiAffinity", HOST));
    preemption(nodes, pods / 10);
    unschedulable(nodes, pods / 10);
}
