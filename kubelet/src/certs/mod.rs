//! The kubelet's certificates: its identity towards the API server (bootstrap and rotation) and the one it serves with.
//!
//! [`request`] makes and submits certificate signing requests, [`store`] keeps pairs on disk, [`client`] and
//! [`serving`] decide when.

pub mod client;
pub mod request;
pub mod serving;
pub mod store;

use jiff::Timestamp;
use std::time::Duration;

/// User and common name of a node.
pub fn node_user(node: &str) -> String {
    format!("system:node:{node}")
}

/// Group and organisation of nodes.
pub const NODES_GROUP: &str = "system:nodes";

/// When to renew: at 70 to 90 percent of the life; `random` in 0..1 spreads a fleet.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, random: f64) -> Timestamp {
    let life = not_after.as_second().saturating_sub(not_before.as_second());
    let share = life as f64 * (0.7 + 0.2 * random);
    not_before.checked_add(Duration::from_secs_f64(share.max(0.0))).unwrap_or(not_after)
}

/// Sleeps until a time, in steps, because the wall clock may be set meanwhile.
pub async fn sleep_until(when: Timestamp) {
    const STEP: Duration = Duration::from_secs(600);
    loop {
        let left = when.as_second().saturating_sub(Timestamp::now().as_second());
        if left <= 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left.unsigned_abs()).min(STEP)).await;
    }
}

/// Waits between failed attempts: 0.2 s doubling to 102 s, with jitter. The first are short, as a new cluster's API server
/// and its roles are often there a moment later.
pub fn backoff(attempt: u32) -> Duration {
    let base = Duration::from_millis(200 << attempt.min(9));
    base.mul_f64(rand::random_range(1.0..1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_falls_into_the_last_third() {
        let t = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(renew_at(t(0), t(1000), 0.0), t(700));
        assert_eq!(renew_at(t(0), t(1000), 1.0), t(900));
        assert_eq!(renew_at(t(1000), t(0), 0.5), t(1000));
    }
}
