//! Pods held for a Job that is gone or over, and so will never be counted: they are let go.

use std::sync::Arc;

use control::Key;
use control::runner::Outcome;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::observe::{Room, is_job};
use super::pods::{free, tracked};
use super::{finished, managed_elsewhere};
use crate::kit::meta::{controller, uid};

/// Whether nobody will count the pod's end, given the Job that is said to control it.
pub fn forsaken(pod: &Pod, job: Option<&Job>) -> bool {
    if !tracked(pod) {
        return false;
    }
    match (controller(&pod.metadata), job) {
        (Some(owner), _) if !is_job(owner) => false,
        (Some(owner), Some(job)) if uid(&job.metadata) == owner.uid => {
            !managed_elsewhere(job) && finished(job)
        }
        _ => true,
    }
}

impl Room {
    /// The Job named as a pod's controller, whether or not it is still the same one.
    pub fn job_of(&self, pod: &Pod) -> Option<Arc<Job>> {
        let owner = controller(&pod.metadata).filter(|o| is_job(o))?;
        self.jobs.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name)
    }

    /// Lets a pod go if nobody will.
    pub async fn sync_orphan(&self, key: Key) -> Outcome {
        let Some(pod) = self.pods.get_key(&key) else { return Ok(None) };
        if !forsaken(&pod, self.job_of(&pod).as_deref()) {
            return Ok(None);
        }
        match self.context.writer.send(&free(&pod)).await {
            Err(failure) if failure.not_found() => Ok(None),
            other => Ok(other.map(|_| None)?),
        }
    }
}
