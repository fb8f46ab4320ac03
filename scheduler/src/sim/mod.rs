//! Simulated histories of whole schedulers: the real loop, queue, state and plugins against an API server whose requests are late,
//! lost or refused and whose watches lag, while pods and nodes come and go, schedulers are killed and others take over. All of it is
//! drawn from one seed, which a failure prints; time is virtual. `COXSWAIN_SEEDS=5000` runs so many.

mod chance;
mod server;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::metrics::Metrics;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::metrics::Counts;
use crate::model::budgets::Budget;
use crate::model::pod::PodInfo;
use crate::plugins::{DEFAULT_SCHEDULER, default_profile};
use crate::queue::Queue;
use crate::schedule::Scheduler;
use crate::state::State;
use chance::Chance;
use server::Line;
use world::{Change, SimPod, Wish, World};

/// So many histories in every run of the tests.
const SEEDS: u64 = 12;
/// Long enough for the longest pause, a silent answer and a second try, but not for what nothing woke.
const SETTLE: Duration = Duration::from_secs(200);

/// One scheduler process.
struct Process {
    scheduler: Arc<Scheduler>,
    line: Line,
    token: CancellationToken,
    name: String,
}

/// Everything one history is about.
struct History {
    world: Arc<Mutex<World>>,
    chance: Chance,
    trouble: Arc<Mutex<usize>>,
    lag: usize,
    processes: Vec<Process>,
    made: usize,
}

impl Process {
    fn start(who: usize, name: &str, history: &mut History) -> Self {
        let seed = history.chance.next();
        let line = Line {
            who,
            world: history.world.clone(),
            chance: Arc::new(Mutex::new(Chance(history.chance.next()))),
            trouble: history.trouble.clone(),
            dead: Arc::new(AtomicBool::new(false)),
        };
        let mut profile = default_profile();
        profile.name = name.into();
        let profiles = Arc::new(vec![profile]);
        let queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
        let state = State::new(queue, profiles.clone()).seeded(seed);
        let binder = Binder::new(line.client(), HashMap::new());
        let counts = Counts::register(&Metrics::new());
        let scheduler = Scheduler::new(state, profiles, binder, counts, Vec::new());
        let token = CancellationToken::new();
        let me = Self { scheduler, line, token, name: name.into() };
        // A new process lists, then watches from there.
        let from = me.list();
        for kind in 0..3 {
            tokio::spawn(me.watch(kind, from, Chance(history.chance.next()), history.lag));
        }
        tokio::spawn(me.scheduler.clone().run(me.token.clone()));
        me
    }

    fn list(&self) -> usize {
        let world = self.line.world.lock();
        let mut last: BTreeMap<(u8, String), Change> = BTreeMap::new();
        for change in &world.log {
            last.insert(key(change), change.clone());
        }
        let mut old = BTreeMap::new();
        last.into_values().for_each(|change| take(&self.scheduler, &mut old, &change));
        world.log.len()
    }

    /// Follows one kind, with the lag of this history.
    fn watch(
        &self,
        kind: u8,
        from: usize,
        mut chance: Chance,
        lag: usize,
    ) -> impl Future<Output = ()> + use<> {
        let (scheduler, world, token) = (self.scheduler.clone(), self.line.world.clone(), self.token.clone());
        let mut old = BTreeMap::new();
        for change in &world.lock().log[..from] {
            remember(&mut old, change);
        }
        async move {
            let mut at = from;
            let mut news = world.lock().length.subscribe();
            news.mark_changed();
            while !token.is_cancelled() {
                tokio::select! {
                    biased;
                    () = token.cancelled() => return,
                    _ = news.changed() => {}
                }
                let pause = if chance.once_in(20) { lag } else { lag / 20 + 1 };
                tokio::time::sleep(Duration::from_millis(chance.of(pause) as u64 + 1)).await;
                let fresh: Vec<Change> = world.lock().log[at..].to_vec();
                at += fresh.len();
                for change in fresh.iter().filter(|c| key(c).0 == kind) {
                    take(&scheduler, &mut old, change);
                }
            }
        }
    }

    fn kill(&self) {
        self.line.dead.store(true, Ordering::Relaxed);
        self.token.cancel();
    }
}

fn key(change: &Change) -> (u8, String) {
    match change {
        Change::Node(name, _) => (0, name.clone()),
        Change::Budget(_) => (1, String::new()),
        Change::Pod(name, _) => (2, name.clone()),
    }
}

type Seen = BTreeMap<String, Arc<PodInfo>>;

fn remember(old: &mut Seen, change: &Change) -> Option<Arc<PodInfo>> {
    match change {
        Change::Pod(name, Some(pod)) => old.insert(name.clone(), pod.clone()),
        Change::Pod(name, None) => old.remove(name),
        _ => None,
    }
}

