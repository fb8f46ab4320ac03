//! Pods that wait for a node. Parts, each a value of its own: [`active`] pods to be tried now, [`backoff`] pods to be tried after a
//! pause (those that failed by an error apart from those that were refused), unschedulable pods that wait for something to happen,
//! and gated pods that aren't ready to be tried. Time comes in as an argument.

pub mod active;
pub mod backoff;
pub mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use tokio::time::Instant;

use crate::framework::Happening;
use crate::model::pod::PodInfo;
use active::Active;
use backoff::{Backoff, Pauses};
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
    /// How often it was refused, and how often in a row it failed by an error.
    pub refusals: u32,
    pub errors: u32,
    /// The plugins that refused it last time.
    pub refused_by: BTreeSet<&'static str>,
    /// The kinds of events that could change that, as [`crate::framework::Kind::bit`]s.
    pub waits_for: u32,
    /// Others are being pushed away for it: it is not tried meanwhile.
    pub held: bool,
    /// Something woke it while it was held.
    pub woken: bool,
}

/// Whether an event could change the refusal of a pod by the plugins named in it.
pub type Hint<'a> = &'a dyn Fn(&Queued, &Happening) -> bool;

/// All waiting pods, each in exactly one part.
#[derive(Debug)]
pub struct Queue {
    pauses: Pauses,
    active: Active,
    backoff: Backoff,
    failed: Backoff,
    unschedulable: Waiting,
    gated: Waiting,
    /// Which event was the last when a pod being tried was taken.
    in_flight: AHashMap<String, u64>,
    /// Events seen while pods are being tried, with their numbers, so that no pod misses what changed meanwhile.
    log: VecDeque<(u64, Happening)>,
    count: u64,
}

