//! Jobs: pods that are to come to an end so many times, each end counted once.

mod backoff;
mod counts;
mod hands;
mod indexes;
mod observe;
mod orphans;
mod plan;
mod pods;
mod policy;
mod run;
#[cfg(test)]
mod simulation;
mod tally;
#[cfg(test)]
mod tests;
mod view;

pub use observe::start;
pub(crate) use view::{finished, holds};

use k8s_openapi::api::batch::v1::Job;

/// The controller a Job that names none belongs to.
const OURS: &str = "kubernetes.io/job-controller";

/// Whether another controller looks after the Job.
pub(crate) fn managed_elsewhere(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.managed_by.as_deref()).is_some_and(|m| m != OURS)
}
