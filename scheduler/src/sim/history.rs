//! One history: what users, nodes and fate do to a cluster and its schedulers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::chance::Chance;
use super::ending;
use super::process::{Birth, Process};
use super::rules::{Others, SimNode, Wish};
use super::server::{Deed, Trap};
use super::world::{SimPod, World};
use crate::plugins::DEFAULT_SCHEDULER;

/// Long enough for the longest pause, a silent answer and a second try, but not for what nothing woke.
const SETTLE: Duration = Duration::from_secs(200);
/// Long enough for what nothing woke as well.
const FLUSHED: Duration = Duration::from_secs(400);
/// A clock may be off by so many seconds.
const SKEW: i64 = 600;

/// Everything one history is about.
pub struct History {
    pub world: Arc<Mutex<World>>,
    pub processes: Vec<Process>,
    chance: Chance,
    trouble: Arc<Mutex<usize>>,
    lag: usize,
    made: usize,
    /// Nodes that are gone and may come back.
    lost: Vec<(String, SimNode)>,
}

impl History {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let keep = chance.of(4);
        let trouble = [0, 20, 100, 300][chance.of(4)];
        let lag = [1, 200, 1000, 5000][chance.of(4)];
        let world = Arc::new(Mutex::new(World::new(keep)));
        let trouble = Arc::new(Mutex::new(trouble));
        Self { world, processes: Vec::new(), chance, trouble, lag, made: 0, lost: Vec::new() }
    }

    /// The whole of it.
    pub async fn play(&mut self) {
        self.begin();
        for _ in 0..30 + self.chance.of(60) {
            for _ in 0..self.chance.of(4) {
                self.step().await;
            }
            self.agents();
            self.heirs(false);
            tokio::time::sleep(Duration::from_millis(self.chance.of(1500) as u64)).await;
        }
        // Peace: requests arrive, nobody is killed, nothing new comes.
        *self.trouble.lock() = 0;
        self.processes.iter().for_each(|p| *p.line.trap.lock() = None);
        self.heirs(true);
        self.world.lock().note("peace".into());
        self.wait(SETTLE, Duration::from_millis(500)).await;
        ending::awake(self);
        self.wait(FLUSHED, Duration::from_secs(2)).await;
        ending::check(self);
    }

    async fn wait(&mut self, long: Duration, tick: Duration) {
        let end = Instant::now() + long;
        while Instant::now() < end {
            self.agents();
            tokio::time::sleep(tick).await;
        }
    }

    fn begin(&mut self) {
        for i in 0..1 + self.chance.of(5) {
            let node = self.node();
            self.world.lock().set_node(&format!("n{i}"), node);
        }
        self.start(0, DEFAULT_SCHEDULER);
        // In some histories there is a second: of another name, or of the same as if no lease held it back.
        let second = match self.chance.of(6) {
            0 => "second",
            1 => DEFAULT_SCHEDULER,
            _ => return,
        };
        self.world.lock().alone = false;
        self.world.lock().count(if second == DEFAULT_SCHEDULER { "two leaders" } else { "two schedulers" });
        self.start(1, second);
    }

    fn birth(&mut self, who: usize, name: &str) -> Birth {
        Birth {
            who,
            name: name.into(),
            world: self.world.clone(),
            trouble: self.trouble.clone(),
            lag: self.lag,
            chance: Chance(self.chance.next()),
        }
    }

    fn start(&mut self, who: usize, name: &str) {
        let birth = self.birth(who, name);
        self.processes.push(Process::start(birth));
    }

    fn node(&mut self) -> SimNode {
        let c = &mut self.chance;
        SimNode {
            cpu: 4 + c.of(8) as i64,
            pods: if c.once_in(4) { 2 + c.of(4) } else { 110 },
            disk: c.of(2) as u8,
            zone: c.of(2) as u8,
            cordoned: false,
            tainted: c.once_in(10),
            clock: c.of(2 * SKEW as usize) as i64 - SKEW,
            excused: false,
        }
    }

    fn others(&mut self, once_in: usize) -> Option<Others> {
        let c = &mut self.chance;
        let others = Others { group: c.of(3) as u8, zone: c.once_in(3) };
        c.once_in(once_in).then_some(others)
    }

    fn wish(&mut self) -> Wish {
        let names: Vec<String> = self.processes.iter().map(|p| p.name.clone()).collect();
        let (shy, company) = (self.others(8), self.others(10));
        let c = &mut self.chance;
        let group = c.once_in(2).then(|| c.of(3) as u8);
        let even = (1 + c.of(2) as i64, c.once_in(2));
        Wish {
            cpu: 1 + c.of(3) as i64,
            priority: [0, 0, 0, 5, 10][c.of(5)],
            never: c.once_in(10),
            port: if c.once_in(5) { [80, 80, 80, 81][c.of(4)] } else { 0 },
            group,
            shy,
            company,
            even: (group.is_some() && c.once_in(5)).then_some(even),
            disk: c.once_in(6).then(|| c.of(2) as u8),
            tolerates: c.once_in(4),
            guarded: c.once_in(3),
            scheduler: c.pick(&names).cloned().unwrap_or_default(),
        }
    }

    fn some_pod(&mut self, wanted: impl Fn(&SimPod) -> bool) -> Option<String> {
        let names: Vec<String> =
            self.world.lock().pods.iter().filter(|(_, p)| wanted(p)).map(|(n, _)| n.clone()).collect();
        self.chance.pick(&names).cloned()
    }

    /// Changes a pod as someone else would, and says so.
    fn change_pod(
        &mut self,
        wanted: impl Fn(&SimPod) -> bool,
        what: &'static str,
        change: impl Fn(&mut SimPod),
    ) {
        let Some(name) = self.some_pod(wanted) else { return };
        let mut world = self.world.lock();
        world.pods.get_mut(&name).into_iter().for_each(change);
        world.note(format!("pod {name}: {what}"));
        world.count(what);
        world.tell(&name);
    }

    fn change_node(&mut self, what: &'static str, change: impl Fn(&mut SimNode)) {
        let names: Vec<String> = self.world.lock().nodes.keys().cloned().collect();
        let Some(name) = self.chance.pick(&names) else { return };
        let mut world = self.world.lock();
        let Some(mut node) = world.nodes.get(name).cloned() else { return };
        change(&mut node);
        world.count(what);
        world.set_node(name, node);
    }

    /// Something happens in the cluster.
    async fn step(&mut self) {
        match self.chance.of(60) {
            0..=26 => self.create(),
            27..=34 => {
                if let Some(pod) = self.some_pod(|p| !p.deleting) {
                    self.world.lock().delete(&pod);
                }
            }
            35..=38 => {
                let runs = |p: &SimPod| p.node.is_some() && !p.ended;
                self.change_pod(runs, "ended", |p| p.ended = true);
            }
            39..=41 => self.change_pod(|p| p.gated, "a gate opens", |p| p.gated = false),
            42 => {
                let large = |p: &SimPod| p.node.is_some() && p.wish.cpu > 1;
                self.change_pod(large, "a pod asks for less", |p| p.wish.cpu -= 1);
            }
            43 => {
                let waits = |p: &SimPod| p.node.is_none() && !p.wish.tolerates;
                self.change_pod(waits, "a pod learns to tolerate", |p| p.wish.tolerates = true);
            }
            _ => self.upheaval().await,
        }
    }

    async fn upheaval(&mut self) {
        match self.chance.of(16) {
            0..=1 => self.grow(),
            2..=3 => self.lose_node(),
            4..=6 => self.change_node("cordoned, or no more", |n| n.cordoned = !n.cordoned),
            7 => self.change_node("tainted, or no more", |n| n.tainted = !n.tainted),
            8 => self.change_node("labels of a node change", |n| n.disk = 1 - n.disk),
            9 => self.change_node("a node has more room", |n| (n.cpu, n.pods) = (n.cpu + 2, n.pods + 1)),
            10 => self.change_node("a node has less room", |n| (n.cpu, n.excused) = (2, true)),
            11 => {
                let clock = self.chance.of(2 * SKEW as usize) as i64 - SKEW;
                self.change_node("a clock jumps", |n| n.clock = clock);
            }
            12 => {
                let at = self.chance.of(self.processes.len());
                self.processes[at].line.kill();
                self.world.lock().count("killed");
            }
            13 => {
                let at = self.chance.of(self.processes.len());
                self.processes[at].retire().await;
            }
            _ => self.set_trap(),
        }
    }

    fn set_trap(&mut self) {
        let at = self.chance.of(self.processes.len());
        let on = [Deed::Bind, Deed::Bind, Deed::Mark, Deed::Mark, Deed::Delete, Deed::Delete, Deed::Say]
            [self.chance.of(7)];
        *self.processes[at].line.trap.lock() = Some(Trap { on, before: self.chance.once_in(2) });
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

    /// A node comes, or comes back.
    fn grow(&mut self) {
        if self.chance.once_in(2)
            && let Some((name, mut node)) = self.lost.pop()
        {
            node.excused = true;
            self.world.lock().count("a node comes back");
            return self.world.lock().set_node(&name, node);
        }
        let node = self.node();
        self.made += 1;
        self.world.lock().count("a node comes");
        self.world.lock().set_node(&format!("m{}", self.made), node);
    }

    /// A node goes, and its pods after it.
    fn lose_node(&mut self) {
        let names: Vec<String> = self.world.lock().nodes.keys().cloned().collect();
        let Some(name) = self.chance.pick(&names) else { return };
        let mut world = self.world.lock();
        let there = world.on_nodes().filter(|(_, p)| p.node.as_ref() == Some(name));
        let pods: Vec<String> = there.map(|(n, _)| n.clone()).collect();
        if let Some(node) = world.nodes.get(name).cloned() {
            self.lost.push((name.clone(), node));
        }
        world.count("a node goes");
        world.remove_node(name);
        pods.iter().for_each(|p| world.remove(p));
    }

    /// Others take over from dead schedulers, after as long as a lease lasts; `now` at once.
    fn heirs(&mut self, now: bool) {
        for at in 0..self.processes.len() {
            if !self.processes[at].line.is_dead() {
                continue;
            }
            let wait = Duration::from_millis(self.chance.of(15_000) as u64);
            let due = *self.processes[at].heir.get_or_insert_with(|| Instant::now() + wait);
            if now || due <= Instant::now() {
                let (who, name) = (self.processes[at].line.who + 10, self.processes[at].name.clone());
                let mut world = self.world.lock();
                world.note(format!("scheduler {who} takes over as {name}"));
                if world.pods.values().any(|p| p.nominated.is_some()) {
                    world.count("a node is kept at a takeover");
                }
                drop(world);
                let birth = self.birth(who, &name);
                self.processes[at] = Process::start(birth);
            }
        }
    }

    /// Node agents and the collector of garbage: pods that are being deleted go in the end, and those of nodes that are gone.
    fn agents(&mut self) {
        let mut world = self.world.lock();
        let leaves = |p: &SimPod| p.deleting && p.node.is_some();
        let leaving: Vec<String> =
            world.pods.iter().filter(|(_, p)| leaves(p)).map(|(n, _)| n.clone()).collect();
        for name in leaving {
            if self.chance.once_in(3) {
                world.remove(&name);
            }
        }
        let stray = |p: &SimPod| p.node.as_ref().is_some_and(|n| !world.nodes.contains_key(n));
        let lost: Vec<String> = world.on_nodes().filter(|(_, p)| stray(p)).map(|(n, _)| n.clone()).collect();
        lost.iter().for_each(|p| world.remove(p));
    }
}
