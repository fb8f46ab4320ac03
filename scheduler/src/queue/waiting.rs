//! Pods that wait for something to happen.

use std::collections::HashMap;

use super::Queued;

/// Pods by uid.
#[derive(Debug, Default)]
pub struct Waiting {
    pods: HashMap<String, Queued>,
}

impl Waiting {
    /// Keeps a pod.
    pub fn insert(&mut self, queued: Queued) {
        self.pods.insert(queued.pod.uid.clone(), queued);
    }

    /// Takes one out.
    pub fn take(&mut self, uid: &str) -> Option<Queued> {
        self.pods.remove(uid)
    }

    /// Takes out all that `wanted` says.
    pub fn take_if(&mut self, wanted: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let uids: Vec<String> = self.pods.values().filter(|q| wanted(q)).map(|q| q.pod.uid.clone()).collect();
        uids.iter().filter_map(|uid| self.pods.remove(uid)).collect()
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
