//! Finished Jobs that are to be gone after a time.

use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::api::Api;

use crate::kit::meta::{namespace, uid, until};
use crate::kit::{Context, Write, adopt};
use crate::rooms::job::holds;

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
    let room = Arc::new((context.clone(), jobs));
    context.run(Options::new("ttl-after-finished-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { sync(&room.0, &room.1, &key).await }
    });
}

/// How long a Job still has; `None` if it is not over, or may stay.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let end = holds(job, "Complete").or_else(|| holds(job, "Failed"))?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let at = end.last_transition_time.as_ref()?.0;
    Some(until(at.checked_add(SignedDuration::from_secs(i64::from(ttl))).ok()?, now))
}

async fn sync(context: &Context, jobs: &Cache<Job>, key: &Key) -> Outcome {
    let Some(job) = jobs.get_key(key) else { return Ok(None) };
    match left(&job, Timestamp::now()) {
        Some(wait) if wait.is_zero() => {}
        other => return Ok(other),
    }
    // The time may have been changed a moment ago, and what is deleted does not come back.
    let api: Api<Job> = Api::namespaced(context.writer.client(), namespace(&job.metadata));
    let Some(live) = api.get_opt(&key.name).await? else { return Ok(None) };
    if uid(&live.metadata) != uid(&job.metadata) {
        return Ok(None);
    }
    match left(&live, Timestamp::now()) {
        Some(wait) if wait.is_zero() => {}
        other => return Ok(other),
    }
    match context.writer.send(&Write::delete(&live).policy("Foreground")).await {
        Err(failure) if failure.not_found() => Ok(None),
        other => Ok(other.map(|_| None)?),
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
