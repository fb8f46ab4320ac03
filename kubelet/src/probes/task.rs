//! The life of one probe of one container instance.

use super::{ProbeKind, Results, Threshold, run};
use crate::events::{Events, WARNING};
use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::{ContainerPort, ObjectReference, Probe};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Everything one probe needs.
pub struct ProbeTask {
    /// which probe
    pub kind: ProbeKind,
    /// its spec
    pub probe: Probe,
    /// runtime id of the instance probed
    pub container_id: String,
    /// Unix nanoseconds the instance started at
    pub started_at: i64,
    /// ports of the container, to resolve names
    pub ports: Vec<ContainerPort>,
    /// address of the pod
    pub pod_ip: String,
    /// the environment by which exec commands are expanded (static values)
    pub env: Vec<(String, String)>,
    /// where verdicts go
    pub results: Results,
    /// the pod's worker, woken by news
    pub wake: Arc<Notify>,
    /// for exec probes
    pub runtime: Arc<dyn Runtime>,
    /// for Unhealthy
    pub events: Arc<Events>,
    /// the container, for events
    pub object: ObjectReference,
    /// spread the first run (the kubelet has just come up)
    pub spread: bool,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

impl ProbeTask {
    /// Runs until a final verdict (startup, liveness failure) or until it is aborted.
    pub async fn run(self) {
        let period = seconds(self.probe.period_seconds, 10);
        if self.spread {
            tokio::time::sleep(period.mul_f64(rand::random::<f64>())).await;
        }
        self.initial_delay().await;
        let mut threshold = Threshold::new(
            self.probe.success_threshold.unwrap_or(1),
            self.probe.failure_threshold.unwrap_or(3),
        );
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let outcome = self.once().await;
            let Some(verdict) = threshold.feed(outcome) else { continue };
            if self.results.set(&self.container_id, self.kind, verdict) {
                self.wake.notify_one();
            }
            let last_word = match self.kind {
                ProbeKind::Startup => true,
                ProbeKind::Liveness => !verdict,
                ProbeKind::Readiness => false,
            };
            if last_word {
                return;
            }
        }
    }

    async fn initial_delay(&self) {
        let Some(delay) = self.probe.initial_delay_seconds.and_then(|d| u64::try_from(d).ok()) else {
            return;
        };
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let age = Duration::from_nanos(u64::try_from(now - self.started_at).unwrap_or(0));
        tokio::time::sleep(Duration::from_secs(delay).saturating_sub(age)).await;
    }

    /// One probe with up to three tries when the probing itself went wrong.
    async fn once(&self) -> bool {
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let mut outcome = Err("not probed".to_owned());
        for _ in 0..3 {
            outcome = run::probe(self, timeout).await;
            if outcome.is_ok() {
                break;
            }
        }
        let title = self.kind.title();
        match outcome {
            Ok(run::Outcome::Success) => true,
            Ok(run::Outcome::Warning(text)) => {
                self.report("ProbeWarning", format!("{title} probe warning: {text}"));
                true
            }
            Ok(run::Outcome::Failure(text)) => {
                self.report("Unhealthy", format!("{title} probe failed: {text}"));
                false
            }
            Err(text) => {
                self.report(
                    "Unhealthy",
                    format!("{title} probe errored and resulted in unknown state: {text}"),
                );
                false
            }
        }
    }

    fn report(&self, reason: &str, message: String) {
        self.events.record(self.object.clone(), WARNING, reason, message);
    }
}
