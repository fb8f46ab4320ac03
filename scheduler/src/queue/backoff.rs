//! Pods to be tried after a pause that doubles with every attempt.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::Queued;

/// Pods by the moment they are due.
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    order: BTreeMap<(Instant, u64), Queued>,
    places: HashMap<String, (Instant, u64)>,
    counter: u64,
}

impl Backoff {
    /// The first pause and the longest.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, order: BTreeMap::new(), places: HashMap::new(), counter: 0 }
    }

    /// When the pause of a pod that was tried ends; `None` for one that never was.
    pub fn due(&self, queued: &Queued) -> Option<Instant> {
        let doublings = queued.attempts.checked_sub(1)?.min(16);
        Some(queued.since + (self.initial * 2u32.pow(doublings)).min(self.max))
    }

    /// Keeps a pod until `due`.
    pub fn insert(&mut self, queued: Queued, due: Instant) {
        self.counter += 1;
        let place = (due, self.counter);
        self.places.insert(queued.pod.uid.clone(), place);
        self.order.insert(place, queued);
    }

    /// The next one whose pause is over.
    pub fn pop_due(&mut self, now: Instant) -> Option<Queued> {
        let entry = self.order.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let queued = entry.remove();
        self.places.remove(&queued.pod.uid);
        Some(queued)
    }

    /// Takes one out.
    pub fn take(&mut self, uid: &str) -> Option<Queued> {
        self.order.remove(&self.places.remove(uid)?)
    }

    /// When the next is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.order.keys().next().map(|(due, _)| *due)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
