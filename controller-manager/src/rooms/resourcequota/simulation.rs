//! Histories at random: users who make, change and delete objects by way of admission, servers whose view of quotas is
//! behind, one or two managers whose caches lag and whose writes fail, come late or are not answered, and whose clocks
//! are off. Never does a quota say that less is used than is charged; and once all is quiet it says what is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::{Key, Queue};
use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::Resource as _;
use machinery::quota::{Amounts, add, amounts, covers, in_scope, pretty, subtract, usage};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Room, wake_on_changes};
use crate::testing::faults::{Fate, fate};
use crate::testing::histories::{Verdict, lived};
use crate::testing::queue::work;
use crate::testing::server::{Answer, Asked, Server, context, differs, failure};
use crate::testing::store::{Store, View};
use crate::testing::{caught, clock};

const NAMES: [(&str, i64); 8] = [
    ("pods", 4),
    ("count/pods", 6),
    ("requests.cpu", 4),
    ("services", 3),
    ("services.nodeports", 3),
    ("persistentvolumeclaims", 3),
    ("requests.storage", 5),
    ("secrets", 3),
];
const PLURALS: [&str; 4] = ["pods", "services", "persistentvolumeclaims", "secrets"];

struct World {
    rng: StdRng,
    faults: bool,
    version: u64,
    made: u64,
    quotas: Store<ResourceQuota>,
    /// What the API server's admission believes the quotas are.
    known: BTreeMap<String, ResourceQuota>,
    /// Objects by plural and name.
    objects: BTreeMap<(&'static str, String), Value>,
    pods: Store<Pod>,
    services: Store<Service>,
    claims: Store<PersistentVolumeClaim>,
    /// Objects (by UID) stored while the server at hand did not know how the quota (by UID) was, or it was not yet
    /// in force.
    free: BTreeSet<(String, String)>,
    late: Vec<Asked>,
    /// For a check of the check: charges are not written with the object.
    forgetful: bool,
    wrong: Option<String>,
    log: Vec<String>,
}

fn typed<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap()
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().into()
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            faults: true,
            version: 1,
            made: 0,
            quotas: Store::default(),
            known: BTreeMap::new(),
            objects: BTreeMap::new(),
            pods: Store::default(),
            services: Store::default(),
            claims: Store::default(),
            free: BTreeSet::new(),
            late: Vec::new(),
            forgetful: false,
            wrong: None,
            log: Vec::new(),
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.rng.random_range(0..from.len())].clone()) }
    }

    // ---- the store ----

    /// Stores an object at the version the store is at.
    fn keep(&mut self, plural: &'static str, name: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        match plural {
            "pods" => self.pods.put(typed(&object), self.version),
            "services" => self.services.put(typed(&object), self.version),
            "persistentvolumeclaims" => self.claims.put(typed(&object), self.version),
            _ => {}
        }
        self.objects.insert((plural, name.into()), object);
    }

    fn drop_object(&mut self, plural: &'static str, name: &str) {
        self.version += 1;
        self.objects.remove(&(plural, name.to_string()));
        let place = format!("ns/{name}");
        match plural {
            "pods" => self.pods.remove(&place, self.version),
            "services" => self.services.remove(&place, self.version),
            "persistentvolumeclaims" => self.claims.remove(&place, self.version),
            _ => {}
        }
    }

    /// A write by way of admission: the charge is stored with the object, or nothing is.
    fn admit(&mut self, plural: &'static str, name: &str, object: Value) {
        let old = self.objects.get(&(plural, name.to_string())).cloned();
        let moves = |o: &Value| machinery::quota::terminating(o) != machinery::quota::terminating(&object);
        let resize = old.as_ref().is_some_and(|o| o["spec"]["containers"] != object["spec"]["containers"]);
        let counts = plural != "pods" || resize || old.as_ref().is_none_or(moves);
        let mut charged = Vec::new();
        for (place, quota) in self.quotas.objects.clone().into_iter().filter(|_| counts) {
            let seen = self.known.get(&place).map(|known| charge(known, plural, &object, old.as_ref()));
            let concerned = seen.is_some_and(|c| c != Ok(None));
            let live = charge(&quota, plural, &object, old.as_ref());
            // What a quota has come to be about is in force from the count on that follows.
            let names =
                |texts: Option<&super::plan::Texts>| texts.map(|t| t.keys().cloned().collect::<Vec<_>>());
            let wanted = names(quota.spec.as_ref().and_then(|s| s.hard.as_ref()));
            if wanted != names(quota.status.as_ref().and_then(|s| s.hard.as_ref())) {
                self.free.insert((uid(&value(&quota)), uid(&object)));
            }
            match live {
                _ if !concerned => drop(self.free.insert((uid(&value(&quota)), uid(&object)))),
                Err(()) => return,
                Ok(None) => {}
                Ok(Some(after)) => charged.push((quota, after)),
            }
        }
        self.version += 1;
        for (mut quota, after) in charged {
            let used = quota.status.get_or_insert_default().used.get_or_insert_default();
            for (name, amount) in &after {
                used.insert(
                    name.clone(),
                    k8s_openapi::apimachinery::pkg::api::resource::Quantity(amount.canonical()),
                );
            }
            if !self.forgetful {
                self.quotas.put(quota, self.version);
            }
        }
        self.keep(plural, name, object);
        self.check();
    }

    // ---- users and nodes ----

    fn user(&mut self) {
        match self.rng.random_range(0..12) {
            0 => self.change_quota(),
            1..6 => self.make(),
            6..8 => self.change(),
            8..10 => self.remove(),
            10 => self.live(),
            _ => self.known = self.quotas.objects.clone(),
        }
    }

    fn change_quota(&mut self) {
        let name = format!("q{}", self.rng.random_range(0..2));
        let place = format!("ns/{name}");
        let mut hard = BTreeMap::new();
        for (resource, most) in NAMES {
            if self.chance(2) {
                hard.insert(resource, self.rng.random_range(0..=most).to_string());
            }
        }
        self.version += 1;
        match self.quotas.objects.get(&place).cloned() {
            Some(_) if self.chance(3) => self.quotas.remove(&place, self.version),
            Some(mut quota) => {
                quota.spec.get_or_insert_default().hard = typed(&json!(hard));
                self.quotas.put(quota, self.version);
            }
            None => {
                self.made += 1;
                let scopes = match self.rng.random_range(0..4) {
                    0 => json!(["Terminating"]),
                    1 => json!(["NotTerminating"]),
                    _ => Value::Null,
                };
                if !scopes.is_null() {
                    hard.retain(|name, _| ["pods", "requests.cpu"].contains(name));
                }
                let quota = json!({
                    "metadata": {"name": name, "namespace": "ns", "uid": format!("quota-{}", self.made)},
                    "spec": {"hard": hard, "scopes": scopes},
                });
                self.quotas.put(typed(&quota), self.version);
            }
        }
    }

    fn make(&mut self) {
        let plural = PLURALS[self.rng.random_range(0..PLURALS.len())];
        let name = format!("o{}", self.rng.random_range(0..6));
        if self.objects.contains_key(&(plural, name.clone())) {
            return;
        }
        self.made += 1;
        let mut object =
            json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("object-{}", self.made)}});
        match plural {
            "pods" => {
                object["spec"] = json!({"containers": [self.container()]});
                object["status"] = json!({"phase": "Pending"});
                if self.chance(3) {
                    object["spec"]["activeDeadlineSeconds"] = 60.into();
                }
            }
            "services" => object["spec"] = self.service(),
            "persistentvolumeclaims" => {
                let size = format!("{}", self.rng.random_range(1..3));
                object["spec"] = json!({"resources": {"requests": {"storage": size}}});
            }
            _ => {}
        }
        self.admit(plural, &name, object);
    }

    fn container(&mut self) -> Value {
        let cpu = ["500m", "1", "2"][self.rng.random_range(0..3)];
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn service(&mut self) -> Value {
        let kind = ["ClusterIP", "NodePort"][self.rng.random_range(0..2)];
        json!({"type": kind, "ports": [{"port": 80, "nodePort": 30000}]})
    }

    fn any(&mut self) -> Option<(&'static str, String)> {
        let keys: Vec<_> = self.objects.keys().cloned().collect();
        self.pick(&keys)
    }

    fn change(&mut self) {
        let Some((plural, name)) = self.any() else { return };
        let mut object = self.objects[&(plural, name.clone())].clone();
        match plural {
            "pods" if self.chance(2) => object["spec"]["activeDeadlineSeconds"] = 30.into(),
            "pods" => object["spec"]["containers"] = json!([self.container()]),
            "services" => object["spec"] = self.service(),
            "persistentvolumeclaims" => {
                let more = self.rng.random_range(1..4).to_string();
                object["spec"]["resources"]["requests"]["storage"] = more.into();
            }
            _ => return,
        }
        self.admit(plural, &name, object);
    }

    fn remove(&mut self) {
        let Some((plural, name)) = self.any() else { return };
        let mut object = self.objects[&(plural, name.clone())].clone();
        if plural == "pods" && object["metadata"]["deletionTimestamp"].is_null() {
            let grace = self.rng.random_range(0..60);
            let at = clock::truth() + SignedDuration::from_secs(grace);
            object["metadata"]["deletionTimestamp"] = at.to_string().into();
            object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            self.version += 1;
            return self.keep(plural, &name, object);
        }
        self.drop_object(plural, &name);
    }

    fn live(&mut self) {
        let Some((plural, name)) = self.any() else { return };
        if plural != "pods" {
            return;
        }
        let mut object = self.objects[&(plural, name.clone())].clone();
        if object["status"]["phase"] == "Succeeded" {
            return;
        }
        object["status"]["phase"] = if self.chance(2) { "Running" } else { "Succeeded" }.into();
        self.version += 1;
        self.keep(plural, &name, object);
    }

    // ---- what must hold ----

    /// What of a quota is used, by all objects or only those that were charged and are not on their way out.
    fn truth(&self, quota: &ResourceQuota, all: bool) -> Amounts {
        let spec = value(&quota.spec);
        let hard = amounts(spec.get("hard"));
        let quota_uid = quota.meta().uid.clone().unwrap_or_default();
        let mut sum = Amounts::new();
        for ((plural, _), object) in &self.objects {
            let leaves = !object["metadata"]["deletionTimestamp"].is_null();
            let free = leaves || self.free.contains(&(quota_uid.clone(), uid(object)));
            if (all || !free) && in_scope(&spec, "", plural, object) {
                let mut used = usage("", plural, object, clock::truth());
                used.retain(|name, _| hard.contains_key(name));
                add(&mut sum, &used);
            }
        }
        sum
    }

    fn check(&mut self) {
        for quota in self.quotas.objects.values() {
            let status = value(&quota.status);
            let said = amounts(status.get("used"));
            let mut missing = subtract(&self.truth(quota, false), &said);
            // What the status does not name yet nobody is let in by.
            missing.retain(|name, amount| said.contains_key(name) && amount.sign() > 0);
            if !missing.is_empty() && self.wrong.is_none() {
                let name = quota.meta().name.clone().unwrap_or_default();
                self.wrong = Some(format!("{name} says {}, {} too little", pretty(&said), pretty(&missing)));
            }
        }
    }

    // ---- the API server for the manager ----

    fn serve(&mut self, asked: &Asked) -> Answer {
        let path = asked.path.as_str();
        match path {
            "/api" | "/apis" => return (200, discovery(path == "/api")),
            _ => {}
        }
        let name = path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
        if asked.method == Method::PUT {
            return self.put_status(&format!("ns/{name}"), &asked.body);
        }
        let of = |p: &&&str| **p == name;
        let plural = PLURALS.iter().find(of).unwrap_or_else(|| panic!("unexpected {asked:?}"));
        let items: Vec<&Value> =
            self.objects.iter().filter(|((p, _), _)| p == plural).map(|(_, o)| o).collect();
        let shown = if asked.query == "limit=1" { items.len().min(1) } else { items.len() };
        let rest = items.len() - shown;
        (200, json!({"metadata": {"remainingItemCount": rest}, "items": items[..shown]}))
    }

    fn put_status(&mut self, place: &str, body: &Value) -> Answer {
        let Some(mut quota) = self.quotas.objects.get(place).cloned() else {
            return failure(404, "NotFound");
        };
        if differs(&body["metadata"], quota.meta()) {
            return failure(409, "Conflict");
        }
        quota.status = typed(&body["status"]);
        self.version += 1;
        self.quotas.put(quota.clone(), self.version);
        self.check();
        (200, value(&self.quotas.objects[place]))
    }
}

