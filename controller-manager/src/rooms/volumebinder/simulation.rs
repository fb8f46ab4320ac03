//! Histories of users, a scheduler, a provisioner and this room over caches that lag and writes that fail. Never are
//! two claims bound to one volume or one claim to two, and no volume is deleted that a claim is bound to. The seed of a
//! history that fails is printed; `COXSWAIN_SEEDS` runs more of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::tests::{claim_of, class_of, volume_of};
use super::{claim, volume};
use crate::kit::meta::{annotation, name, uid};
use crate::kit::storage::{
    BIND_COMPLETED, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, claim_class, claim_ref, is_for, requested,
    volume_name, waits,
};
use crate::kit::{Plan, Step};
use crate::testing::caught;

const SEEDS: u64 = 100;

#[derive(Clone, Default)]
struct State {
    claims: BTreeMap<String, PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
}

struct World {
    rng: StdRng,
    truth: State,
    past: Vec<State>,
    /// Which state each cache shows.
    shown: (usize, usize),
    classes: Vec<Arc<StorageClass>>,
    version: u64,
    made: u64,
    /// For a check of the check: the API server takes updates over old states.
    blind: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let classes = ["hand kubernetes.io/no-provisioner", "now p.io/p", "later p.io/p waits"].map(class_of);
        Self {
            rng: StdRng::seed_from_u64(seed),
            truth: State::default(),
            past: vec![State::default()],
            shown: (0, 0),
            classes: classes.into(),
            version: 1,
            made: 0,
            blind: false,
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn moved(&mut self) {
        self.past.push(self.truth.clone());
    }

    fn put_claim(&mut self, mut claim: PersistentVolumeClaim) {
        self.version += 1;
        claim.metadata.resource_version = Some(self.version.to_string());
        self.truth.claims.insert(name(&claim.metadata).into(), claim);
        self.moved();
    }

    fn put_volume(&mut self, mut volume: PersistentVolume) {
        self.version += 1;
        volume.metadata.resource_version = Some(self.version.to_string());
        self.truth.volumes.insert(name(&volume.metadata).into(), volume);
        self.moved();
    }

    fn pick<T>(&mut self, from: Vec<T>) -> Option<T> {
        let mut from = from;
        let at = if from.is_empty() { return None } else { self.rng.random_range(0..from.len()) };
        Some(from.swap_remove(at))
    }

    fn class(&mut self) -> &'static str {
        ["", "hand", "now", "later"][self.rng.random_range(0..4)]
    }

    fn user(&mut self) {
        self.made += 1;
        let class = self.class();
        match self.rng.random_range(0..5) {
            0 | 1 => {
                let called = format!("c{}", self.rng.random_range(0..4));
                if self.truth.claims.contains_key(&called) {
                    return;
                }
                let size = self.rng.random_range(1..4);
                let mut claim = claim_of(&format!("{called} class={class} size={size}Gi"));
                claim.metadata.uid = Some(format!("claim-{}", self.made));
                if self.chance(4) {
                    let volumes = self.truth.volumes.keys().cloned().collect();
                    let wished = self.pick(volumes);
                    claim.spec.as_mut().unwrap().volume_name = wished;
                }
                self.put_claim(claim);
            }
            2 | 3 => {
                let size = self.rng.random_range(1..5);
                let owner = if self.chance(4) { " for=ns/c1" } else { "" };
                let text = format!("v{} class={class} size={size}Gi phase=Pending{owner}", self.made);
                self.put_volume(volume_of(&text));
            }
            _ => {
                let claims = self.truth.claims.keys().cloned().collect();
                if let Some(claim) = self.pick(claims) {
                    self.truth.claims.remove(&claim);
                    self.moved();
                }
            }
        }
    }

