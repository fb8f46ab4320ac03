//! What is counted about Jobs.

use std::time::Duration;

use daemon::metrics::Metrics;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::indexes::Indexes;
use super::pods::{only_failed_replaced, tracked};
use super::run::Outcome;
use super::view::holds;
use crate::kit::counts::{Counters, Labels, Skips, add, count, named};
use crate::kit::pods::finished;

/// The counters.
pub struct Counts {
    syncs: Counters,
    durations: Family<Labels, Histogram>,
    jobs: Counters,
    pods: Counters,
    indexes: Counters,
    made: Counters,
    foreign: Counters,
    policies: Counters,
    tracking: Counters,
    pub skips: Skips,
}

impl Counts {
    /// Registers everything.
    pub fn register(metrics: &std::sync::Arc<Metrics>) -> Self {
        let counters = |name: &str, help: &str| -> Counters {
            metrics.register(&format!("job_controller_{name}"), help, Family::default())
        };
        let histogram = || Histogram::new(exponential_buckets(0.004, 2.0, 15));
        let durations: Family<Labels, Histogram> = Family::new_with_constructor(histogram);
        Self {
            syncs: counters("job_syncs", "Syncs of jobs."),
            durations: metrics.register(
                "job_controller_job_sync_duration_seconds",
                "Time a sync of a job took.",
                durations,
            ),
            jobs: counters("jobs_finished", "Finished jobs."),
            pods: counters("job_pods_finished", "Finished pods whose end was counted."),
            indexes: counters("job_finished_indexes", "Finished indexes."),
            made: counters("job_pods_creation", "Pods made."),
            foreign: counters("jobs_by_external_controller", "Jobs other controllers look after."),
            policies: counters("pod_failures_handled_by_failure_policy", "Failed pods a rule was for."),
            tracking: counters(
                "terminated_pods_tracking_finalizer",
                "Ended pods that are held until they are counted, and that are held no longer.",
            ),
            skips: Skips::register(metrics, "job_controller"),
        }
    }

    /// A look at a Job: what it did, and what changed in the status.
    pub fn looked(&self, job: &Job, outcome: Option<&Outcome>, took: Duration) {
        let mode = mode(job);
        let good = outcome.is_some_and(|o| o.trouble.is_none());
        let (action, result) =
            (outcome.map_or("reconciling", |o| o.action), if good { "success" } else { "error" });
        let labels = [("action", action), ("completion_mode", mode), ("result", result)];
        count(&self.syncs, labels);
        self.durations.get_or_create(&named(labels)).observe(took.as_secs_f64());
        let Some(outcome) = outcome else { return };
        for action in &outcome.handled {
            count(&self.policies, [("action", action)]);
        }
        if let Some(after) = &outcome.status {
            self.changed(job, &job.status.clone().unwrap_or_default(), after);
        }
    }

    fn changed(&self, job: &Job, before: &JobStatus, after: &JobStatus) {
        let mode = mode(job);
        let more = |was: Option<i32>, is: Option<i32>| {
            u64::try_from(is.unwrap_or(0) - was.unwrap_or(0)).unwrap_or(0)
        };
        for (result, some) in [
            ("succeeded", more(before.succeeded, after.succeeded)),
            ("failed", more(before.failed, after.failed)),
        ] {
            add(&self.pods, [("completion_mode", mode), ("result", result)], some);
        }
        let limit = match job.spec.as_ref().and_then(|s| s.backoff_limit_per_index) {
            Some(_) => "perIndex",
            None => "global",
        };
        let total =
            |text: &Option<String>| Some(text.as_deref().map_or(0, |t| Indexes::parse(t, i32::MAX).total()));
        for (status, was, is) in [
            ("succeeded", &before.completed_indexes, &after.completed_indexes),
            ("failed", &before.failed_indexes, &after.failed_indexes),
        ] {
            add(&self.indexes, [("status", status), ("backoffLimit", limit)], more(total(was), total(is)));
        }
        let ended = Job { status: Some(after.clone()), ..Job::default() };
        for (kind, result) in [("Complete", "succeeded"), ("Failed", "failed")] {
            if let Some(condition) = holds(&ended, kind) {
                let reason = condition.reason.as_deref().unwrap_or_default();
                count(&self.jobs, [("completion_mode", mode), ("result", result), ("reason", reason)]);
            }
        }
    }

