//! Histories at random: users who make objects with owners (also such as are not there, elsewhere or of other names),
//! make circles, delete in each of the three ways and make anew, one or two collectors whose watches of each kind lag and
//! begin anew, and whose requests fail, come late or are not answered. Nothing goes that has an owner that stays, no
//! reference to such a one is taken off, what is deleted in the foreground waits for what it knows, what is orphaned is
//! let go first; and once all is quiet nothing is left whose owners are gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use control::Queue;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::PartialObjectMeta;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::monitors::{Shared, heed};
use super::work::Worker;
use super::{FOREGROUND, ORPHAN};
use crate::kit::Kind;
use crate::kit::discovery::Resource;
use crate::kit::meta::{has_finalizer, name, uid};
use crate::testing::faults::{Fate, fate};
use crate::testing::histories::{Verdict, lived};
use crate::testing::queue::work;
use crate::testing::server::{Answer, Asked, Server, context, differs, failure};
use crate::testing::{caught, clock};

/// Plural, kind, and whether its objects are in namespaces.
const KINDS: [(&str, &str, bool); 3] =
    [("rings", "Ring", false), ("ropes", "Rope", true), ("knots", "Knot", true)];
const VERSION: &str = "x/v1";
const HOLD: &str = "users/hold";

/// Kind, namespace and name.
type Place = (usize, String, String);
type News = Event<PartialObjectMeta<DynamicObject>>;

struct World {
    rng: StdRng,
    faults: bool,
    version: u64,
    made: u64,
    objects: BTreeMap<Place, ObjectMeta>,
    /// What happened, per kind.
    news: [Vec<News>; 3],
    late: Vec<Asked>,
    /// What the collector at work knows to wait for, as owner and dependent.
    blocking: BTreeSet<(String, String)>,
    /// Those of the collector at work.
    watch: Option<Arc<Mutex<Watch>>>,
    /// For a check of the check: the server takes no care that an object is the one meant.
    careless: bool,
    wrong: Option<String>,
    log: Vec<String>,
}

fn partial(meta: &ObjectMeta) -> PartialObjectMeta<DynamicObject> {
    PartialObjectMeta { types: None, metadata: meta.clone(), _phantom: Default::default() }
}

