//! Random histories of a StatefulSet: caches that lag, writes that fail or fail to answer, pods that die, users who
//! change their minds. Whatever happens, there is at most one pod per place, an update takes no more than it may, and
//! once all is quiet the set is what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::identity::{is_healthy, ordinal, range, revision};
use super::plan::{Act, Observed, Plan, What, plan};
use super::tests::{revision_of, set};
use crate::kit::meta::name;
use crate::kit::write::Verb;
use crate::testing::{caught, now, pod, time};

type Pods = BTreeMap<String, Pod>;
type Claims = BTreeMap<String, PersistentVolumeClaim>;

/// The cluster, what the controller has seen of it, and what is remembered to check.
struct World {
    rng: StdRng,
    now: Timestamp,
    uids: u32,
    set: StatefulSet,
    /// The newest revision's number, by image.
    numbers: BTreeMap<String, i64>,
    pods: Pods,
    claims: Claims,
    /// All states of the pods so far; the cache shows one of them.
    past: Vec<Pods>,
    cache: usize,
    /// The state the controller's own last write led to.
    wrote: usize,
    claims_cache: Claims,
    set_cache: StatefulSet,
    /// Pods whose last write was not answered.
    doubts: BTreeSet<String>,
    /// Places emptied by an update and not available since, each with the update that did it.
    rolled: BTreeMap<i64, usize>,
    /// The templates the controller has looked at, one after the other: each begins an update.
    updates: Vec<String>,
    /// How much stricter the check is than the set, to see that it can fail.
    less: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut text = format!("{}", rng.random_range(0..6));
        for (word, of) in [
            (" parallel", 2),
            (" claims", 2),
            (" start=3", 3),
            (" plain", 4),
            (" most=2", 3),
            (" partition=1", 4),
        ] {
            let fits = !text.contains("plain") || !word.contains('=');
            if rng.random_ratio(1, of) && fits {
                text += word;
            }
        }
        let set = set(&text);
        Self {
            rng,
            now: now(),
            uids: 0,
            set_cache: set.clone(),
            numbers: [("a".to_string(), 1)].into(),
            set,
            pods: Pods::new(),
            claims: Claims::new(),
            past: vec![Pods::new()],
            cache: 0,
            wrote: 0,
            claims_cache: Claims::new(),
            doubts: BTreeSet::new(),
            rolled: BTreeMap::new(),
            updates: Vec::new(),
            less: 0,
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.random_ratio(1, of)
    }

    /// Whether an update may begin while places that an earlier one emptied are still down. In order nothing moves
    /// while a place is down. In parallel nothing waits for a place below: every change of the template starts from
    /// the top again, as upstream's does.
    fn starts_over(&self) -> bool {
        let spec = self.set.spec.as_ref().unwrap();
        spec.pod_management_policy.as_deref() == Some("Parallel") && self.most() == 1
    }

    fn most(&self) -> usize {
        let strategy = self.set.spec.as_ref().unwrap().update_strategy.as_ref().unwrap();
        let most = strategy.rolling_update.as_ref().and_then(|r| r.max_unavailable.as_ref());
        if most.is_some() { 2 } else { 1 }
    }

    /// Time passes and something may have changed.
    fn moved(&mut self) {
        self.now += SignedDuration::from_secs(1);
        if self.past.last() != Some(&self.pods) {
            self.past.push(self.pods.clone());
        }
        let healthy = |p: &Pod| is_healthy(p);
        // A place that is no longer wanted is nobody's loss.
        let (pods, wanted) = (&self.pods, range(&self.set));
        self.rolled.retain(|place, _| {
            wanted.contains(place) && !pods.get(&format!("web-{place}")).is_some_and(healthy)
        });
    }

    /// The kubelets, the scheduler and the fates.
    fn live(&mut self, calm: bool) {
        let names: Vec<_> = self.pods.keys().cloned().collect();
        let Some(called) = names.get(self.rng.random_range(0..names.len().max(1))).cloned() else { return };
        let mut subject = self.pods[&called].clone();
        let state = format!(
            "{called} {}",
            ["Running ready", "Running", "Failed"][match self.rng.random_range(0..10) {
                _ if calm => 0,
                0 => 2,
                1 | 2 => 1,
                _ => 0,
            }]
        );
        if subject.metadata.deletion_timestamp.is_some() {
            self.pods.remove(&called);
        } else if !calm && self.chance(15) {
            // Somebody evicts it.
            subject.metadata.deletion_timestamp = Some(time("2026-01-01T09:59:00Z"));
            self.pods.insert(called, subject);
        } else if crate::kit::pods::finished(&subject) {
            // Finished for good.
        } else {
            subject.status = pod(&state).status;
            self.pods.insert(called, subject);
        }
        self.moved();
    }

