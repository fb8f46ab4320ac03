//! How long a watch that failed waits before it tries again.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use rand::Rng;

const FIRST: Duration = Duration::from_millis(200);
/// Short, because a node's daemons ask a balancer of their own: what answers again is to be found soon, and what does not
/// costs little.
const LAST: Duration = Duration::from_secs(5);

/// Waits that double from a fifth of a second to five seconds, each up to half as long again.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    tries: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = FIRST.saturating_mul(1 << self.tries.min(10)).min(LAST);
        self.tries = self.tries.saturating_add(1);
        Some(wait.mul_f64(rand::rng().random_range(1.0..1.5)))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut patience = Patience::default();
        let waits: Vec<Duration> = patience.by_ref().take(40).collect();
        assert!(waits[0] < FIRST * 2 && waits[39] >= LAST && waits[39] < LAST * 3 / 2);
        patience.reset();
        assert!(patience.next().is_some_and(|w| w < FIRST * 2));
    }
}
