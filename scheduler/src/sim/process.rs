//! One scheduler process: the real loop, its line to the API server, and its watches, which lag, break and list anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use daemon::metrics::Metrics;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::server::Line;
use super::witness::{Told, Witness};
use super::world::{Change, World};
use crate::binder::Binder;
use crate::metrics::Counts;
use crate::model::budgets::Budget;
use crate::model::pod::PodInfo;
use crate::plugins::default_profile;
use crate::queue::Queue;
use crate::schedule::Scheduler;
use crate::state::State;

/// One scheduler process.
pub struct Process {
    pub scheduler: Arc<Scheduler>,
    pub line: Line,
    pub name: String,
    /// When another takes over from it, once it is dead.
    pub heir: Option<Instant>,
    loop_: Option<JoinHandle<()>>,
    told: Arc<Mutex<Told>>,
}

/// What a process starts with.
pub struct Birth {
    pub who: usize,
    pub name: String,
    pub world: Arc<Mutex<World>>,
    pub trouble: Arc<Mutex<usize>>,
    /// The longest its watches lag, in milliseconds.
    pub lag: usize,
    pub chance: Chance,
}

impl Process {
    pub fn start(mut birth: Birth) -> Self {
        let line = Line {
            who: birth.who,
            world: birth.world.clone(),
            chance: Arc::new(Mutex::new(Chance(birth.chance.next()))),
            trouble: birth.trouble,
            trap: Arc::default(),
            dead: Arc::new(AtomicBool::new(false)),
            token: CancellationToken::new(),
        };
        let mut profile = default_profile();
        profile.name = birth.name.clone();
        let profiles = Arc::new(vec![profile]);
        let queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
        let mut state = State::new(queue, profiles.clone()).seeded(birth.chance.next());
        let told = Arc::new(Mutex::new(Told::default()));
        let witness =
            Witness { who: birth.who, world: birth.world, told: told.clone(), dead: line.dead.clone() };
        state.witness =
            Some(Box::new(move |state, moment, pod, node| witness.look(state, moment, pod, node)));
        let binder = Binder::new(line.client(), HashMap::new());
        let counts = Counts::register(&Metrics::new());
        let scheduler = Scheduler::new(state, profiles, binder, counts, Vec::new());
        let mut me = Self { scheduler, line, name: birth.name, heir: None, loop_: None, told };
        // A new process lists, then watches from there.
        let from = me.list();
        for kind in 0..3 {
            tokio::spawn(me.watch(kind, from, Chance(birth.chance.next()), birth.lag));
        }
        me.loop_ = Some(tokio::spawn(me.scheduler.clone().run(me.line.token.clone())));
        me
    }

    fn list(&self) -> usize {
        let log = self.line.world.lock().log.clone();
        let mut old = BTreeMap::new();
        for change in last_of_each(&log) {
            take(&self.scheduler, &self.told, &mut old, change);
        }
        log.len()
    }

    /// Follows one kind, with the lag of this history.
    fn watch(
        &self,
        kind: u8,
        from: usize,
        mut chance: Chance,
        lag: usize,
    ) -> impl Future<Output = ()> + use<> {
        let (scheduler, world, token) =
            (self.scheduler.clone(), self.line.world.clone(), self.line.token.clone());
        let told = self.told.clone();
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
                let breaks = lag > 1 && chance.once_in(60);
                let pause = if breaks {
                    20_000
                } else if chance.once_in(20) {
                    lag
                } else {
                    lag / 20 + 1
                };
                tokio::time::sleep(Duration::from_millis(chance.of(pause) as u64 + 1)).await;
                let fresh: Vec<Change> = world.lock().log[at..].to_vec();
                at += fresh.len();
                let of_kind: Vec<Change> = fresh.into_iter().filter(|c| c.key().0 == kind).collect();
                if breaks {
                    // Too old to go on: what happened in between is not told, only what came of it.
                    world.lock().count("a watch breaks and lists anew");
                    last_of_each(&of_kind).into_iter().for_each(|c| take(&scheduler, &told, &mut old, c));
                } else {
                    of_kind.iter().for_each(|c| take(&scheduler, &told, &mut old, c));
                }
            }
        }
    }

    /// It is told to end, and does so in its own time, of which it must not take more than ten seconds.
    pub async fn retire(&mut self) {
        let begin = Instant::now();
        self.line.token.cancel();
        if let Some(ending) = self.loop_.take() {
            let _ = ending.await;
        }
        self.line.kill();
        let mut world = self.line.world.lock();
        world.note(format!("scheduler {} has ended", self.line.who));
        world.count("ended in good order");
        if begin.elapsed() > Duration::from_secs(11) {
            world.fault(format!("scheduler {} took {:?} to end", self.line.who, begin.elapsed()));
        }
    }
}

type Seen = BTreeMap<String, Arc<PodInfo>>;

/// The last change of each object, in the order of kinds and names.
fn last_of_each(log: &[Change]) -> Vec<&Change> {
    let last: BTreeMap<(u8, &str), &Change> = log.iter().map(|c| (c.key(), c)).collect();
    last.into_values().collect()
}

fn remember(old: &mut Seen, change: &Change) -> Option<Arc<PodInfo>> {
    match change {
        Change::Pod(name, Some((pod, _))) => old.insert(name.clone(), pod.clone()),
        Change::Pod(name, None) => old.remove(name),
        _ => None,
    }
}

/// What the caches do with a change.
fn take(scheduler: &Arc<Scheduler>, told: &Mutex<Told>, old: &mut Seen, change: &Change) {
    let before = remember(old, change);
    let now = Instant::now();
    let mut state = scheduler.state.lock();
    told.lock().take(change);
    match change {
        Change::Pod(_, pod) => state.pod_changed(before.as_ref(), pod.as_ref().map(|p| &p.0), now),
        Change::Node(name, node) => state.node_changed(name, node.as_ref().map(|n| n.0.clone()), now),
        Change::Budget(budget, _) => state.all().budgets.set("ns", "guard", Some(Budget::of(budget))),
    }
    drop(state);
    scheduler.wake.notify_one();
}
