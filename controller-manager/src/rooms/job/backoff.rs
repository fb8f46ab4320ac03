//! How long to wait before pods that failed are replaced.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::pods::finish_time;
use crate::kit::meta::until;

const BASE: i64 = 10;
const LONGEST: i64 = 600;

/// Failures since the last success, and when the last of them was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub failures: i32,
    pub last: Option<Timestamp>,
}

impl Record {
    /// The record after pods that have newly ended.
    pub fn after(self, succeeded: &[&Pod], failed: &[&Pod]) -> Self {
        let mut ends: Vec<Timestamp> = failed.iter().map(|p| finish_time(p)).collect();
        let success = succeeded.iter().map(|p| finish_time(p)).max();
        ends.retain(|end| success.is_none_or(|s| *end > s));
        let before = if success.is_some() { Self::default() } else { self };
        Self {
            failures: before.failures.saturating_add(ends.len() as i32),
            last: ends.into_iter().max().or(before.last),
        }
    }

    /// The time left before a new pod may be made.
    pub fn wait(&self, now: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| remaining(self.failures, last, now))
    }
}

/// What is left of 10 s, doubled with each further failure up to 10 min, since `last`.
pub fn remaining(failures: i32, last: Timestamp, now: Timestamp) -> Duration {
    if failures <= 0 {
        return Duration::ZERO;
    }
    let pause = (BASE << (failures - 1).min(10)).min(LONGEST);
    last.checked_add(SignedDuration::from_secs(pause)).map_or(Duration::ZERO, |at| until(at, now))
}
