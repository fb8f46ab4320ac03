//! Own writes and the caches that have not shown them yet.

use std::hash::Hash;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::write::Answer;

/// After this long a write counts as seen: its event may have been lost with the object.
const PATIENCE: Duration = Duration::from_secs(30);

/// Per key, the newest resource version written.
pub struct Seen<K> {
    entries: Mutex<AHashMap<K, (u64, Instant)>>,
}

impl<K: Hash + Eq> Default for Seen<K> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Hash + Eq> Seen<K> {
    /// Remembers a write's answer.
    pub fn wrote(&self, key: K, answer: &Answer) {
        let version = answer.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        let Some(version) = version else { return };
        let mut entries = self.entries.lock();
        let entry = entries.entry(key).or_insert((0, Instant::now()));
        *entry = (entry.0.max(version), Instant::now());
    }

    /// Whether a cache that has seen `version` still lacks something written for `key`.
    pub fn behind(&self, key: &K, version: u64) -> bool {
        let mut entries = self.entries.lock();
        let Some((wanted, at)) = entries.get(key) else { return false };
        if *wanted > version && at.elapsed() < PATIENCE {
            return true;
        }
        entries.remove(key);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: &str) -> Answer {
        let mut answer = Answer::default();
        answer.metadata.resource_version = Some(version.into());
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn behind_until_shown_or_given_up() {
        let seen = Seen::default();
        assert!(!seen.behind(&"a", 1));
        seen.wrote("a", &answer("10"));
        seen.wrote("a", &answer("9"));
        assert!(seen.behind(&"a", 9));
        assert!(!seen.behind(&"a", 10));
        seen.wrote("a", &answer("20"));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(!seen.behind(&"a", 15));
    }
}
