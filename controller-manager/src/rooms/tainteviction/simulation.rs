//! Histories at random: nodes that are tainted, freed, lost and made anew, pods that come, tolerate more and go, also by
//! names that others had, one or two managers whose caches lag and begin anew, whose writes fail, come late or are not
//! answered, and whose clocks are off. No pod is deleted that stays or whose time has not come; and in the end all go
//! that have to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::{Key, Queue};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Room, wake};
use crate::kit::meta::{created, name, uid};
use crate::kit::pods;
use crate::testing::faults::{Fate, fate};
use crate::testing::histories::{Verdict, lived};
use crate::testing::queue::work;
use crate::testing::server::{Answer, Asked, Server, context, differs, failure};
use crate::testing::store::{Store, View};
use crate::testing::{caught, clock, pod};

const KEYS: [&str; 3] = ["a", "b", "c"];
const AT_ONCE: Timestamp = Timestamp::MIN;

struct World {
    rng: StdRng,
    faults: bool,
    version: u64,
    made: u64,
    nodes: Store<Node>,
    pods: Store<Pod>,
    late: Vec<Asked>,
    /// When the manager at work may delete which pod (by UID), as far as it can know.
    due: HashMap<String, Timestamp>,
    /// For a check of the check: pods are to be given so much more time.
    more: SignedDuration,
    wrong: Option<String>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            faults: true,
            version: 1,
            made: 0,
            nodes: Store::default(),
            pods: Store::default(),
            late: Vec::new(),
            due: HashMap::new(),
            more: SignedDuration::ZERO,
            wrong: None,
            log: Vec::new(),
        };
        ["n0", "n1"].iter().for_each(|n| world.put_node(n, Vec::new()));
        world
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn key(&mut self) -> String {
        KEYS[self.rng.random_range(0..KEYS.len())].into()
    }

    fn put_node(&mut self, called: &str, taints: Vec<Taint>) {
        let mut node = Node::default();
        node.metadata.name = Some(called.into());
        let said: Vec<_> =
            taints.iter().map(|t| format!("{}:{} {:?}", t.key, t.effect, t.time_added)).collect();
        node.spec.get_or_insert_default().taints = Some(taints);
        self.version += 1;
        self.log.push(format!("{} {}: {called} {said:?}", clock::truth(), self.version));
        self.nodes.put(node, self.version);
    }

    fn put_pod(&mut self, pod: Pod) {
        self.version += 1;
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.clone()).unwrap_or_default();
        let said: Vec<_> =
            tolerations.iter().map(|t| format!("{:?} {:?}", t.key, t.toleration_seconds)).collect();
        let going = pod.metadata.deletion_timestamp.is_some();
        let (called, id) = (name(&pod.metadata), uid(&pod.metadata));
        self.log.push(format!(
            "{} {}: {called} {id} {:?} {said:?} going={going}",
            clock::truth(),
            self.version,
            pods::node(&pod)
        ));
        self.pods.put(pod, self.version);
    }

    fn any_pod(&mut self) -> Option<Pod> {
        let count = self.pods.objects.len();
        if count == 0 {
            None
        } else {
            self.pods.objects.values().nth(self.rng.random_range(0..count)).cloned()
        }
    }

    fn toleration(&mut self) -> Toleration {
        let seconds = [None, Some(0), Some(20), Some(60), Some(200)][self.rng.random_range(0..5)];
        let key = self.key();
        Toleration {
            key: Some(key).filter(|_| !self.chance(8)),
            operator: Some("Exists".into()),
            effect: self.chance(2).then(|| "NoExecute".into()),
            toleration_seconds: seconds,
            ..Default::default()
        }
    }

    // ---- users, schedulers and kubelets ----

    fn others(&mut self) {
        match self.rng.random_range(0..12) {
            0..3 => self.taint(),
            3 => {
                let called = ["n0", "n1"][self.rng.random_range(0..2)];
                if self.nodes.objects.contains_key(called) {
                    self.version += 1;
                    self.log.push(format!("{}: {called} is lost", self.version));
                    self.nodes.remove(called, self.version);
                } else {
                    self.put_node(called, Vec::new());
                }
            }
            4..8 => self.make_pod(),
            8 | 9 => {
                let Some(mut pod) = self.any_pod() else { return };
                let toleration = self.toleration();
                pod.spec.as_mut().unwrap().tolerations.get_or_insert_default().push(toleration);
                self.put_pod(pod);
            }
            _ => self.end_pod(),
        }
    }

    fn taint(&mut self) {
        let called = ["n0", "n1"][self.rng.random_range(0..2)];
        let Some(node) = self.nodes.objects.get(called) else { return };
        let mut taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let key = self.key();
        let before = taints.len();
        taints.retain(|t| t.key != key);
        if taints.len() == before {
            let effect = if self.chance(5) { "NoSchedule" } else { "NoExecute" };
            let time_added = (!self.chance(3)).then(|| Time(clock::truth()));
            taints.push(Taint { key, effect: effect.into(), value: None, time_added });
        }
        self.put_node(called, taints);
    }

    fn make_pod(&mut self) {
        let called = format!("p{}", self.rng.random_range(0..5));
        if self.pods.objects.contains_key(&format!("ns/{called}")) {
            return;
        }
        self.made += 1;
        let mut pod = pod(&format!("{called} Running"));
        pod.metadata.uid = Some(format!("u{}", self.made));
        pod.metadata.creation_timestamp = Some(Time(clock::truth()));
        let spec = pod.spec.as_mut().unwrap();
        spec.node_name = (!self.chance(6)).then(|| ["n0", "n1"][self.rng.random_range(0..2)].into());
        spec.tolerations = Some((0..self.rng.random_range(0..4)).map(|_| self.toleration()).collect());
        self.put_pod(pod);
    }

    /// Somebody deletes a pod, or its kubelet lets it go.
    fn end_pod(&mut self) {
        let Some(mut pod) = self.any_pod() else { return };
        if pod.metadata.deletion_timestamp.is_none() && !self.chance(3) {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() || self.chance(2) {
            self.version += 1;
            self.log.push(format!("{}: {} is gone", self.version, name(&pod.metadata)));
            return self.pods.remove(&format!("ns/{}", name(&pod.metadata)), self.version);
        }
        pod.metadata.deletion_timestamp = Some(Time(clock::truth()));
        self.put_pod(pod);
    }

    // ---- the API server for the manager ----

    fn serve(&mut self, asked: &Asked, by_hand: bool) -> Answer {
        let called = asked.path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
        let Some(mut pod) = self.pods.objects.get(&format!("ns/{called}")).cloned() else {
            return failure(404, "NotFound");
        };
        let said = if asked.method == Method::DELETE {
            &asked.body["preconditions"]
        } else {
            &asked.body["metadata"]
        };
        if differs(said, &pod.metadata) {
            return failure(409, "Conflict");
        }
        if asked.method == Method::DELETE && pod.metadata.deletion_timestamp.is_none() {
            let id = uid(&pod.metadata);
            match self.due.get(id) {
                _ if by_hand => {}
                Some(due) if *due + self.more <= clock::now() => {}
                other => drop(self.wrong.get_or_insert(format!("{called} {id} is deleted, due {other:?}"))),
            }
            pod.metadata.deletion_timestamp = Some(Time(clock::truth()));
            self.put_pod(pod.clone());
        }
        (200, serde_json::to_value(&pod).unwrap())
    }
}

