//! What the scheduler knows, changed by the watch caches and by its own choices: nodes with their pods, and the queue.

use std::sync::Arc;

use ahash::AHashMap;
use tokio::time::Instant;

use crate::framework::happening::{Happening, Kind};
use crate::framework::profile::Profile;
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::queue::{Queue, Queued};

/// Where a pod is counted.
#[derive(Debug, Clone)]
struct Placed {
    node: String,
    pod: Arc<PodInfo>,
    /// Chosen here, not yet seen back from the API server.
    assumed: bool,
}

/// Everything known.
pub struct State {
    all: Snapshot,
    queue: Queue,
    profiles: Arc<Vec<Profile>>,
    /// By plugin name, the kinds of events that wake a pod it refused.
    wakes: AHashMap<&'static str, u32>,
    placed: AHashMap<String, Placed>,
    waiting: AHashMap<String, Arc<PodInfo>>,
    next_start: usize,
    /// The state of the generator that breaks ties.
    chance: u64,
    /// Looks over every choice.
    #[cfg(test)]
    pub witness: Option<Witness>,
}

/// What a choice was.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Assumed,
    Nominated,
    Refused,
    Forgotten,
}

/// Is told of every choice before it takes effect.
#[cfg(test)]
pub type Witness = Box<dyn FnMut(&mut State, Moment, &PodInfo, &str) + Send>;

/// Whether an event could change the refusal of a pod.
fn hint(
    profiles: &[Profile],
    wakes: &AHashMap<&'static str, u32>,
    all: &Snapshot,
    queued: &Queued,
    what: &Happening,
) -> bool {
    match what {
        Happening::Own { uid, .. } if *uid != queued.pod.uid => return false,
        // A place that it gave up itself is no news for it.
        Happening::Pod { pod, .. } if pod.uid == queued.pod.uid => return false,
        _ => {}
    }
    let bit = what.kind().bit();
    let mut waits =
        queued.refused_by.iter().filter(|name| wakes.get(*name).is_none_or(|w| w & bit != 0)).peekable();
    if waits.peek().is_none() {
        return false;
    }
    let Some(profile) = profiles.iter().find(|p| p.name == queued.pod.scheduler) else { return true };
    waits.any(|name| profile.plugin(name).is_none_or(|p| p.hint(&queued.pod, what, all)))
}

impl State {
    /// Knows nothing yet.
    pub fn new(queue: Queue, profiles: Arc<Vec<Profile>>) -> Self {
        let mut wakes: AHashMap<&'static str, u32> = AHashMap::new();
        for plugin in profiles.iter().flat_map(|p| &p.all) {
            let bits = plugin.woken_by().iter().fold(0, |bits, kind| bits | kind.bit());
            *wakes.entry(plugin.name()).or_default() |= bits;
        }
        wakes.insert(crate::preemption::NAME, Kind::PodLeft.bit());
        wakes.insert(crate::extender::NAME, u32::MAX);
        Self {
            all: Snapshot::default(),
            queue,
            profiles,
            wakes,
            placed: AHashMap::new(),
            waiting: AHashMap::new(),
            next_start: 0,
            chance: rand::random(),
            #[cfg(test)]
            witness: None,
        }
    }

    #[cfg(test)]
    fn tell(&mut self, moment: Moment, pod: &PodInfo, node: &str) {
        if let Some(mut witness) = self.witness.take() {
            witness(self, moment, pod, node);
            self.witness = Some(witness);
        }
    }

    /// The same with ties broken as this seed says: histories can be repeated.
    #[must_use]
    pub fn seeded(self, chance: u64) -> Self {
        Self { chance, ..self }
    }

    /// A number by chance (splitmix64).
    pub fn draw(&mut self) -> usize {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize
    }

    /// The cluster of now.
    pub fn all(&mut self) -> &mut Snapshot {
        &mut self.all
    }

    /// Where the next pod starts looking among the nodes.
    pub fn next_start(&self) -> usize {
        self.next_start
    }

    /// Remembers where to start next.
    pub fn set_next_start(&mut self, start: usize) {
        self.next_start = start;
    }

    /// The queue.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Something happened that pods may wait for.
    pub fn happened(&mut self, what: &Happening, now: Instant) {
        let Self { all, queue, profiles, wakes, .. } = self;
        queue.happened(what, &|q, w| hint(profiles, wakes, all, q, w), now);
    }

