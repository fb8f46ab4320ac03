//! The API server of a simulated cluster: the truth, what watches were told of it, and what must never happen to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;

/// The longest a request is on its way and the longest a watch lags behind, with something to spare: what changed within
/// this time a scheduler need not have known.
const FRESH: Duration = Duration::from_secs(8);

/// A pod as the simulation thinks of it, apart from the scheduler's own way.
#[derive(Debug, Clone)]
pub struct Wish {
    pub cpu: i64,
    pub priority: i32,
    /// A port of the node, 0 for none.
    pub port: i32,
    /// Not on a node with another of the group of this number.
    pub shy: Option<u8>,
    /// Only on nodes of this disk.
    pub disk: Option<u8>,
    pub guarded: bool,
    pub scheduler: String,
}

#[derive(Debug, Clone)]
pub struct SimPod {
    pub uid: String,
    pub wish: Wish,
    pub node: Option<String>,
    pub nominated: Option<String>,
    pub gated: bool,
    pub deleting: bool,
    pub ended: bool,
    pub disrupted: bool,
    pub binds: u32,
    version: u64,
}

#[derive(Debug, Clone)]
pub struct SimNode {
    pub cpu: i64,
    pub disk: u8,
    pub cordoned: bool,
    pub changed: Instant,
}

/// One change, as watches tell it.
#[derive(Debug, Clone)]
pub enum Change {
    Pod(String, Option<Arc<PodInfo>>),
    Node(String, Option<Arc<NodeSpec>>),
    Budget(Option<Arc<PodDisruptionBudget>>),
}

/// The truth.
pub struct World {
    pub pods: BTreeMap<String, SimPod>,
    pub nodes: BTreeMap<String, SimNode>,
    /// How many guarded pods must stay.
    pub keep: usize,
    pub log: Vec<Change>,
    /// How long the log is.
    pub length: tokio::sync::watch::Sender<usize>,
    /// Only one scheduler acts on each pod and node, so that nothing may be overfilled.
    pub alone: bool,
    pub faults: Vec<String>,
    /// What was done, for the words of a failure.
    pub diary: Vec<String>,
    start: Instant,
    version: u64,
    /// What the budget last allowed.
    told: Option<usize>,
}

impl World {
    pub fn new(keep: usize) -> Self {
        let now = Instant::now();
        let mut world = Self {
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            keep,
            log: Vec::new(),
            length: tokio::sync::watch::channel(0).0,
            alone: true,
            faults: Vec::new(),
            diary: Vec::new(),
            start: now,
            version: 0,
            told: None,
        };
        world.tell_budget();
        world
    }

    fn publish(&mut self, change: Change) {
        self.log.push(change);
        self.length.send_replace(self.log.len());
    }

    pub fn note(&mut self, what: String) {
        let at = self.start.elapsed().as_millis();
        self.diary.push(format!("{at:>7} ms {what}"));
    }

    pub fn fault(&mut self, what: String) {
        self.note(format!("FAULT {what}"));
        self.faults.push(what);
    }

