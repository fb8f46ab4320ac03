//! How long a node is left alone after its pod failed: each failure soon after another doubles the wait.

use std::time::Duration;

use ahash::AHashMap;
use control::Key;
use jiff::Timestamp;

use crate::kit::meta::until;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// A set by name and UID, the generation its pods are of, and the node.
pub type Place = (Key, String, i64, String);

/// Waits by place.
#[derive(Default)]
pub struct Backoff {
    entries: AHashMap<Place, (Duration, Timestamp)>,
}

impl Backoff {
    /// How much longer a place is left alone; nothing if it need not be.
    pub fn left(&self, place: &Place, now: Timestamp) -> Option<Duration> {
        let (wait, since) = self.entries.get(place)?;
        let left = until(since.checked_add(*wait).ok()?, now);
        (!left.is_zero()).then_some(left)
    }

    /// A failed pod is being cleared away there.
    pub fn failed(&mut self, place: Place, now: Timestamp) {
        let wait = match self.entries.get(&place) {
            Some((wait, since)) if !is_old(*since, now) => (*wait * 2).min(LONGEST),
            _ => FIRST,
        };
        self.entries.insert(place, (wait, now));
    }

    /// Drops what is so long ago that it no longer counts.
    pub fn clean(&mut self, now: Timestamp) {
        self.entries.retain(|_, (_, since)| !is_old(*since, now));
    }
}

fn is_old(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since).unsigned_abs() > LONGEST * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use jiff::SignedDuration;

    #[test]
    fn waits_double_and_are_forgotten() {
        let (mut backoff, mut at) = (Backoff::default(), now());
        let place = || (Key::new("ns", "d"), "u".to_string(), 1, "n".to_string());
        assert_eq!(backoff.left(&place(), at), None);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            backoff.failed(place(), at);
            assert_eq!(backoff.left(&place(), at), Some(Duration::from_secs(seconds)));
            at += SignedDuration::from_secs(seconds as i64);
            assert_eq!(backoff.left(&place(), at), None);
        }
        at += SignedDuration::from_secs(1801);
        backoff.clean(at);
        assert!(backoff.entries.is_empty());
        backoff.failed(place(), at);
        assert_eq!(backoff.left(&place(), at), Some(FIRST));
    }
}