/// What the caches do with a change.
fn take(scheduler: &Arc<Scheduler>, old: &mut Seen, change: &Change) {
    let before = remember(old, change);
    let now = Instant::now();
    let mut state = scheduler.state.lock();
    match change {
        Change::Pod(_, pod) => state.pod_changed(before.as_ref(), pod.as_ref(), now),
        Change::Node(name, node) => state.node_changed(name, node.clone(), now),
        Change::Budget(budget) => state.all().budgets.set("ns", "guard", budget.as_deref().map(Budget::of)),
    }
    drop(state);
    scheduler.wake.notify_one();
}

impl History {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let keep = chance.of(4);
        let trouble = [0, 20, 100, 300][chance.of(4)];
        let lag = [1, 200, 1000, 5000][chance.of(4)];
        let world = Arc::new(Mutex::new(World::new(keep)));
        let trouble = Arc::new(Mutex::new(trouble));
        Self { world, chance, trouble, lag, processes: Vec::new(), made: 0 }
    }

    fn begin(&mut self) {
        for i in 0..1 + self.chance.of(5) {
            let (cpu, disk) = (4 + self.chance.of(8) as i64, self.chance.of(2) as u8);
            self.world.lock().set_node(&format!("n{i}"), cpu, disk, false);
        }
        let first = Process::start(0, DEFAULT_SCHEDULER, self);
        self.processes.push(first);
        // In some histories there is a second: of another name, or of the same as if no lease held it back.
        let second = match self.chance.of(6) {
            0 => "second",
            1 => DEFAULT_SCHEDULER,
            _ => return,
        };
        self.world.lock().alone = false;
        let second = Process::start(1, second, self);
        self.processes.push(second);
    }

    fn wish(&mut self) -> Wish {
        let names: Vec<String> = self.processes.iter().map(|p| p.name.clone()).collect();
        let c = &mut self.chance;
        Wish {
            cpu: 1 + c.of(3) as i64,
            priority: [0, 0, 0, 5, 10][c.of(5)],
            port: if c.once_in(8) { 80 + c.of(2) as i32 } else { 0 },
            shy: c.once_in(6).then(|| c.of(2) as u8),
            disk: c.once_in(6).then(|| c.of(2) as u8),
            guarded: c.once_in(3),
            scheduler: c.pick(&names).cloned().unwrap_or_default(),
        }
    }

    fn some_pod(&mut self, wanted: impl Fn(&SimPod) -> bool) -> Option<String> {
        let names: Vec<String> =
            self.world.lock().pods.iter().filter(|(_, p)| wanted(p)).map(|(n, _)| n.clone()).collect();
        self.chance.pick(&names).cloned()
    }

    fn some_node(&mut self) -> Option<String> {
        let names: Vec<String> = self.world.lock().nodes.keys().cloned().collect();
        self.chance.pick(&names).cloned()
    }

    /// Something happens in the cluster.
    fn step(&mut self) {
        match self.chance.of(20) {
            0..=8 => self.create(),
            9..=11 => {
                if let Some(pod) = self.some_pod(|p| !p.deleting) {
                    self.world.lock().delete(&pod);
                }
            }
            12..=13 => {
                if let Some(pod) = self.some_pod(|p| p.node.is_some() && !p.ended) {
                    self.world.lock().end(&pod);
                }
            }
            14 => self.ungate(),
            15 => self.grow(),
            16 => {
                if let Some(node) = self.some_node() {
                    self.lose_node(&node);
                }
            }
            17..=18 => self.cordon(),
            _ => self.replace_process(),
        }
    }

    fn create(&mut self) {
        let (wish, gated) = (self.wish(), self.chance.once_in(10));
        // Now and then a pod comes back under the name of one that is gone.
        let reuse = self.chance.once_in(6);
        self.made += usize::from(!reuse || self.made == 0);
        let name = format!("p{}", self.made);
        let mut world = self.world.lock();
        if !world.pods.contains_key(&name) {
            world.create(&name, wish, gated);
        }
    }

    fn ungate(&mut self) {
        let Some(name) = self.some_pod(|p| p.gated) else { return };
        let mut world = self.world.lock();
        if let Some(pod) = world.pods.get_mut(&name) {
            pod.gated = false;
        }
        world.tell(&name);
    }

    fn grow(&mut self) {
        let (cpu, disk) = (4 + self.chance.of(8) as i64, self.chance.of(2) as u8);
        self.made += 1;
        let name = format!("m{}", self.made);
        self.world.lock().set_node(&name, cpu, disk, false);
    }

    /// A node goes, and its pods after it.
    fn lose_node(&mut self, name: &str) {
        let mut world = self.world.lock();
        let pods: Vec<String> = world
            .on_nodes()
            .filter(|(_, p)| p.node.as_deref() == Some(name))
            .map(|(n, _)| n.clone())
            .collect();
        world.remove_node(name);
        pods.iter().for_each(|p| world.remove(p));
    }

    fn cordon(&mut self) {
        let Some(name) = self.some_node() else { return };
        let mut world = self.world.lock();
        let Some(node) = world.nodes.get(&name).cloned() else { return };
        world.set_node(&name, node.cpu, node.disk, !node.cordoned);
    }

    /// A scheduler is killed, and another takes over.
    fn replace_process(&mut self) {
        let at = self.chance.of(self.processes.len());
        let (who, name) = (self.processes[at].line.who + 10, self.processes[at].name.clone());
        self.processes[at].kill();
        self.world.lock().note(format!("scheduler {name} is killed, {who} takes over"));
        let next = Process::start(who, &name, self);
        self.processes[at] = next;
    }

    /// Node agents: pods that are being deleted go in the end, and those that never fitted are refused.
    fn agents(&mut self) {
        let mut world = self.world.lock();
        let leaving: Vec<String> = world
            .pods
            .iter()
            .filter(|(_, p)| p.deleting && p.node.is_some())
            .map(|(n, _)| n.clone())
            .collect();
        for name in leaving {
            if self.chance.once_in(3) {
                world.remove(&name);
            }
        }
        let lost: Vec<String> = world
            .on_nodes()
            .filter(|(_, p)| p.node.as_ref().is_some_and(|n| !world.nodes.contains_key(n)))
            .map(|(n, _)| n.clone())
            .collect();
        lost.iter().for_each(|p| world.remove(p));
    }

    async fn play(&mut self) {
        self.begin();
        for _ in 0..30 + self.chance.of(60) {
            for _ in 0..self.chance.of(4) {
                self.step();
            }
            self.agents();
            tokio::time::sleep(Duration::from_millis(self.chance.of(1500) as u64)).await;
        }
        // Peace: requests arrive, nodes are uncordoned, nothing new comes.
        *self.trouble.lock() = 0;
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            self.agents();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.check();
        self.processes.iter().for_each(Process::kill);
    }

    fn check(&mut self) {
        for process in &self.processes {
            check_cache(process, &mut self.world.lock());
        }
        let mut world = self.world.lock();
        let waiting: Vec<(String, SimPod)> = world
            .pods
            .iter()
            .filter(|(_, p)| p.node.is_none() && !p.gated)
            .map(|(n, p)| (n.clone(), p.clone()))
            .collect();
        for (name, pod) in waiting {
            let nodes = world.possible(&pod.wish, true, false, false);
            if !nodes.is_empty() {
                world.fault(format!("{name} waits, though {nodes:?} would do: {pod:?}"));
            }
        }
    }
}

