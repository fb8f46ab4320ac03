//! One worker per pod: wakes on change, takes a step, does what it says, tells the status. Everything that can be
//! decided without I/O is in `step`, `decide` and `status::generate`.

use super::backoff::Backoff;
use super::host::Host;
use super::step::{self, Action, Phase};
use super::table::{ContainerState, PodView, Source};
use crate::events::{self, NORMAL};
use crate::probes::{ProbeKind, Results};
use crate::status::generate::{self, Waiting};
use crate::status::writer::StatusWriter;
use crate::volumes::mount::Mounted;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The kubelet's own order to end a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct KillOrder {
    /// status.reason
    pub reason: String,
    /// status.message
    pub message: String,
    /// seconds, if shorter than the pod's own
    pub grace: Option<i64>,
    /// DisruptionTarget
    pub disruption: bool,
    /// it was never let in
    pub rejected: bool,
}

/// What a worker is told, latest value only.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// the pod
    pub pod: Arc<Pod>,
    /// where it comes from
    pub source: Source,
    /// it has vanished from its source
    pub gone: bool,
    /// the kubelet ends it
    pub kill: Option<KillOrder>,
    /// only the runtime knows it: no spec, short grace
    pub orphan: bool,
    /// static pods: the mirror pod in the API
    pub mirror: Option<Mirror>,
}

/// What counts of the mirror pod of a static pod.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// its UID
    pub uid: String,
    /// its resource version
    pub version: u64,
    /// its status
    pub status: Arc<PodStatus>,
}

