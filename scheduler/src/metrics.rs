//! The scheduler's metrics, under upstream's names.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use daemon::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Labels of an attempt.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Attempt {
    result: &'static str,
    profile: String,
}

/// Label of a part of the queue.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Part {
    queue: &'static str,
}

/// What is counted.
#[derive(Clone)]
pub struct Counts {
    attempts: Family<Attempt, Counter>,
    durations: Family<Attempt, Histogram>,
    pending: Family<Part, Gauge<i64, AtomicI64>>,
    preemptions: Counter,
    victims: Histogram,
}

impl Counts {
    /// Registers everything.
    pub fn register(metrics: &Arc<Metrics>) -> Self {
        let histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let durations: Family<Attempt, Histogram> = Family::new_with_constructor(histogram);
        Self {
            attempts: metrics.register(
                "scheduler_schedule_attempts",
                "Attempts to schedule pods by result.",
                Family::default(),
            ),
            durations: metrics.register(
                "scheduler_scheduling_attempt_duration_seconds",
                "Time of an attempt.",
                durations,
            ),
            pending: metrics.register(
                "scheduler_pending_pods",
                "Waiting pods by part of the queue.",
                Family::default(),
            ),
            preemptions: metrics.register(
                "scheduler_preemption_attempts",
                "Times others were pushed away for a pod.",
                Counter::default(),
            ),
            victims: metrics.register(
                "scheduler_preemption_victims",
                "Pods pushed away at once.",
                Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            ),
        }
    }

    /// An attempt ended; `result` is scheduled, unschedulable or error.
    pub fn attempt(&self, result: &'static str, profile: &str, took: Duration) {
        let labels = Attempt { result, profile: profile.into() };
        self.attempts.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// So many pods are pushed away for one.
    pub fn preemption(&self, victims: usize) {
        self.preemptions.inc();
        self.victims.observe(victims as f64);
    }

    /// The lengths of the queue's parts, as [`crate::queue::Queue::lengths`].
    pub fn pending(&self, lengths: [usize; 4]) {
        for (queue, length) in ["active", "backoff", "unschedulable", "gated"].into_iter().zip(lengths) {
            self.pending.get_or_create(&Part { queue }).set(length as i64);
        }
    }
}