/// What a scheduler counts is what there is.
fn check_cache(process: &Process, world: &mut World) {
    let mut state = process.scheduler.state.lock();
    let mut faults = Vec::new();
    let counted = state.placed();
    let there: BTreeMap<String, (String, bool)> =
        world.on_nodes().map(|(_, p)| (p.uid.clone(), (p.node.clone().unwrap_or_default(), false))).collect();
    if counted != there {
        faults.push(format!("counted {counted:?}, there is {there:?}"));
    }
    for node in world.nodes.keys() {
        let used: i64 =
            world.on_nodes().filter(|(_, p)| p.node.as_ref() == Some(node)).map(|(_, p)| p.wish.cpu).sum();
        let counted = state.all().get(node).map(|n| n.requested.cpu / 1000);
        if counted != Some(used) {
            faults.push(format!("{node}: counted {counted:?} CPUs, used are {used}"));
        }
    }
    let mine = world.pods.values().filter(|p| p.node.is_none() && p.wish.scheduler == process.name).count();
    let queued: usize = state.queue().lengths().iter().sum();
    if queued != mine {
        faults.push(format!("{mine} pods wait, {queued} are in the queue"));
    }
    drop(state);
    faults.into_iter().for_each(|f| world.fault(f));
}

/// One history; its faults and its diary.
fn run(seed: u64) -> (Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let mut history_world = None;
    runtime.expect("a runtime").block_on(async {
        let mut history = History::new(seed);
        history_world = Some(history.world.clone());
        history.play().await;
    });
    let world = history_world.expect("a world");
    let mut world = world.lock();
    (std::mem::take(&mut world.faults), std::mem::take(&mut world.diary))
}

#[test]
fn histories() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let first = number("COXSWAIN_SEED").unwrap_or(0);
    let last = number("COXSWAIN_SEED").map_or(number("COXSWAIN_SEEDS").unwrap_or(SEEDS), |s| s + 1);
    let mut bad = Vec::new();
    for seed in first..last {
        let (faults, diary) = run(seed);
        if !faults.is_empty() {
            let story = if bad.is_empty() { diary.join("\n") } else { String::new() };
            bad.push(format!("{story}\nseed {seed}: {faults:#?}"));
        }
    }
    assert!(bad.is_empty(), "{} of {} histories went wrong:\n{}", bad.len(), last - first, bad.join("\n"));
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    assert_eq!(run(7).1, run(7).1);
}
