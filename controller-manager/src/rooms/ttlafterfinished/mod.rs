//! Finished Jobs that are to be gone after a time.

use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::api::Api;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::kit::meta::{namespace, uid, until};
use crate::kit::{Context, Write, adopt};
use crate::rooms::job::holds;

struct Room {
    context: Context,
    jobs: Cache<Job>,
    /// How long after their time Jobs are deleted.
    lateness: Histogram,
}

/// Starts the controller.
pub fn start(context: Context) {
    let jobs: Cache<Job> = adopt::owned_cache(&context);
    let queue = Queue::new();
    let q = queue.clone();
    jobs.handle(move |event| {
        if let Some(wait) = event.new.as_ref().and_then(|j| left(j, Timestamp::now())) {
            q.add_after(event.key.clone(), wait);
        }
    });
    let workers = context.config.workers("ttl-after-finished", 5);
    let lateness = context.metrics.register(
        "ttl_after_finished_controller_job_deletion_duration_seconds",
        "Time between when a finished job had to go and when it was deleted.",
        Histogram::new(exponential_buckets(0.1, 2.0, 14)),
    );
    let room = Arc::new(Room { context: context.clone(), jobs, lateness });
    context.run(Options::new("ttl-after-finished-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

/// When a Job has to go; `None` if it is not over, or may stay.
fn end(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let end = holds(job, "Complete").or_else(|| holds(job, "Failed"))?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let at = end.last_transition_time.as_ref()?.0;
    at.checked_add(SignedDuration::from_secs(i64::from(ttl))).ok()
}

/// How long a Job still has; `None` as for [`end`].
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    Some(until(end(job)?, now))
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(job) = self.jobs.get_key(&key) else { return Ok(None) };
        match left(&job, Timestamp::now()) {
            Some(wait) if wait.is_zero() => {}
            other => return Ok(other),
        }
        // The time may have been changed a moment ago, and what is deleted does not come back.
        let api: Api<Job> = Api::namespaced(self.context.writer.client(), namespace(&job.metadata));
        let Some(live) = api.get_opt(&key.name).await? else { return Ok(None) };
        if uid(&live.metadata) != uid(&job.metadata) {
            return Ok(None);
        }
        match left(&live, Timestamp::now()) {
            Some(wait) if wait.is_zero() => {}
            other => return Ok(other),
        }
        match self.context.writer.send(&Write::delete(&live).policy("Foreground")).await {
            Err(failure) if failure.not_found() => return Ok(None),
            other => drop(other?),
        }
        if let Some(at) = end(&live) {
            self.lateness.observe(Timestamp::now().duration_since(at).as_secs_f64().max(0.0));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    #[test]
    fn time_left() {
        let left = |ttl: &str, condition: &str, meta: &str| {
            let text = format!(
                "{{metadata: {{{meta}}}, spec: {{template: {{}}, {ttl}}}, status: {{conditions: [{condition}]}}}}"
            );
            left(&serde_yaml::from_str(&text).unwrap(), now()).map(|d| d.as_secs())
        };
        let over = |kind: &str| {
            format!("{{type: {kind}, status: 'True', lastTransitionTime: '2026-01-01T09:59:00Z'}}")
        };
        assert_eq!(left("ttlSecondsAfterFinished: 90", &over("Complete"), ""), Some(30));
        assert_eq!(left("ttlSecondsAfterFinished: 0", &over("Failed"), ""), Some(0));
        assert_eq!(left("ttlSecondsAfterFinished: 90", &over("FailureTarget"), ""), None);
        assert_eq!(left("", &over("Complete"), ""), None);
        let going = "deletionTimestamp: '2026-01-01T09:59:30Z'";
        assert_eq!(left("ttlSecondsAfterFinished: 0", &over("Complete"), going), None);
    }
}
