//! Exponential backoff with jitter.

use std::time::Duration;

use rand::Rng;

/// A growing wait: `base`, doubled on each step up to `max`, each made up to a quarter longer at random so that
/// many waiters do not return together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    step: u32,
}

impl Backoff {
    /// Starts at `base` and never exceeds `max` (before jitter).
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, step: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = delay(self.base, self.max, self.step);
        self.step = self.step.saturating_add(1);
        jitter(wait)
    }

    /// Back to the beginning, after a success.
    pub fn reset(&mut self) {
        self.step = 0;
    }
}

/// `base * 2^step`, at most `max`, without jitter.
pub fn delay(base: Duration, max: Duration, step: u32) -> Duration {
    1u32.checked_shl(step).and_then(|factor| base.checked_mul(factor)).map_or(max, |d| d.min(max))
}

/// `wait`, up to a quarter longer.
pub fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + rand::rng().random_range(0.0..0.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_stops_at_the_limit() {
        let ms = Duration::from_millis;
        let waits: Vec<_> = (0..6).map(|s| delay(ms(5), ms(100), s)).collect();
        assert_eq!(waits, [ms(5), ms(10), ms(20), ms(40), ms(80), ms(100)]);
        assert_eq!(delay(ms(5), ms(100), 4_000_000), ms(100));
    }
}