impl Server for World {
    fn answer(&mut self, asked: &Asked) -> Answer {
        for _ in 0..self.rng.random_range(0..2) {
            if self.faults {
                self.others();
            }
        }
        let answer = match fate(&mut self.rng, self.faults) {
            Fate::Refused(code, reason) => failure(code, reason),
            Fate::Late => {
                self.late.push(asked.clone());
                failure(504, "Timeout")
            }
            Fate::Unanswered => {
                self.serve(asked, false);
                failure(504, "Timeout")
            }
            Fate::Served => self.serve(asked, false),
        };
        self.log.push(format!("{} {} -> {}", asked.method, asked.path, answer.0));
        answer
    }
}

/// When a pod has to go, told anew from the rules: at once, at a time, or never. `now` is the beginning of taints that
/// do not say when they were added.
fn rule(node: Option<&Node>, pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    let taints: Vec<&Taint> = node?
        .spec
        .iter()
        .flat_map(|s| s.taints.iter().flatten())
        .filter(|t| t.effect == "NoExecute")
        .collect();
    let tolerations = pod.spec.as_ref()?.tolerations.as_deref().unwrap_or_default();
    let fits = |o: &&Toleration, t: &Taint| {
        o.key.as_ref().is_none_or(|k| *k == t.key) && o.effect.as_ref().is_none_or(|e| *e == t.effect)
    };
    let using: Vec<Vec<&Toleration>> =
        taints.iter().map(|t| tolerations.iter().filter(|o| fits(o, t)).collect()).collect();
    if using.iter().any(Vec::is_empty) {
        return Some(AT_ONCE);
    }
    let shortest = using.iter().flatten().filter_map(|o| o.toleration_seconds).min()?;
    let newest = taints.iter().filter_map(|t| t.time_added.as_ref().map(|t| t.0)).max().unwrap_or(now);
    Some(newest.max(created(&pod.metadata)) + SignedDuration::from_secs(shortest))
}

/// One manager: its room, how far its caches are, and how far its clock is off.
struct Manager {
    room: Arc<Room>,
    queue: Queue<Key>,
    nodes: View<Node>,
    pods: View<Pod>,
    skew: SignedDuration,
    /// The time set for each pod (by UID) when it was first looked at: it stands as long as there is one.
    set: HashMap<String, Timestamp>,
}

impl Manager {
    fn new(world: &Arc<Mutex<World>>) -> Self {
        let (nodes, all) = {
            let rng = &mut world.lock().rng;
            (View::new(rng), View::new(rng))
        };
        pods::index(&all.cache);
        let context = context(world, "taint-eviction-controller");
        let mut room = Room::new(context, nodes.cache.clone(), all.cache.clone());
        room.now = clock::now;
        let (room, queue) = (Arc::new(room), Queue::new());
        wake(&room, &queue);
        let skew = SignedDuration::from_mins([0, 0, -10, 10][world.lock().rng.random_range(0..4)]);
        let mut manager = Self { room, queue, nodes, pods: all, skew, set: HashMap::new() };
        manager.list(&world.lock());
        manager
    }

