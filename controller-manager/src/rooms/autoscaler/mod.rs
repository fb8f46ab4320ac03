//! HorizontalPodAutoscalers: as many replicas as the load asks for. Each is looked at once in a while, for metrics
//! make no events; there is one timer for each and none without any.

mod behaviour;
mod instruments;
mod metrics;
mod observe;
mod plan;
mod read;
mod replicas;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::SignedDuration;

pub use observe::start;

/// What the flags set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two looks.
    pub period: Duration,
    /// How far the ratio of use to target may be from one, where an autoscaler does not say.
    pub tolerance: f64,
    /// The window of recommendations for going down, where an autoscaler does not say.
    pub downscale: Duration,
    /// For so long after a pod's start its use of CPU counts only while it is ready.
    pub cpu_initialization: SignedDuration,
    /// A pod that turned unready this soon after its start has never been ready.
    pub initial_readiness: SignedDuration,
}
