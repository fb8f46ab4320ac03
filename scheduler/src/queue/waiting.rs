//! Pods that wait for something to happen.

use ahash::AHashMap;

use super::Queued;
use crate::framework::Kind;

/// Pods by uid.
#[derive(Debug, Default)]
pub struct Waiting {
    pods: AHashMap<String, Queued>,
    /// How many pods wait for each kind of event, by the number of its bit.
    waits: [usize; 32],
}

impl Waiting {
    /// Keeps a pod.
    pub fn insert(&mut self, queued: Queued) {
        self.take(&queued.pod.uid);
        self.count(queued.waits_for, 1);
        self.pods.insert(queued.pod.uid.clone(), queued);
    }

    fn count(&mut self, bits: u32, change: isize) {
        for (bit, count) in self.waits.iter_mut().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1) {
            debug_assert!(bit < 32);
            *count = count.saturating_add_signed(change);
        }
    }

    /// Whether any pod waits for this kind of event.
    pub fn any_waits(&self, kind: Kind) -> bool {
        self.waits[kind as usize] > 0
    }

    /// Takes one out.
    pub fn take(&mut self, uid: &str) -> Option<Queued> {
        let queued = self.pods.remove(uid)?;
        self.count(queued.waits_for, -1);
        Some(queued)
    }

    /// One of them.
    pub fn get_mut(&mut self, uid: &str) -> Option<&mut Queued> {
        self.pods.get_mut(uid)
    }

    /// Takes out all that `wanted` says.
    pub fn take_if(&mut self, wanted: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        if self.pods.is_empty() {
            return Vec::new();
        }
        let found = self.pods.values().filter(|q| wanted(q)).map(|q| (q.since, q.pod.uid.clone()));
        let mut uids: Vec<_> = found.collect();
        // The order of the map is by chance; theirs is that of their coming.
        uids.sort_unstable();
        uids.iter().filter_map(|(_, uid)| self.take(uid)).collect()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.pods.values_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}
