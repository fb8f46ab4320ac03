//! The kubelet's certificates: its identity towards the API server (bootstrap and rotation) and the one it serves with.
//!
//! [`request`] makes and submits certificate signing requests, [`store`] keeps pairs on disk, [`kubeconfig`] refers to
//! them, [`client`] and [`serving`] decide when.

pub mod client;
mod kubeconfig;
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

/// When to renew a pair that came into our hands at `obtained`. Signers date certificates back, which would use up
/// most of a life of minutes; so life counts from the day we had it. Never within seconds, or a certificate that is
/// issued all but expired would be asked for without end.
pub fn renewal(
    (not_before, not_after): (Timestamp, Timestamp),
    obtained: Option<Timestamp>,
    random: f64,
    now: Timestamp,
) -> Timestamp {
    const PAUSE: Duration = Duration::from_secs(5);
    let from = obtained.filter(|at| *at > not_before && *at < not_after).unwrap_or(not_before);
    renew_at(from, not_after, random).max(now.checked_add(PAUSE).unwrap_or(now))
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

    #[test]
    fn a_short_life_counts_from_the_day_the_pair_was_had() {
        let t = |s| Timestamp::from_second(s).unwrap();
        let backdated = (t(700), t(1120));
        assert_eq!(renewal(backdated, Some(t(1000)), 0.0, t(1000)), t(1084));
        assert_eq!(renewal(backdated, None, 0.5, t(1000)), t(1036));
        // a clock that was set back, and a life that is over
        assert_eq!(renewal(backdated, Some(t(5000)), 0.5, t(1000)), t(1036));
        assert_eq!(renewal(backdated, Some(t(1000)), 0.0, t(2000)), t(2005));
    }
}