fn told(meta: &ObjectMeta) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            faults: true,
            version: 1,
            made: 0,
            objects: BTreeMap::new(),
            news: Default::default(),
            late: Vec::new(),
            blocking: BTreeSet::new(),
            watch: None,
            careless: false,
            wrong: None,
            log: Vec::new(),
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn any(&mut self) -> Option<Place> {
        let count = self.objects.len();
        if count == 0 { None } else { self.objects.keys().nth(self.rng.random_range(0..count)).cloned() }
    }

    fn complain(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Stores an object, or takes it away if nothing holds one that is deleted.
    fn put(&mut self, place: &Place, mut meta: ObjectMeta) {
        self.version += 1;
        meta.resource_version = Some(self.version.to_string());
        let over = meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().next().is_none();
        let owners: Vec<_> = meta
            .owner_references
            .iter()
            .flatten()
            .map(|r| format!("{} {:?}", r.uid, r.block_owner_deletion))
            .collect();
        let going = meta.deletion_timestamp.is_some();
        self.log.push(format!(
            "{}: {place:?} {} {owners:?} {:?} going={going} over={over}",
            self.version,
            uid(&meta),
            meta.finalizers
        ));
        if over {
            self.objects.remove(place);
            self.news[place.0].push(Event::Delete(partial(&meta)));
        } else {
            self.news[place.0].push(Event::Apply(partial(&meta)));
            self.objects.insert(place.clone(), meta);
        }
    }

    fn delete(&mut self, place: &Place, policy: &str) {
        let Some(mut meta) = self.objects.get(place).cloned() else { return };
        let finalizers = meta.finalizers.get_or_insert_default();
        finalizers.retain(|f| f != FOREGROUND && f != ORPHAN);
        match policy {
            "Foreground" => finalizers.push(FOREGROUND.into()),
            "Orphan" => finalizers.push(ORPHAN.into()),
            _ => {}
        }
        meta.deletion_timestamp.get_or_insert(Time(clock::truth()));
        self.put(place, meta);
    }

    // ---- users ----

    fn user(&mut self) {
        match self.rng.random_range(0..12) {
            0..6 => self.make(),
            6 | 7 => self.point(),
            8 | 9 => {
                let policy =
                    ["Background", "Foreground", "Foreground", "Orphan"][self.rng.random_range(0..4)];
                let alive = |m: &ObjectMeta| m.deletion_timestamp.is_none();
                if let Some(place) = self.any().filter(|p| alive(&self.objects[p])) {
                    self.delete(&place, policy);
                }
            }
            10 => self.release(false),
            _ => {
                // Lets go of an owner.
                let Some(place) = self.any() else { return };
                let mut meta = self.objects[&place].clone();
                if meta.owner_references.iter_mut().flatten().next().is_some() {
                    meta.owner_references.as_mut().unwrap().remove(0);
                    self.put(&place, meta);
                }
            }
        }
    }

    fn make(&mut self) {
        let kind = self.rng.random_range(0..3);
        let ns = if KINDS[kind].2 { ["a", "b"][self.rng.random_range(0..2)] } else { "" };
        let called = format!("o{}", self.rng.random_range(0..4));
        let place = (kind, ns.to_string(), called.clone());
        if self.objects.contains_key(&place) {
            return;
        }
        self.made += 1;
        let mut owners: Vec<OwnerReference> = Vec::new();
        for _ in 0..self.rng.random_range(0..3) {
            let new = self.reference(&place).filter(|r| owners.iter().all(|o| o.uid != r.uid));
            owners.extend(new);
        }
        let meta = ObjectMeta {
            name: Some(called),
            namespace: Some(ns.to_string()).filter(|n| !n.is_empty()),
            uid: Some(format!("u{}", self.made)),
            owner_references: Some(owners),
            finalizers: self.chance(6).then(|| vec![HOLD.into()]),
            ..ObjectMeta::default()
        };
        self.put(&place, meta);
    }

    /// Adds an owner to an object.
    fn point(&mut self) {
        let Some(place) = self.any().filter(|p| self.objects[p].deletion_timestamp.is_none()) else { return };
        let Some(reference) = self.reference(&place) else { return };
        let mut meta = self.objects[&place].clone();
        let itself = reference.uid == uid(&meta);
        let owners = meta.owner_references.get_or_insert_default();
        if owners.iter().all(|o| o.uid != reference.uid) && !itself {
            owners.push(reference);
            self.put(&place, meta);
        }
    }

    /// A reference to something that is there and stays; seldom to something that is not.
    fn reference(&mut self, from: &Place) -> Option<OwnerReference> {
        let to = self.any()?;
        let mut owner = self.objects[&to].clone();
        let near = !KINDS[to.0].2 || (KINDS[from.0].2 && to.1 == from.1);
        if owner.deletion_timestamp.is_some() || (!near && !self.chance(8)) {
            return None;
        }
        if self.chance(15) {
            owner.uid = Some(format!("nobody{}", self.rng.random_range(0..3)));
        }
        if self.chance(25) {
            owner.name = Some("other".into());
        }
        Some(OwnerReference {
            api_version: VERSION.into(),
            kind: KINDS[to.0].1.into(),
            name: name(&owner).into(),
            uid: uid(&owner).into(),
            controller: None,
            block_owner_deletion: Some(self.chance(2)),
        })
    }

    /// Takes users' own finalizers off, all or one.
    fn release(&mut self, all: bool) {
        let held: Vec<Place> =
            self.objects.iter().filter(|(_, m)| has_finalizer(m, HOLD)).map(|(p, _)| p.clone()).collect();
        for place in held.into_iter().take(if all { usize::MAX } else { 1 }) {
            let mut meta = self.objects[&place].clone();
            meta.finalizers.as_mut().unwrap().retain(|f| f != HOLD);
            self.put(&place, meta);
        }
    }

    // ---- what must hold ----

    /// Whether a reference of an object at `from` is to an owner that stays.
    fn stays(&self, from: &Place, r: &OwnerReference) -> bool {
        self.owner(from, r).is_some_and(|m| m.deletion_timestamp.is_none() || !has_finalizer(m, FOREGROUND))
            || self.impossible(from, r)
    }

    /// A cluster's object can't have an owner in a namespace, and nothing follows from its having one.
    fn impossible(&self, from: &Place, r: &OwnerReference) -> bool {
        from.1.is_empty() && KINDS.iter().any(|(_, kind, namespaced)| *kind == r.kind && *namespaced)
    }

    fn owner(&self, from: &Place, r: &OwnerReference) -> Option<&ObjectMeta> {
        let kind = KINDS.iter().position(|(_, kind, _)| *kind == r.kind)?;
        let ns = if KINDS[kind].2 { from.1.clone() } else { String::new() };
        self.objects.get(&(kind, ns, r.name.clone())).filter(|m| uid(m) == r.uid)
    }

    fn check_delete(&mut self, place: &Place) {
        let meta = &self.objects[place];
        let owners = meta.owner_references.clone().unwrap_or_default();
        if let Some(owner) = owners.iter().find(|r| self.stays(place, r)) {
            self.complain(format!("{place:?} is deleted, and its owner {owner:?} stays"));
        } else if owners.is_empty() {
            self.complain(format!("{place:?} is deleted without having had an owner"));
        }
    }

    fn check_owners(&mut self, place: &Place, after: &[OwnerReference]) {
        let before = self.objects[place].owner_references.clone().unwrap_or_default();
        if let Some(new) = after.iter().find(|r| before.iter().all(|b| b.uid != r.uid)) {
            self.complain(format!("{place:?} is given the owner {new:?}"));
        }
        for lost in before.iter().filter(|b| after.iter().all(|r| b.uid != r.uid)) {
            let orphaned = self.objects.values().any(|m| uid(m) == lost.uid && has_finalizer(m, ORPHAN));
            // Its namespace is wrong, and still it is the one.
            if self.stays(place, lost) && !orphaned {
                self.complain(format!("{place:?} loses its owner {lost:?}, which stays"));
            }
        }
    }

    fn check_finalizers(&mut self, place: &Place, after: &[String]) {
        let meta = self.objects[place].clone();
        let id = uid(&meta).to_string();
        let names = |m: &ObjectMeta, block: bool| {
            let mut owners = m.owner_references.iter().flatten();
            owners.any(|r| r.uid == id && (!block || r.block_owner_deletion == Some(true)))
        };
        let loses = |f: &str| has_finalizer(&meta, f) && !after.iter().any(|a| a == f);
        if loses(HOLD) {
            self.complain(format!("{place:?} loses a finalizer of others"));
        }
        let graph = self.watch.as_ref().map(|w| w.lock().shared.graph.clone());
        for (from, dependent) in self.objects.clone() {
            let told = uid(&dependent).to_string();
            if loses(FOREGROUND)
                && names(&dependent, true)
                && self.blocking.contains(&(id.clone(), told.clone()))
            {
                self.complain(format!("{place:?} does not wait for {from:?}"));
            }
            let known = graph.as_ref().is_some_and(|g| {
                let graph = g.lock();
                graph.get(&id).is_some_and(|n| n.dependents.contains(told.as_str()))
            });
            if loses(ORPHAN) && names(&dependent, false) && known {
                self.complain(format!("{place:?} goes before {from:?} is let go"));
            }
        }
    }

    // ---- the API server for the collector ----

    fn place_of(path: &str) -> Place {
        let words: Vec<&str> = path.trim_start_matches("/apis/x/v1/").split('/').collect();
        let (ns, plural, name) = match words[..] {
            ["namespaces", ns, plural, name] => (ns, plural, name),
            [plural, name] => ("", plural, name),
            _ => panic!("unexpected {path}"),
        };
        let kind = KINDS.iter().position(|k| k.0 == plural).unwrap();
        (kind, ns.into(), name.into())
    }

    fn serve(&mut self, asked: &Asked) -> Answer {
        let place = Self::place_of(&asked.path);
        let Some(meta) = self.objects.get(&place).cloned() else { return failure(404, "NotFound") };
        match asked.method {
            Method::GET => (200, told(&meta)),
            Method::DELETE => {
                if differs(&asked.body["preconditions"], &meta) && !self.careless {
                    return failure(409, "Conflict");
                }
                self.check_delete(&place);
                self.delete(&place, asked.body["propagationPolicy"].as_str().unwrap_or_default());
                (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
            }
            Method::PATCH => self.patch(&place, meta, &asked.body["metadata"]),
            _ => panic!("unexpected {asked:?}"),
        }
    }

    fn patch(&mut self, place: &Place, mut meta: ObjectMeta, change: &Value) -> Answer {
        if differs(change, &meta) && !self.careless {
            return failure(409, "Conflict");
        }
        if let Ok(owners) = serde_json::from_value::<Vec<OwnerReference>>(change["ownerReferences"].clone()) {
            self.check_owners(place, &owners);
            meta.owner_references = Some(owners);
        }
        if let Ok(finalizers) = serde_json::from_value::<Vec<String>>(change["finalizers"].clone()) {
            self.check_finalizers(place, &finalizers);
            meta.finalizers = Some(finalizers);
        }
        self.put(place, meta.clone());
        (200, told(&meta))
    }

    /// Nothing is left that should be gone, and nothing is left half done.
    fn end(&self) -> Verdict {
        for (place, meta) in &self.objects {
            if meta.deletion_timestamp.is_some() {
                return Err(format!("{place:?} does not go: {:?}", meta.finalizers));
            }
            let mut owners = meta.owner_references.iter().flatten();
            if let Some(gone) = owners.find(|r| !self.stays(place, r)) {
                return Err(format!("{place:?} is left, its owner {gone:?} is gone"));
            }
        }
        Ok(())
    }
}

impl Server for World {
    fn answer(&mut self, asked: &Asked) -> Answer {
        // Others are at work between any two requests, and the watches go on.
        for _ in 0..self.rng.random_range(0..3) {
            if self.faults {
                self.user();
            }
        }
        let reads = asked.method == Method::GET;
        if let Some(watch) = self.watch.clone().filter(|_| reads && self.chance(3)) {
            watch.lock().follow(self, false);
        }
        let answer = match fate(&mut self.rng, self.faults) {
            Fate::Refused(code, reason) => failure(code, reason),
            Fate::Late if asked.method != Method::GET => {
                self.late.push(asked.clone());
                failure(504, "Timeout")
            }
            Fate::Unanswered => {
                self.serve(asked);
                failure(504, "Timeout")
            }
            _ => self.serve(asked),
        };
        self.log.push(format!("{} {} {} -> {}", asked.method, asked.path, asked.body, answer.0));
        answer
    }
}

/// A collector's watches: how far they are, and the graph they feed.
struct Watch {
    shared: Shared,
    at: [usize; 3],
    listed: [bool; 3],
    /// How slow the watch of each kind is: it moves every so many times.
    pace: [u32; 3],
}

impl Watch {
    fn take(&mut self, kind: usize, listed: &mut Option<HashSet<String>>, news: News) {
        let looks = heed(&mut self.shared.graph.lock(), (VERSION, KINDS[kind].1), listed, news);
        looks.into_iter().for_each(|look| self.shared.queue.add(look));
    }

    fn list(&mut self, world: &World, kind: usize) {
        let mut listed = None;
        self.take(kind, &mut listed, Event::Init);
        for (_, meta) in world.objects.iter().filter(|(p, _)| p.0 == kind) {
            self.take(kind, &mut listed, Event::InitApply(partial(meta)));
        }
        self.take(kind, &mut listed, Event::InitDone);
        (self.at[kind], self.listed[kind]) = (world.news[kind].len(), true);
    }

    fn follow(&mut self, world: &mut World, all: bool) {
        for kind in 0..3 {
            if !self.listed[kind] {
                if all || world.chance(3) {
                    self.list(world, kind);
                }
                continue;
            }
            let some = if world.chance(self.pace[kind]) { world.rng.random_range(0..5) } else { 0 };
            let most = if all { usize::MAX } else { some };
            let end = world.news[kind].len().min(self.at[kind].saturating_add(most));
            for news in world.news[kind][self.at[kind]..end].iter().cloned() {
                self.take(kind, &mut None, news);
            }
            self.at[kind] = end;
        }
    }
}

/// One collector.
struct Collector {
    shared: Shared,
    worker: Worker,
    watch: Arc<Mutex<Watch>>,
}

impl Collector {
    fn new(world: &Arc<Mutex<World>>) -> Self {
        let kinds = KINDS.map(|(plural, kind, namespaced)| {
            let kind = Kind::named("x", "v1", plural.into(), kind.into());
            let verbs = ["delete", "list", "watch"].map(String::from).into();
            ((VERSION.to_string(), kind.kind.to_string()), Resource { kind, namespaced, verbs })
        });
        let shared = Shared {
            graph: Arc::default(),
            queue: Queue::new(),
            kinds: Arc::new(parking_lot::RwLock::new(kinds.into())),
            rediscover: Arc::new(Notify::new()),
        };
        let worker = Worker::new(context(world, "garbage-collector-controller"), shared.clone());
        let mut watch = Watch { shared: shared.clone(), at: [0; 3], listed: [false; 3], pace: [1; 3] };
        let mut world = world.lock();
        watch.pace = [0; 3].map(|_| [1, 1, 3, 8][world.rng.random_range(0..4)]);
        // One that cannot be listed does not keep the rest from working.
        let first = world.rng.random_range(0..3);
        for kind in [first, (first + 1) % 3, (first + 2) % 3] {
            if !world.chance(10) {
                watch.list(&world, kind);
            }
        }
        drop(world);
        Self { shared, worker, watch: Arc::new(Mutex::new(watch)) }
    }

    fn follow(&self, world: &mut World, all: bool) {
        self.watch.lock().follow(world, all);
    }

    async fn step(&self, world: &Arc<Mutex<World>>) -> bool {
        {
            let mut world = world.lock();
            let graph = self.shared.graph.lock();
            let owners: Vec<String> = world.objects.values().map(|m| uid(m).to_string()).collect();
            let pairs =
                owners.iter().flat_map(|o| graph.blocking(o).into_iter().map(|d| (o.clone(), d.to_string())));
            world.blocking = pairs.collect();
            world.watch = Some(self.watch.clone());
        }
        work(&self.shared.queue, |look| self.worker.look(look)).await
    }
}

async fn history(world: &Arc<Mutex<World>>) -> Verdict {
    let mut collectors = vec![Collector::new(world)];
    let steps = world.lock().rng.random_range(60..250);
    for _ in 0..steps {
        let (roll, which) = {
            let mut world = world.lock();
            let count = collectors.len();
            (world.rng.random_range(0..100), world.rng.random_range(0..count))
        };
        match roll {
            0..30 => world.lock().user(),
            30..50 => collectors[which].follow(&mut world.lock(), false),
            50..86 => drop(collectors[which].step(world).await),
            86..90 => {
                let wait = world.lock().rng.random_range(10..5000);
                clock::pass(Duration::from_millis(wait)).await;
            }
            90 => collectors[which] = Collector::new(world),
            91 | 92 => {
                let mut world = world.lock();
                let kind = world.rng.random_range(0..3);
                collectors[which].watch.lock().list(&world, kind);
            }
            93 if collectors.len() == 1 => collectors.push(Collector::new(world)),
            93 => drop(collectors.pop()),
            _ => {
                let mut world = world.lock();
                if let Some(asked) = world.late.pop() {
                    world.serve(&asked);
                }
            }
        }
        if let Some(wrong) = world.lock().wrong.take() {
            return Err(wrong);
        }
    }
    quiet(world, collectors).await
}

/// Without faults, and with nothing held by users, all goes that is to go.
async fn quiet(world: &Arc<Mutex<World>>, mut collectors: Vec<Collector>) -> Verdict {
    let collector = collectors.swap_remove(0);
    world.lock().faults = false;
    world.lock().release(true);
    let mut idle = 0;
    for _ in 0..3000 {
        collector.follow(&mut world.lock(), true);
        let worked = collector.step(world).await;
        if let Some(wrong) = world.lock().wrong.take() {
            return Err(wrong);
        }
        idle = if worked { 0 } else { idle + 1 };
        if idle > 30 {
            return world.lock().end();
        }
        if !worked {
            clock::pass(Duration::from_secs(1)).await;
        }
    }
    Err("does not come to rest".into())
}

fn run(world: World) -> Verdict {
    lived(world, |w| &w.log, history)
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 60;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| run(World::new(seed)));
}

#[test]
fn the_check_is_awake() {
    assert!(caught(100, |seed| run(World { careless: true, ..World::new(seed) })));
}
