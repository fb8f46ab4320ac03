//! The time of day of a simulation, per thread.

use std::cell::Cell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

thread_local! {
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp::UNIX_EPOCH) };
    static SKEW: Cell<SignedDuration> = const { Cell::new(SignedDuration::ZERO) };
}

/// A history begins.
pub fn reset() {
    NOW.set(super::now());
    SKEW.set(SignedDuration::ZERO);
}

/// The true time.
pub fn truth() -> Timestamp {
    NOW.get()
}

/// The time as the process at work believes it is.
pub fn now() -> Timestamp {
    NOW.get() + SKEW.get()
}

/// From here on a process is at work whose clock is so far off.
pub fn skew(off: SignedDuration) {
    SKEW.set(off);
}

/// The time of day moves on, and nothing else.
pub fn jump(by: Duration) {
    NOW.set(NOW.get() + SignedDuration::try_from(by).unwrap());
}

/// Time passes: of day and on timers.
pub async fn pass(by: Duration) {
    jump(by);
    tokio::time::advance(by).await;
}
