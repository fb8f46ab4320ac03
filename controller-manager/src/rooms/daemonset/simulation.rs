//! Random histories of a DaemonSet: caches that lag, writes that fail, pods that die, nodes that come to fit and cease
//! to, users who change their minds. Whatever happens, no node gets two pods unless they may surge, an update takes or
//! adds no more than it may, and once all is quiet every node that fits has one good pod.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use control::{Expectations, Key};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fit;
use super::plan::{Observed, Plan, alive, plan};
use super::tests::{node, set};
use crate::kit::history::POD_HASH;
use crate::kit::meta::{label, name, uid};
use crate::kit::pods::{finished, ready};
use crate::testing::{now, pod, time};

type Pods = BTreeMap<String, Pod>;

struct World {
    rng: StdRng,
    now: Timestamp,
    made: u32,
    set: DaemonSet,
    most: usize,
    surge: usize,
    /// The template in force, and as the controller knows it.
    hash: &'static str,
    known_hash: &'static str,
    tainted: BTreeSet<String>,
    known_tainted: BTreeSet<String>,
    pods: Pods,
    past: Vec<Pods>,
    cache: usize,
    expected: Expectations<Key>,
    /// Pods whose deletion was not answered.
    doubts: BTreeSet<String>,
    /// How much stricter the check is than the set, to see that it can fail.
    less: usize,
    /// Nodes whose good pod an update took, and that have no good one since.
    rolled: BTreeSet<String>,
    /// Nodes that got a new pod beside a good old one, and still have both.
    surged: BTreeMap<String, String>,
}

const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

fn key() -> Key {
    Key::new("ns", "d")
}

