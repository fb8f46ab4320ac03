//! CPU rates from two readings of a counter.

use super::sample::{Cpu, Sample};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Two readings nearer than this give no good rate (nanoseconds).
const NEAR: i64 = 1_000_000_000;

/// What was read before, by container id, pod UID or "/" for the node.
#[derive(Default)]
pub struct Rates {
    seen: Mutex<HashMap<String, Seen>>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    time: i64,
    total: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Fills in missing rates and forgets what is gone.
    pub fn apply(&self, sample: &mut Sample) {
        let mut old = self.seen.lock();
        let mut new = HashMap::new();
        one("/", &mut sample.node.cpu, &old, &mut new);
        for pod in &mut sample.pods {
            if let Some(cpu) = &mut pod.cpu {
                one(&pod.uid, cpu, &old, &mut new);
            }
            for container in &mut pod.containers {
                if let Some(cpu) = &mut container.cpu {
                    one(&container.id, cpu, &old, &mut new);
                }
            }
        }
        *old = new;
    }
}

fn one(key: &str, cpu: &mut Cpu, old: &HashMap<String, Seen>, new: &mut HashMap<String, Seen>) {
    let seen = next(old.get(key).copied(), cpu);
    cpu.rate = cpu.rate.or(seen.rate);
    new.insert(key.to_owned(), seen);
}

/// A reading too near the last one keeps that one's rate and time base.
fn next(old: Option<Seen>, cpu: &Cpu) -> Seen {
    let Some(old) = old else { return Seen { time: cpu.time, total: cpu.total, rate: None } };
    let passed = cpu.time - old.time;
    if passed < NEAR || cpu.total < old.total {
        return if cpu.total < old.total {
            Seen { time: cpu.time, total: cpu.total, rate: None }
        } else {
            old
        };
    }
    let rate = u128::from(cpu.total - old.total) * 1_000_000_000 / passed as u128;
    Seen { time: cpu.time, total: cpu.total, rate: u64::try_from(rate).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_need_two_readings_apart() {
        let cpu = |time: i64, total| Cpu { time: time * 1_000_000_000, total, rate: None };
        let first = next(None, &cpu(10, 100));
        assert_eq!(first.rate, None);
        let second = next(Some(first), &cpu(12, 2_000_000_100));
        assert_eq!(second.rate, Some(1_000_000_000));
        assert_eq!(next(Some(second), &cpu(12, 2_500_000_000)).rate, Some(1_000_000_000));
        assert_eq!(next(Some(second), &cpu(20, 5)).rate, None);
    }
}
