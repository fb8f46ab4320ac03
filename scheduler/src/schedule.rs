//! The loop: take the next pod, decide, assume, write on the side.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::framework::cycle::{Outcome, Profile};
use crate::metrics::Counts;
use crate::queue::Queued;
use crate::state::State;

/// Writes under way at once; beyond it the loop waits, which bounds memory and leaves room in the API server, which by
/// default works on 200 writes at a time.
const WRITES: usize = 64;
/// How often pods that nothing wakes are looked at.
const FLUSH: Duration = Duration::from_secs(30);

/// Everything the loop needs, shared with the handlers of the caches.
pub struct Scheduler {
    /// What is known.
    pub state: Mutex<State>,
    /// Rung when something was put into the queue.
    pub wake: Notify,
    /// Profiles by scheduler name.
    pub profiles: Vec<Profile>,
    binder: Binder,
    counts: Counts,
    writes: Arc<Semaphore>,
}

impl Scheduler {
    /// A scheduler that has seen nothing yet.
    pub fn new(state: State, profiles: Vec<Profile>, binder: Binder, counts: Counts) -> Arc<Self> {
        let writes = Arc::new(Semaphore::new(WRITES));
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), profiles, binder, counts, writes })
    }

    /// Schedules until cancelled; then waits for the writes under way.
    pub async fn run(self: Arc<Self>, token: CancellationToken) {
        let mut flush = Instant::now() + FLUSH;
        while !token.is_cancelled() {
            let (next, due) = self.next();
            let Some(queued) = next else {
                let until = due.unwrap_or(flush).min(flush);
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(until) => {}
                    () = token.cancelled() => break,
                }
                if Instant::now() >= flush {
                    self.state.lock().queue().flush_forgotten(Instant::now());
                    flush = Instant::now() + FLUSH;
                }
                continue;
            };
            self.one(queued).await;
            // Lets the caches' tasks run between two decisions on a machine with few processors.
            tokio::task::yield_now().await;
        }
        let _ = self.writes.acquire_many(WRITES as u32).await;
    }

    fn next(&self) -> (Option<Queued>, Option<Instant>) {
        let mut state = self.state.lock();
        let next = state.queue().pop(Instant::now());
        let due = state.queue().next_due();
        self.counts.pending(state.queue().lengths());
        (next, due)
    }

    async fn one(self: &Arc<Self>, queued: Queued) {
        let begin = Instant::now();
        let Some(profile) = self.profiles.iter().find(|p| p.name == queued.pod.scheduler) else {
            return self.state.lock().queue().done(&queued.pod.uid);
        };
        let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
        let outcome = self.decide(profile, &queued);
        let me = self.clone();
        let name = profile.name.clone();
        match outcome.choice {
            Ok(node) => {
                self.state.lock().assume(&queued, &node);
                tokio::spawn(async move {
                    me.bind(queued, &node, &name, begin).await;
                    drop(permit);
                });
            }
            Err(refusal) => {
                tracing::debug!(pod = queued.pod.key(), refusal = refusal.message(), "unschedulable");
                self.counts.attempt("unschedulable", &name, begin.elapsed());
                let pod = queued.pod.clone();
                self.state.lock().queue().refused(queued, refusal.plugins.clone(), Instant::now());
                tokio::spawn(async move {
                    me.binder.refuse(&pod, &refusal).await;
                    drop(permit);
                });
            }
        }
    }

    fn decide(&self, profile: &Profile, queued: &Queued) -> Outcome {
        let (snapshot, start) = {
            let state = self.state.lock();
            (state.snapshot(), state.next_start())
        };
        let outcome = profile.decide(&queued.pod, &snapshot, start, &mut |n| rand::random_range(0..n.max(1)));
        self.state.lock().set_next_start(outcome.next_start);
        outcome
    }

    async fn bind(&self, queued: Queued, node: &str, profile: &str, begin: Instant) {
        match self.binder.bind(&queued.pod, node).await {
            Ok(()) => {
                self.counts.attempt("scheduled", profile, begin.elapsed());
                tracing::debug!(pod = queued.pod.key(), node, "bound");
                self.state.lock().bound(&queued.pod.uid);
            }
            Err(error) => {
                self.counts.attempt("error", profile, begin.elapsed());
                tracing::warn!(pod = queued.pod.key(), node, error = format!("{error:#}"), "binding failed");
                let pod = queued.pod.clone();
                self.state.lock().forget(queued, Instant::now());
                self.wake.notify_one();
                if !gone(&error) {
                    self.binder.fail(&pod, &error).await;
                }
            }
        }
    }
}

/// The pod was deleted, or replaced, or bound by someone else meanwhile: no news for its owner.
fn gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}