/// The resource version of an object as a number; 0 without one.
pub fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Desired {
    pub(super) fn ending(&self) -> bool {
        self.gone || self.kill.is_some() || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// The worker of one pod.
pub struct Worker {
    pub(super) host: Arc<Host>,
    pub(super) uid: String,
    pub(super) rx: watch::Receiver<Desired>,
    pub(super) wake: Arc<Notify>,
    pub(super) desired: Desired,
    pub(super) phase: Phase,
    pub(super) results: Results,
    pub(super) probes: HashMap<(String, ProbeKind), tokio::task::AbortHandle>,
    pub(super) errors: HashMap<String, Waiting>,
    pub(super) crash: Backoff,
    pub(super) mounted: Mounted,
    pub(super) status: Arc<PodStatus>,
    pub(super) writer: Option<(String, StatusWriter)>,
    /// newest resource version the writer was told of
    seen: u64,
    failed: Option<Waiting>,
    pub(super) clean: bool,
    pub(super) cut_short: bool,
    /// held for reading while the runtime makes a sandbox or a container
    pub(super) making: Arc<tokio::sync::RwLock<()>>,
    pub(super) wake_at: Option<Instant>,
    /// delay before another try after an error, grows while errors last
    pub(super) retry: Duration,
    pub(super) mount_error: Option<String>,
    /// claims that are waited for
    pub(super) awaited: HashMap<String, tokio_util::task::AbortOnDropHandle<()>>,
    pub(super) cgroup_made: bool,
    pub(super) actuated: super::resize::Actuated,
    pub(super) resize_pending: Option<super::resize::Pending>,
}

pub(super) const FIRST_RETRY: Duration = Duration::from_millis(500);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);

impl Worker {
    /// Starts the worker; it ends once nothing of the pod is left. `done` gets the UID then.
    pub fn spawn(
        host: Arc<Host>,
        uid: String,
        rx: watch::Receiver<Desired>,
        done: tokio::sync::mpsc::UnboundedSender<String>,
    ) {
        let desired = rx.borrow().clone();
        let crash = Backoff::new(Duration::from_secs(10).min(host.crash_max()), host.crash_max());
        let status = Arc::new(desired.pod.status.clone().unwrap_or_default());
        let desired_pod = desired.pod.clone();
        let worker = Self {
            host: host.clone(),
            uid: uid.clone(),
            rx,
            wake: Arc::new(Notify::new()),
            desired,
            phase: Phase::Sync,
            results: Results::default(),
            probes: HashMap::new(),
            errors: HashMap::new(),
            crash,
            mounted: Mounted::default(),
            status,
            writer: None,
            seen: version(&desired_pod),
            failed: None,
            clean: false,
            cut_short: false,
            making: Arc::default(),
            wake_at: None,
            retry: FIRST_RETRY,
            mount_error: None,
            awaited: HashMap::new(),
            cgroup_made: false,
            actuated: HashMap::new(),
            resize_pending: None,
        };
        let ctx = host.ctx.clone();
        ctx.spawn("pod worker", async move {
            worker.run().await;
            let _ = done.send(uid);
        });
    }

    async fn run(mut self) {
        self.host.relist.seeded().await;
        self.host.relist.register(&self.uid, &self.wake);
        self.open_writer();
        self.adopt(&self.status.clone());
        if let Some(order) = &self.desired.kill {
            self.failed = Some((order.reason.clone(), order.message.clone()));
        }
        loop {
            self.take_desired();
            let view = self.host.relist.view(&self.uid);
            self.check_deadline();
            self.refresh_status(&view);
            let (phase, action) = self.decide(&view);
            if phase != self.phase {
                tracing::debug!(pod = %self.name(), from = ?self.phase, to = ?phase, "pod phase");
                self.enter(phase);
            }
            self.wake_at = None;
            let again = match action {
                Action::Forget => {
                    self.forget().await;
                    return;
                }
                other => self.act(other, &view).await,
            };
            if again {
                continue;
            }
            self.wait().await;
        }
    }

    fn decide(&self, view: &PodView) -> (Phase, Action) {
        let input = step::Input {
            pod: &self.desired.pod,
            view,
            probes: &self.results,
            gone: self.desired.gone,
            killed: self.killed(),
            terminal: self.terminal(),
            clean: self.clean,
            in_api: self.desired.source == Source::Api && !self.desired.orphan,
        };
        step::step(self.phase, &input)
    }

    fn killed(&self) -> Option<Option<i64>> {
        if self.desired.orphan {
            return Some(Some(1));
        }
        match (&self.desired.kill, &self.failed) {
            (Some(order), _) => Some(order.grace),
            (None, Some(_)) => Some(None),
            (None, None) => None,
        }
    }

    fn terminal(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Failed" | "Succeeded"))
    }

    fn take_desired(&mut self) {
        let new = self.rx.borrow_and_update().clone();
        let mirror_changed =
            new.mirror.as_ref().map(|m| &m.uid) != self.desired.mirror.as_ref().map(|m| &m.uid);
        if let Some(order) = &new.kill
            && self.failed.is_none()
        {
            self.failed = Some((order.reason.clone(), order.message.clone()));
        }
        self.desired = new;
        if mirror_changed {
            if let Some(Mirror { status: known, .. }) = self.desired.mirror.clone() {
                self.adopt(&known);
                if self.status.start_time.is_none() || self.status.phase.is_none() {
                    self.status = known;
                }
            }
            self.open_writer();
        }
        self.observe();
    }

    /// Lets the writer see what the API says, in case somebody else has changed it.
    fn observe(&mut self) {
        let seen = match self.desired.source {
            Source::Api => version(&self.desired.pod),
            _ => self.desired.mirror.as_ref().map_or(0, |m| m.version),
        };
        if seen <= self.seen {
            return;
        }
        self.seen = seen;
        let Some((_, writer)) = &self.writer else { return };
        let status = match &self.desired.mirror {
            Some(mirror) => mirror.status.clone(),
            None => Arc::new(self.desired.pod.status.clone().unwrap_or_default()),
        };
        writer.observe(seen, status);
    }

    /// The object in the API that carries the status: the pod itself, or the mirror of a static one.
    fn open_writer(&mut self) {
        if self.desired.orphan {
            return;
        }
        let target = match self.desired.source {
            Source::Api => {
                Some((self.uid.clone(), Arc::new(self.desired.pod.status.clone().unwrap_or_default())))
            }
            _ => self.desired.mirror.clone().map(|m| (m.uid, m.status)),
        };
        let Some((uid, known)) = target else {
            self.writer = None;
            return;
        };
        if self.writer.as_ref().is_some_and(|(u, _)| *u == uid) {
            return;
        }
        let m = &self.desired.pod.metadata;
        let (ns, name) = (m.namespace.clone().unwrap_or_default(), m.name.clone().unwrap_or_default());
        let writer = StatusWriter::start(self.host.ctx.clone(), &ns, &name, &uid, &known);
        if self.status.phase.is_some() {
            writer.set(self.status.clone());
        }
        self.writer = Some((uid, writer));
    }

    /// After a restart of the kubelet: verdicts of containers that still run are what the API says they were.
    fn adopt(&mut self, known: &PodStatus) {
        let view = self.host.relist.view(&self.uid);
        let old =
            known.container_statuses.iter().flatten().chain(known.init_container_statuses.iter().flatten());
        for s in old {
            let id = s.container_id.as_deref().and_then(|i| i.split("://").nth(1)).unwrap_or_default();
            let runs = view.containers.iter().any(|c| c.id == id && c.state == ContainerState::Running);
            if runs && s.started == Some(true) {
                self.results.set(id, ProbeKind::Startup, true);
            }
            if runs && let Some(resources) = &s.resources {
                self.actuated.insert(id.to_owned(), resources.clone());
            }
            if runs && s.ready {
                self.results.set(id, ProbeKind::Readiness, true);
            }
        }
    }

    fn check_deadline(&mut self) {
        let Some(limit) = self.desired.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds) else {
            return;
        };
        let Some(start) = &self.status.start_time else { return };
        let left = start.0.as_second() + limit - jiff::Timestamp::now().as_second();
        if left <= 0 && self.failed.is_none() && !self.terminal() {
            let text = "Pod was active on the node longer than the specified deadline";
            self.failed = Some(("DeadlineExceeded".into(), text.into()));
            self.event(NORMAL, "DeadlineExceeded", text);
        }
    }

    /// Generates the status and hands it to table and writer if it changed.
    pub(super) fn refresh_status(&mut self, view: &Arc<PodView>) {
        if self.desired.orphan {
            return;
        }
        let host_ips = self.host.host_ips();
        let running = view.any_running();
        let ended = self.phase >= Phase::Terminated || (self.phase == Phase::Terminating && !running);
        let mut status = generate::generate(&generate::Inputs {
            pod: &self.desired.pod,
            previous: &self.status,
            view,
            probes: &self.results,
            errors: &self.errors,
            host_ips: &host_ips,
            runtime_name: &self.host.runtime_name(),
            failed: self.failed.as_ref(),
            actuated: &self.actuated,
            resize_pending: self.resize_pending.as_ref(),
            rejected: self.desired.kill.as_ref().is_some_and(|k| k.rejected),
            terminating: self.phase >= Phase::Terminating || self.desired.ending(),
            terminal: ended,
            now: jiff::Timestamp::now(),
        });
        self.add_disruption(&mut status);
        let changed = *self.status != status;
        if changed {
            self.status = Arc::new(status);
        }
        let (status, view, terminating, finished) = (
            self.status.clone(),
            view.clone(),
            self.phase >= Phase::Terminating,
            self.phase == Phase::Finished,
        );
        self.host.ctx.pods.refresh(&self.uid, changed, |e| {
            e.status = status;
            e.view = view;
            e.terminating = terminating;
            e.finished = finished;
        });
        if changed && let Some((_, writer)) = &self.writer {
            writer.set(self.status.clone());
        }
    }

    fn add_disruption(&self, status: &mut PodStatus) {
        let Some(order) = self.desired.kill.as_ref().filter(|k| k.disruption) else { return };
        let list = status.conditions.get_or_insert_default();
        if list.iter().any(|c| c.type_ == "DisruptionTarget") {
            return;
        }
        list.push(PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some("TerminationByKubelet".into()),
            message: Some(order.message.clone()),
            last_transition_time: Some(Time(jiff::Timestamp::now())),
            observed_generation: self.desired.pod.metadata.generation,
            ..Default::default()
        });
    }

    fn enter(&mut self, phase: Phase) {
        if phase >= Phase::Terminating {
            self.errors.clear();
            self.stop_probes(|kind| kind != ProbeKind::Readiness);
        }
        if phase >= Phase::Terminated {
            self.stop_probes(|_| true);
        }
        self.phase = phase;
        let view = self.host.relist.view(&self.uid);
        self.refresh_status(&view);
    }

    async fn wait(&mut self) {
        let resync = self.host.ctx.config.file.sync_frequency.0.mul_f64(1.0 + rand::random::<f64>() * 0.5);
        let mut until = Instant::now() + resync;
        for at in [self.wake_at, self.token_time(), self.deadline_time()].into_iter().flatten() {
            until = until.min(at);
        }
        tokio::select! {
            changed = self.rx.changed() => {
                if changed.is_err() {
                    // the manager is gone: the process ends
                    std::future::pending::<()>().await;
                }
            }
            () = self.wake.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn token_time(&self) -> Option<Instant> {
        let at = self.mounted.again_at.filter(|_| self.phase == Phase::Sync)?;
        let left = u64::try_from(at - jiff::Timestamp::now().as_second()).unwrap_or(0);
        Some(Instant::now() + Duration::from_secs(left.max(1)))
    }

    fn deadline_time(&self) -> Option<Instant> {
        let limit =
            self.desired.pod.spec.as_ref()?.active_deadline_seconds.filter(|_| self.phase == Phase::Sync)?;
        let left =
            self.status.start_time.as_ref()?.0.as_second() + limit - jiff::Timestamp::now().as_second();
        Some(Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Looks again after `delay` at the latest.
    pub(super) fn wake_in(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }

    /// Records an event about the pod.
    pub(super) fn event(&self, kind: &'static str, reason: &str, message: impl Into<String>) {
        self.host.ctx.events.record(events::pod_ref(&self.desired.pod), kind, reason, message);
    }

    /// namespace/name for logs.
    pub(super) fn name(&self) -> String {
        let m = &self.desired.pod.metadata;
        format!("{}/{}", m.namespace.as_deref().unwrap_or_default(), m.name.as_deref().unwrap_or_default())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop_probes(|_| true);
    }
}
