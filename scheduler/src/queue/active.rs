//! Pods to be tried now, in the order of PrioritySort: higher priority first, then longer waiting.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ahash::AHashMap;
use tokio::time::Instant;

use super::Queued;

type Place = (Reverse<i32>, Instant, u64);

/// A sorted queue from which any pod can be taken.
#[derive(Debug, Default)]
pub struct Active {
    order: BTreeMap<Place, Queued>,
    places: AHashMap<String, Place>,
    counter: u64,
}

impl Active {
    /// Puts a pod in its place.
    pub fn push(&mut self, queued: Queued) {
        self.take(&queued.pod.uid);
        self.counter += 1;
        let place = (Reverse(queued.pod.priority), queued.since, self.counter);
        self.places.insert(queued.pod.uid.clone(), place);
        self.order.insert(place, queued);
    }

    /// The first.
    pub fn pop(&mut self) -> Option<Queued> {
        let (_, queued) = self.order.pop_first()?;
        self.places.remove(&queued.pod.uid);
        Some(queued)
    }

    /// Takes one out.
    pub fn take(&mut self, uid: &str) -> Option<Queued> {
        self.order.remove(&self.places.remove(uid)?)
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
