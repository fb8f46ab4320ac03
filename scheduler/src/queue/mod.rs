//! Pods that wait for a node. Four parts, each a value of its own: [`active`] pods to be tried now, [`backoff`] pods to be tried after a
//! pause, unschedulable pods that wait for something to happen, and gated pods that aren't ready to be tried. Time comes in as
//! an argument.

pub mod active;
pub mod backoff;
pub mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::Happening;
use crate::model::pod::PodInfo;
use active::Active;
use backoff::Backoff;
use waiting::Waiting;

/// A pod that nothing woke for this long is tried again all the same.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// A pod in the queue.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The pod as last seen.
    pub pod: Arc<PodInfo>,
    /// When it came, or was last put back.
    pub since: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// The plugins that refused it last time.
    pub refused_by: BTreeSet<&'static str>,
}

/// The names of plugins by what wakes them.
pub type WakeTable = HashMap<Happening, BTreeSet<&'static str>>;

/// All waiting pods, each in exactly one part.
#[derive(Debug)]
pub struct Queue {
    active: Active,
    backoff: Backoff,
    unschedulable: Waiting,
    gated: Waiting,
    wakes: WakeTable,
    /// Happenings seen while a pod is being tried, so that it doesn't miss what changed meanwhile.
    in_flight: HashMap<String, BTreeSet<Happening>>,
}

impl Queue {
    /// An empty queue. `initial` and `max` bound the pause after a refusal.
    pub fn new(wakes: WakeTable, initial: Duration, max: Duration) -> Self {
        Self {
            active: Active::default(),
            backoff: Backoff::new(initial, max),
            unschedulable: Waiting::default(),
            gated: Waiting::default(),
            wakes,
            in_flight: HashMap::new(),
        }
    }

    /// A pod that wants a node. `gate` is the plugin that keeps it out, if any.
    pub fn add(&mut self, pod: Arc<PodInfo>, gate: Option<&'static str>, now: Instant) {
        self.remove(&pod.uid);
        let refused_by = gate.into_iter().collect();
        let queued = Queued { pod, since: now, attempts: 0, refused_by };
        if gate.is_some() { self.gated.insert(queued) } else { self.active.push(queued) }
    }

    /// A waiting pod was changed; `matters` says whether that could change the verdict on it.
    pub fn update(&mut self, pod: Arc<PodInfo>, gate: Option<&'static str>, matters: bool, now: Instant) {
        if let Some(seen) = self.in_flight.get_mut(&pod.uid) {
            if matters {
                seen.insert(Happening::PodChanged);
            }
            return;
        }
        let parts = [&mut self.unschedulable, &mut self.gated];
        let waiting = parts.into_iter().find_map(|part| part.take(&pod.uid));
        let Some(mut queued) =
            waiting.or_else(|| self.backoff.take(&pod.uid)).or_else(|| self.active.take(&pod.uid))
        else {
            return self.add(pod, gate, now);
        };
        let was_waiting = !queued.refused_by.is_empty();
        queued.pod = pod;
        match (gate, was_waiting && !matters) {
            (Some(plugin), _) => {
                queued.refused_by = [plugin].into();
                self.gated.insert(queued);
            }
            (None, true) => self.unschedulable.insert(queued),
            (None, false) => self.retry(queued, now),
        }
    }

    /// A pod that no longer wants a node.
    pub fn remove(&mut self, uid: &str) {
        self.active.take(uid);
        self.backoff.take(uid);
        self.unschedulable.take(uid);
        self.gated.take(uid);
        self.in_flight.remove(uid);
    }

    /// The pod to try next: highest priority, then longest waiting.
    pub fn pop(&mut self, now: Instant) -> Option<Queued> {
        while let Some(queued) = self.backoff.pop_due(now) {
            self.active.push(queued);
        }
        let mut next = self.active.pop()?;
        next.attempts += 1;
        self.in_flight.insert(next.pod.uid.clone(), BTreeSet::new());
        Some(next)
    }

    /// A tried pod has a node.
    pub fn done(&mut self, uid: &str) {
        self.in_flight.remove(uid);
    }

