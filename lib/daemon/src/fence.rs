//! What keeps a former leader from writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Never led, or does not stand for election: nothing is held back.
const FREE: u64 = u64::MAX;

/// Until when this process may write as the leader.
///
/// A process that was stopped for a while, or got no processor, wakes with work in its hands and only then learns that
/// another has taken over. Clients made with a fence ask it before each request that changes something.
#[derive(Clone)]
pub struct Fence(Arc<Inner>);

struct Inner {
    base: Instant,
    /// Nanoseconds since `base`.
    until: AtomicU64,
}

impl Default for Fence {
    fn default() -> Self {
        Self(Arc::new(Inner { base: Instant::now(), until: AtomicU64::new(FREE) }))
    }
}

impl Fence {
    /// The lease was held when `renewed` was, and others let it be for `lease`.
    pub fn renewed(&self, renewed: Instant, lease: Duration) {
        let until = (renewed + lease).saturating_duration_since(self.0.base);
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(FREE - 1).min(FREE - 1);
        self.0.until.store(nanos, Ordering::Release);
    }

    /// The lease is lost.
    pub fn close(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// Whether writing is safe now.
    pub fn is_open(&self) -> bool {
        let until = self.0.until.load(Ordering::Acquire);
        until == FREE || self.0.base.elapsed().as_nanos() < u128::from(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_writes_until_its_lease_is_over() {
        let fence = Fence::default();
        let seen = fence.clone();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(seen.is_open(), "who does not stand for election is free");
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        fence.renewed(asked, Duration::from_secs(15));
        tokio::time::advance(Duration::from_secs(12)).await;
        assert!(seen.is_open());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!seen.is_open(), "counted from when the renewal was sent");
        fence.renewed(Instant::now(), Duration::from_secs(15));
        assert!(seen.is_open());
        fence.close();
        assert!(!seen.is_open());
    }
}