    /// The user.
    fn change(&mut self) {
        let choice = self.rng.random_range(0..3);
        let replicas = self.rng.random_range(0..6);
        let image = ["a", "b", "c"][self.rng.random_range(0..3)].to_string();
        let spec = self.set.spec.as_mut().unwrap();
        match choice {
            0 => spec.replicas = Some(replicas),
            _ => {
                spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.clone());
                let next = self.numbers.values().max().unwrap() + 1;
                self.numbers.insert(image, next);
            }
        }
        self.set.metadata.generation = self.set.metadata.generation.map(|g| g + 1);
    }

    /// Caches catch up some way.
    fn see(&mut self, all: bool) {
        let last = self.past.len() - 1;
        self.cache = if all { last } else { self.rng.random_range(self.cache..=last) };
        if all || self.chance(2) {
            self.claims_cache = self.claims.clone();
        }
        if all || self.chance(2) {
            self.set_cache = self.set.clone();
        }
    }

    fn look(&self) -> Plan {
        let set = &self.set_cache;
        let by_image = |image: &str| {
            let mut of = set.clone();
            of.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image =
                Some(image.into());
            revision_of(&of, self.numbers[image])
        };
        let spec = set.spec.as_ref().unwrap();
        let image = spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let update: ControllerRevision = by_image(&image);
        let named = set.status.as_ref().and_then(|s| s.current_revision.clone()).unwrap_or(image);
        let current = by_image(&named);
        let find = |claim: &str| self.claims_cache.get(claim).cloned().map(std::sync::Arc::new);
        let pods = self.past[self.cache].values().collect();
        plan(&Observed { set, spec, pods, current: &current, update: &update, find: &find }, self.now)
    }

    /// One look of the controller, as the room does it.
    fn sync(&mut self, faults: bool) -> bool {
        // Its own writes are awaited.
        let view = &self.past[self.cache];
        if self.cache < self.wrote || self.doubts.iter().any(|p| view.get(p) != self.pods.get(p)) {
            return false;
        }
        self.doubts.clear();
        let plan = self.look();
        let template = &self.set_cache.spec.as_ref().unwrap().template;
        let image = template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        if self.updates.last() != Some(&image) {
            self.updates.push(image);
        }
        // Nor is one that was not wanted when the controller looked.
        let wanted = range(&self.set_cache);
        self.rolled.retain(|place, _| wanted.contains(place));
        let stages = plan.stages.len();
        for (at, stage) in plan.stages.iter().enumerate() {
            for act in stage {
                let updates = at + 1 == stages && act.write.as_ref().is_some_and(|w| !w.note.is_empty());
                if !self.act(act, updates && act.what == What::Delete, faults) {
                    return true;
                }
            }
        }
        let status = Some(plan.status_after());
        // A status written over an old state of the set is refused.
        let fresh = self.set_cache.metadata.generation == self.set.metadata.generation
            && self.set_cache.status == self.set.status;
        let busy = !plan.stages.is_empty() || (fresh && self.set.status != status);
        if fresh && !(faults && self.chance(10)) {
            self.set.status = status;
            self.set_cache = self.set.clone();
        }
        busy
    }

    fn act(&mut self, act: &Act, update: bool, faults: bool) -> bool {
        for claim in &act.claims {
            if faults && self.chance(12) {
                return false;
            }
            let made: PersistentVolumeClaim = serde_json::from_value(claim.body.clone()).unwrap();
            self.claims.entry(claim.name.clone()).or_insert(made);
        }
        let Some(write) = &act.write else { return true };
        if faults && self.chance(12) {
            return false;
        }
        match write.verb {
            Verb::Create => {
                if self.pods.contains_key(&write.name) {
                    return false;
                }
                self.uids += 1;
                let mut made: Pod = serde_json::from_value(write.body.clone()).unwrap();
                made.metadata.uid = Some(format!("u{}", self.uids));
                made.status = pod(&format!("{} Pending", write.name)).status;
                self.pods.insert(write.name.clone(), made);
            }
            Verb::Delete => {
                let uid = write.body["preconditions"]["uid"].as_str();
                let Some(victim) =
                    self.pods.get_mut(&write.name).filter(|p| p.metadata.uid.as_deref() == uid)
                else {
                    return true;
                };
                let fresh = victim.metadata.deletion_timestamp.is_none();
                let healthy = is_healthy(victim);
                victim.metadata.deletion_timestamp = Some(time("2026-01-01T09:59:00Z"));
                if update && fresh && healthy {
                    let update = self.updates.len();
                    self.rolled.extend(ordinal("web", &write.name).map(|place| (place, update)));
                }
            }
            other => panic!("unexpected {other:?}"),
        }
        self.moved();
        // The answer says how far the cache has to come, unless it was lost.
        if !(faults && self.chance(12)) {
            self.wrote = self.past.len() - 1;
            return true;
        }
        self.doubts.insert(write.name.clone());
        false
    }

    fn check(&self) -> Result<(), String> {
        let mut places = BTreeSet::new();
        for called in self.pods.keys() {
            let place = ordinal("web", called).ok_or(format!("{called} has no place"))?;
            if !places.insert(place) {
                return Err(format!("two pods at {place}"));
            }
        }
        let most = self.most() - self.less;
        let together = |update: &usize| match self.starts_over() {
            true => self.rolled.values().filter(|by| *by == update).count(),
            false => self.rolled.len(),
        };
        if self.rolled.values().any(|update| together(update) > most) {
            return Err(format!("updates took {:?}, at most {most} may be", self.rolled));
        }
        // Going down from the top, a later update stops at the first place that is down: it takes none below.
        let by_place: Vec<_> = self.rolled.values().collect();
        match self.starts_over() && !by_place.is_sorted() {
            true => Err(format!("an update went past a place that is down: {:?}", self.rolled)),
            false => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(50..250) {
            match self.rng.random_range(0..12) {
                0 => {
                    if self.chance(6) {
                        self.change();
                    }
                }
                1..=4 => self.live(false),
                5..=7 => self.see(false),
                _ => drop(self.sync(true)),
            }
            self.check()?;
        }
        self.quiet()
    }

    /// Without faults it comes to rest, and at the right place.
    fn quiet(&mut self) -> Result<(), String> {
        for round in 0..2000 {
            self.see(true);
            let busy = self.sync(false);
            self.check()?;
            let stable = self.pods.values().all(|p| is_healthy(p));
            if !busy && stable && round > 20 {
                return self.end();
            }
            for _ in 0..3 {
                self.live(true);
            }
            // Those that hang forever are what an administrator would clear.
            self.unstick();
        }
        Err(format!("does not settle: {}", self.look()))
    }

    /// The known cases: in order, a broken pod of an old revision that is not next waits for a hand, and of several
    /// finished pods that are to go the highest waits for the lowest, which waits for its turn. Here all get well, and
    /// such a lowest one is taken away.
    fn unstick(&mut self) {
        let ordered = self.set.spec.as_ref().unwrap().pod_management_policy.as_deref() != Some("Parallel");
        let wanted = range(&self.set);
        let over = |p: &&Pod| {
            crate::kit::pods::finished(p) && !wanted.contains(&ordinal("web", name(&p.metadata)).unwrap())
        };
        let stuck: Vec<_> = self.pods.values().filter(over).map(|p| name(&p.metadata).to_string()).collect();
        if ordered && stuck.len() > 1 {
            let lowest = stuck.iter().min_by_key(|called| ordinal("web", called)).unwrap();
            self.pods.remove(lowest);
        }
        let names: Vec<_> = self.pods.keys().cloned().collect();
        for called in names {
            let p = self.pods.get_mut(&called).unwrap();
            if p.metadata.deletion_timestamp.is_none() && !crate::kit::pods::finished(p) {
                p.status = pod(&format!("{called} Running ready")).status;
            }
        }
        self.moved();
    }

    fn end(&self) -> Result<(), String> {
        let wanted: BTreeSet<_> = range(&self.set).collect();
        let there: BTreeSet<_> = self.pods.keys().filter_map(|p| ordinal("web", p)).collect();
        if wanted != there {
            return Err(format!("{there:?} instead of {wanted:?}"));
        }
        let spec = self.set.spec.as_ref().unwrap();
        let image = spec.template.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap();
        let rolling = spec.update_strategy.as_ref().unwrap().rolling_update.as_ref();
        let partition = rolling.and_then(|r| r.partition).unwrap_or(0) as i64 + range(&self.set).start;
        let old = self
            .pods
            .values()
            .find(|p| ordinal("web", name(&p.metadata)).unwrap() >= partition && revision(p) != image);
        match old {
            Some(old) => Err(format!("{} is still of {}", name(&old.metadata), revision(old))),
            None => Ok(()),
        }
    }
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 120;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| World::new(seed).run());
}

#[test]
fn the_check_is_awake() {
    assert!(caught(50, |seed| World { less: 1, ..World::new(seed) }.run()));
}