    /// A Node came, changed (`Some`) or went.
    pub fn node_changed(&mut self, name: &str, node: Option<Arc<NodeSpec>>, now: Instant) {
        match node {
            Some(node) => {
                let old = self.all.set_node(node.clone());
                for what in Happening::of_node(old.as_ref(), &node) {
                    self.happened(&what, now);
                }
            }
            None => {
                if let Some(old) = self.all.remove_node(name) {
                    let what = Happening::Node { kind: Kind::NodeGone, old: Some(old.clone()), new: old };
                    self.happened(&what, now);
                }
            }
        }
    }

    /// A pod came, changed or went, as the watch tells it.
    pub fn pod_changed(&mut self, old: Option<&Arc<PodInfo>>, new: Option<&Arc<PodInfo>>, now: Instant) {
        // A pod of the same name but another uid replaced the old one.
        if let Some(old) = old.filter(|o| new.is_none_or(|n| n.uid != o.uid)) {
            self.pod_gone(&old.uid, now);
        }
        if let Some(pod) = new {
            self.pod_seen(pod.clone(), now);
        }
    }

    /// A pod was seen.
    pub fn pod_seen(&mut self, pod: Arc<PodInfo>, now: Instant) {
        if pod.ended {
            return self.pod_gone(&pod.uid, now);
        }
        match &pod.node {
            Some(node) => {
                let node = node.clone();
                self.leave_queue(&pod.uid);
                self.arrives(&pod.uid, &node, now);
                self.seen_on(pod, &node, now);
            }
            None => self.pod_waits(pod, now),
        }
    }

    /// A pod whose place was chosen here is no news: it was told when it was assumed.
    fn seen_on(&mut self, pod: Arc<PodInfo>, node: &str, now: Instant) {
        let before = self.placed.get(&pod.uid).filter(|p| p.node == node).map(|p| p.pod.clone());
        match &before {
            Some(old) if old.takes_as(&pod) => {
                match old.counts_as(&pod) {
                    true => self.all.swap_pod(node, pod.clone()),
                    false => self.all.recount_pod(node, pod.clone()),
                }
                let placed = Placed { node: node.into(), pod: pod.clone(), assumed: false };
                self.placed.insert(pod.uid.clone(), placed);
            }
            _ => self.place(pod.clone(), node, false),
        }
        for what in Happening::of_pod(before.as_ref(), &pod) {
            self.happened(&what, now);
        }
    }

    fn pod_waits(&mut self, pod: Arc<PodInfo>, now: Instant) {
        // A late picture of a pod whose place is already chosen.
        if self.placed.contains_key(&pod.uid) {
            // Should the binding fail, it is this one that is tried again.
            if let Some(waiting) = self.waiting.get_mut(&pod.uid) {
                *waiting = pod;
            }
            return;
        }
        let ours = self.profiles.iter().any(|p| p.name == pod.scheduler);
        match &pod.nominated {
            Some(node) => self.means(&pod, node, now),
            // What another scheduler means to do is known from the pod alone.
            None if !ours || self.waiting.get(&pod.uid).is_some_and(|old| old.nominated.is_some()) => {
                self.withdraw(&pod.uid, now);
            }
            None => {}
        }
        let Some(profile) = self.profiles.iter().find(|p| p.name == pod.scheduler) else { return };
        if pod.deleting {
            return self.pod_gone(&pod.uid, now);
        }
        let gate = profile.gate(&pod).map(|(plugin, _)| plugin);
        match self.waiting.insert(pod.uid.clone(), pod.clone()) {
            Some(old) => {
                let changes = Happening::of_own(&old, &pod);
                let Self { all, queue, profiles, wakes, .. } = self;
                queue.update(pod, gate, &changes, &|q, w| hint(profiles, wakes, all, q, w), now);
            }
            None => self.queue.add(pod, gate, now),
        }
    }

