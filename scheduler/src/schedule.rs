//! The loop: take the next pod, decide, assume, write on the side.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Result, ensure};
use control::backoff::delay;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::extender::client::Client;
use crate::follow::Whole;
use crate::framework::cycle::Found;
use crate::framework::message::Refusal;
use crate::framework::preempt::{self, Candidate};
use crate::framework::profile::Profile;
use crate::metrics::Counts;
use crate::model::pod::PodInfo;
use crate::plugins::volume_binding::{self, Step};
use crate::queue::Queued;
use crate::state::State;
use crate::volumes;

/// Writes under way at once; beyond it the loop waits, which bounds memory and leaves room in the API server, which by
/// default works on 200 writes at a time.
const WRITES: usize = 64;
/// Decisions in a row before others get their turn.
const TURN: u32 = 16;
/// Waits between questions about a binding with no clear answer, and how often it is asked.
const ASK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
const ASKED: u32 = 20;
/// How long the writes under way may take once the loop has ended.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// How often pods that nothing wakes are looked at.
const FLUSH: Duration = Duration::from_secs(30);

/// What a refused pod has in prospect.
pub(crate) enum Place {
    /// What it had before.
    Kept,
    /// Nothing any more.
    Lost,
    /// A node on which others are pushed away for it.
    Cleared(Candidate),
}

/// What becomes of a pod.
pub(crate) enum Decision {
    /// It was assumed on this node; its claims need these steps.
    Node(String, Vec<Step>),
    /// It fits nowhere.
    Refused(Refusal, Place),
    /// It could not be decided.
    Failed(anyhow::Error),
}

/// A choice to be written, with what it takes of the room for writes.
struct Choice {
    queued: Queued,
    node: String,
    begin: Instant,
    permit: OwnedSemaphorePermit,
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
    pub(crate) counts: Counts,
    writes: Arc<Semaphore>,
    /// Rung when a claim changed.
    pub(crate) storage: Notify,
    pub(crate) extenders: Vec<Client>,
    pub(crate) whole: OnceLock<Whole>,
}