    pub fn set_node(&mut self, name: &str, cpu: i64, disk: u8, cordoned: bool) {
        self.note(format!("node {name} cpu {cpu} disk {disk} cordoned {cordoned}"));
        self.nodes.insert(name.into(), SimNode { cpu, disk, cordoned, changed: Instant::now() });
        let object = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "disk": disk.to_string()}},
            "spec": {"unschedulable": cordoned},
            "status": {"allocatable": {"cpu": cpu.to_string(), "memory": "64Gi", "pods": "110"}},
        });
        let node: Node = serde_json::from_value(object).expect("a node");
        self.publish(Change::Node(name.into(), Some(Arc::new(NodeSpec::of(&node)))));
    }

    pub fn remove_node(&mut self, name: &str) {
        self.note(format!("node {name} is gone"));
        self.nodes.remove(name);
        self.publish(Change::Node(name.into(), None));
    }

    pub fn create(&mut self, name: &str, wish: Wish, gated: bool) {
        self.note(format!("pod {name} {wish:?} gated {gated}"));
        let pod = SimPod {
            uid: format!("uid-{name}-{}", self.version),
            wish,
            node: None,
            nominated: None,
            gated,
            deleting: false,
            ended: false,
            disrupted: false,
            binds: 0,
            version: 0,
        };
        self.pods.insert(name.into(), pod);
        self.tell(name);
    }

    /// A pod goes: at once if it has no node, else when its node agent is done with it.
    pub fn delete(&mut self, name: &str) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        pod.deleting = true;
        if pod.node.is_none() {
            return self.remove(name);
        }
        self.tell(name);
    }

    pub fn remove(&mut self, name: &str) {
        self.note(format!("pod {name} is gone"));
        self.touch(name);
        self.pods.remove(name);
        self.publish(Change::Pod(name.into(), None));
        self.tell_budget();
    }

    pub fn end(&mut self, name: &str) {
        self.note(format!("pod {name} ended"));
        self.touch(name);
        if let Some(pod) = self.pods.get_mut(name) {
            pod.ended = true;
        }
        self.tell(name);
    }

    fn touch(&mut self, pod: &str) {
        let node = self.pods.get(pod).and_then(|p| p.node.clone());
        if let Some(node) = node.and_then(|n| self.nodes.get_mut(&n)) {
            node.changed = Instant::now();
        }
    }

    /// Shows a pod to the watches.
    pub fn tell(&mut self, name: &str) {
        self.version += 1;
        let Some(pod) = self.pods.get_mut(name) else { return };
        pod.version = self.version;
        let object: Pod = serde_json::from_value(object(name, pod)).expect("a pod");
        self.publish(Change::Pod(name.into(), Some(Arc::new(PodInfo::of(&object)))));
        self.tell_budget();
    }

    fn tell_budget(&mut self) {
        let allowed = self.allowed();
        if self.told.replace(allowed) == Some(allowed) {
            return;
        }
        let status = json!({"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        let object = json!({"metadata": {"name": "guard", "namespace": "ns"}, "status": status,
            "spec": {"selector": {"matchLabels": {"guarded": "yes"}}}});
        let budget = serde_json::from_value(object).expect("a budget");
        self.publish(Change::Budget(Some(Arc::new(budget))));
    }

    /// How many guarded pods may be pushed away.
    pub fn allowed(&self) -> usize {
        let healthy = self.on_nodes().filter(|(_, p)| p.wish.guarded && !p.deleting).count();
        healthy.saturating_sub(self.keep)
    }

    pub fn on_nodes(&self) -> impl Iterator<Item = (&String, &SimPod)> {
        self.pods.iter().filter(|(_, p)| p.node.is_some() && !p.ended)
    }

    fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a String, &'a SimPod)> {
        self.on_nodes().filter(move |(_, p)| p.node.as_deref() == Some(node))
    }

    /// Whether a pod fits beside those of `there`, all told.
    fn fits(wish: &Wish, node: &SimNode, there: &[&SimPod]) -> bool {
        let used: i64 = there.iter().map(|p| p.wish.cpu).sum();
        used + wish.cpu <= node.cpu
            && wish.disk.is_none_or(|d| d == node.disk)
            && there.iter().all(|p| {
                (wish.port == 0 || p.wish.port != wish.port) && (wish.shy.is_none() || p.wish.shy != wish.shy)
            })
    }

    /// Nodes where the pod fits; with `push` also those where it would once less important pods it may push away are gone.
    pub fn possible(&self, wish: &Wish, push: bool, spare: bool, settled: bool) -> Vec<String> {
        let stays = |p: &SimPod| !push || p.wish.priority >= wish.priority || (spare && p.wish.guarded);
        let nodes =
            self.nodes.iter().filter(|(_, n)| !n.cordoned && (!settled || n.changed.elapsed() > FRESH));
        let will_do = nodes.filter(|(name, node)| {
            let there: Vec<&SimPod> = self.on(name).map(|(_, p)| p).filter(|p| stays(p)).collect();
            Self::fits(wish, node, &there)
        });
        will_do.map(|(name, _)| name.clone()).collect()
    }

    /// A pod is bound.
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn bind(&mut self, who: usize, name: &str, uid: &str, node: &str) -> Result<(), u16> {
        let Some(pod) = self.pods.get(name) else { return Err(404) };
        if pod.uid != uid || pod.deleting || pod.node.is_some() || pod.gated {
            return Err(409);
        }
        let wish = pod.wish.clone();
        self.check_bind(name, &wish, node);
        self.note(format!("scheduler {who} binds {name} to {node}"));
        let Some(pod) = self.pods.get_mut(name) else { return Err(404) };
        pod.node = Some(node.into());
        pod.nominated = None;
        pod.binds += 1;
        if pod.binds > 1 {
            self.fault(format!("{name} is bound twice"));
        }
        self.touch(name);
        self.tell(name);
        Ok(())
    }

    fn check_bind(&mut self, name: &str, wish: &Wish, node: &str) {
        // A node that is gone, or changed just now, was there when it was chosen.
        let Some(at) = self.nodes.get(node).cloned() else { return };
        let there: Vec<&SimPod> = self.on(node).map(|(_, p)| p).collect();
        let fits = Self::fits(wish, &at, &there);
        let words = format!(
            "{name} does not fit on {node}: {:?} beside {:?}",
            wish,
            self.on(node).collect::<Vec<_>>()
        );
        if self.alone && !fits {
            self.fault(words);
        }
    }

    /// A scheduler says of a pod that it is being pushed away.
    pub fn disrupt(&mut self, who: usize, name: &str) {
        self.note(format!("scheduler {who} pushes {name} away"));
        self.check_budget(name);
        if let Some(pod) = self.pods.get_mut(name) {
            pod.disrupted = true;
        }
        self.touch(name);
        self.tell(name);
    }

    /// A budget is broken only for a pod that has no other way.
    fn check_budget(&mut self, victim: &str) {
        let Some(pod) = self.pods.get(victim).filter(|p| p.wish.guarded && !p.deleting) else { return };
        if self.allowed() > 0 || !self.alone {
            return;
        }
        let node = pod.node.clone();
        let pushers = self.pods.values().filter(|p| p.nominated == node && p.node.is_none());
        let ways: Vec<Vec<String>> = pushers.map(|p| self.possible(&p.wish, true, true, true)).collect();
        // Their own node counts as another way only if the guarded ones may stay on it.
        if !ways.is_empty() && ways.iter().all(|w| !w.is_empty()) {
            self.fault(format!("a budget is broken for {victim}, though there were {ways:?}"));
        }
    }
}

