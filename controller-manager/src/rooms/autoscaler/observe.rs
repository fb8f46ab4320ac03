//! Watches autoscalers, reads what they look at, and applies what follows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue, Recorder};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::Pod;
use machinery::selector::LabelSelector;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Settings;
use super::behaviour::Memory;
use super::instruments::{Instruments, Trouble};
use super::metrics::Reading;
use super::plan::{Decision, Look, Moment, Observed, Rescale, Target, needs_look, plan};
use super::read::{Reader, Scale};
use crate::kit::meta::{name, namespace};
use crate::kit::seen::Seen;
use crate::kit::{Context, Write};

/// As upstream names the source of the events.
const COMPONENT: &str = "horizontal-pod-autoscaler";
/// A scale that somebody else is writing is read again this often.
const TRIES: usize = 5;

struct Room {
    context: Context,
    settings: Settings,
    recorder: Recorder,
    scalers: Cache<HorizontalPodAutoscaler>,
    pods: Cache<Pod>,
    reader: Reader,
    instruments: Instruments,
    /// When the room began, for a clock that only goes forward.
    began: Instant,
    memories: Mutex<HashMap<Key, Memory>>,
    /// What each autoscaler was last seen to select.
    selectors: Mutex<HashMap<Key, LabelSelector>>,
    seen: Seen<Key>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let client = context.writer.client();
    let room = Arc::new(Room {
        settings: settings(&context),
        recorder: Recorder::start(client.clone(), COMPONENT, None, &context.tasks),
        scalers: context.caches.of(),
        pods: context.pods(),
        reader: Reader::new(client, context.root.clone()),
        instruments: Instruments::new(&context.metrics),
        began: Instant::now(),
        memories: Mutex::default(),
        selectors: Mutex::default(),
        seen: Seen::default(),
        context: context.clone(),
    });
    let queue: Queue<Key> = Queue::new();
    let (q, seen) = (queue.clone(), room.clone());
    room.scalers.handle(move |event| {
        seen.instruments.scalers(seen.scalers.len());
        match (&event.old, &event.new) {
            (_, None) => seen.forget(&event.key),
            // A status of our own is no news.
            (Some(old), Some(new)) if old.spec == new.spec => {}
            _ => q.add(event.key.clone()),
        }
    });
    let workers = context.config.workers("horizontal-pod-autoscaler", 5);
    context.run(Options::new("horizontal-pod-autoscaler-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn settings(context: &Context) -> Settings {
    let config = &context.config;
    let signed = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
    Settings {
        period: config.horizontal_pod_autoscaler_sync_period.max(Duration::from_secs(1)),
        tolerance: config.horizontal_pod_autoscaler_tolerance,
        downscale: config.horizontal_pod_autoscaler_downscale_stabilization,
        cpu_initialization: signed(config.horizontal_pod_autoscaler_cpu_initialization_period),
        initial_readiness: signed(config.horizontal_pod_autoscaler_initial_readiness_delay),
    }
}

/// What was read for the plan, and how long each metric took.
enum Found {
    Look(Result<LabelSelector, String>, Vec<Arc<Pod>>, Vec<(Result<Reading, String>, Duration)>),
    Shared(Vec<String>),
    NotNeeded,
}

impl Room {
    fn forget(&self, key: &Key) {
        self.memories.lock().remove(key);
        self.selectors.lock().remove(key);
        self.instruments.desired(&key.namespace, &key.name, None);
    }

    fn now(&self) -> Moment {
        Moment { wall: Timestamp::now(), at: self.began.elapsed() }
    }

    /// One look. Failures are told in the status and looked at again at the next turn like everything else.
    async fn sync(&self, key: Key) -> Outcome {
        let Some(scaler) = self.scalers.get_key(&key) else { return Ok(None) };
        // A status older than our own last one would bring back what has changed since.
        if self.seen.behind(&key, control::cache::version_of(&*scaler).unwrap_or(u64::MAX)) {
            return Ok(Some(Duration::from_secs(1)));
        }
        if let Err(error) = self.look(&key, &scaler).await {
            tracing::debug!(%key, error = format!("{error:#}"), "autoscaler");
        }
        Ok(Some(self.settings.period))
    }

    async fn look(&self, key: &Key, scaler: &HorizontalPodAutoscaler) -> anyhow::Result<()> {
        let (began, ns) = (Instant::now(), namespace(&scaler.metadata));
        let scale = self.reader.scale(ns, &scaler.spec.scale_target_ref).await;
        let target = scale.as_ref().map(Scale::target).map_err(Clone::clone);
        let found = match &target {
            Ok(target) if needs_look(scaler, target) => self.find(key, scaler, target).await,
            _ => Found::NotNeeded,
        };
        let mut memory = self.memories.lock().get(key).cloned().unwrap_or_default();
        let (mut decision, took) = self.decide(scaler, target, &found, &mut memory);
        if let (Some(Rescale { from, to, .. }), Ok(scale)) = (decision.rescale.clone(), &scale) {
            match self.rescale(scaler, scale, from, to).await {
                Ok(()) => decision.done(scaler.spec.behavior.as_ref(), &mut memory, self.now()),
                Err(error) => decision.refused(&error),
            }
        }
        self.memories.lock().insert(key.clone(), memory);
        self.count(key, scaler, &decision, &took, began.elapsed());
        self.tell(key, scaler, &decision);
        self.write_status(scaler, decision.status).await
    }

    fn decide(
        &self,
        scaler: &HorizontalPodAutoscaler,
        target: Result<Target, String>,
        found: &Found,
        memory: &mut Memory,
    ) -> (Decision, Vec<Duration>) {
        let mut took = Vec::new();
        let look = match found {
            Found::NotNeeded => Look::NotNeeded,
            Found::Shared(scalers) => Look::Shared(scalers.clone()),
            Found::Look(Err(error), ..) if error.is_empty() => Look::NoSelector,
            Found::Look(Err(error), ..) => Look::BadSelector(error.clone()),
            Found::Look(Ok(_), pods, readings) => {
                took = readings.iter().map(|(_, took)| *took).collect();
                let readings = readings.iter().map(|(reading, _)| reading.clone()).collect();
                Look::Pods { pods: pods.iter().map(|p| &**p).collect(), readings }
            }
        };
        let decision = plan(&Observed { scaler, target, look }, memory, &self.settings, self.now());
        tracing::debug!(
            scaler = name(&scaler.metadata),
            asked = decision.asked,
            rescale = ?decision.rescale,
            error = decision.error,
            "autoscaler looked at"
        );
        (decision, took)
    }

    /// The pods and the metrics of an autoscaler.
    async fn find(&self, key: &Key, scaler: &HorizontalPodAutoscaler, target: &Target) -> Found {
        if target.selector.is_empty() {
            return Found::Look(Err(String::new()), Vec::new(), Vec::new());
        }
        let selector = match LabelSelector::parse(&target.selector) {
            Ok(selector) => selector,
            Err(error) => return Found::Look(Err(error), Vec::new(), Vec::new()),
        };
        let mut pods = self.pods.by_namespace(&key.namespace);
        pods.retain(|p| selects(&selector, p));
        let scalers = self.sharing(key, &selector, &pods);
        if scalers.len() > 1 {
            return Found::Shared(scalers);
        }
        let specs = scaler.spec.metrics.as_deref().unwrap_or_default();
        let readings = specs.iter().map(|spec| async {
            let began = Instant::now();
            (self.reader.metric(&key.namespace, spec, &selector).await, began.elapsed())
        });
        let readings = futures::future::join_all(readings).await;
        Found::Look(Ok(selector), pods, readings)
    }

    /// The autoscalers that select any of these pods.
    fn sharing(&self, key: &Key, selector: &LabelSelector, pods: &[Arc<Pod>]) -> Vec<String> {
        let mut selectors = self.selectors.lock();
        selectors.insert(key.clone(), selector.clone());
        let shares = |s: &LabelSelector| pods.iter().any(|p| selects(s, p));
        let mut keys: Vec<String> = selectors
            .iter()
            .filter(|(k, s)| k.namespace == key.namespace && (*k == key || shares(s)))
            .map(|(k, _)| k.to_string())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Writes the number. If somebody else wrote the scale meanwhile it is written again, unless the number is no
    /// longer the one that was decided about.
    async fn rescale(
        &self,
        scaler: &HorizontalPodAutoscaler,
        scale: &Scale,
        from: i32,
        to: i32,
    ) -> Result<(), String> {
        let mut outcome = self.reader.rescale(scale, to).await;
        for _ in 1..TRIES {
            if outcome.is_ok() {
                break;
            }
            let (ns, target) = (namespace(&scaler.metadata), &scaler.spec.scale_target_ref);
            match self.reader.scale(ns, target).await {
                Ok(now) if now.target().spec == from && now.version() != scale.version() => {
                    outcome = self.reader.rescale(&now, to).await;
                }
                _ => break,
            }
        }
        outcome
    }

    fn count(
        &self,
        key: &Key,
        scaler: &HorizontalPodAutoscaler,
        decision: &Decision,
        took: &[Duration],
        whole: Duration,
    ) {
        let trouble = |error: bool, spec: bool| match (error, spec) {
            (false, _) => Trouble::None,
            (true, true) => Trouble::Spec,
            (true, false) => Trouble::Internal,
        };
        let change = decision.rescale.as_ref().map_or(0, |r| r.to - r.from);
        self.instruments.looked(change, trouble(decision.error.is_some(), decision.spec_error), whole);
        self.instruments.desired(&key.namespace, &key.name, Some(decision.status.desired_replicas));
        let specs = scaler.spec.metrics.iter().flatten();
        for ((spec, judged), took) in specs.zip(&decision.judged).zip(took) {
            let (change, trouble) = match judged {
                Ok(change) => (*change, Trouble::None),
                Err(spec) => (0, trouble(true, *spec)),
            };
            self.instruments.computed(spec, change, trouble, *took);
        }
    }

    fn tell(&self, key: &Key, scaler: &HorizontalPodAutoscaler, decision: &Decision) {
        if let Some(error) = &decision.error {
            tracing::debug!(%key, error, "autoscaler held up");
        }
        for (kind, reason, message) in &decision.events {
            self.recorder.record(&reference(scaler), *kind, reason, message.clone());
        }
    }

    async fn write_status(
        &self,
        scaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) -> anyhow::Result<()> {
        if scaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = scaler.clone();
        changed.status = Some(status);
        match self.context.writer.send(&Write::update_status(&changed)).await {
            Err(failure) if failure.not_found() => Ok(()),
            Err(failure) => {
                self.recorder.warning(&reference(scaler), "FailedUpdateStatus", failure.message.clone());
                Err(failure.into())
            }
            Ok(answer) => {
                self.seen.wrote(Key::of(scaler), &answer);
                Ok(())
            }
        }
    }
}

fn selects(selector: &LabelSelector, pod: &Pod) -> bool {
    match &pod.metadata.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&std::collections::BTreeMap::<String, String>::new()),
    }
}