    /// A pod is gone, or has ended for good.
    pub fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.leave_queue(uid);
        let meant_to_come = self.all.withdraw(uid).map(|(_, pod)| pod);
        let gone = self.unplace(uid).or(meant_to_come);
        if let Some(pod) = gone {
            self.happened(&Happening::left(pod), now);
        }
    }

    fn leave_queue(&mut self, uid: &str) {
        self.waiting.remove(uid);
        self.queue.remove(uid);
    }

    /// A pod means to go to a node; where it meant to go before there is room for others.
    fn means(&mut self, pod: &Arc<PodInfo>, node: &str, now: Instant) {
        let before = self.all.withdraw(&pod.uid);
        self.all.nominate(pod.clone(), node);
        if let Some((_, pod)) = before.filter(|(before, _)| before != node) {
            self.happened(&Happening::left(pod), now);
        }
    }

    /// A pod comes to a node. If it meant to go to another, there is room for others now.
    fn arrives(&mut self, uid: &str, node: &str, now: Instant) {
        if let Some((_, pod)) = self.all.withdraw(uid).filter(|(meant, _)| meant != node) {
            self.happened(&Happening::left(pod), now);
        }
    }

    /// A pod no longer means to go anywhere: those for which its place was missing are tried again.
    pub fn withdraw(&mut self, uid: &str, now: Instant) {
        self.arrives(uid, "", now);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        self.unplace(&pod.uid);
        self.all.add_pod(node, pod.clone());
        self.placed.insert(pod.uid.clone(), Placed { node: node.into(), pod, assumed });
    }

    fn unplace(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(uid)?;
        self.all.remove_pod(&placed.node, uid);
        Some(placed.pod)
    }

    /// All pods counted, with their nodes, and whether that was chosen here and not yet seen.
    #[cfg(test)]
    pub fn placed(&self) -> std::collections::BTreeMap<String, (String, bool)> {
        self.placed.iter().map(|(uid, p)| (uid.clone(), (p.node.clone(), p.assumed))).collect()
    }

    /// How many pods are known to want a node.
    #[cfg(test)]
    pub fn wanting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the pod still wants a node.
    pub fn wants_node(&self, uid: &str) -> bool {
        self.waiting.contains_key(uid)
    }

    /// A pod for which others were pushed away: its place is kept among the nominated.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str, now: Instant) {
        #[cfg(test)]
        self.tell(Moment::Nominated, pod, node);
        if self.waiting.contains_key(&pod.uid) {
            self.means(pod, node, now);
        }
    }

    /// Counts the pod on the chosen node before the API server knows. From now on it can only fail by an error, so that it need not
    /// be told what happens meanwhile.
    pub fn assume(&mut self, queued: &Queued, node: &str, now: Instant) {
        #[cfg(test)]
        self.tell(Moment::Assumed, &queued.pod, node);
        self.queue.done(&queued.pod.uid);
        self.place(queued.pod.clone(), node, true);
        self.arrives(&queued.pod.uid, node, now);
        let what = Happening::Pod { kind: Kind::PodPlaced, old: None, pod: queued.pod.clone() };
        self.happened(&what, now);
    }

    /// The choice was written. The pod stays counted until it is seen, or seen to be gone.
    pub fn bound(&mut self, uid: &str) {
        self.waiting.remove(uid);
    }

    /// The pod was refused: it waits for what could change that. `held` keeps it waiting until [`Queue::released`].
    pub fn refused(
        &mut self,
        mut queued: Queued,
        plugins: std::collections::BTreeSet<&'static str>,
        held: bool,
        now: Instant,
    ) {
        #[cfg(test)]
        self.tell(Moment::Refused, &queued.pod.clone(), "");
        if let Some(pod) = self.waiting.get(&queued.pod.uid) {
            queued.pod = pod.clone();
        }
        queued.held = held;
        queued.waits_for =
            plugins.iter().fold(0, |bits, p| bits | self.wakes.get(p).copied().unwrap_or(u32::MAX));
        let Self { all, queue, profiles, wakes, .. } = self;
        queue.refused(queued, plugins, &|q, w| hint(profiles, wakes, all, q, w), now);
    }

    /// The choice could not be written: the pod is tried again after a pause.
    pub fn forget(&mut self, queued: Queued, now: Instant) {
        #[cfg(test)]
        if let Some(placed) = self.placed.get(&queued.pod.uid).filter(|p| p.assumed).cloned() {
            self.tell(Moment::Forgotten, &queued.pod, &placed.node);
        }
        if self.placed.get(&queued.pod.uid).is_some_and(|p| p.assumed)
            && let Some(pod) = self.unplace(&queued.pod.uid)
        {
            self.happened(&Happening::left(pod), now);
        }
        // Deleted meanwhile: there is nothing to try again.
        if let Some(pod) = self.waiting.get(&queued.pod.uid) {
            self.queue.failed(Queued { pod: pod.clone(), ..queued }, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpu_pod, node_spec, pod_object};
    use serde_json::json;
    use std::time::Duration;

    fn state() -> State {
        let queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
        State::new(queue, Arc::new(vec![crate::plugins::default_profile()]))
    }

    fn add_node(s: &mut State, name: &str) {
        s.node_changed(name, Some(node_spec(name, json!({}))), Instant::now());
    }

    fn cpu_left(state: &mut State) -> i64 {
        let node = state.all().get("a").unwrap();
        node.allocatable.cpu - node.requested.cpu
    }

    #[tokio::test(start_paused = true)]
    async fn an_assumed_pod_is_counted_once_and_forgotten_whole() {
        let (mut s, now) = (state(), Instant::now());
        add_node(&mut s, "a");
        s.pod_seen(cpu_pod("p", "1"), now);
        let queued = s.queue().pop(now).unwrap();
        s.assume(&queued, "a", now);
        assert_eq!(cpu_left(&mut s), 3000);
        // A late picture without a node changes nothing.
        s.pod_seen(cpu_pod("p", "1"), now);
        assert_eq!(s.queue().lengths(), [0, 0, 0, 0]);
        s.forget(queued, now);
        assert_eq!(cpu_left(&mut s), 4000);
        assert_eq!(s.queue().lengths(), [0, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_pod_is_seen_and_leaves() {
        let (mut s, now) = (state(), Instant::now());
        add_node(&mut s, "a");
        s.pod_seen(cpu_pod("p", "1"), now);
        let queued = s.queue().pop(now).unwrap();
        s.assume(&queued, "a", now);
        s.bound("uid-p");
        let mut seen = PodInfo::clone(&queued.pod);
        seen.node = Some("a".into());
        s.pod_seen(Arc::new(seen), now);
        assert_eq!(cpu_left(&mut s), 3000);
        s.pod_gone("uid-p", now);
        assert_eq!(cpu_left(&mut s), 4000);
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_other_schedulers_are_left_alone() {
        let (mut s, now) = (state(), Instant::now());
        let other = PodInfo::of(&pod_object("p", json!({"schedulerName": "mine"})));
        s.pod_seen(Arc::new(other), now);
        assert!(s.queue().pop(now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_kept_by_another_scheduler_is_given_up_when_it_says_so() {
        let (mut s, now) = (state(), Instant::now());
        add_node(&mut s, "a");
        let meant = |node: Option<&str>| {
            let mut pod = PodInfo::of(&pod_object("p", json!({"schedulerName": "mine"})));
            pod.nominated = node.map(Into::into);
            Arc::new(pod)
        };
        s.pod_seen(meant(Some("a")), now);
        assert_eq!(s.all().nominated("a").len(), 1);
        s.pod_seen(meant(None), now);
        assert!(!s.all().has_nominated());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_given_up_wakes_those_it_kept_out_but_not_who_gave_it_up() {
        let (mut s, now) = (state(), Instant::now());
        add_node(&mut s, "a");
        for name in ["meant", "kept-out"] {
            s.pod_seen(cpu_pod(name, "3"), now);
            let queued = s.queue().pop(now).unwrap();
            if name == "meant" {
                s.nominate(&queued.pod, "a", now);
            }
            s.refused(queued, ["NodeResourcesFit"].into(), false, now);
        }
        assert_eq!(s.queue().lengths(), [0, 0, 2, 0]);
        s.withdraw("uid-meant", now);
        assert_eq!(s.queue().lengths(), [0, 1, 1, 0]);
        let woken = s.queue().pop(now).unwrap();
        assert_eq!(woken.pod.name, "kept-out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_goes_elsewhere_leaves_the_place_it_meant_to_take() {
        let (mut s, now) = (state(), Instant::now());
        add_node(&mut s, "a");
        add_node(&mut s, "b");
        s.pod_seen(cpu_pod("kept-out", "3"), now);
        let queued = s.queue().pop(now).unwrap();
        s.refused(queued, ["NodeResourcesFit"].into(), false, now);
        s.pod_seen(cpu_pod("meant", "3"), now);
        let queued = s.queue().pop(now).unwrap();
        s.nominate(&queued.pod, "a", now);
        s.assume(&queued, "a", now);
        assert_eq!(s.queue().lengths(), [0, 0, 1, 0], "it came where it meant to");
        s.forget(queued, now);
        let queued = s.queue().pop(now).unwrap();
        s.nominate(&queued.pod, "a", now);
        s.assume(&queued, "b", now);
        assert!(!s.all().has_nominated());
        assert_eq!(s.queue().lengths()[2], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_wakes_only_pods_that_would_fit_there() {
        let (mut s, now) = (state(), Instant::now());
        for (name, cpu) in [("small", "1"), ("large", "64")] {
            s.pod_seen(cpu_pod(name, cpu), now);
            let queued = s.queue().pop(now).unwrap();
            s.refused(queued, ["NodeResourcesFit"].into(), false, now);
        }
        add_node(&mut s, "a");
        assert_eq!(s.queue().lengths(), [0, 1, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_meant_to_come_leaves_its_place_to_others() {
        let (mut s, now) = (state(), Instant::now());
        add_node(&mut s, "a");
        s.pod_seen(cpu_pod("p", "1"), now);
        let queued = s.queue().pop(now).unwrap();
        s.nominate(&queued.pod, "a", now);
        assert_eq!(s.all().nominated("a").len(), 1);
        s.pod_gone("uid-p", now);
        assert!(!s.all().has_nominated());
    }
}
