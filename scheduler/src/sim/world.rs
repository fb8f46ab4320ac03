//! The API server of a simulated cluster: the truth, what watches were told of it, and what must never happen to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use tokio::time::Instant;

use super::objects;
use super::rules::{Setting, SimNode, There, Wish};
use super::witness::Nomination;
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;

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
    pub refusal: Option<String>,
    /// When it was started, by the clock of its node, in seconds.
    pub started: Option<i64>,
    pub version: u64,
}

/// One change, as watches tell it.
#[derive(Debug, Clone)]
pub enum Change {
    Pod(String, Option<(Arc<PodInfo>, Arc<SimPod>)>),
    Node(String, Option<(Arc<NodeSpec>, SimNode)>),
    Budget(Arc<PodDisruptionBudget>, usize),
}

impl Change {
    /// Its kind by number, and which object it is about.
    pub fn key(&self) -> (u8, &str) {
        match self {
            Self::Node(name, _) => (0, name),
            Self::Budget(..) => (1, ""),
            Self::Pod(name, _) => (2, name),
        }
    }
}

/// Who sent a request, and whether it comes when its sender is dead or has given up.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    pub who: usize,
    pub late: bool,
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
    /// How often something came up that histories are to contain.
    pub counts: BTreeMap<&'static str, usize>,
    pub nominations: Vec<Nomination>,
    /// Which scheduler once chose which node for which pod.
    pub chosen: Vec<(usize, String, String)>,
    start: Instant,
    version: u64,
    /// What the budget last allowed.
    told: Option<usize>,
}

impl World {
    pub fn new(keep: usize) -> Self {
        let mut world = Self {
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            keep,
            log: Vec::new(),
            length: tokio::sync::watch::channel(0).0,
            alone: true,
            faults: Vec::new(),
            diary: Vec::new(),
            counts: BTreeMap::new(),
            nominations: Vec::new(),
            chosen: Vec::new(),
            start: Instant::now(),
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

    /// Something came up.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    pub fn set_node(&mut self, name: &str, node: SimNode) {
        self.note(format!("node {name} {node:?}"));
        self.nodes.insert(name.into(), node.clone());
        let object: Node = serde_json::from_value(objects::node(name, &node)).expect("a node");
        self.publish(Change::Node(name.into(), Some((Arc::new(NodeSpec::of(&object)), node))));
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
            refusal: None,
            started: None,
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
        self.pods.remove(name);
        self.publish(Change::Pod(name.into(), None));
        self.tell_budget();
    }

    /// Shows a pod to the watches.
    pub fn tell(&mut self, name: &str) {
        self.version += 1;
        let Some(pod) = self.pods.get_mut(name) else { return };
        pod.version = self.version;
        let object: Pod = serde_json::from_value(objects::pod(name, pod)).expect("a pod");
        let seen = Arc::new(pod.clone());
        self.publish(Change::Pod(name.into(), Some((Arc::new(PodInfo::of(&object)), seen))));
        self.tell_budget();
    }

    fn tell_budget(&mut self) {
        let allowed = self.allowed();
        if self.told.replace(allowed) == Some(allowed) {
            return;
        }
        let budget = serde_json::from_value(objects::budget(allowed)).expect("a budget");
        self.publish(Change::Budget(Arc::new(budget), allowed));
    }

    /// How many guarded pods may be pushed away.
    fn allowed(&self) -> usize {
        let healthy = self.on_nodes().filter(|(_, p)| p.wish.guarded && !p.deleting).count();
        healthy.saturating_sub(self.keep)
    }

    pub fn on_nodes(&self) -> impl Iterator<Item = (&String, &SimPod)> {
        self.pods.iter().filter(|(_, p)| p.node.is_some() && !p.ended)
    }

    /// The cluster as it is.
    pub fn setting(&self) -> Setting<'_> {
        let there = self.on_nodes().map(|(_, p)| There {
            uid: p.uid.clone(),
            node: p.node.clone().unwrap_or_default(),
            wish: p.wish.clone(),
            deleting: p.deleting,
        });
        Setting::new(&self.nodes, there)
    }