    /// A pod was made, or could not be.
    pub fn made(&self, job: &Job, good: bool) {
        let status = job.status.as_ref();
        let failed = status.and_then(|s| s.failed).unwrap_or(0) > 0;
        let ending = status.and_then(|s| s.terminating).unwrap_or(0) > 0;
        let reason = match job.spec.as_ref().is_some_and(only_failed_replaced) {
            true if failed => "recreate_failed",
            false if failed || ending => "recreate_terminating_or_failed",
            _ => "new",
        };
        count(&self.made, [("reason", reason), ("status", if good { "succeeded" } else { "failed" })]);
    }

    /// Another controller's Job appeared.
    pub fn foreign(&self, job: &Job) {
        let controller = job.spec.as_ref().and_then(|s| s.managed_by.as_deref()).unwrap_or_default();
        count(&self.foreign, [("controller_name", controller)]);
    }

    /// A pod changed.
    pub fn pod(&self, old: Option<&Pod>, new: Option<&Pod>) {
        let held = |pod: Option<&Pod>| pod.is_some_and(|p| finished(p) && tracked(p));
        match (held(old), held(new)) {
            (false, true) => count(&self.tracking, [("event", "add")]),
            (true, false) => count(&self.tracking, [("event", "delete")]),
            _ => {}
        }
    }
}

fn mode(job: &Job) -> &'static str {
    match job.spec.as_ref().is_some_and(super::pods::indexed) {
        true => "Indexed",
        false => "NonIndexed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Job {
        serde_yaml::from_str(text).expect("a job")
    }

    #[test]
    fn a_look_is_counted() {
        let metrics = Metrics::new();
        let counts = Counts::register(&metrics);
        let before = job(
            "{spec: {completionMode: Indexed, completions: 4, template: {}}, status: {succeeded: 1, completedIndexes: '0'}}",
        );
        let after = job(
            "{status: {succeeded: 4, failed: 2, completedIndexes: 0-3, conditions: [{type: Complete, status: 'True', reason: CompletionsReached}]}}",
        );
        let outcome = Outcome {
            action: "tracking",
            status: after.status,
            handled: vec!["Ignore"],
            ..Outcome::default()
        };
        counts.looked(&before, Some(&outcome), Duration::from_millis(5));
        counts.looked(&before, None, Duration::from_millis(5));
        counts.made(&before, true);
        counts.pod(None, Some(&crate::testing::pod("a Running")));
        let text = metrics.encode();
        for line in [
            "job_controller_job_syncs_total{action=\"tracking\",completion_mode=\"Indexed\",result=\"success\"} 1",
            "job_controller_job_syncs_total{action=\"reconciling\",completion_mode=\"Indexed\",result=\"error\"} 1",
            "job_controller_job_pods_finished_total{completion_mode=\"Indexed\",result=\"succeeded\"} 3",
            "job_controller_job_pods_finished_total{completion_mode=\"Indexed\",result=\"failed\"} 2",
            "job_controller_job_finished_indexes_total{status=\"succeeded\",backoffLimit=\"global\"} 3",
            "job_controller_jobs_finished_total{completion_mode=\"Indexed\",result=\"succeeded\",reason=\"CompletionsReached\"} 1",
            "job_controller_pod_failures_handled_by_failure_policy_total{action=\"Ignore\"} 1",
            "job_controller_job_pods_creation_total{reason=\"new\",status=\"succeeded\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(
            text.contains("job_sync_duration_seconds_bucket{le=\"0.008\",action=\"tracking\"")
                && !text.contains("finalizer_total{")
        );
    }
}