fn discovery(core: bool) -> Value {
    let resource = |plural: &str| json!({"resource": plural, "scope": "Namespaced", "responseKind": {"kind": plural, "group": "", "version": "v1"}, "verbs": ["list", "watch"]});
    let resources: Vec<Value> = if core { PLURALS.map(resource).into() } else { Vec::new() };
    let name = if core { "" } else { "apps" };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": name}, "versions": [{"version": "v1", "freshness": "Current", "resources": resources}]}]})
}

/// What admission makes of a write: the usage after it, nothing, or a refusal.
fn charge(
    quota: &ResourceQuota,
    plural: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<Option<Amounts>, ()> {
    let (spec, status) = (value(&quota.spec), value(&quota.status));
    let (hard, used) = (amounts(status.get("hard")), amounts(status.get("used")));
    let names: Vec<_> = hard.keys().filter(|n| covers("", plural, n)).collect();
    if names.is_empty() || !in_scope(&spec, "", plural, object) {
        return Ok(None);
    }
    if names.iter().any(|n| !used.contains_key(*n)) {
        return Err(());
    }
    let mut more = usage("", plural, object, clock::truth());
    if let Some(old) = old.filter(|old| in_scope(&spec, "", plural, old)) {
        more = subtract(&more, &usage("", plural, old, clock::truth()));
    }
    more.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    if !more.values().any(|amount| amount.sign() > 0) {
        return Ok(None);
    }
    let mut after = used;
    add(&mut after, &more);
    match more.keys().any(|name| after[name] > hard[name]) {
        true => Err(()),
        false => Ok(Some(after)),
    }
}

impl Server for World {
    fn answer(&mut self, asked: &Asked) -> Answer {
        // A watch of what goes, which is told of by hand.
        if asked.metadata {
            return failure(500, "InternalError");
        }
        // Others are at work between any two requests.
        for _ in 0..self.rng.random_range(0..3) {
            if self.faults {
                self.user();
            }
        }
        let writes = asked.method != Method::GET;
        let answer = match fate(&mut self.rng, self.faults) {
            Fate::Refused(code, reason) => failure(code, reason),
            Fate::Late if writes => {
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

/// One manager: its room, how far its caches are, and how far its clock is off.
struct Manager {
    room: Arc<Room>,
    queue: Queue<Key>,
    quotas: View<ResourceQuota>,
    pods: View<Pod>,
    services: View<Service>,
    claims: View<PersistentVolumeClaim>,
    skew: SignedDuration,
}

impl Manager {
    fn new(world: &Arc<Mutex<World>>) -> Self {
        let (quotas, pods, services, claims) = {
            let rng = &mut world.lock().rng;
            (View::new(rng), View::new(rng), View::new(rng), View::new(rng))
        };
        let queue = Queue::new();
        let mut room = Room::new(context(world, "resourcequota-controller"), quotas.cache.clone(), &queue);
        (room.pods, room.services, room.claims) =
            (pods.cache.clone(), services.cache.clone(), claims.cache.clone());
        room.now = clock::now;
        let room = Arc::new(room);
        wake_on_changes(&room, &queue);
        let skew = SignedDuration::from_mins([0, 0, -10, 10][world.lock().rng.random_range(0..4)]);
        let mut manager = Self { room, queue, quotas, pods, services, claims, skew };
        manager.list(&world.lock());
        manager
    }

    fn list(&mut self, world: &World) {
        self.quotas.list(&world.quotas);
        self.pods.list(&world.pods);
        self.services.list(&world.services);
        self.claims.list(&world.claims);
    }

    /// Caches take all news, or each as much as it comes to.
    fn follow(&mut self, world: &mut World, all: bool) {
        if all {
            self.quotas.follow(&world.quotas);
            self.pods.follow(&world.pods);
            self.services.follow(&world.services);
            self.claims.follow(&world.claims);
            return;
        }
        let rng = &mut world.rng;
        self.quotas.drift(&world.quotas, rng);
        self.pods.drift(&world.pods, rng);
        self.services.drift(&world.services, rng);
        self.claims.drift(&world.claims, rng);
    }

    fn recount(&self) {
        self.quotas.cache.keys().into_iter().for_each(|key| self.queue.add(key));
    }

    async fn step(&self) -> bool {
        clock::skew(self.skew);
        work(&self.queue, |key| self.room.sync(key)).await
    }
}

async fn history(world: &Arc<Mutex<World>>) -> Verdict {
    let mut managers = vec![Manager::new(world)];
    let steps = world.lock().rng.random_range(60..250);
    for _ in 0..steps {
        let (roll, which) = {
            let mut world = world.lock();
            let count = managers.len();
            (world.rng.random_range(0..100), world.rng.random_range(0..count))
        };
        match roll {
            0..35 => world.lock().user(),
            35..60 => managers[which].follow(&mut world.lock(), false),
            60..85 => drop(managers[which].step().await),
            85..91 => {
                let wait = world.lock().rng.random_range(10..8000);
                clock::pass(Duration::from_millis(wait)).await;
            }
            91..94 => managers[which].recount(),
            94 => managers[which] = Manager::new(world),
            95 => managers[which].list(&world.lock()),
            96 if managers.len() == 1 => managers.push(Manager::new(world)),
            96 => drop(managers.pop()),
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
    quiet(world, managers).await
}

/// Without faults, and counted once more: every quota says what is used.
async fn quiet(world: &Arc<Mutex<World>>, mut managers: Vec<Manager>) -> Verdict {
    world.lock().faults = false;
    let mut manager = managers.swap_remove(0);
    manager.skew = SignedDuration::ZERO;
    clock::pass(Duration::from_secs(120)).await;
    manager.recount();
    for _ in 0..100 {
        manager.follow(&mut world.lock(), true);
        if !manager.step().await {
            clock::pass(Duration::from_secs(1)).await;
        }
    }
    let world = world.lock();
    for quota in world.quotas.objects.values() {
        let status = value(&quota.status);
        let (said, truth) = (amounts(status.get("used")), world.truth(quota, true));
        let wants = value(&quota.spec);
        let hard = amounts(wants.get("hard"));
        let off = subtract(&said, &truth).values().any(|amount| !amount.is_zero());
        if off || said.keys().ne(hard.keys()) || amounts(status.get("hard")) != hard {
            let name = quota.meta().name.clone().unwrap_or_default();
            return Err(format!(
                "{name} says {} of {}, it is {}",
                pretty(&said),
                pretty(&hard),
                pretty(&truth)
            ));
        }
    }
    Ok(())
}

fn run(world: World) -> Verdict {
    lived(world, |w| &w.log, history)
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 30;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| run(World::new(seed)));
}

#[test]
fn the_check_is_awake() {
    assert!(caught(50, |seed| run(World { forgetful: true, ..World::new(seed) })));
}
