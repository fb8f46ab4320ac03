//! Pods to be tried after a pause that doubles with every failure.

use std::collections::BTreeMap;
use std::time::Duration;

use ahash::AHashMap;
use tokio::time::Instant;

use super::Queued;

/// The first pause and the longest.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// After the first failure.
    pub initial: Duration,
    /// After many.
    pub max: Duration,
}

impl Pauses {
    /// The pause after so many failures; none after none.
    pub fn after(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => (self.initial * 2u32.pow(doublings.min(16))).min(self.max),
        }
    }
}

/// Pods by the moment they are due.
#[derive(Debug, Default)]
pub struct Backoff {
    order: BTreeMap<(Instant, u64), Queued>,
    places: AHashMap<String, (Instant, u64)>,
    counter: u64,
}

impl Backoff {
    /// Keeps a pod until `due`.
    pub fn insert(&mut self, queued: Queued, due: Instant) {
        self.counter += 1;
        let place = (due, self.counter);
        self.places.insert(queued.pod.uid.clone(), place);
        self.order.insert(place, queued);
    }

    /// The next one whose pause is over.
    pub fn pop_due(&mut self, now: Instant) -> Option<Queued> {
        if self.next_due()? > now {
            return None;
        }
        self.pop()
    }

    /// The next one, though its pause is not over.
    pub fn pop(&mut self) -> Option<Queued> {
        let (_, queued) = self.order.pop_first()?;
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