impl Queue {
    /// An empty queue. `initial` and `max` bound the pause after a refusal.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self {
            pauses: Pauses { initial, max },
            active: Active::default(),
            backoff: Backoff::default(),
            failed: Backoff::default(),
            unschedulable: Waiting::default(),
            gated: Waiting::default(),
            in_flight: AHashMap::new(),
            log: VecDeque::new(),
            count: 0,
        }
    }

    /// A pod that wants a node. `gate` is the plugin that keeps it out, if any.
    pub fn add(&mut self, pod: Arc<PodInfo>, gate: Option<&'static str>, now: Instant) {
        self.remove(&pod.uid);
        let queued = Queued {
            pod,
            since: now,
            attempts: 0,
            refusals: 0,
            errors: 0,
            refused_by: gate.into_iter().collect(),
            waits_for: 0,
            held: false,
            woken: false,
        };
        if gate.is_some() { self.gated.insert(queued) } else { self.active.push(queued) }
    }

    /// A waiting pod was changed, in the respects named in `changes`.
    pub fn update(
        &mut self,
        pod: Arc<PodInfo>,
        gate: Option<&'static str>,
        changes: &[Happening],
        hint: Hint<'_>,
        now: Instant,
    ) {
        if self.in_flight.contains_key(&pod.uid) {
            changes.iter().for_each(|c| self.note(c));
            return;
        }
        let uid = pod.uid.clone();
        if let Some(mut queued) = self.gated.take(&uid) {
            queued.pod = pod;
            queued.refused_by = gate.into_iter().collect();
            return if gate.is_some() { self.gated.insert(queued) } else { self.retry(queued, now) };
        }
        if let Some(mut queued) = self.active.take(&uid) {
            queued.pod = pod;
            return self.active.push(queued);
        }
        if let Some(mut queued) = self.backoff.take(&uid).or_else(|| self.failed.take(&uid)) {
            queued.pod = pod;
            return self.retry(queued, now);
        }
        let Some(mut queued) = self.unschedulable.take(&uid) else { return self.add(pod, gate, now) };
        queued.pod = pod;
        if changes.iter().any(|c| hint(&queued, c)) {
            self.wake(queued, now);
        } else {
            self.unschedulable.insert(queued);
        }
    }

    /// A pod that no longer wants a node.
    pub fn remove(&mut self, uid: &str) {
        self.active.take(uid);
        self.backoff.take(uid);
        self.failed.take(uid);
        self.unschedulable.take(uid);
        self.gated.take(uid);
        self.done(uid);
    }

    /// The pod to try next: highest priority, then longest waiting. When there is nothing else to do, the pause of a pod that was
    /// refused ends early.
    pub fn pop(&mut self, now: Instant) -> Option<Queued> {
        while let Some(queued) = self.backoff.pop_due(now).or_else(|| self.failed.pop_due(now)) {
            self.active.push(queued);
        }
        let mut next = self.active.pop().or_else(|| self.backoff.pop())?;
        next.attempts += 1;
        self.in_flight.insert(next.pod.uid.clone(), self.count);
        Some(next)
    }

    /// True now and then, for what need not be done for every pod.
    pub fn is_round(&self) -> bool {
        self.active.len().is_multiple_of(64)
    }

    /// A tried pod has a node.
    pub fn done(&mut self, uid: &str) {
        if self.in_flight.remove(uid).is_some() {
            self.trim();
        }
    }

    /// A tried pod was refused by these plugins: it waits for what could change that. None means an error: a pause only.
    pub fn refused(
        &mut self,
        mut queued: Queued,
        plugins: BTreeSet<&'static str>,
        hint: Hint<'_>,
        now: Instant,
    ) {
        // Deleted while it was tried: there is nothing to put back.
        let Some(seen) = self.in_flight.remove(&queued.pod.uid) else { return };
        queued.since = now;
        queued.refused_by = plugins;
        if queued.refused_by.is_empty() {
            queued.errors += 1;
        } else {
            queued.errors = 0;
            queued.refusals += 1;
        }
        let woken = self.log.iter().any(|(n, what)| *n > seen && hint(&queued, what));
        self.trim();
        match (queued.refused_by.is_empty(), woken) {
            (true, _) => self.retry(queued, now),
            (false, true) => self.wake(queued, now),
            (false, false) => self.unschedulable.insert(queued),
        }
    }

    /// A pod that had a node lost it by an error: it is tried again after a pause.
    pub fn failed(&mut self, mut queued: Queued, now: Instant) {
        self.remove(&queued.pod.uid);
        (queued.since, queued.errors) = (now, queued.errors + 1);
        self.retry(queued, now);
    }

    /// A held pod is to be tried as soon as it is released.
    pub fn wake_held(&mut self, uid: &str) {
        if let Some(queued) = self.unschedulable.get_mut(uid) {
            queued.woken = true;
        }
    }

    /// A held pod is held no longer.
    pub fn released(&mut self, uid: &str, now: Instant) {
        let Some(queued) = self.unschedulable.get_mut(uid) else { return };
        queued.held = false;
        if std::mem::take(&mut queued.woken)
            && let Some(queued) = self.unschedulable.take(uid)
        {
            self.retry(queued, now);
        }
    }

    /// Something happened: pods that wait for it are tried again.
    pub fn happened(&mut self, what: &Happening, hint: Hint<'_>, now: Instant) {
        self.note(what);
        if !self.unschedulable.any_waits(what.kind()) {
            return;
        }
        let bit = what.kind().bit();
        for queued in self.unschedulable.iter_mut().filter(|q| q.held && !q.woken && q.waits_for & bit != 0) {
            queued.woken = hint(queued, what);
        }
        let woken = self.unschedulable.take_if(|q| !q.held && q.waits_for & bit != 0 && hint(q, what));
        woken.into_iter().for_each(|q| self.retry(q, now));
    }

    fn note(&mut self, what: &Happening) {
        if !self.in_flight.is_empty() {
            self.count += 1;
            self.log.push_back((self.count, what.clone()));
        }
    }

    /// Forgets events that no pod being tried could have missed.
    fn trim(&mut self) {
        if self.log.is_empty() {
            return;
        }
        let oldest = self.in_flight.values().min().copied().unwrap_or(u64::MAX);
        while self.log.front().is_some_and(|(n, _)| *n <= oldest) {
            self.log.pop_front();
        }
    }

    /// Tries again what nothing woke for minutes.
    pub fn flush_forgotten(&mut self, now: Instant) {
        let old = self.unschedulable.take_if(|q| now.duration_since(q.since) > FORGOTTEN);
        old.into_iter().for_each(|q| self.retry(q, now));
    }

    /// When a pod in the pause is due; `None` if none is.
    pub fn next_due(&self) -> Option<Instant> {
        [self.backoff.next_due(), self.failed.next_due()].into_iter().flatten().min()
    }

    /// Number of pods: active, backoff, unschedulable, gated.
    pub fn lengths(&self) -> [usize; 4] {
        let pausing = self.backoff.len() + self.failed.len();
        [self.active.len(), pausing, self.unschedulable.len(), self.gated.len()]
    }

    /// What must be nothing once all is quiet: pods being tried, events kept for them, and held pods.
    #[cfg(test)]
    pub fn remains(&mut self) -> [usize; 3] {
        let held = self.unschedulable.iter_mut().filter(|q| q.held).count();
        [self.in_flight.len(), self.log.len(), held]
    }

    fn wake(&mut self, mut queued: Queued, now: Instant) {
        if queued.held {
            queued.woken = true;
            self.unschedulable.insert(queued);
        } else {
            self.retry(queued, now);
        }
    }

    fn retry(&mut self, mut queued: Queued, now: Instant) {
        queued.refused_by.clear();
        queued.held = false;
        let failures = if queued.errors > 0 { queued.errors } else { queued.refusals };
        let due = queued.since + self.pauses.after(failures);
        if due <= now {
            self.active.push(queued);
        } else if queued.errors > 0 {
            self.failed.insert(queued, due);
        } else {
            self.backoff.insert(queued, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Kind;
    use crate::testing::pod;
    use serde_json::json;

    fn queue() -> Queue {
        Queue::new(Duration::from_secs(1), Duration::from_secs(10))
    }

    fn left() -> Happening {
        Happening::left(pod("left", json!({})))
    }

    fn node() -> Happening {
        Happening::Node { kind: Kind::NodeAdded, old: None, new: Default::default() }
    }

    /// "Fit" waits for both, "Taint" only for nodes.
    fn hint(q: &Queued, what: &Happening) -> bool {
        q.refused_by.contains("Fit") || (what.kind() == Kind::NodeAdded && q.refused_by.contains("Taint"))
    }

    fn tried(q: &mut Queue, plugin: &'static str, now: Instant) {
        let mut queued = q.pop(now).unwrap();
        queued.waits_for = u32::MAX;
        q.refused(queued, [plugin].into(), &hint, now);
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
    async fn only_what_concerns_it_wakes_a_pod_and_not_before_its_pause_while_others_wait() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        tried(&mut q, "Taint", now);
        q.happened(&left(), &hint, now);
        assert_eq!(q.lengths(), [0, 0, 1, 0]);
        q.happened(&node(), &hint, now);
        assert_eq!(q.lengths(), [0, 1, 0, 0]);
        q.add(pod("other", json!({})), None, now);
        assert_eq!(q.pop(now).unwrap().pod.name, "other");
        let due = q.next_due().unwrap();
        assert_eq!(due, now + Duration::from_secs(1));
        assert_eq!(q.pop(now).unwrap().attempts, 2, "with nothing else to do its pause ends early");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_waits_its_whole_pause() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        for pause in [1, 2, 4, 8, 10, 10] {
            let begin = q.next_due().unwrap_or(now);
            let queued = q.pop(begin).unwrap();
            q.refused(queued, BTreeSet::new(), &hint, begin);
            assert!(q.pop(begin).is_none());
            assert_eq!(q.next_due(), Some(begin + Duration::from_secs(pause)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_while_it_was_tried_is_not_missed_and_then_forgotten() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        let queued = q.pop(now).unwrap();
        q.happened(&node(), &hint, now);
        q.refused(queued, ["Fit"].into(), &hint, now);
        assert_eq!(q.lengths(), [0, 1, 0, 0]);
        assert!(q.log.is_empty());
        q.happened(&node(), &hint, now);
        assert!(q.log.is_empty(), "nothing is being tried");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_held_waits_and_is_tried_if_something_woke_it() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        let mut queued = q.pop(now).unwrap();
        (queued.held, queued.waits_for) = (true, u32::MAX);
        q.refused(queued, ["Fit"].into(), &hint, now);
        q.happened(&left(), &hint, now);
        assert!(q.pop(now).is_none());
        q.released("uid-p", now);
        assert_eq!(q.pop(now).unwrap().pod.name, "p");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_deleted_while_it_was_tried_does_not_come_back() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), None, now);
        let queued = q.pop(now).unwrap();
        q.remove(&queued.pod.uid);
        q.refused(queued, ["Fit"].into(), &hint, now);
        assert_eq!(q.lengths(), [0, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn gates_keep_out_until_they_are_gone() {
        let mut q = queue();
        let now = Instant::now();
        q.add(pod("p", json!({})), Some("SchedulingGates"), now);
        assert!(q.pop(now).is_none());
        q.update(pod("p", json!({})), None, &[], &hint, now);
        assert!(q.pop(now).is_some());
    }
}