    /// Chooses nodes and volumes for claims that wait.
    fn scheduler(&mut self) {
        let classes = self.classes.clone();
        let late = |c: &&PersistentVolumeClaim| {
            let class = classes.iter().find(|k| Some(name(&k.metadata)) == claim_class(c));
            class.is_some_and(|k| waits(k)) && volume_name(c).is_empty()
        };
        let waiting = self.truth.claims.values().filter(late).cloned().collect();
        let Some(mut claim) = self.pick(waiting) else { return };
        if annotation(&claim.metadata, SELECTED_NODE).is_some() {
            return;
        }
        let free = |v: &&PersistentVolume| {
            claim_ref(v).is_none()
                && v.status.as_ref().unwrap().phase.as_deref() == Some("Available")
                && crate::kit::storage::volume_class(v) == claim_class(&claim).unwrap()
                && crate::kit::storage::capacity(v) >= requested(&claim)
        };
        let free = self.truth.volumes.values().filter(free).cloned().collect();
        match self.pick(free) {
            Some(mut volume) => {
                volume.spec.as_mut().unwrap().claim_ref = Some(reference(&claim));
                self.put_volume(volume);
            }
            None => {
                claim.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.into(), "n".into());
                self.put_claim(claim);
            }
        }
    }

    /// Makes volumes it is asked for, and deletes its own when they are released.
    fn provisioner(&mut self, lazy: bool) -> Result<(), String> {
        let asked = |c: &&PersistentVolumeClaim| {
            annotation(&c.metadata, PROVISIONER).is_some() && volume_name(c).is_empty()
        };
        let asked: Vec<_> = self.truth.claims.values().filter(asked).cloned().collect();
        for claim in asked {
            let called = format!("pvc-{}", uid(&claim.metadata));
            if self.truth.volumes.contains_key(&called) || (lazy && self.chance(2)) {
                continue;
            }
            let class = claim_class(&claim).unwrap_or_default();
            let size = requested(&claim).canonical();
            let text = format!("{called} class={class} size={size} phase=Pending policy=Delete by=p.io/p");
            let mut volume = volume_of(&text);
            volume.spec.as_mut().unwrap().claim_ref = Some(reference(&claim));
            self.put_volume(volume);
        }
        let released = |v: &&PersistentVolume| {
            annotation(&v.metadata, PROVISIONED_BY).is_some()
                && v.status.as_ref().unwrap().phase.as_deref() == Some("Released")
        };
        let released: Vec<_> = self.truth.volumes.values().filter(released).cloned().collect();
        for volume in released {
            let called = name(&volume.metadata);
            let user = self.truth.claims.values().find(|c| {
                annotation(&c.metadata, BIND_COMPLETED).is_some()
                    && volume_name(c) == called
                    && is_for(&volume, c)
            });
            if let Some(user) = user {
                return Err(format!("{called} is deleted while {} is bound to it", name(&user.metadata)));
            }
            self.truth.volumes.remove(called);
            self.moved();
        }
        Ok(())
    }

    /// Caches catch up some way, each on its own.
    fn see(&mut self, all: bool) {
        let last = self.past.len() - 1;
        let some = |rng: &mut StdRng, from: usize| if all { last } else { rng.random_range(from..=last) };
        self.shown.0 = some(&mut self.rng, self.shown.0);
        self.shown.1 = some(&mut self.rng, self.shown.1);
    }

    fn claim_plan(&self, called: &str) -> Option<Plan> {
        let claim = self.past[self.shown.0].claims.get(called)?;
        let volumes = &self.past[self.shown.1].volumes;
        let candidates = volumes.values().cloned().map(Arc::new).collect();
        let named = volumes.get(volume_name(claim)).cloned().map(Arc::new);
        let pods = Vec::new();
        Some(claim::plan(&claim::Observed { claim, candidates, named, classes: &self.classes, pods }))
    }

    fn volume_plan(&self, called: &str) -> Option<Plan> {
        let volume = self.past[self.shown.1].volumes.get(called)?;
        let owner = claim_ref(volume).and_then(|r| {
            let claim = r.name.clone().unwrap_or_default();
            let known = self.past[self.shown.0].claims.get(&claim);
            let known = known.filter(|c| Some(uid(&c.metadata)) == r.uid.as_deref());
            known.or(self.truth.claims.get(&claim)).cloned().map(Arc::new)
        });
        Some(volume::plan(volume, owner.as_ref()))
    }

    /// A look at one thing over lagging caches, or without faults at everything; true if anything was written.
    fn look(&mut self, faults: bool) -> bool {
        let mut items: Vec<(bool, String)> = self.truth.claims.keys().map(|c| (true, c.clone())).collect();
        items.extend(self.truth.volumes.keys().map(|v| (false, v.clone())));
        if faults {
            items = self.pick(items).into_iter().collect();
        }
        let mut wrote = false;
        for (is_claim, called) in items {
            if !faults {
                self.see(true);
            }
            let plan = if is_claim { self.claim_plan(&called) } else { self.volume_plan(&called) };
            for step in plan.iter().flat_map(|p| &p.steps) {
                let Step::Write(write) = step else { continue };
                wrote = true;
                if !self.send(&write.kind.plural, &write.body, write.subresource == "status", faults) {
                    break;
                }
            }
        }
        wrote
    }

    /// The API server: an update over an old state is refused. False if the room believes that it failed.
    fn send(&mut self, plural: &str, body: &serde_json::Value, status: bool, faults: bool) -> bool {
        if faults && self.chance(10) {
            return false;
        }
        let version = body["metadata"]["resourceVersion"].as_str().map(str::to_string);
        if plural == "persistentvolumes" {
            let new: PersistentVolume = serde_json::from_value(body.clone()).unwrap();
            let Some(mut old) = self.truth.volumes.get(name(&new.metadata)).cloned() else { return false };
            if !self.blind && old.metadata.resource_version != version {
                return false;
            }
            if status {
                old.status = new.status;
            } else {
                (old.metadata.annotations, old.spec) = (new.metadata.annotations, new.spec);
            }
            self.put_volume(old);
        } else {
            let new: PersistentVolumeClaim = serde_json::from_value(body.clone()).unwrap();
            let Some(mut old) = self.truth.claims.get(name(&new.metadata)).cloned() else { return false };
            if !self.blind && old.metadata.resource_version != version {
                return false;
            }
            if status {
                old.status = new.status;
            } else {
                (old.metadata.annotations, old.spec) = (new.metadata.annotations, new.spec);
            }
            self.put_claim(old);
        }
        !(faults && self.chance(10))
    }

    fn check(&self) -> Result<(), String> {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for claim in self.truth.claims.values() {
            if annotation(&claim.metadata, BIND_COMPLETED).is_none() {
                continue;
            }
            let volume = volume_name(claim);
            if let Some(other) = owners.insert(volume, name(&claim.metadata)) {
                return Err(format!("{volume} is bound to {other} and to {}", name(&claim.metadata)));
            }
            let holds = self.truth.volumes.get(volume);
            if holds
                .is_some_and(|v| claim_ref(v).and_then(|r| r.uid.as_deref()) != Some(uid(&claim.metadata)))
            {
                return Err(format!("{} is bound to {volume}, which is another's", name(&claim.metadata)));
            }
            if let Some(lost) =
                claim.status.as_ref().and_then(|s| s.phase.as_deref()).filter(|p| *p == "Lost")
            {
                return Err(format!("{} is {lost}", name(&claim.metadata)));
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(50..250) {
            match self.rng.random_range(0..12) {
                0 | 1 => self.user(),
                2 => self.scheduler(),
                3 => self.provisioner(true)?,
                4..=6 => self.see(false),
                _ => drop(self.look(true)),
            }
            self.check()?;
        }
        self.quiet()
    }

    /// Without faults it comes to rest, and nothing is left half done.
    fn quiet(&mut self) -> Result<(), String> {
        let mut idle = 0;
        for _ in 0..500 {
            self.see(true);
            let before = self.version;
            let wrote = self.look(false);
            self.scheduler();
            self.provisioner(false)?;
            self.check()?;
            idle = if wrote || self.version != before { 0 } else { idle + 1 };
            if idle > 20 {
                return self.end();
            }
        }
        Err("does not come to rest".into())
    }

    fn end(&self) -> Result<(), String> {
        for claim in self.truth.claims.values() {
            let done = annotation(&claim.metadata, BIND_COMPLETED).is_some();
            let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
            if done != (phase == Some("Bound")) {
                return Err(format!("{} is {phase:?}", name(&claim.metadata)));
            }
            let can = matches!(claim_class(claim), Some("now" | "later")) && volume_name(claim).is_empty();
            if can && !done {
                return Err(format!("{} has no volume", name(&claim.metadata)));
            }
            let held = self
                .truth
                .volumes
                .values()
                .filter(|v| claim_ref(v).and_then(|r| r.uid.as_deref()) == Some(uid(&claim.metadata)));
            if held.count() > 1 {
                return Err(format!("two volumes are set aside for {}", name(&claim.metadata)));
            }
        }
        Ok(())
    }
}

fn reference(claim: &PersistentVolumeClaim) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        namespace: Some("ns".into()),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        ..Default::default()
    }
}

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| World::new(seed).run());
}

#[test]
fn the_check_is_awake() {
    assert!(caught(300, |seed| World { blind: true, ..World::new(seed) }.run()));
}
