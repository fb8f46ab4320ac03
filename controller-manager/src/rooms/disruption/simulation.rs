//! Histories at random: a set whose pods come, get ready, fail and go, users who scale it and change the budget, evictions
//! that stop half way, one or two managers whose caches lag and whose writes fail, come late or are not answered. Never
//! are more pods evicted than the manager counted as healthy beyond those that must be; and once all is quiet the
//! budget says how things are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::{Cache, Key, Queue};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::scale::Scales;
use super::{Room, wake};
use crate::kit::meta::{name, uid};
use crate::kit::pods;
use crate::testing::faults::{Fate, fate};
use crate::testing::histories::{Verdict, lived};
use crate::testing::queue::work;
use crate::testing::server::{Answer, Asked, Server, context, differs, failure};
use crate::testing::store::{Store, View};
use crate::testing::{caught, clock, pod};

const PLACE: &str = "ns/b";
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// An eviction under way: the budget is spent, the pod is to be marked and deleted.
struct Going {
    pod: String,
    uid: String,
    marked: bool,
    since: Timestamp,
}

struct World {
    rng: StdRng,
    faults: bool,
    version: u64,
    made: u64,
    budgets: Store<PodDisruptionBudget>,
    pods: Store<Pod>,
    sets: Store<ReplicaSet>,
    deployments: Store<Deployment>,
    replicas: i32,
    /// What the pods' owner is: a ReplicaSet, one of a Deployment, or something with a scale.
    owner: Owner,
    going: Vec<Going>,
    /// Pods (by UID) evicted, and when.
    evicted: BTreeMap<String, Timestamp>,
    /// The pods the manager at work sees as healthy, and those it saw when it last wrote the status.
    seen: BTreeSet<String>,
    basis: BTreeSet<String>,
    late: Vec<Asked>,
    /// For a check of the check: more than the budget has to be left.
    more: usize,
    wrong: Option<String>,
    log: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Set,
    Deployment,
    Robot,
}

fn value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap()
}