fn is_good(pod: &Pod) -> bool {
    alive(pod) && ready(pod) && !finished(pod)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (surges, count) = (rng.random_bool(0.5), rng.random_range(1..4usize));
        Self {
            rng,
            now: now(),
            made: 0,
            set: set(&if surges { format!("surge={count}") } else { format!("unavailable={count}") }),
            most: if surges { 0 } else { count },
            surge: if surges { count } else { 0 },
            hash: "a",
            known_hash: "a",
            tainted: BTreeSet::new(),
            known_tainted: BTreeSet::new(),
            pods: Pods::new(),
            past: vec![Pods::new()],
            cache: 0,
            expected: Expectations::new(),
            doubts: BTreeSet::new(),
            less: 0,
            rolled: BTreeSet::new(),
            surged: BTreeMap::new(),
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.random_ratio(1, of)
    }

    fn on<'a>(pods: &'a Pods, node: &'a str) -> impl Iterator<Item = &'a Pod> {
        pods.values().filter(move |p| fit::target(p) == Some(node))
    }

    fn moved(&mut self) {
        self.now += SignedDuration::from_secs(1);
        if self.past.last() != Some(&self.pods) {
            self.past.push(self.pods.clone());
        }
        let (pods, tainted) = (&self.pods, &self.tainted);
        self.rolled.retain(|n| !tainted.contains(n) && !Self::on(pods, n).any(is_good));
        self.surged.retain(|n, new| {
            let living = Self::on(pods, n).filter(|p| alive(p) && !finished(p)).count();
            living > 1 && pods.get(new).is_some_and(|p| !is_good(p))
        });
    }

    fn live(&mut self, calm: bool) {
        let names: Vec<_> = self.pods.keys().cloned().collect();
        let Some(called) = names.get(self.rng.random_range(0..names.len().max(1))).cloned() else { return };
        let mut subject = self.pods[&called].clone();
        if subject.metadata.deletion_timestamp.is_some() {
            self.pods.remove(&called);
        } else if !calm && self.chance(15) {
            subject.metadata.deletion_timestamp = Some(time("2026-01-01T09:59:00Z"));
            self.pods.insert(called, subject);
        } else if !finished(&subject) {
            let state = match self.rng.random_range(0..10) {
                0 if !calm => "Failed",
                1 | 2 if !calm => "Running",
                _ => "Running ready",
            };
            let to = fit::target(&subject).unwrap_or_default().to_string();
            subject.status = pod(&format!("{called} {state}")).status;
            subject.spec.as_mut().unwrap().node_name = Some(to);
            self.pods.insert(called, subject);
        }
        self.moved();
    }

    fn change(&mut self) {
        if self.chance(2) {
            self.hash = ["a", "b", "c"][self.rng.random_range(0..3)];
            self.surged.clear();
            self.set.metadata.generation = self.set.metadata.generation.map(|g| g + 1);
        } else {
            let node = NODES[self.rng.random_range(0..NODES.len())].to_string();
            if !self.tainted.remove(&node) {
                self.tainted.insert(node);
            }
            self.moved();
        }
    }

    fn see(&mut self, all: bool) {
        let last = self.past.len() - 1;
        let to = if all { last } else { self.rng.random_range(self.cache..=last) };
        for at in self.cache..to {
            let (before, after) = (&self.past[at], &self.past[at + 1]);
            for (called, pod) in after {
                if !before.contains_key(called) {
                    self.expected.created(&key());
                }
                if !alive(pod) {
                    self.expected.deleted(&key(), uid(&pod.metadata));
                }
            }
            for (_, pod) in before.iter().filter(|(called, _)| !after.contains_key(*called)) {
                self.expected.deleted(&key(), uid(&pod.metadata));
            }
        }
        self.cache = to;
        if all || self.chance(2) {
            self.known_tainted = self.tainted.clone();
        }
        if all || self.chance(2) {
            self.known_hash = self.hash;
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let one = |n: &&str| match self.known_tainted.contains(*n) {
            true => node(&format!("{n} taint=x:NoSchedule")),
            false => node(n),
        };
        NODES.iter().map(one).collect()
    }

    fn look(&self) -> Plan {
        let nodes = self.nodes();
        let o = Observed {
            set: &self.set,
            spec: self.set.spec.as_ref().unwrap(),
            nodes: nodes.iter().collect(),
            pods: self.past[self.cache].values().collect(),
            hash: self.known_hash,
            settled: self.expected.satisfied(&key()),
            waits: HashMap::new(),
        };
        plan(&o, &fit::spec(&self.set), self.now)
    }

    fn sync(&mut self, faults: bool) -> bool {
        let view = &self.past[self.cache];
        if self.doubts.iter().any(|p| view.get(p) != self.pods.get(p)) {
            return false;
        }
        self.doubts.clear();
        let plan = self.look();
        let view = self.past[self.cache].clone();
        if plan.create.is_empty() && plan.delete.is_empty() {
            return false;
        }
        let going: Vec<_> = plan.delete.iter().map(|p| uid(&view[p].metadata).to_string()).collect();
        self.expected.expect(&key(), plan.create.len(), going);
        for node in &plan.create {
            if faults && self.chance(8) {
                self.expected.created(&key());
                continue;
            }
            self.create(node, Self::on(&view, node).any(is_good));
        }
        for called in &plan.delete {
            let victim = &view[called];
            let place = fit::target(victim).unwrap().to_string();
            let single = Self::on(&view, &place).filter(|p| alive(p)).count() == 1;
            let update = single
                && is_good(victim)
                && label(&victim.metadata, POD_HASH) != Some(self.known_hash)
                && !self.known_tainted.contains(&place);
            if faults && self.chance(8) {
                self.expected.deleted(&key(), uid(&victim.metadata));
                continue;
            }
            // One that is gone already answers "not found", which is an answer too.
            let Some(there) = self.pods.get_mut(called) else {
                self.expected.deleted(&key(), uid(&victim.metadata));
                continue;
            };
            if alive(there) && update && is_good(there) && !self.tainted.contains(&place) {
                self.rolled.insert(place);
            }
            there.metadata.deletion_timestamp = Some(time("2026-01-01T09:59:00Z"));
            self.moved();
            if faults && self.chance(8) {
                self.expected.deleted(&key(), uid(&victim.metadata));
                self.doubts.insert(called.clone());
            }
        }
        true
    }

    fn create(&mut self, node: &str, beside: bool) {
        self.made += 1;
        let mut made = fit::make(&self.set, &fit::spec(&self.set), self.known_hash, node);
        let called = format!("p{}", self.made);
        let blank = pod(&format!("{called} Pending"));
        made.metadata.name = Some(called.clone());
        made.metadata.uid = Some(called.clone());
        made.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
        made.status = blank.status;
        self.pods.insert(called.clone(), made);
        if beside && self.known_hash == self.hash {
            self.surged.insert(node.into(), called);
        }
        self.moved();
    }

    fn check(&self) -> Result<(), String> {
        let most = if self.surge > 0 { 2 } else { 1 };
        for node in NODES {
            let living: Vec<_> =
                Self::on(&self.pods, node).filter(|p| alive(p)).map(|p| name(&p.metadata)).collect();
            if living.len() > most {
                return Err(format!("{living:?} on {node}"));
            }
        }
        if self.surge == 0 && self.rolled.len() > self.most - self.less {
            return Err(format!("an update took {:?}, at most {} may be", self.rolled, self.most));
        }
        if self.surge > 0 && self.surged.len() > self.surge - self.less {
            return Err(format!("an update surges on {:?}, at most {} may be", self.surged, self.surge));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(50..300) {
            match self.rng.random_range(0..12) {
                0 => {
                    if self.chance(4) {
                        self.change();
                    }
                }
                1..=4 => self.live(false),
                5..=7 => self.see(false),
                _ => drop(self.sync(true)),
            }
            self.check()?;
        }
        for round in 0..1000 {
            self.see(true);
            let busy = self.sync(false);
            self.check()?;
            if !busy && round > 20 && self.pods.values().all(is_good) {
                return self.end();
            }
            for _ in 0..3 {
                self.live(true);
            }
        }
        Err(format!("does not settle: {}", self.look()))
    }

    fn end(&self) -> Result<(), String> {
        for node in NODES {
            let of: Vec<_> = Self::on(&self.pods, node)
                .map(|p| label(&p.metadata, POD_HASH).unwrap_or_default())
                .collect();
            // A pod that a new taint found there may stay.
            let fine = of == [self.hash] || self.tainted.contains(node) && of.len() <= 1;
            if !fine {
                return Err(format!("{of:?} on {node} instead of {}", self.hash));
            }
        }
        Ok(())
    }
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 80;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| World::new(seed).run());
}

#[test]
fn the_check_is_awake() {
    let caught = |surges: bool| {
        (0..80).any(|seed| {
            let mut world = World::new(seed);
            world.less = 1;
            (world.surge > 0) == surges && world.run().is_err()
        })
    };
    assert!(caught(false) && caught(true));
}
