//! Doubling back-off per key with injected time: restarts of containers and pulls of images.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Delays by key. A key that was quiet for twice the longest delay begins anew.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: Instant,
    event: Instant,
}

impl Backoff {
    /// Delays from `first`, doubling to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, entries: HashMap::new() }
    }

    fn expired(&self, e: &Entry, event: Instant) -> bool {
        event.saturating_duration_since(e.updated) > self.max * 2
    }

    /// Time still to wait at `now` when the last failure was the one recorded by `next`.
    pub fn waiting(&self, key: &str, now: Instant) -> Option<Duration> {
        let e = self.entries.get(key)?;
        self.waiting_since(key, e.event, now)
    }

    /// Time still to wait at `now` for a failure at `event`; None when it may be tried again.
    pub fn waiting_since(&self, key: &str, event: Instant, now: Instant) -> Option<Duration> {
        let e = self.entries.get(key)?;
        if self.expired(e, event) {
            return None;
        }
        e.delay.checked_sub(now.saturating_duration_since(event)).filter(|d| !d.is_zero())
    }

    /// A try was made because of a failure at `event`: sets the delay before the next.
    pub fn next(&mut self, key: &str, event: Instant) {
        self.next_at(key, event, event);
    }

    /// As `next`, with the time of the try apart from that of the failure.
    pub fn next_at(&mut self, key: &str, event: Instant, now: Instant) {
        let delay = match self.entries.get(key) {
            Some(e) if !self.expired(e, event) => (e.delay * 2).min(self.max),
            _ => self.first.min(self.max),
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now, event });
    }

    /// Delay in force for a key.
    pub fn delay(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |e| e.delay)
    }

    /// Forgets a key.
    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Drops entries that would begin anew anyway.
    pub fn collect(&mut self, now: Instant) {
        let limit = self.max * 2;
        self.entries.retain(|_, e| now.saturating_duration_since(e.updated) <= limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_loop_as_upstream() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut b = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
        // first crash: at once
        assert_eq!(b.waiting_since("c", at(0), at(0)), None);
        b.next_at("c", at(0), at(0));
        // then 10, 20, 40 ... 300
        let mut now = 1;
        for want in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(b.waiting_since("c", at(now), at(now)), Some(Duration::from_secs(want)));
            assert_eq!(b.delay("c"), Duration::from_secs(want));
            now += want;
            assert_eq!(b.waiting_since("c", at(now - want), at(now)), None);
            b.next_at("c", at(now - want), at(now));
            now += 1;
        }
        // ten quiet minutes later it is new
        assert_eq!(b.waiting_since("c", at(now + 601), at(now + 601)), None);
        b.next_at("c", at(now + 601), at(now + 601));
        assert_eq!(b.delay("c"), Duration::from_secs(10));
        b.collect(at(now + 10_000));
        assert_eq!(b.delay("c"), Duration::ZERO);
    }
}
