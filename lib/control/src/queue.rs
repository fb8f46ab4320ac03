//! A work queue of keys: each key is held once however often it is added, and is never worked on twice at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::{delay, jitter};

/// A shared handle to a queue. Its size is bounded by the number of distinct keys, that is by the objects there are.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<K> {
    base: Duration,
    max: Duration,
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that are in `ready`, or are to return there when done.
    dirty: AHashSet<K>,
    working: AHashSet<K>,
    failures: AHashMap<K, u32>,
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The earliest time each delayed key is due; an entry of `later` that disagrees is stale.
    due: AHashMap<K, (Instant, u64)>,
    tickets: AHashMap<u64, K>,
    ticket: u64,
    closed: bool,
    adds: u64,
    retries: u64,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Retries after 5 ms doubling to 1000 s, as client-go's default.
    pub fn new() -> Self {
        Self::with_backoff(Duration::from_millis(5), Duration::from_secs(1000))
    }

    /// Retries after `base` doubling to `max`.
    pub fn with_backoff(base: Duration, max: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: AHashSet::new(),
            working: AHashSet::new(),
            failures: AHashMap::new(),
            later: BinaryHeap::new(),
            due: AHashMap::new(),
            tickets: AHashMap::new(),
            ticket: 0,
            closed: false,
            adds: 0,
            retries: 0,
        };
        Self { inner: Arc::new(Inner { base, max, state: Mutex::new(state), wake: Notify::new() }) }
    }

    /// Adds a key unless it waits already. If it is being worked on it comes back when done.
    pub fn add(&self, key: K) {
        if self.inner.state.lock().add(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Adds a key after a wait. An earlier time already set for it stands.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        self.inner.state.lock().add_at(key, Instant::now() + wait);
        self.inner.wake.notify_one();
    }

    /// Adds a key after its own backoff, which grows with each call until [`Queue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let step = {
            let mut state = self.inner.state.lock();
            state.retries += 1;
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures - 1
        };
        self.add_after(key, jitter(delay(self.inner.base, self.inner.max, step)));
    }

    /// Resets a key's backoff.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often the key was added rate limited since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key, when there is one; `None` once the queue is closed. [`Queue::done`] must follow.
    pub async fn get(&self) -> Option<K> {
        loop {
            let woken = self.inner.wake.notified();
            let next = {
                let mut state = self.inner.state.lock();
                if state.closed {
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.inner.wake.notify_one();
                    }
                    return Some(key);
                }
                state.next_due()
            };
            match next {
                Some(at) => tokio::select! { () = woken => {}, () = tokio::time::sleep_until(at) => {} },
                None => woken.await,
            }
        }
    }

    /// Says that the key is no longer worked on.
    pub fn done(&self, key: &K) {
        if self.inner.state.lock().done(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Ends the queue: every `get` returns `None`.
    pub fn close(&self) {
        self.inner.state.lock().closed = true;
        self.inner.wake.notify_waiters();
        self.inner.wake.notify_one();
    }

    /// Keys ready to be taken.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// Whether nothing is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds and retries so far, for metrics.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.inner.state.lock();
        (state.adds, state.retries)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        self.adds += 1;
        if self.working.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some((earlier, ticket)) = self.due.get(&key).copied() {
            if earlier <= at {
                return;
            }
            self.tickets.remove(&ticket);
        }
        self.ticket += 1;
        self.later.push(Reverse((at, self.ticket)));
        self.due.insert(key.clone(), (at, self.ticket));
        self.tickets.insert(self.ticket, key);
    }

    /// Moves what is due to the ready keys.
    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((at, ticket))) = self.later.peek().copied() {
            let live = self.tickets.contains_key(&ticket);
            if live && at > now {
                return;
            }
            self.later.pop();
            if let Some(key) = self.tickets.remove(&ticket) {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse((at, _))| *at)
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: &K) -> bool {
        self.working.remove(key);
        let again = self.dirty.contains(key);
        if again {
            self.ready.push_back(key.clone());
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn now(queue: &Queue<u32>) -> Option<u32> {
        tokio::time::timeout(Duration::from_millis(1), queue.get()).await.ok().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_returns_if_added_while_worked_on() {
        let queue = Queue::new();
        queue.add(1);
        queue.add(1);
        assert_eq!((now(&queue).await, now(&queue).await), (Some(1), None));
        queue.add(1);
        assert_eq!(now(&queue).await, None);
        queue.done(&1);
        assert_eq!(now(&queue).await, Some(1));
        queue.done(&1);
        assert_eq!(now(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_wins() {
        let queue = Queue::new();
        queue.add_after(1, Duration::from_secs(60));
        queue.add_after(1, Duration::from_secs(10));
        queue.add_after(1, Duration::from_secs(30));
        let start = Instant::now();
        assert_eq!(queue.get().await, Some(1));
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&1);
        let rest = tokio::time::timeout(Duration::from_secs(120), queue.get()).await;
        assert!(rest.is_err(), "the other times must not fire");
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_grows_until_forgotten() {
        let queue = Queue::with_backoff(Duration::from_secs(1), Duration::from_secs(60));
        let mut waits = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.add_rate_limited(1);
            assert_eq!(queue.get().await, Some(1));
            queue.done(&1);
            waits.push(start.elapsed().as_secs_f64());
        }
        for (wait, least) in waits.iter().zip([1.0, 2.0, 4.0, 8.0]) {
            assert!(*wait >= least && *wait <= least * 1.26, "{waits:?}");
        }
        queue.forget(&1);
        assert_eq!(queue.failures(&1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_all_waiters() {
        let queue: Queue<u32> = Queue::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let q = queue.clone();
                    async move { q.get().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiter_gets_its_share() {
        let queue: Queue<u32> = Queue::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let q = queue.clone();
                    async move { q.get().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..3).for_each(|k| queue.add(k));
        let mut got = Vec::new();
        for waiter in waiters {
            got.push(waiter.await.unwrap().unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    }
}