fn object(name: &str, pod: &SimPod) -> Value {
    let wish = &pod.wish;
    let mut container =
        json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": wish.cpu.to_string()}}});
    if wish.port != 0 {
        container["ports"] = json!([{"containerPort": wish.port, "hostPort": wish.port}]);
    }
    let mut labels = json!({"guarded": if wish.guarded { "yes" } else { "no" }});
    let mut spec =
        json!({"containers": [container], "priority": wish.priority, "schedulerName": wish.scheduler});
    if let Some(group) = wish.shy {
        labels["group"] = group.to_string().into();
        spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"group": group.to_string()}}}]}});
    }
    if let Some(disk) = wish.disk {
        spec["nodeSelector"] = json!({"disk": disk.to_string()});
    }
    if pod.gated {
        spec["schedulingGates"] = json!([{"name": "later"}]);
    }
    if let Some(node) = &pod.node {
        spec["nodeName"] = json!(node);
    }
    let mut status =
        json!({"phase": if pod.ended { "Succeeded" } else { "Pending" }, "nominatedNodeName": pod.nominated});
    if pod.disrupted {
        status["conditions"] =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    }
    let mut metadata = json!({"name": name, "namespace": "ns", "uid": pod.uid, "labels": labels,
        "resourceVersion": pod.version.to_string()});
    if pod.deleting {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    json!({"metadata": metadata, "spec": spec, "status": status})
}

/// What the API server answers to a read.
pub fn shown(name: &str, pod: &SimPod) -> Value {
    let mut value = object(name, pod);
    value["apiVersion"] = "v1".into();
    value["kind"] = "Pod".into();
    value
}
