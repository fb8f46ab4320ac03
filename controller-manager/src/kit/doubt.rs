//! Writes of pods (or of what else an owner has) whose answer was lost: they may have happened or not, and a plan over a cache that does not show it
//! yet could do another on top. Before the next look each such pod is read live and compared with the cache.

use std::hash::Hash;

use ahash::AHashMap;
use control::{Cache, Expectations, Namespaced};
use kube::api::Api;
use parking_lot::Mutex;

use super::Context;
use super::write::Failure;

/// Names of doubtful pods per owner.
pub struct Doubts<K> {
    /// Each with whether it was to be made.
    pods: Mutex<AHashMap<K, AHashMap<String, bool>>>,
}

impl<K: Hash + Eq + Clone> Default for Doubts<K> {
    fn default() -> Self {
        Self { pods: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone> Doubts<K> {
    /// A write of a pod failed; remembers the pod if the failure does not say that nothing was done.
    pub fn failed(&self, key: &K, pod: &str, failure: &Failure) {
        if !failure.is_definite() {
            self.pods.lock().entry(key.clone()).or_default().insert(pod.into(), false);
        }
    }

    /// A pod could not be made, as far as is known. If that is sure it is expected no more; else that is decided when it
    /// has been asked for: its event may still come.
    pub fn unmade(&self, key: &K, pod: &str, failure: &Failure, expected: &Expectations<K>) {
        if failure.is_definite() {
            return expected.created(key);
        }
        self.pods.lock().entry(key.clone()).or_default().insert(pod.into(), true);
    }

    /// Nobody asks about an owner's pods any more.
    pub fn forget(&self, key: &K) {
        self.pods.lock().remove(key);
    }

    fn of(&self, key: &K) -> Vec<(String, bool)> {
        let pods = self.pods.lock();
        pods.get(key).into_iter().flatten().map(|(name, made)| (name.clone(), *made)).collect()
    }

    /// Whether the cache shows what became of all doubtful writes. Those that it shows are forgotten.
    ///
    /// # Errors
    /// A pod could not be read.
    pub async fn settled<T: Namespaced>(
        &self,
        context: &Context,
        cache: &Cache<T>,
        namespace: &str,
        key: &K,
        expected: Option<&Expectations<K>>,
    ) -> anyhow::Result<bool> {
        let api: Api<T> = Api::namespaced(context.writer.client(), namespace);
        for (name, made) in self.of(key) {
            let live = api.get_opt(&name).await?.and_then(|p| p.meta().resource_version.clone());
            let shown = cache.get(namespace, &name).and_then(|p| p.meta().resource_version.clone());
            if live != shown {
                return Ok(false);
            }
            if let Some(pods) = self.pods.lock().get_mut(key) {
                pods.remove(&name);
            }
            if let Some(expected) = expected.filter(|_| made && live.is_none()) {
                expected.created(key);
            }
        }
        self.pods.lock().remove(key);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lost_answers_are_doubtful() {
        let doubts = Doubts::default();
        for (code, doubtful) in
            [(0, true), (504, true), (500, true), (409, false), (422, false), (429, false)]
        {
            let name = format!("p{code}");
            doubts.failed(&"s", &name, &Failure::of_code(code));
            assert_eq!(doubts.of(&"s").contains(&(name, false)), doubtful, "{code}");
        }
        assert!(doubts.of(&"t").is_empty());
    }
}