impl Scheduler {
    /// A scheduler that has seen nothing yet.
    pub fn new(
        state: State,
        profiles: Arc<Vec<Profile>>,
        binder: Binder,
        counts: Counts,
        extenders: Vec<Client>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            profiles,
            binder,
            counts,
            writes: Arc::new(Semaphore::new(WRITES)),
            storage: Notify::new(),
            extenders,
            whole: OnceLock::new(),
        })
    }

    /// Whether other programs have a say, which want to see whole objects.
    pub fn has_extenders(&self) -> bool {
        !self.extenders.is_empty()
    }

    /// Keeps the caches that extenders are shown from.
    pub fn keep(&self, whole: Whole) {
        let _ = self.whole.set(whole);
    }

    /// Schedules until cancelled; then waits for the writes under way, but not for ever: a server that does not answer must not
    /// keep the next leader waiting.
    pub async fn run(self: Arc<Self>, token: CancellationToken) {
        let (choices, writing) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().write_all(writing));
        let mut flush = Instant::now() + FLUSH;
        let mut in_turn = 0;
        while !token.is_cancelled() {
            // First leave to write, then the pod: what is decided is decided on what is known now.
            let permit = token.run_until_cancelled(self.writes.clone().acquire_owned()).await;
            let Some(Ok(permit)) = permit else { break };
            let (next, due) = self.next();
            let Some((queued, decision)) = next else {
                drop(permit);
                let until = due.unwrap_or(flush).min(flush);
                tokio::select! {
                    biased;
                    () = token.cancelled() => break,
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
                if Instant::now() >= flush {
                    self.state.lock().queue().flush_forgotten(Instant::now());
                    flush = Instant::now() + FLUSH;
                }
                continue;
            };
            self.one(queued, decision, permit, &choices).await;
            // Lets the caches' tasks run now and then on a machine with few processors. Not after every decision: bindings
            // that are sent together cost both sides less.
            in_turn = (in_turn + 1) % TURN;
            if in_turn == 0 {
                tokio::task::yield_now().await;
            }
        }
        if tokio::time::timeout(LAST_WRITES, self.writes.acquire_many(WRITES as u32)).await.is_err() {
            tracing::warn!("writes are still under way at the end");
        }
    }

    /// Takes the next pod and decides at once, unless extenders must be asked; else when there may be one.
    fn next(&self) -> (Option<(Queued, Option<Decision>)>, Option<Instant>) {
        let mut state = self.state.lock();
        let Some(queued) = state.queue().pop(Instant::now()) else {
            self.counts.pending(state.queue().lengths());
            return (None, state.queue().next_due());
        };
        if state.queue().is_round() {
            self.counts.pending(state.queue().lengths());
        }
        let asks = self.extenders.iter().any(|e| e.config.concerns(&queued.pod));
        let decision = self.profile(&queued.pod).filter(|_| !asks).map(|p| decide(p, &queued, &mut state));
        (Some((queued, decision)), None)
    }

    fn profile(&self, pod: &PodInfo) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.name == pod.scheduler)
    }

    async fn one(
        self: &Arc<Self>,
        queued: Queued,
        decision: Option<Decision>,
        permit: OwnedSemaphorePermit,
        choices: &mpsc::UnboundedSender<Choice>,
    ) {
        let begin = Instant::now();
        let Some(profile) = self.profile(&queued.pod) else {
            return self.state.lock().queue().done(&queued.pod.uid);
        };
        let decision = match decision {
            Some(decision) => decision,
            None => self.decide_with_extenders(profile, &queued).await,
        };
        let me = self.clone();
        match decision {
            Decision::Node(node, steps) if steps.is_empty() => {
                // The receiver lives as long as the loop.
                let _ = choices.send(Choice { queued, node, begin, permit });
            }
            Decision::Node(node, steps) => {
                // Volumes may take minutes: they must not keep others from being bound.
                drop(permit);
                tokio::spawn(async move { me.bind(queued, &node, &steps, begin).await });
            }
            Decision::Refused(refusal, place) => {
                tracing::debug!(pod = queued.pod.key(), refusal = refusal.message(), "unschedulable");
                self.counts.attempt("unschedulable", &profile.name, begin.elapsed());
                let pod = queued.pod.clone();
                let held = matches!(place, Place::Cleared(_));
                self.state.lock().refused(queued, refusal.plugins.clone(), held, Instant::now());
                tokio::spawn(async move {
                    me.tell(pod, &refusal, place).await;
                    drop(permit);
                });
            }
            Decision::Failed(error) => {
                self.counts.attempt("error", &profile.name, begin.elapsed());
                let pod = queued.pod.clone();
                self.state.lock().refused(queued, Default::default(), false, Instant::now());
                tokio::spawn(async move {
                    me.binder.fail(&pod, &error).await;
                    drop(permit);
                });
            }
        }
    }

    /// Writes what was chosen, many at once, as one task: so what is chosen together is sent together. Ends when the loop has, and
    /// all is written.
    async fn write_all(self: Arc<Self>, mut choices: mpsc::UnboundedReceiver<Choice>) {
        let mut busy = FuturesUnordered::new();
        let mut fresh = Vec::new();
        let mut open = true;
        while open || !busy.is_empty() {
            tokio::select! {
                biased;
                taken = choices.recv_many(&mut fresh, WRITES), if open => {
                    open = taken > 0;
                    // What goes wrong with one must not take the others with it.
                    let one = |c| AssertUnwindSafe(self.clone().write_one(c)).catch_unwind();
                    busy.extend(fresh.drain(..).map(one));
                }
                Some(_) = busy.next(), if !busy.is_empty() => {}
            }
        }
    }

    async fn write_one(self: Arc<Self>, choice: Choice) {
        let Choice { queued, node, begin, permit } = choice;
        self.bind(queued, &node, &[], begin).await;
        drop(permit);
    }

    async fn tell(self: Arc<Self>, pod: Arc<PodInfo>, refusal: &Refusal, place: Place) {
        let node = match &place {
            Place::Kept => pod.nominated.clone(),
            Place::Lost => None,
            Place::Cleared(chosen) => Some(chosen.node.clone()),
        };
        self.binder.refuse(&pod, refusal, node.as_deref()).await;
        if let Place::Cleared(chosen) = place {
            self.push_away(pod, chosen).await;
        }
    }

    async fn bind(&self, queued: Queued, node: &str, steps: &[Step], begin: Instant) {
        let Some(profile) = self.profile(&queued.pod) else { return };
        match self.write(&queued.pod, node, steps, profile).await {
            Ok(()) => {
                self.counts.attempt("scheduled", &profile.name, begin.elapsed());
                tracing::debug!(pod = queued.pod.key(), node, "bound");
                self.state.lock().bound(&queued.pod.uid);
            }
            Err(error) if unclear(&error) && Box::pin(self.is_there(&queued.pod, node)).await => {
                tracing::info!(
                    pod = queued.pod.key(),
                    node,
                    error = format!("{error:#}"),
                    "bound all the same"
                );
                self.state.lock().bound(&queued.pod.uid);
            }
            Err(error) => {
                self.counts.attempt("error", &profile.name, begin.elapsed());
                tracing::warn!(pod = queued.pod.key(), node, error = format!("{error:#}"), "binding failed");
                let pod = queued.pod.clone();
                self.release_volumes(steps);
                self.state.lock().forget(queued, Instant::now());
                self.wake.notify_one();
                if !gone(&error) {
                    Box::pin(self.binder.fail(&pod, &error)).await;
                }
            }
        }
    }

    /// Whether a binding with no clear answer was written. Until that is known the pod stays counted on the node: its room must not
    /// be given away.
    async fn is_there(&self, pod: &PodInfo, node: &str) -> bool {
        for step in 0..ASKED {
            match self.binder.place(pod).await {
                Ok(place) => return place.as_deref() == Some(node),
                Err(_) => tokio::time::sleep(delay(ASK.0, ASK.1, step)).await,
            }
        }
        false
    }

    async fn write(&self, pod: &PodInfo, node: &str, steps: &[Step], profile: &Profile) -> Result<()> {
        // Boxed is what is rare, so that the future of a plain binding stays small.
        if let Some(limit) = profile.bind_volumes.filter(|_| !steps.is_empty()) {
            Box::pin(self.bind_volumes(pod, node, steps, limit)).await?;
        }
        let mut binders =
            self.extenders.iter().filter(|e| !e.config.bind.is_empty() && e.config.concerns(pod));
        if let Some(extender) = binders.next() {
            Box::pin(extender.bind(pod, node)).await?;
            self.binder.bound(pod, node);
            return Ok(());
        }
        ensure!(profile.binds, "no plugin of profile {} binds", profile.name);
        self.binder.bind(pod, node).await
    }
}

