//! The loop: take the next pod, decide, assume, write on the side.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::framework::cycle::Found;
use crate::framework::message::Refusal;
use crate::framework::preempt::{self, Candidate};
use crate::framework::profile::Profile;
use crate::metrics::Counts;
use crate::model::pod::PodInfo;
use crate::queue::Queued;
use crate::state::State;

/// Writes under way at once; beyond it the loop waits, which bounds memory and leaves room in the API server, which by
/// default works on 200 writes at a time.
const WRITES: usize = 64;
/// How often pods that nothing wakes are looked at.
const FLUSH: Duration = Duration::from_secs(30);

/// What becomes of a pod.
enum Decision {
    /// It was assumed on this node.
    Node(String),
    /// It fits nowhere; on one node others are pushed away for it.
    Refused(Refusal, Option<Candidate>),
}

/// Everything the loop needs, shared with the handlers of the caches.
pub struct Scheduler {
    /// What is known.
    pub state: Mutex<State>,
    /// Rung when something was put into the queue.
    pub wake: Notify,
    /// Profiles by scheduler name.
    pub profiles: Arc<Vec<Profile>>,
    pub(crate) binder: Binder,
    counts: Counts,
    writes: Arc<Semaphore>,
}

impl Scheduler {
    /// A scheduler that has seen nothing yet.
    pub fn new(state: State, profiles: Arc<Vec<Profile>>, binder: Binder, counts: Counts) -> Arc<Self> {
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
        let me = self.clone();
        match self.decide(profile, &queued) {
            Decision::Node(node) => {
                let name = profile.name.clone();
                tokio::spawn(async move {
                    me.bind(queued, &node, &name, begin).await;
                    drop(permit);
                });
            }
            Decision::Refused(refusal, chosen) => {
                tracing::debug!(pod = queued.pod.key(), refusal = refusal.message(), "unschedulable");
                self.counts.attempt("unschedulable", &profile.name, begin.elapsed());
                let pod = queued.pod.clone();
                let held = chosen.is_some();
                self.state.lock().refused(queued, refusal.plugins.clone(), held, Instant::now());
                tokio::spawn(async move {
                    let node = chosen.as_ref().map(|c| c.node.clone());
                    me.binder.refuse(&pod, &refusal, node.as_deref()).await;
                    if let Some(chosen) = chosen {
                        me.push_away(pod, chosen).await;
                    }
                    drop(permit);
                });
            }
        }
    }

    fn decide(&self, profile: &Profile, queued: &Queued) -> Decision {
        let mut state = self.state.lock();
        let start = state.next_start();
        let pod = &queued.pod;
        let found = profile.find(pod, state.all(), start, true);
        let next_start = found.next_start;
        let node = match found.feasible.as_slice() {
            [] => None,
            [only] => Some(*only),
            feasible => {
                Some(profile.best(pod, state.all(), feasible, &[], &mut |n| rand::random_range(0..n.max(1))))
            }
        };
        let decision = match node {
            Some(slot) => {
                let node = state.all().node(slot).name().to_string();
                state.assume(queued, &node, Instant::now());
                Decision::Node(node)
            }
            None => preempt(profile, pod, &mut state, found),
        };
        state.set_next_start(next_start);
        decision
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

/// Looks for others to push away; what comes of it is part of the refusal.
fn preempt(profile: &Profile, pod: &Arc<PodInfo>, state: &mut State, mut found: Found<'_>) -> Decision {
    let mut refusal = std::mem::take(&mut found.refusal);
    let Some(args) = profile.preemption.filter(|_| refusal.nodes > 0) else {
        return Decision::Refused(refusal, None);
    };
    let offset = rand::random_range(0..found.refused.len().max(1));
    match preempt::candidates(pod, state.all(), &found, args, offset) {
        Ok(candidates) => {
            refusal.plugins.insert(crate::preemption::NAME);
            let chosen = preempt::choose(candidates);
            if let Some(chosen) = &chosen {
                state.nominate(pod, &chosen.node);
            }
            Decision::Refused(refusal, chosen)
        }
        Err(why) => {
            refusal.after = Some(why);
            Decision::Refused(refusal, None)
        }
    }
}

/// The pod was deleted, or replaced, or bound by someone else meanwhile: no news for its owner.
fn gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}
