//! What the scheduler knows, changed by the watch caches and by its own choices: nodes with their pods, and the queue.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use crate::framework::Happening;
use crate::framework::cycle::Profile;
use crate::model::pod::PodInfo;
use crate::model::snapshot::{Nodes, Snapshot};
use crate::queue::{Queue, Queued};

/// Where a pod is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    node: String,
    /// Chosen here, not yet seen back from the API server.
    assumed: bool,
}

/// Everything known.
pub struct State {
    nodes: Nodes,
    queue: Queue,
    placed: HashMap<String, Placed>,
    waiting: HashMap<String, Arc<PodInfo>>,
    next_start: usize,
}

impl State {
    /// Knows nothing yet.
    pub fn new(queue: Queue) -> Self {
        Self {
            nodes: Nodes::default(),
            queue,
            placed: HashMap::new(),
            waiting: HashMap::new(),
            next_start: 0,
        }
    }

    /// The nodes of now.
    pub fn snapshot(&self) -> Snapshot {
        self.nodes.snapshot()
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

    /// A Node came, changed (`Some`) or went.
    pub fn node_changed(&mut self, name: &str, node: Option<&Node>, now: Instant) {
        match node {
            Some(node) if self.nodes.update(node) => self.queue.happened(Happening::NodeOpened, now),
            Some(_) => {}
            None => self.nodes.remove(name),
        }
    }

    /// A pod was seen.
    pub fn pod_seen(&mut self, pod: Arc<PodInfo>, profiles: &[Profile], now: Instant) {
        if pod.ended {
            return self.pod_gone(&pod.uid, now);
        }
        match &pod.node {
            Some(node) => {
                let node = node.clone();
                self.leave_queue(&pod.uid);
                self.place(pod, &node, false);
            }
            None => self.pod_waits(pod, profiles, now),
        }
    }

    fn pod_waits(&mut self, pod: Arc<PodInfo>, profiles: &[Profile], now: Instant) {
        // A late picture of a pod whose place is already chosen.
        if self.placed.contains_key(&pod.uid) {
            return;
        }
        let Some(profile) = profiles.iter().find(|p| p.name == pod.scheduler) else { return };
        if pod.deleting {
            return self.pod_gone(&pod.uid, now);
        }
        let gate = profile.gate(&pod).map(|(plugin, _)| plugin);
        match self.waiting.insert(pod.uid.clone(), pod.clone()) {
            Some(old) => self.queue.update(pod.clone(), gate, pod.differs_for_scheduling(&old), now),
            None => self.queue.add(pod, gate, now),
        }
    }

    /// A pod is gone, or has ended for good.
    pub fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.leave_queue(uid);
        if self.unplace(uid) {
            self.queue.happened(Happening::PodLeft, now);
        }
    }

    fn leave_queue(&mut self, uid: &str) {
        self.waiting.remove(uid);
        self.queue.remove(uid);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        let uid = pod.uid.clone();
        if self.placed.get(&uid).is_some_and(|p| p.node != node) {
            self.unplace(&uid);
        }
        self.nodes.change_pods(node, |n| n.add_pod(pod));
        self.placed.insert(uid, Placed { node: node.into(), assumed });
    }

    fn unplace(&mut self, uid: &str) -> bool {
        let Some(placed) = self.placed.remove(uid) else { return false };
        self.nodes.change_pods(&placed.node, |n| {
            n.remove_pod(uid);
        });
        true
    }

    /// Counts the pod on the chosen node before the API server knows.
    pub fn assume(&mut self, queued: &Queued, node: &str) {
        self.place(queued.pod.clone(), node, true);
    }

    /// The choice was written. The pod stays counted until it is seen, or seen to be gone.
    pub fn bound(&mut self, uid: &str) {
        self.waiting.remove(uid);
        self.queue.done(uid);
    }

    /// The choice could not be written: the pod is tried again after a pause.
    pub fn forget(&mut self, queued: Queued, now: Instant) {
        if self.placed.get(&queued.pod.uid).is_some_and(|p| p.assumed) {
            self.unplace(&queued.pod.uid);
            self.queue.happened(Happening::PodLeft, now);
        }
        self.queue.refused(queued, Default::default(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::wake_table;
    use crate::testing::{cpu_pod, node, pod_object};
    use serde_json::json;
    use std::time::Duration;

    fn profiles() -> Vec<Profile> {
        vec![Profile {
            name: "default-scheduler".into(),
            plugins: crate::plugins::default_set(),
            percentage: 0,
        }]
    }

    fn state() -> State {
        let wakes = wake_table(&profiles());
        State::new(Queue::new(wakes, Duration::from_secs(1), Duration::from_secs(10)))
    }

    fn cpu_left(state: &State) -> i64 {
        let snapshot = state.snapshot();
        snapshot.nodes()[0].allocatable.cpu - snapshot.nodes()[0].requested.cpu
    }

    #[tokio::test(start_paused = true)]
    async fn an_assumed_pod_is_counted_once_and_forgotten_whole() {
        let (mut s, profiles, now) = (state(), profiles(), Instant::now());
        s.node_changed("a", Some(&node("a", json!({}))), now);
        s.pod_seen(cpu_pod("p", "1"), &profiles, now);
        let queued = s.queue().pop(now).unwrap();
        s.assume(&queued, "a");
        assert_eq!(cpu_left(&s), 3000);
        // A late picture without a node changes nothing.
        s.pod_seen(cpu_pod("p", "1"), &profiles, now);
        assert_eq!(s.queue().lengths(), [0, 0, 0, 0]);
        s.forget(queued, now);
        assert_eq!(cpu_left(&s), 4000);
        assert_eq!(s.queue().lengths(), [0, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_pod_is_seen_and_leaves() {
        let (mut s, profiles, now) = (state(), profiles(), Instant::now());
        s.node_changed("a", Some(&node("a", json!({}))), now);
        s.pod_seen(cpu_pod("p", "1"), &profiles, now);
        let queued = s.queue().pop(now).unwrap();
        s.assume(&queued, "a");
        s.bound("uid-p");
        let mut seen = PodInfo::clone(&queued.pod);
        seen.node = Some("a".into());
        s.pod_seen(Arc::new(seen), &profiles, now);
        assert_eq!(cpu_left(&s), 3000);
        s.pod_gone("uid-p", now);
        assert_eq!(cpu_left(&s), 4000);
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_other_schedulers_are_left_alone() {
        let (mut s, profiles, now) = (state(), profiles(), Instant::now());
        let other = PodInfo::of(&pod_object("p", json!({"schedulerName": "mine"})));
        s.pod_seen(Arc::new(other), &profiles, now);
        assert!(s.queue().pop(now).is_none());
    }
}