    /// A tried pod was refused by these plugins: it waits for what could change that. None means an error: a pause only.
    pub fn refused(&mut self, mut queued: Queued, plugins: BTreeSet<&'static str>, now: Instant) {
        // Deleted while it was tried: there is nothing to put back.
        let Some(seen) = self.in_flight.remove(&queued.pod.uid) else { return };
        queued.since = now;
        queued.refused_by = plugins;
        let woken = seen.iter().any(|h| self.wakes(*h, &queued));
        if queued.refused_by.is_empty() || woken {
            self.retry(queued, now)
        } else {
            self.unschedulable.insert(queued)
        }
    }

    /// Something happened: pods that wait for it are tried again.
    pub fn happened(&mut self, what: Happening, now: Instant) {
        self.in_flight.values_mut().for_each(|seen| {
            seen.insert(what);
        });
        let wakes = self.wakes.get(&what);
        let woken = self.unschedulable.take_if(|q| wakes.is_some_and(|w| !w.is_disjoint(&q.refused_by)));
        woken.into_iter().for_each(|q| self.retry(q, now));
    }

    /// Tries again what nothing woke for minutes.
    pub fn flush_forgotten(&mut self, now: Instant) {
        let old = self.unschedulable.take_if(|q| now.duration_since(q.since) > FORGOTTEN);
        old.into_iter().for_each(|q| self.retry(q, now));
    }

    /// When a pod in the pause is due; `None` if none is.
    pub fn next_due(&self) -> Option<Instant> {
        self.backoff.next_due()
    }

    /// Number of pods: active, backoff, unschedulable, gated.
    pub fn lengths(&self) -> [usize; 4] {
        [self.active.len(), self.backoff.len(), self.unschedulable.len(), self.gated.len()]
    }

    fn wakes(&self, what: Happening, queued: &Queued) -> bool {
        self.wakes.get(&what).is_some_and(|w| !w.is_disjoint(&queued.refused_by))
    }

    fn retry(&mut self, mut queued: Queued, now: Instant) {
        queued.refused_by.clear();
        match self.backoff.due(&queued) {
            Some(due) if due > now => self.backoff.insert(queued, due),
            _ => self.active.push(queued),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    fn queue() -> Queue {
        let wakes = HashMap::from([
            (Happening::PodLeft, BTreeSet::from(["Fit"])),
            (Happening::NodeOpened, BTreeSet::from(["Fit", "Taint"])),
        ]);
        Queue::new(wakes, Duration::from_secs(1), Duration::from_secs(10))
    }

    fn tried(q: &mut Queue, plugin: &'static str, now: Instant) {
        let queued = q.pop(now).unwrap();
        q.refused(queued, [plugin].into(), now);
    }

    #[tokio::test(start_paused = true)]
    async fn priority_first_then_age() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("old", json!({})), None, now);
        q.add(pod("young", json!({})), None, now + Duration::from_millis(1));
        q.add(pod("high", json!({"priority": 5})), None, now + Duration::from_millis(2));
        let order: Vec<String> = std::iter::from_fn(|| q.pop(now).map(|x| x.pod.name.clone())).collect();
        assert_eq!(order, ["high", "old", "young"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_concerns_it_wakes_a_pod_and_not_before_its_pause() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        tried(&mut q, "Taint", now);
        q.happened(Happening::PodLeft, now);
        assert_eq!(q.lengths(), [0, 0, 1, 0]);
        q.happened(Happening::NodeOpened, now);
        assert_eq!(q.lengths(), [0, 1, 0, 0]);
        assert!(q.pop(now).is_none());
        let due = q.next_due().unwrap();
        assert!(due <= now + Duration::from_secs(1));
        assert_eq!(q.pop(due).unwrap().attempts, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_while_it_was_tried_is_not_missed() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        let queued = q.pop(now).unwrap();
        q.happened(Happening::NodeOpened, now);
        q.refused(queued, ["Fit"].into(), now);
        assert_eq!(q.lengths(), [0, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_deleted_while_it_was_tried_does_not_come_back() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        let queued = q.pop(now).unwrap();
        q.remove(&queued.pod.uid);
        q.refused(queued, ["Fit"].into(), now);
        assert_eq!(q.lengths(), [0, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn gates_keep_out_until_they_are_gone() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), Some("SchedulingGates"), now);
        assert!(q.pop(now).is_none());
        q.update(pod("p", json!({})), None, true, now);
        assert!(q.pop(now).is_some());
    }
}