    /// A pod is bound.
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn bind(&mut self, from: Sender, name: &str, uid: &str, node: &str) -> Result<(), u16> {
        let who = from.who;
        let Some(pod) = self.pods.get(name).filter(|p| p.uid == uid).cloned() else {
            self.count("a pod is gone when it is bound");
            return Err(if self.pods.contains_key(name) { 409 } else { 404 });
        };
        if pod.gated {
            self.fault(format!("scheduler {who} binds {name} in spite of its gate"));
        }
        if pod.deleting || pod.gated {
            return Err(409);
        }
        if let Some(there) = &pod.node {
            self.count("a bound pod is bound again");
            if self.alone && !from.late && !self.excused(there) {
                self.fault(format!("scheduler {who} binds {name} to {node}, though it is on {there}"));
            }
            return Err(409);
        }
        self.check_bind(from, name, &pod.wish, node);
        self.note(format!("scheduler {who} binds {name} to {node}, late {}", from.late));
        let seconds = 1_767_225_600 + self.start.elapsed().as_secs() as i64;
        let clock = self.nodes.get(node).map_or(0, |n| n.clock);
        let Some(pod) = self.pods.get_mut(name) else { return Err(404) };
        pod.node = Some(node.into());
        pod.started = Some(seconds + clock);
        pod.nominated = None;
        self.tell(name);
        Ok(())
    }

    /// Whether more may be on the node than it takes, or it is gone.
    pub fn excused(&self, node: &str) -> bool {
        self.nodes.get(node).is_none_or(|n| n.excused)
    }

    /// What pods take from each other no single scheduler may give away twice, whatever it knew.
    fn check_bind(&mut self, from: Sender, name: &str, wish: &Wish, node: &str) {
        if from.late {
            self.count("a binding comes late");
            // What was given up may be done all the same: for that nobody can be blamed, nor for what comes of it.
            let zone = self.nodes.get(node).map(|n| n.zone);
            self.nodes.values_mut().filter(|n| Some(n.zone) == zone).for_each(|n| n.excused = true);
        }
        // A node that is gone was there when it was chosen.
        if !self.alone || self.excused(node) {
            return;
        }
        let setting = self.setting();
        if let Some(why) = setting.trouble(wish, node, true) {
            let beside: Vec<&There> = setting.there.iter().filter(|t| t.node == node).collect();
            let words = format!("{name} does not fit on {node} for {why}: {wish:?} beside {beside:?}");
            self.fault(words);
        }
    }

    /// A scheduler says of a pod that it is being pushed away.
    pub fn disrupt(&mut self, from: Sender, name: &str) {
        let who = from.who;
        self.note(format!("scheduler {who} pushes {name} away, late {}", from.late));
        let Some(pod) = self.pods.get(name).cloned() else { return };
        // One whose binding is under way is pushed away as well, though it may turn up elsewhere.
        let chosen = self.chosen.iter().rfind(|c| c.0 == who && c.1 == pod.uid).map(|c| c.2.clone());
        let node = pod.node.clone();
        if node.is_none() {
            self.count("pushed away while being bound");
        }
        let for_it = |n: &&mut Nomination| {
            let there = node.as_ref() == Some(&n.node) || chosen.as_ref() == Some(&n.node);
            n.who == who && there && n.priority > pod.wish.priority
        };
        let mut reasons: Vec<&mut Nomination> = self.nominations.iter_mut().filter(for_it).collect();
        let nobody = reasons.is_empty();
        let mut broken = false;
        if pod.wish.guarded && !pod.deleting {
            for n in &mut reasons {
                n.broken.insert(pod.uid.clone());
            }
            broken = reasons.iter().any(|n| n.broken.len() > n.allowed);
            let needless = |n: &&mut Nomination| n.broken.len() > n.allowed && !n.ways.is_empty();
            if !nobody && !from.late && reasons.iter().all(|n| needless(n)) {
                let ways: Vec<_> = reasons.iter().map(|n| (n.pod.clone(), n.ways.clone())).collect();
                self.fault(format!("a budget is broken for {name}, though there were {ways:?}"));
            }
        }
        if broken {
            self.count("a budget is broken for want of another way");
        }
        if nobody {
            self.fault(format!("scheduler {who} pushes {name} off {node:?} for nobody more important"));
        }
        if let Some(pod) = self.pods.get_mut(name) {
            pod.disrupted = true;
        }
        self.count("pushed away");
        if pod.wish.guarded {
            self.count("a guarded pod is pushed away");
        }
        if from.late {
            self.count("a pod is pushed away by a late request");
        }
        self.tell(name);
    }
}