fn spec(rng: &mut StdRng) -> Value {
    let n = rng.random_range(0..5);
    let amount = if rng.random_range(0..2) == 0 { json!(n) } else { json!(format!("{}%", n * 20)) };
    let which = ["minAvailable", "maxUnavailable"][rng.random_range(0..2)];
    let policy = ["IfHealthyBudget", "AlwaysAllow"][rng.random_range(0..2)];
    json!({"selector": {"matchLabels": {"app": "a"}}, which: amount, "unhealthyPodEvictionPolicy": policy})
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let owner = [Owner::Set, Owner::Deployment, Owner::Robot][rng.random_range(0..3)];
        let replicas = rng.random_range(1..6);
        let mut world = Self {
            rng,
            faults: true,
            version: 1,
            made: 0,
            budgets: Store::default(),
            pods: Store::default(),
            sets: Store::default(),
            deployments: Store::default(),
            replicas,
            owner,
            going: Vec::new(),
            evicted: BTreeMap::new(),
            seen: BTreeSet::new(),
            basis: BTreeSet::new(),
            late: Vec::new(),
            more: 0,
            wrong: None,
            log: Vec::new(),
        };
        world.scale(replicas);
        world.make_budget();
        world
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn bump(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn make_budget(&mut self) {
        self.made += 1;
        let budget = json!({
            "metadata": {"name": "b", "namespace": "ns", "uid": format!("b{}", self.made), "generation": 1},
            "spec": spec(&mut self.rng),
        });
        let version = self.bump();
        self.budgets.put(serde_json::from_value(budget).unwrap(), version);
    }

    fn scale(&mut self, replicas: i32) {
        self.replicas = replicas;
        let owners = match self.owner {
            Owner::Deployment => {
                json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d", "controller": true}])
            }
            _ => Value::Null,
        };
        let spec = json!({"replicas": replicas, "selector": {}, "template": {}});
        let set = json!({"metadata": {"name": "s", "namespace": "ns", "uid": "s", "ownerReferences": owners}, "spec": spec});
        let version = self.bump();
        self.sets.put(serde_json::from_value(set).unwrap(), version);
        let deployment = json!({"metadata": {"name": "d", "namespace": "ns", "uid": "d"}, "spec": spec});
        let version = self.bump();
        self.deployments.put(serde_json::from_value(deployment).unwrap(), version);
    }

    fn put_pod(&mut self, pod: Pod) {
        let version = self.bump();
        let (called, id, ready) = (name(&pod.metadata), uid(&pod.metadata), pods::ready(&pod));
        let going = pod.metadata.deletion_timestamp.is_some();
        self.log.push(format!("{version}: {called} {id} {} ready={ready} going={going}", pods::phase(&pod)));
        self.pods.put(pod, version);
    }

    fn any_pod(&mut self) -> Option<Pod> {
        let count = self.pods.objects.len();
        if count == 0 {
            None
        } else {
            self.pods.objects.values().nth(self.rng.random_range(0..count)).cloned()
        }
    }

    // ---- what others do ----

    fn others(&mut self) {
        match self.rng.random_range(0..40) {
            0 => {
                let replicas = self.rng.random_range(0..7);
                self.scale(replicas);
            }
            1 if self.chance(2) => {
                // Another budget begins anew.
                self.evicted.clear();
                let version = self.bump();
                self.budgets.remove(PLACE, version);
                self.make_budget();
            }
            1 | 2 => {
                let changed = serde_json::from_value(spec(&mut self.rng)).unwrap();
                let mut budget = self.budgets.objects[PLACE].clone();
                budget.spec = Some(changed);
                *budget.metadata.generation.as_mut().unwrap() += 1;
                let version = self.bump();
                self.budgets.put(budget, version);
            }
            3..12 => self.keep_number(),
            12..22 => self.live(false),
            22..30 => self.evict(),
            _ => self.go_on(),
        }
    }

    /// The set's own controller.
    fn keep_number(&mut self) {
        let active: Vec<_> = self.pods.objects.values().filter(|p| pods::active(p)).cloned().collect();
        if (active.len() as i32) < self.replicas {
            self.made += 1;
            // Some owners use their names again.
            let called = match self.chance(2) {
                true => format!("p{}", self.rng.random_range(0..7)),
                false => format!("n{}", self.made),
            };
            if self.pods.objects.contains_key(&format!("ns/{called}")) {
                return;
            }
            let mut pod = pod(&format!("{called} Pending node=n l:app=a"));
            pod.metadata.uid = Some(format!("u{}", self.made));
            let (api_version, kind) = match self.owner {
                Owner::Robot => ("example.com/v1", "Robot"),
                _ => ("apps/v1", "ReplicaSet"),
            };
            pod.metadata.owner_references = Some(vec![OwnerReference {
                api_version: api_version.into(),
                kind: kind.into(),
                name: "s".into(),
                uid: "s".into(),
                controller: Some(true),
                block_owner_deletion: None,
            }]);
            self.put_pod(pod);
        } else if active.len() as i32 > self.replicas {
            let mut victim = active[self.rng.random_range(0..active.len())].clone();
            victim.metadata.deletion_timestamp = Some(Time(clock::truth()));
            self.put_pod(victim);
        }
    }

    /// A kubelet.
    fn live(&mut self, kindly: bool) {
        let Some(mut pod) = self.any_pod() else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            let (place, version) = (format!("ns/{}", name(&pod.metadata)), self.bump());
            return self.pods.remove(&place, version);
        }
        let ready = kindly || !self.chance(4);
        let status = pod.status.as_mut().unwrap();
        status.phase = Some("Running".into());
        let condition = status.conditions.iter_mut().flatten().find(|c| c.type_ == "Ready");
        condition.unwrap().status = if ready { "True" } else { "False" }.into();
        self.put_pod(pod);
    }

    /// The API server is asked to evict a pod.
    fn evict(&mut self) {
        let Some(pod) = self.any_pod() else { return };
        let (called, id) = (name(&pod.metadata).to_string(), uid(&pod.metadata).to_string());
        if pod.metadata.deletion_timestamp.is_some() || pods::phase(&pod) == "Pending" {
            return;
        }
        let mut budget = self.budgets.objects[PLACE].clone();
        let status = budget.status.clone().unwrap_or_default();
        let number = |n: Option<i32>| n.unwrap_or(0);
        let (current, desired) = (number(status.current_healthy), number(status.desired_healthy));
        let policy = budget.spec.as_ref().unwrap().unhealthy_pod_eviction_policy.as_deref();
        let free = policy == Some("AlwaysAllow") || (current >= desired && desired > 0);
        let now = clock::truth();
        if pods::ready(&pod) || !free {
            let allowed = number(status.disruptions_allowed);
            if status.observed_generation < budget.metadata.generation || allowed <= 0 {
                return;
            }
            let spent = budget.status.as_mut().unwrap();
            spent.disruptions_allowed = Some(allowed - 1);
            spent.disrupted_pods.get_or_insert_default().insert(called.clone(), Time(now));
            let version = self.bump();
            self.budgets.put(budget, version);
            self.log.push(format!("{version}: {called} {id} is evicted"));
            self.evicted.insert(id.clone(), now);
            self.check_eviction(&called, desired);
        }
        self.going.push(Going { pod: called, uid: id, marked: false, since: now });
    }

    /// Of the pods the last status rests on, enough are left that were not evicted.
    fn check_eviction(&mut self, evicted: &str, desired: i32) {
        let now = clock::truth();
        let gone = |id: &&String| self.evicted.get(*id).is_some_and(|at| now - PATIENCE <= *at);
        let left = self.basis.iter().filter(|id| !gone(id)).count();
        if left < desired.max(0) as usize + self.more {
            let what = format!(
                "{evicted} was evicted, which leaves {left} of {:?}, and {desired} must be",
                self.basis
            );
            self.wrong.get_or_insert(what);
        }
    }

    /// The next step of an eviction, unless the server that was at it has died.
    fn go_on(&mut self) {
        if self.going.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.going.len());
        let mut going = self.going.swap_remove(at);
        let over = clock::truth() > going.since + SignedDuration::from_secs(60);
        if over || self.chance(8) {
            return;
        }
        let place = format!("ns/{}", going.pod);
        let Some(mut pod) = self.pods.objects.get(&place).filter(|p| uid(&p.metadata) == going.uid).cloned()
        else {
            return;
        };
        if going.marked {
            pod.metadata.deletion_timestamp.get_or_insert(Time(clock::truth()));
        } else {
            let conditions = pod.status.as_mut().unwrap().conditions.get_or_insert_default();
            conditions.retain(|c| c.type_ != "DisruptionTarget");
            conditions.push(PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("EvictionByEvictionAPI".into()),
                last_transition_time: Some(Time(clock::truth())),
                ..Default::default()
            });
            going.marked = true;
            self.going.push(going);
        }
        self.put_pod(pod);
    }

    // ---- the API server for the manager ----

    fn serve(&mut self, asked: &Asked) -> Answer {
        let called = asked.path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
        match asked.method {
            Method::PUT => self.put_status(&asked.body),
            Method::PATCH => self.unmark(&format!("ns/{called}"), &asked.body),
            _ if asked.path == "/apis/example.com/v1" => (200, robots()),
            _ if asked.path.ends_with("/robots/s/scale") => (
                200,
                json!({"metadata": {"name": "s", "namespace": "ns", "uid": "s"}, "spec": {"replicas": self.replicas}}),
            ),
            _ => panic!("unexpected {asked:?}"),
        }
    }

    fn put_status(&mut self, body: &Value) -> Answer {
        let Some(mut budget) = self.budgets.objects.get(PLACE).cloned() else {
            return failure(404, "NotFound");
        };
        if differs(&body["metadata"], &budget.metadata) {
            return failure(409, "Conflict");
        }
        budget.status = serde_json::from_value(body["status"].clone()).unwrap();
        let version = self.bump();
        self.budgets.put(budget, version);
        self.basis = self.seen.clone();
        (200, value(&self.budgets.objects[PLACE]))
    }

    fn unmark(&mut self, place: &str, body: &Value) -> Answer {
        let Some(mut pod) = self.pods.objects.get(place).cloned() else { return failure(404, "NotFound") };
        if differs(&body["metadata"], &pod.metadata) {
            return failure(409, "Conflict");
        }
        let mark = pod.status.as_mut().unwrap().conditions.iter_mut().flatten();
        mark.filter(|c| c.type_ == "DisruptionTarget").for_each(|c| c.status = "False".into());
        self.put_pod(pod.clone());
        (200, value(&pod))
    }

    // ---- the end ----

    fn end(&self) -> Verdict {
        let budget = &self.budgets.objects[PLACE];
        let (spec, status) = (budget.spec.as_ref().unwrap(), budget.status.clone().unwrap_or_default());
        let count = self.pods.objects.len() as i32;
        let amount = |a: &IntOrString| match a {
            IntOrString::Int(n) => *n,
            IntOrString::String(s) => {
                (self.replicas * s.trim_end_matches('%').parse::<i32>().unwrap() + 99) / 100
            }
        };
        let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
            (Some(most), _) if count > 0 => (self.replicas, (self.replicas - amount(most)).max(0)),
            (_, Some(IntOrString::String(_))) | (Some(_), _) if count == 0 => (0, 0),
            (_, Some(least @ IntOrString::Int(_))) => (count, amount(least)),
            (_, Some(least)) => (self.replicas, amount(least)),
            _ => (0, 0),
        };
        let stays = |p: &Pod| p.metadata.deletion_timestamp.is_none();
        let healthy = self.pods.objects.values().filter(|p| stays(p) && pods::ready(p)).count() as i32;
        let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
        let said = [
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        ];
        if said != [expected, desired, healthy, allowed].map(Some) || status.disrupted_pods.is_some() {
            return Err(format!("{status:?} and not {expected} {desired} {healthy} {allowed} for {spec:?}"));
        }
        let marked =
            |p: &&Pod| stays(p) && pods::condition(p, "DisruptionTarget").is_some_and(|c| c.status == "True");
        match self.pods.objects.values().find(marked) {
            Some(pod) => Err(format!("{} is still marked", name(&pod.metadata))),
            None => Ok(()),
        }
    }
}