/// One decision, on what is known now.
fn decide(profile: &Profile, queued: &Queued, state: &mut State) -> Decision {
    let start = state.next_start();
    let pod = &queued.pod;
    let found = profile.find(pod, state.all(), start, true);
    state.set_next_start(found.next_start);
    match found.feasible.as_slice() {
        [] => preempt(profile, pod, state, found),
        [only] => take(profile, queued, state, *only),
        feasible => {
            let chance = state.draw();
            let slot = profile.best(pod, state.all(), feasible, &[], &mut |n| chance % n.max(1));
            take(profile, queued, state, slot)
        }
    }
}

/// The pod is counted on the chosen node from now on, and its volumes set aside.
pub(crate) fn take(profile: &Profile, queued: &Queued, state: &mut State, slot: u32) -> Decision {
    let node = state.all().node(slot).spec.clone();
    let mut steps = Vec::new();
    if profile.bind_volumes.is_some() && queued.pod.volumes.is_some() {
        steps = volume_binding::plan(&queued.pod, &node, state.all());
        volumes::set_aside(state.all(), &steps);
    }
    state.assume(queued, &node.name, Instant::now());
    Decision::Node(node.name.clone(), steps)
}

/// Looks for others to push away; what comes of it is part of the refusal.
fn preempt(profile: &Profile, pod: &Arc<PodInfo>, state: &mut State, mut found: Found<'_>) -> Decision {
    let refusal = std::mem::take(&mut found.refusal);
    match candidates(profile, pod, state, &found, refusal) {
        Ok((refusal, candidates)) => nominate(pod, state, refusal, candidates),
        Err(decision) => decision,
    }
}

/// Candidates for preemption; without any, what becomes of the pod.
pub(crate) fn candidates(
    profile: &Profile,
    pod: &Arc<PodInfo>,
    state: &mut State,
    found: &Found<'_>,
    mut refusal: Refusal,
) -> Result<(Refusal, Vec<Candidate>), Decision> {
    let Some(args) = profile.preemption.filter(|_| refusal.nodes > 0) else {
        return Err(Decision::Refused(refusal, Place::Kept));
    };
    let offset = state.draw();
    match preempt::candidates(pod, state.all(), found, args, offset) {
        Ok(candidates) => Ok((refusal, candidates)),
        Err(no) => {
            refusal.after = Some(no.words().into());
            if matches!(no, preempt::No::Barred(_)) {
                // Should its place be of no use by then, it must find out, and let others have it, when the last victim has left.
                if pod.nominated.is_some() {
                    refusal.plugins.insert(crate::preemption::NAME);
                }
                return Err(Decision::Refused(refusal, Place::Kept));
            }
            state.withdraw(&pod.uid, Instant::now());
            Err(Decision::Refused(refusal, Place::Lost))
        }
    }
}

/// Chooses among the candidates and keeps the place on the node.
pub(crate) fn nominate(
    pod: &Arc<PodInfo>,
    state: &mut State,
    mut refusal: Refusal,
    candidates: Vec<Candidate>,
) -> Decision {
    let Some(chosen) = preempt::choose(candidates) else {
        state.withdraw(&pod.uid, Instant::now());
        return Decision::Refused(refusal, Place::Lost);
    };
    refusal.plugins.insert(crate::preemption::NAME);
    state.nominate(pod, &chosen.node, Instant::now());
    Decision::Refused(refusal, Place::Cleared(chosen))
}

/// The binding may have been written though an error came back.
fn unclear(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => status.code >= 500,
        Some(_) => true,
        None => error.is::<tokio::time::error::Elapsed>(),
    }
}

/// The pod was deleted, or replaced, or bound by someone else meanwhile: no news for its owner.
fn gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}
