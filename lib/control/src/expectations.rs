//! Own writes the cache has not shown yet.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Expectations older than this count as met: a lost event must not stop a controller for ever.
const EXPIRY: Duration = Duration::from_secs(300);

/// Per owner, how many creations and which deletions were asked for and not yet seen.
pub struct Expectations<K> {
    entries: Mutex<AHashMap<K, Entry>>,
}

struct Entry {
    creates: i64,
    deletes: HashSet<String>,
    made: Instant,
}

impl<K: Eq + Hash + Clone> Default for Expectations<K> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Expectations<K> {
    /// Nothing expected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Before sending: `creates` objects will appear and `deletes` (each named uniquely) will go.
    pub fn expect(&self, key: &K, creates: usize, deletes: impl IntoIterator<Item = String>) {
        let entry =
            Entry { creates: creates as i64, deletes: deletes.into_iter().collect(), made: Instant::now() };
        self.entries.lock().insert(key.clone(), entry);
    }

    /// A creation was seen, or will never come because its request failed.
    pub fn created(&self, key: &K) {
        self.created_many(key, 1);
    }

    /// As [`Expectations::created`], for several.
    pub fn created_many(&self, key: &K, n: usize) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.creates -= n as i64;
        }
    }

    /// A deletion (or its beginning) was seen, or its request failed. Counts once however often it is told.
    pub fn deleted(&self, key: &K, name: &str) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.deletes.remove(name);
        }
    }

    /// Whether everything asked for has been seen (or was asked for too long ago).
    pub fn satisfied(&self, key: &K) -> bool {
        let entries = self.entries.lock();
        let Some(entry) = entries.get(key) else { return true };
        (entry.creates <= 0 && entry.deletes.is_empty()) || entry.made.elapsed() > EXPIRY
    }

    /// The owner is gone.
    pub fn forget(&self, key: &K) {
        self.entries.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn met_when_all_are_seen() {
        let e = Expectations::new();
        assert!(e.satisfied(&"rs"));
        e.expect(&"rs", 2, ["a".to_string()]);
        e.created(&"rs");
        e.deleted(&"rs", "a");
        e.deleted(&"rs", "a");
        assert!(!e.satisfied(&"rs"));
        e.created(&"rs");
        assert!(e.satisfied(&"rs"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_event_does_not_block_for_ever() {
        let e = Expectations::new();
        e.expect(&"rs", 1, []);
        tokio::time::advance(Duration::from_secs(299)).await;
        assert!(!e.satisfied(&"rs"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(e.satisfied(&"rs"));
    }
}