    fn list(&mut self, world: &World) {
        self.nodes.list(&world.nodes);
        self.pods.list(&world.pods);
    }

    /// Caches take all news, or each as much as it comes to.
    fn follow(&mut self, world: &mut World, all: bool) {
        if all {
            self.nodes.follow(&world.nodes);
            self.pods.follow(&world.pods);
            return;
        }
        let rng = &mut world.rng;
        self.nodes.drift(&world.nodes, rng);
        self.pods.drift(&world.pods, rng);
    }

    fn node_of(&self, pod: &Pod) -> Option<Arc<Node>> {
        self.nodes.cache.get("", pods::node(pod)?)
    }

    /// Looks at the next pod that is due; what the rules say of it as the manager sees it is noted before.
    async fn step(&mut self, world: &Arc<Mutex<World>>) -> bool {
        clock::skew(self.skew);
        let mut noted = self.set.clone();
        let (all, nodes) = (&self.pods.cache, &self.nodes.cache);
        let worked = work(&self.queue, |key| {
            if let Some(pod) = all.get_key(&key) {
                let id = uid(&pod.metadata).to_string();
                let node = pods::node(&pod).and_then(|n| nodes.get("", n));
                let before = noted.remove(&id).filter(|at| *at != AT_ONCE);
                let due = rule(node.as_deref(), &pod, clock::now());
                let due = due.map(|at| if at == AT_ONCE { at } else { before.unwrap_or(at) });
                noted.extend(due.map(|at| (id, at)));
            }
            let mut world = world.lock();
            world.log.push(format!("{} looks at {key}, {:?}", clock::now(), noted));
            world.due = noted.clone();
            drop(world);
            self.room.sync(key)
        })
        .await;
        self.set = noted;
        worked
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
            0..30 => world.lock().others(),
            30..55 => managers[which].follow(&mut world.lock(), false),
            55..80 => drop(managers[which].step(world).await),
            80..90 => {
                let wait = world.lock().rng.random_range(10..60_000);
                clock::pass(Duration::from_millis(wait)).await;
            }
            90 => managers[which] = Manager::new(world),
            91 | 92 => managers[which].list(&world.lock()),
            93 if managers.len() == 1 => managers.push(Manager::new(world)),
            93 => drop(managers.pop()),
            _ => {
                let mut world = world.lock();
                if let Some(asked) = world.late.pop() {
                    world.serve(&asked, true);
                }
            }
        }
        if let Some(wrong) = world.lock().wrong.take() {
            return Err(wrong);
        }
    }
    quiet(world, managers).await
}

/// Without faults and news: at no time is a pod left that should have gone by then.
async fn quiet(world: &Arc<Mutex<World>>, mut managers: Vec<Manager>) -> Verdict {
    let mut manager = managers.swap_remove(0);
    world.lock().faults = false;
    for round in 0..150 {
        manager.follow(&mut world.lock(), true);
        while manager.step(world).await {
            manager.follow(&mut world.lock(), true);
        }
        if let Some(wrong) = world.lock().wrong.take() {
            return Err(wrong);
        }
        // A failure before is tried again within the first moments.
        if round > 5 {
            check_left(&world.lock(), &manager)?;
        }
        clock::pass(Duration::from_secs(2)).await;
    }
    // Longer than anything is tolerated.
    clock::skew(manager.skew);
    let world = world.lock();
    let left = world.pods.objects.values().filter(|p| p.metadata.deletion_timestamp.is_none());
    for pod in left {
        let due = rule(manager.node_of(pod).as_deref(), pod, Timestamp::UNIX_EPOCH);
        // A time set stands, and that of a clock behind may be long to come.
        if due.is_some_and(|due| due <= clock::now()) && !manager.set.contains_key(uid(&pod.metadata)) {
            return Err(format!("{} stays, it was due {due:?}", name(&pod.metadata)));
        }
    }
    Ok(())
}

/// What was noted as due has gone.
fn check_left(world: &World, manager: &Manager) -> Verdict {
    let grace = SignedDuration::from_secs(2);
    for pod in world.pods.objects.values().filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let due = manager.set.get(uid(&pod.metadata));
        if due.is_some_and(|due| *due == AT_ONCE || *due + grace < clock::now()) {
            return Err(format!(
                "{} is still there at {}, it was due {due:?}",
                name(&pod.metadata),
                clock::now()
            ));
        }
    }
    Ok(())
}

fn run(world: World) -> Verdict {
    lived(world, |w| &w.log, history)
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 100;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| run(World::new(seed)));
}

#[test]
fn the_check_is_awake() {
    let more = SignedDuration::from_secs(1);
    assert!(caught(50, |seed| run(World { more, ..World::new(seed) })));
}