fn robots() -> Value {
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]});
    json!({"kind": "APIResourceList", "groupVersion": "example.com/v1", "resources": [resource("robots", "Robot"), resource("robots/scale", "Scale")]})
}

impl Server for World {
    fn answer(&mut self, asked: &Asked) -> Answer {
        // Others are at work between any two requests.
        for _ in 0..self.rng.random_range(0..3) {
            if self.faults {
                self.others();
            }
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

/// One manager: its room, and how far its caches are.
struct Manager {
    room: Arc<Room>,
    queue: Queue<Key>,
    stale: Queue<Key>,
    budgets: View<PodDisruptionBudget>,
    pods: View<Pod>,
    sets: View<ReplicaSet>,
    deployments: View<Deployment>,
}

impl Manager {
    fn new(world: &Arc<Mutex<World>>) -> Self {
        let (budgets, all, sets, deployments) = {
            let rng = &mut world.lock().rng;
            (View::new(rng), View::new(rng), View::new(rng), View::new(rng))
        };
        let context = context(world, "disruption-controller");
        let others = (Cache::detached(), Cache::detached());
        let room = Arc::new(Room {
            budgets: budgets.cache.clone(),
            pods: all.cache.clone(),
            scales: Scales::over(&context, sets.cache.clone(), deployments.cache.clone(), others),
            now: clock::now,
            context,
        });
        let (queue, stale) = (Queue::new(), Queue::new());
        wake(&room, &queue, &stale);
        let mut manager = Self { room, queue, stale, budgets, pods: all, sets, deployments };
        manager.list(&world.lock());
        manager
    }

    fn list(&mut self, world: &World) {
        self.budgets.list(&world.budgets);
        self.pods.list(&world.pods);
        self.sets.list(&world.sets);
        self.deployments.list(&world.deployments);
    }

    /// Caches take all news, or each as much as it comes to.
    fn follow(&mut self, world: &mut World, all: bool) {
        if all {
            self.budgets.follow(&world.budgets);
            self.pods.follow(&world.pods);
            self.sets.follow(&world.sets);
            self.deployments.follow(&world.deployments);
            return;
        }
        let rng = &mut world.rng;
        self.budgets.drift(&world.budgets, rng);
        self.pods.drift(&world.pods, rng);
        self.sets.drift(&world.sets, rng);
        self.deployments.drift(&world.deployments, rng);
    }

    async fn step(&self, world: &Arc<Mutex<World>>) -> bool {
        let healthy = |p: &Arc<Pod>| pods::ready(p) && p.metadata.deletion_timestamp.is_none();
        let seen = self.pods.cache.list().into_iter().filter(healthy).map(|p| uid(&p.metadata).to_string());
        world.lock().seen = seen.collect();
        let looked = work(&self.queue, |key| self.room.sync(key)).await;
        work(&self.stale, |key| self.room.sync_mark(key)).await || looked
    }
}

async fn history(world: &Arc<Mutex<World>>) -> Verdict {
    let mut managers = vec![Manager::new(world)];
    let steps = world.lock().rng.random_range(80..300);
    for _ in 0..steps {
        let (roll, which) = {
            let mut world = world.lock();
            let count = managers.len();
            (world.rng.random_range(0..100), world.rng.random_range(0..count))
        };
        match roll {
            0..35 => world.lock().others(),
            35..60 => managers[which].follow(&mut world.lock(), false),
            60..87 => drop(managers[which].step(world).await),
            87..93 => {
                let wait = world.lock().rng.random_range(10..40_000);
                clock::pass(Duration::from_millis(wait)).await;
            }
            93 => managers[which] = Manager::new(world),
            94 => managers[which].list(&world.lock()),
            95 if managers.len() == 1 => managers.push(Manager::new(world)),
            95 => drop(managers.pop()),
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

/// Without faults, when all that was begun is over: the budget says how things are.
async fn quiet(world: &Arc<Mutex<World>>, mut managers: Vec<Manager>) -> Verdict {
    let mut manager = managers.swap_remove(0);
    {
        let mut world = world.lock();
        world.faults = false;
        for _ in 0..200 {
            world.keep_number();
            world.live(true);
        }
        world.pods.objects.values().cloned().collect::<Vec<_>>().into_iter().for_each(|p| world.put_pod(p));
    }
    // Out of step, for what comes last must be noticed too.
    manager.pods.follow(&world.lock().pods);
    while manager.step(world).await {}
    for _ in 0..60 {
        manager.follow(&mut world.lock(), true);
        while manager.step(world).await {}
        clock::pass(Duration::from_secs(5)).await;
    }
    world.lock().end()
}

fn run(world: World) -> Verdict {
    lived(world, |w| &w.log, history)
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 40;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| run(World::new(seed)));
}

#[test]
fn the_check_is_awake() {
    assert!(caught(50, |seed| run(World { more: 1, ..World::new(seed) })));
}
