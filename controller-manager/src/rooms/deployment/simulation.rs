//! Random histories of a Deployment and its ReplicaSets, each with its own controller: caches that lag, writes that are
//! refused, fail or are not answered, a leader that changes in mid-rollout, clocks ten minutes off, pods that die, users
//! who change their minds. Whatever happens the sets are never asked for more pods than the surge allows, no more pods
//! are taken away than may be unavailable, no template has two sets, and once all is quiet everything is new.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::plan::{Observed, is_complete, plan};
use super::sets::{Limits, REVISION};
use super::tests::{deployment, template};
use crate::kit::Step;
use crate::kit::meta::{annotation, controller, name, uid};
use crate::kit::pods::{active, finished, ready};
use crate::kit::write::{Verb, Write};
use crate::rooms::replicaset::kinds::Replicas;
use crate::rooms::replicaset::plan as replicas;
use crate::testing::{caught, now, pod, time};

/// What the API server has.
#[derive(Clone, PartialEq)]
struct State {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    pods: BTreeMap<String, Pod>,
}

/// What became of a write.
enum Fate {
    Done,
    /// Refused, or failed before anything was done.
    Failed,
    /// Done or not: there was no answer.
    Lost,
}

struct World {
    rng: StdRng,
    state: State,
    versions: u64,
    names: u64,
    now: Timestamp,
    /// How far the clock of whoever leads is off.
    skew: SignedDuration,
    /// All states so far; each cache shows one of them.
    past: Vec<State>,
    /// Where the caches of Deployments, ReplicaSets and pods are.
    caches: [usize; 3],
    /// Per set, the state that its controller's own last write of pods led to.
    wrote: HashMap<String, usize>,
    /// The same of the Deployment controller's writes of sets.
    wrote_sets: usize,
    /// Sets whose last write was not answered.
    doubtful: BTreeSet<String>,
    /// Pods whose last write was not answered, by set.
    doubts: BTreeMap<String, BTreeSet<String>>,
    /// The old leader's last write, still under way.
    straggler: Option<Write>,
    /// Pods do not die by themselves: then availability is the controllers' doing alone.
    sound: bool,
    /// The rollout began with all pods there and available, and nobody changed the number since.
    armed: bool,
    /// How much stricter the check is than the Deployment, to see that it can fail.
    less: i32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(0..7);
        let mut text = format!("{count} a deadline=600");
        let budgets =
            ["", " surge=1 unavailable=0", " surge=0 unavailable=1", " surge=2 unavailable=2", " surge=50%"];
        text += budgets[rng.random_range(0..budgets.len())];
        if rng.random_ratio(1, 8) {
            text = format!("{count} a deadline=600 recreate");
        }
        let mut deployment = deployment(&text);
        deployment.metadata.resource_version = Some("1".into());
        deployment.spec.as_mut().unwrap().min_ready_seconds = rng.random_ratio(1, 4).then_some(5);
        let state = State { deployment, sets: BTreeMap::new(), pods: BTreeMap::new() };
        let sound = rng.random_ratio(2, 3);
        let mut world = Self {
            rng,
            past: vec![state.clone()],
            state,
            versions: 1,
            names: 0,
            now: now(),
            skew: SignedDuration::ZERO,
            caches: [0; 3],
            wrote: HashMap::new(),
            wrote_sets: 0,
            doubtful: BTreeSet::new(),
            doubts: BTreeMap::new(),
            straggler: None,
            sound,
            armed: false,
            less: 0,
        };
        world.lead();
        world
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.random_ratio(1, of)
    }

    fn version(&mut self) -> Option<String> {
        self.versions += 1;
        Some(self.versions.to_string())
    }

    fn limits(&self) -> Limits {
        Limits::of(self.state.deployment.spec.as_ref().unwrap())
    }

    /// Another manager takes over, with a clock of its own, caches just filled and nothing remembered.
    fn lead(&mut self) {
        self.skew = SignedDuration::from_secs(self.rng.random_range(-600..=600));
        self.caches = [self.past.len() - 1; 3];
        // By another clock pods may not be available yet that were by the last one.
        self.armed &= self.state.deployment.spec.as_ref().unwrap().min_ready_seconds.is_none();
        self.wrote.clear();
        self.wrote_sets = 0;
        self.doubtful.clear();
        self.doubts.clear();
    }

    fn moved(&mut self) {
        self.now += SignedDuration::from_secs(1);
        if self.past.last() != Some(&self.state) {
            self.past.push(self.state.clone());
        }
        let limits = self.limits();
        // Nor may the controller still act on what was asked for before.
        let heard = self.past[self.caches[0]].deployment.spec == self.state.deployment.spec;
        // What it takes for unavailable already may go without harm, as far as it can know.
        let counted =
            self.past[self.caches[1]].sets.values().filter_map(|s| s.status.as_ref()?.available_replicas);
        let heard = heard && counted.sum::<i32>() == limits.replicas;
        let whole = heard
            && self.sizes() == limits.replicas
            && self.state.pods.len() as i32 == limits.replicas
            && self.available() == limits.replicas;
        self.armed |= whole && limits.rolling;
    }

    fn sizes(&self) -> i32 {
        self.state.sets.values().map(|s| s.spec.as_ref().unwrap().replicas.unwrap()).sum()
    }

    fn available(&self) -> i32 {
        let there = |p: &&Pod| active(p) && ready(p);
        self.state.pods.values().filter(there).count() as i32
    }

    /// The kubelets, the scheduler and the fates.
    fn live(&mut self, calm: bool) {
        let names: Vec<_> = self.state.pods.keys().cloned().collect();
        let Some(called) = names.get(self.rng.random_range(0..names.len().max(1))).cloned() else { return };
        let cruel = !calm && !self.sound;
        let draw = self.rng.random_range(0..12);
        let stamp = self.now + SignedDuration::from_secs(self.rng.random_range(-600..=600));
        let subject = self.state.pods[&called].clone();
        let version = self.version();
        if subject.metadata.deletion_timestamp.is_some() {
            self.state.pods.remove(&called);
        } else if !finished(&subject) && !(ready(&subject) && !cruel) {
            let state = match draw {
                0 if cruel => "Failed".to_string(),
                1 | 2 if cruel => "Running".to_string(),
                _ if calm => format!("Running ready={}", self.now - SignedDuration::from_secs(60)),
                _ => format!("Running ready={stamp}"),
            };
            let place = self.state.pods.get_mut(&called).unwrap();
            place.status = pod(&format!("{called} {state}")).status;
            place.metadata.resource_version = version;
        }
        self.moved();
    }

    /// The user.
    fn change(&mut self) {
        let version = self.version();
        let (draw, count) = (self.rng.random_range(0..8), self.rng.random_range(0..7));
        let image = ["a", "b", "c"][self.rng.random_range(0..3)];
        let d = &mut self.state.deployment;
        let spec = d.spec.as_mut().unwrap();
        match draw {
            0 => {
                spec.replicas = Some(count);
                self.armed = false;
            }
            1 => spec.paused = (spec.paused != Some(true)).then_some(true),
            _ => spec.template = template(image),
        }
        d.metadata.resource_version = version;
        d.metadata.generation = d.metadata.generation.map(|g| g + 1);
        self.moved();
    }

    /// Caches catch up some way, each for itself.
    fn see(&mut self, all: bool) {
        let last = self.past.len() - 1;
        for at in 0..3 {
            self.caches[at] = if all { last } else { self.rng.random_range(self.caches[at]..=last) };
        }
    }

    fn clock(&self) -> Timestamp {
        self.now + self.skew
    }

    /// One look of the Deployment controller, as the room does it. Answers whether there was anything to do.
    fn roll(&mut self, faults: bool) -> bool {
        // Its own writes are awaited.
        let shown = &self.past[self.caches[1]].sets;
        if self.caches[1] < self.wrote_sets
            || self.doubtful.iter().any(|s| shown.get(s) != self.state.sets.get(s))
        {
            return true;
        }
        self.doubtful.clear();
        let pods = &self.past[self.caches[2]].pods;
        let sets: Vec<_> = self.past[self.caches[1]].sets.values().cloned().collect();
        let about = |s: &&ReplicaSet| pods.values().any(|p| owner(p) == uid(&s.metadata) && !finished(p));
        let running = sets.iter().filter(about).map(|s| uid(&s.metadata).to_string()).collect();
        let deployment = self.past[self.caches[0]].deployment.clone();
        let plan = plan(&Observed { deployment, sets, running }, self.clock());
        let busy = plan.steps.iter().any(|s| !matches!(s, Step::Event { .. }));
        for step in plan.steps {
            let (Step::Write(write) | Step::Vanishing(write)) = step else { continue };
            if faults && self.chance(30) {
                // The leader is gone before the write arrives. A creation names no version it rests on: if one comes
                // late there are more for a moment, and nobody could tell. Here it is lost.
                self.straggler = Some(write).filter(|w| w.verb != Verb::Create);
                self.lead();
                return busy;
            }
            let of_set = write.kind.plural == "replicasets" && write.verb != Verb::Delete;
            match self.send(&write, faults) {
                Fate::Done if of_set => self.wrote_sets = self.past.len() - 1,
                Fate::Done => {}
                Fate::Lost if of_set => {
                    self.doubtful.insert(write.name.clone());
                    return busy;
                }
                Fate::Lost | Fate::Failed => return busy,
            }
        }
        busy
    }

    /// A write on its way: it may fail before, or its answer be lost after.
    fn send(&mut self, write: &Write, faults: bool) -> Fate {
        if faults && self.chance(12) {
            return Fate::Failed;
        }
        let taken = self.take(write);
        if faults && self.chance(12) {
            return Fate::Lost;
        }
        if taken { Fate::Done } else { Fate::Failed }
    }

    /// The API server: whether a write is taken.
    fn take(&mut self, write: &Write) -> bool {
        let version = self.version();
        let stale =
            |held: &Option<String>| write.body["metadata"]["resourceVersion"].as_str() != held.as_deref();
        let (names, now) =
            (self.names, self.now + SignedDuration::from_secs(self.rng.random_range(-600..=600)));
        let (state, called) = (&mut self.state, write.name.clone());
        match (write.verb, write.kind.plural.as_ref()) {
            (Verb::Create, "replicasets") if state.sets.contains_key(&called) => return self.same(write),
            (Verb::Create, "replicasets") => {
                let mut set: ReplicaSet = serde_json::from_value(write.body.clone()).unwrap();
                set.metadata.uid = Some(format!("s{names}"));
                (set.metadata.resource_version, set.metadata.generation) = (version, Some(1));
                set.metadata.creation_timestamp = Some(Time(now));
                state.sets.insert(called, set);
            }
            (Verb::Update, "deployments") => {
                let held = &mut state.deployment;
                if stale(&held.metadata.resource_version) {
                    return false;
                }
                let new: Deployment = serde_json::from_value(write.body.clone()).unwrap();
                (held.status, held.metadata.annotations) = (new.status, new.metadata.annotations);
                held.metadata.resource_version = version;
            }
            (Verb::Update, "replicasets") => {
                let Some(held) = state.sets.get_mut(&called).filter(|s| !stale(&s.metadata.resource_version))
                else {
                    return false;
                };
                let new: ReplicaSet = serde_json::from_value(write.body.clone()).unwrap();
                if write.subresource == "status" {
                    held.status = new.status;
                } else {
                    let resized = held.spec != new.spec;
                    (held.spec, held.metadata.annotations) = (new.spec, new.metadata.annotations);
                    held.metadata.generation = held.metadata.generation.map(|g| g + i64::from(resized));
                }
                held.metadata.resource_version = version;
            }
            (Verb::Delete, "replicasets") => {
                let (uid, held) = (write.body["preconditions"]["uid"].as_str(), state.sets.get(&called));
                if held.is_some_and(|s| s.metadata.uid.as_deref() == uid) {
                    state.sets.remove(&called);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
        self.names += 1;
        self.moved();
        true
    }

    /// A set of that name is there. The room goes on if it is the one that was meant.
    fn same(&self, write: &Write) -> bool {
        let held = &self.state.sets[&write.name].spec.as_ref().unwrap().template;
        let meant: ReplicaSet = serde_json::from_value(write.body.clone()).unwrap();
        *held == meant.spec.unwrap().template
    }

    /// One look of the ReplicaSet controller at one set.
    fn keep(&mut self, called: &str, faults: bool) -> bool {
        let Some(set) = self.past[self.caches[1]].sets.get(called).cloned() else { return false };
        let (seen, mine) = (&self.past[self.caches[2]].pods, uid(&set.metadata).to_string());
        let doubtful = self.doubts.get(called).into_iter().flatten();
        if doubtful.clone().any(|p| seen.get(p) != self.state.pods.get(p)) {
            return false;
        }
        let settled = self.wrote.get(called).is_none_or(|at| *at <= self.caches[2]);
        let pods: Vec<Pod> = seen.values().filter(|p| owner(p) == mine && !finished(p)).cloned().collect();
        self.doubts.remove(called);
        let (spec, clock) = (set.wants().unwrap(), self.clock());
        let observed = replicas::Observed {
            meta: &set.metadata,
            spec: &spec,
            status: set.says(),
            pods: pods.iter().collect(),
            neighbours: HashMap::new(),
            settled,
        };
        let what = replicas::manage(&observed, clock);
        let busy = what != replicas::Manage::Nothing;
        match what {
            replicas::Manage::Nothing => {}
            replicas::Manage::Create(count) => (0..count).for_each(|_| self.make(called, &set, faults)),
            replicas::Manage::Delete(names) => names.iter().for_each(|p| self.drop(called, p, &pods, faults)),
        }
        let status = replicas::status(&observed, None, clock);
        if status == set.says() {
            return busy;
        }
        let write = Write::update_status(&set.with_status(status));
        if faults && self.chance(30) {
            self.straggler = Some(write);
            self.lead();
        } else {
            self.send(&write, faults);
        }
        true
    }

    fn make(&mut self, called: &str, set: &ReplicaSet, faults: bool) {
        if faults && self.chance(12) {
            return;
        }
        self.names += 1;
        let pod_name = format!("p{}", self.names);
        let mut made = pod(&format!("{pod_name} Pending owner={}", uid(&set.metadata)));
        made.metadata.resource_version = self.version();
        self.state.pods.insert(pod_name.clone(), made);
        self.moved();
        self.answered(called, pod_name, faults);
    }

    fn drop(&mut self, called: &str, pod_name: &str, seen: &[Pod], faults: bool) {
        if faults && self.chance(12) {
            return;
        }
        let version = self.version();
        let meant = seen.iter().find(|p| name(&p.metadata) == pod_name).map(|p| uid(&p.metadata).to_string());
        let Some(victim) =
            self.state.pods.get_mut(pod_name).filter(|p| Some(uid(&p.metadata)) == meant.as_deref())
        else {
            return;
        };
        victim.metadata.deletion_timestamp = Some(time("2026-01-01T09:59:00Z"));
        victim.metadata.resource_version = version;
        self.moved();
        self.answered(called, pod_name.into(), faults);
    }

    /// The answer says how far the cache has to come, unless it was lost.
    fn answered(&mut self, called: &str, pod_name: String, faults: bool) {
        if faults && self.chance(12) {
            self.doubts.entry(called.into()).or_default().insert(pod_name);
        } else {
            self.wrote.insert(called.into(), self.past.len() - 1);
        }
    }

    fn check(&self) -> Result<(), String> {
        let mut templates = Vec::new();
        for set in self.state.sets.values() {
            let spec = set.spec.as_ref().unwrap();
            let image = spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.clone();
            if templates.contains(&image) {
                return Err(format!("two sets of {image:?}"));
            }
            templates.push(image);
        }
        let limits = self.limits();
        if !self.armed {
            return Ok(());
        }
        let most = limits.replicas + limits.surge - self.less;
        if self.sizes() > most {
            return Err(format!("{} pods are asked for, at most {most} may be", self.sizes()));
        }
        let least = limits.replicas - limits.unavailable + self.less;
        match self.sound && self.available() < least {
            true => Err(format!("{} pods are available, at least {least} must be", self.available())),
            false => Ok(()),
        }
    }

    fn look(&mut self, faults: bool) -> bool {
        if self.chance(2) {
            return self.roll(faults);
        }
        let names: Vec<_> = self.past[self.caches[1]].sets.keys().cloned().collect();
        let mut busy = false;
        for called in names {
            busy |= self.keep(&called, faults);
        }
        busy
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(50..250) {
            match self.rng.random_range(0..14) {
                0 if self.chance(4) => self.change(),
                1 if self.chance(10) => self.lead(),
                1 => {
                    if let Some(write) = self.straggler.take() {
                        self.take(&write);
                    }
                }
                0 | 2..=4 => self.live(false),
                5..=7 => self.see(false),
                _ => drop(self.look(true)),
            }
            self.check()?;
        }
        self.quiet()
    }

    /// Without faults it comes to rest, and at the right place.
    fn quiet(&mut self) -> Result<(), String> {
        (self.straggler, self.skew) = (None, SignedDuration::ZERO);
        if self.state.deployment.spec.as_ref().unwrap().paused == Some(true) {
            let version = self.version();
            self.state.deployment.spec.as_mut().unwrap().paused = None;
            self.state.deployment.metadata.resource_version = version;
            self.moved();
        }
        let mut idle = 0;
        for _ in 0..3000 {
            self.see(true);
            let settled = self.state.pods.values().all(|p| active(p) && ready(p));
            idle = if self.look(false) || !settled { 0 } else { idle + 1 };
            self.check()?;
            if idle > 20 {
                return self.end();
            }
            // The rest of a pod that died is cleared away by somebody else.
            self.state.pods.retain(|_, p| !finished(p));
            self.live(true);
            self.now += SignedDuration::from_secs(60);
        }
        Err(format!("does not settle: {}", self.state.deployment.status.clone().is_some()))
    }

    fn end(&self) -> Result<(), String> {
        let spec = self.state.deployment.spec.as_ref().unwrap();
        let wanted = spec.replicas.unwrap();
        let image = |s: &ReplicaSet| {
            s.spec.as_ref().unwrap().template.as_ref().unwrap().spec.as_ref().unwrap().containers[0]
                .image
                .clone()
        };
        let new = self
            .state
            .sets
            .values()
            .find(|s| image(s) == spec.template.spec.as_ref().unwrap().containers[0].image);
        let new = new.ok_or("there is no set of the template")?;
        let its = self.state.pods.values().filter(|p| owner(p) == uid(&new.metadata)).count();
        if its != wanted as usize || self.state.pods.len() != its || self.sizes() != wanted {
            return Err(format!("{its} of {} pods are new, {wanted} are wanted", self.state.pods.len()));
        }
        let number = |s: &ReplicaSet| {
            annotation(&s.metadata, REVISION).and_then(|r| r.parse::<i64>().ok()).unwrap_or(0)
        };
        let newest = self.state.sets.values().map(number).max();
        let of_newest = self.state.sets.values().filter(|s| Some(number(s)) == newest).count();
        if newest != Some(number(new)) || of_newest != 1 {
            return Err(format!("revision {} is not alone the newest, {newest:?} is", number(new)));
        }
        match self.state.deployment.status.as_ref().is_some_and(is_complete) {
            true => Ok(()),
            false => Err(format!("not complete: {:?}", self.state.deployment.status)),
        }
    }
}

fn owner(pod: &Pod) -> &str {
    controller(&pod.metadata).map_or("", |o| o.uid.as_str())
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 40;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| World::new(seed).run());
}

#[test]
fn the_check_is_awake() {
    assert!(caught(50, |seed| World { less: 1, ..World::new(seed) }.run()));
}
