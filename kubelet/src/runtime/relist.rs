//! What runs, kept up to date: CRI events where the runtime has them, a cheap relist otherwise.
//!
//! A relist is two list calls. Details (addresses, exit codes, messages) are asked for only when the list shows a
//! sandbox or container that is new or changed its state; nothing is asked at all while no pod is known.

use super::{Runtime, RuntimeError, cri};
use crate::context::Context;
use crate::pods::cri_config::keys;
use crate::pods::table::{ContainerState, PodView, RuntimeContainer, RuntimeSandbox};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// Time between relists without events.
const PERIOD: Duration = Duration::from_secs(1);
/// Time between relists when the runtime sends events.
const EVENTED_PERIOD: Duration = Duration::from_secs(300);
/// A relist older than this makes the node not ready.
const UNHEALTHY: Duration = Duration::from_secs(180);
/// The same while the runtime sends events, and relists are rare.
const EVENTED_UNHEALTHY: Duration = Duration::from_secs(600);
/// Longest termination message of one container, bytes.
const MESSAGE: usize = 4096;

#[derive(Default)]
struct Slot {
    view: Arc<PodView>,
    epoch: u64,
    wake: Option<Arc<Notify>>,
}

/// The kept views, one per pod.
pub struct Relist {
    runtime: Arc<dyn Runtime>,
    slots: Mutex<HashMap<String, Slot>>,
    last: Mutex<Option<Instant>>,
    evented: AtomicBool,
    kick: Notify,
    seeded: watch::Sender<bool>,
    orphans: mpsc::UnboundedSender<Arc<PodView>>,
}

struct Listed {
    sandboxes: Vec<cri::PodSandbox>,
    containers: Vec<cri::Container>,
}

impl Relist {
    /// A new keeper; views of pods nobody registered for go to `orphans`.
    pub fn new(runtime: Arc<dyn Runtime>, orphans: mpsc::UnboundedSender<Arc<PodView>>) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            slots: Mutex::default(),
            last: Mutex::new(None),
            evented: AtomicBool::new(false),
            kick: Notify::new(),
            seeded: watch::Sender::new(false),
            orphans,
        })
    }

    /// Waits for the first complete list: before it nobody knows what is already running.
    pub async fn seeded(&self) {
        let _ = self.seeded.subscribe().wait_for(|s| *s).await;
    }

    /// The view of a pod.
    pub fn view(&self, uid: &str) -> Arc<PodView> {
        self.slots.lock().get(uid).map(|s| s.view.clone()).unwrap_or_default()
    }

    /// All views.
    pub fn views(&self) -> Vec<Arc<PodView>> {
        self.slots.lock().values().map(|s| s.view.clone()).collect()
    }

    /// `wake` is notified when the pod's view changes.
    pub fn register(&self, uid: &str, wake: &Arc<Notify>) {
        self.slots.lock().entry(uid.to_owned()).or_default().wake = Some(wake.clone());
        self.kick.notify_one();
    }

    /// The pod's worker has ended.
    pub fn unregister(&self, uid: &str) {
        self.slots.lock().remove(uid);
    }

    /// A worker changed the pod itself and knows the outcome; a relist under way will not undo it.
    pub fn edit(&self, uid: &str, change: impl FnOnce(&mut PodView)) -> Arc<PodView> {
        let mut slots = self.slots.lock();
        let slot = slots.entry(uid.to_owned()).or_default();
        let mut view = (*slot.view).clone();
        change(&mut view);
        sort(&mut view);
        slot.view = Arc::new(view);
        slot.epoch += 1;
        slot.view.clone()
    }

    /// Is the last relist recent enough? The text is that of the node's condition.
    pub fn unhealthy(&self) -> Option<String> {
        let threshold = if self.evented.load(Ordering::Relaxed) { EVENTED_UNHEALTHY } else { UNHEALTHY };
        verdict(self.last.lock().map(|at| at.elapsed()), threshold)
    }

    /// Runs until the end of the process.
    pub async fn run(self: Arc<Self>, ctx: Arc<Context>) {
        loop {
            let mut events = match self.runtime.events().await {
                Ok(rx) => Some(rx),
                Err(e) => {
                    tracing::debug!(error = %e, "the runtime sends no events, relisting");
                    None
                }
            };
            self.evented.store(events.is_some(), Ordering::Relaxed);
            self.turns(&ctx, &mut events).await;
        }
    }

    async fn turns(&self, ctx: &Context, events: &mut Option<mpsc::Receiver<cri::ContainerEventResponse>>) {
        let mut retry = Duration::from_millis(100);
        loop {
            let idle = self.slots.lock().is_empty() && self.last.lock().is_some();
            if idle {
                // nothing can change while there is nothing
                *self.last.lock() = Some(Instant::now());
            } else if let Err(e) = self.relist(ctx).await {
                tracing::debug!(error = %e, "relist failed");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(Duration::from_secs(1));
                continue;
            }
            retry = Duration::from_millis(100);
            let period = if events.is_some() { EVENTED_PERIOD } else { PERIOD };
            let next_event = async {
                match events {
                    Some(rx) => rx.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                () = self.kick.notified(), if idle => {}
                alive = next_event => {
                    if !alive {
                        return;
                    }
                    // one relist answers a burst of events
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    while events.as_mut().is_some_and(|rx| rx.try_recv().is_ok()) {}
                }
            }
        }
    }

    /// Lists everything once and refreshes what changed.
    pub async fn relist(&self, ctx: &Context) -> Result<(), RuntimeError> {
        let epochs: HashMap<String, u64> =
            self.slots.lock().iter().map(|(k, s)| (k.clone(), s.epoch)).collect();
        let (sandboxes, containers) =
            futures::try_join!(self.runtime.list_sandboxes(None), self.runtime.list_containers(None))?;
        let (mut sandboxes_running, mut containers_running) = (0, 0);
        let mut by_pod: HashMap<String, Listed> = HashMap::new();
        for s in sandboxes {
            sandboxes_running += i64::from(s.state == cri::PodSandboxState::SandboxReady as i32);
            let uid = s.labels.get(keys::POD_UID).cloned().unwrap_or_default();
            entry(&mut by_pod, uid).sandboxes.push(s);
        }
        for c in containers {
            containers_running += i64::from(c.state == cri::ContainerState::ContainerRunning as i32);
            let uid = c.labels.get(keys::POD_UID).cloned().unwrap_or_default();
            entry(&mut by_pod, uid).containers.push(c);
        }
        ctx.metrics.running_pods.set(sandboxes_running);
        ctx.metrics.running_containers.set(containers_running);
        by_pod.remove("");
        for uid in epochs.keys() {
            entry(&mut by_pod, uid.clone());
        }
        for (uid, listed) in by_pod {
            self.refresh(&uid, listed, epochs.get(&uid).copied()).await;
        }
        *self.last.lock() = Some(Instant::now());
        self.seeded.send_replace(true);
        Ok(())
    }

    /// Lists one pod anew (before its end, to see what half-made things there are).
    pub async fn relist_pod(&self, uid: &str) -> Result<Arc<PodView>, RuntimeError> {
        let epoch = self.slots.lock().get(uid).map(|s| s.epoch);
        let (sandboxes, containers) = futures::try_join!(
            self.runtime.list_sandboxes(Some(uid)),
            self.runtime.list_containers(Some(uid))
        )?;
        self.refresh(uid, Listed { sandboxes, containers }, epoch).await;
        Ok(self.view(uid))
    }

    async fn refresh(&self, uid: &str, listed: Listed, epoch: Option<u64>) {
        let old = self.view(uid);
        if fingerprint_listed(&listed) == fingerprint(&old) {
            return;
        }
        let mut view = PodView { uid: uid.to_owned(), ..Default::default() };
        for s in &listed.sandboxes {
            view.sandboxes.push(self.sandbox(s, &old).await);
        }
        for c in &listed.containers {
            view.containers.push(self.container(c, &old).await);
        }
        if let Some(labels) =
            listed.sandboxes.first().map(|s| &s.labels).or(listed.containers.first().map(|c| &c.labels))
        {
            view.name = labels.get(keys::POD_NAME).cloned().unwrap_or_default();
            view.namespace = labels.get(keys::POD_NAMESPACE).cloned().unwrap_or_default();
        } else {
            view.name.clone_from(&old.name);
            view.namespace.clone_from(&old.namespace);
        }
        sort(&mut view);
        self.publish(uid, view, epoch);
    }

    fn publish(&self, uid: &str, view: PodView, epoch: Option<u64>) {
        let mut slots = self.slots.lock();
        let slot = match slots.get_mut(uid) {
            // edited meanwhile: the worker knows better
            Some(slot) if epoch.is_some_and(|e| e != slot.epoch) => return,
            Some(slot) => slot,
            None => slots.entry(uid.to_owned()).or_default(),
        };
        let empty = view.sandboxes.is_empty() && view.containers.is_empty();
        slot.view = Arc::new(view);
        slot.epoch += 1;
        match &slot.wake {
            Some(wake) => wake.notify_one(),
            None if empty => {
                slots.remove(uid);
            }
            None => {
                let view = slot.view.clone();
                drop(slots);
                let _ = self.orphans.send(view);
            }
        }
    }

    async fn sandbox(&self, s: &cri::PodSandbox, old: &PodView) -> RuntimeSandbox {
        let ready = s.state == cri::PodSandboxState::SandboxReady as i32;
        if let Some(known) = old.sandboxes.iter().find(|k| k.id == s.id) {
            return RuntimeSandbox { ready, ..known.clone() };
        }
        let mut out = RuntimeSandbox {
            id: s.id.clone(),
            attempt: s.metadata.as_ref().map_or(0, |m| m.attempt),
            ready,
            created_at: s.created_at,
            ..Default::default()
        };
        if let Ok(status) = self.runtime.sandbox_status(&s.id).await {
            fill_sandbox(&mut out, &status);
        }
        out
    }

    async fn container(&self, c: &cri::Container, old: &PodView) -> RuntimeContainer {
        let state = container_state(c.state);
        if let Some(known) = old.containers.iter().find(|k| k.id == c.id && k.state == state) {
            return known.clone();
        }
        match self.runtime.container_status(&c.id).await {
            Ok(status) => container_from_status(&c.pod_sandbox_id, &status),
            Err(_) => RuntimeContainer {
                name: c.labels.get(keys::CONTAINER_NAME).cloned().unwrap_or_default(),
                id: c.id.clone(),
                sandbox_id: c.pod_sandbox_id.clone(),
                state: ContainerState::Unknown,
                created_at: c.created_at,
                annotations: c.annotations.clone(),
                ..Default::default()
            },
        }
    }
}

/// What is wrong with a last relist of this age, if anything. Pure.
fn verdict(age: Option<Duration>, threshold: Duration) -> Option<String> {
    let whole = |d: Duration| crate::config::duration::format(Duration::from_secs(d.as_secs()));
    let Some(age) = age else { return Some("PLEG is not healthy: pleg has yet to be successful".into()) };
    (age > threshold).then(|| {
        let (age, threshold) = (whole(age), whole(threshold));
        format!("PLEG is not healthy: pleg was last seen active {age} ago; threshold is {threshold}")
    })
}

fn entry(map: &mut HashMap<String, Listed>, uid: String) -> &mut Listed {
    map.entry(uid).or_insert_with(|| Listed { sandboxes: Vec::new(), containers: Vec::new() })
}

fn sort(view: &mut PodView) {
    view.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
    view.containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
}

fn fingerprint(view: &PodView) -> Vec<(String, u8)> {
    let sandboxes = view.sandboxes.iter().map(|s| (s.id.clone(), u8::from(s.ready) + 10));
    let mut out: Vec<_> =
        sandboxes.chain(view.containers.iter().map(|c| (c.id.clone(), c.state as u8))).collect();
    out.sort();
    out
}

fn fingerprint_listed(l: &Listed) -> Vec<(String, u8)> {
    let ready = |s: &cri::PodSandbox| u8::from(s.state == cri::PodSandboxState::SandboxReady as i32) + 10;
    let sandboxes = l.sandboxes.iter().map(|s| (s.id.clone(), ready(s)));
    let mut out: Vec<_> = sandboxes
        .chain(l.containers.iter().map(|c| (c.id.clone(), container_state(c.state) as u8)))
        .collect();
    out.sort();
    out
}

/// State out of CRI's number.
pub fn container_state(state: i32) -> ContainerState {
    match cri::ContainerState::try_from(state) {
        Ok(cri::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(cri::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(cri::ContainerState::ContainerExited) => ContainerState::Exited,
        _ => ContainerState::Unknown,
    }
}

/// Addresses and namespaces out of a sandbox's status.
pub fn fill_sandbox(out: &mut RuntimeSandbox, status: &cri::PodSandboxStatus) {
    out.ready = status.state == cri::PodSandboxState::SandboxReady as i32;
    out.created_at = status.created_at;
    out.attempt = status.metadata.as_ref().map_or(0, |m| m.attempt);
    if let Some(network) = &status.network {
        let first = Some(network.ip.clone()).filter(|ip| !ip.is_empty());
        out.ips = first.into_iter().chain(network.additional_ips.iter().map(|a| a.ip.clone())).collect();
    }
    let options = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()?.options.as_ref());
    out.host_network = options.is_some_and(|o| o.network == cri::NamespaceMode::Node as i32);
}

/// A container's record out of its status; reads the termination message of one that ended.
pub fn container_from_status(sandbox: &str, s: &cri::ContainerStatus) -> RuntimeContainer {
    let note = |key: &str| s.annotations.get(key).cloned().unwrap_or_default();
    let state = container_state(s.state);
    let mut out = RuntimeContainer {
        name: s.labels.get(keys::CONTAINER_NAME).cloned().unwrap_or_default(),
        id: s.id.clone(),
        sandbox_id: sandbox.to_owned(),
        state,
        restart_count: note(keys::RESTART_COUNT).parse().unwrap_or(0),
        hash: note(keys::HASH),
        image: s.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        image_id: s.image_ref.clone(),
        created_at: s.created_at,
        started_at: s.started_at,
        finished_at: s.finished_at,
        exit_code: s.exit_code,
        reason: s.reason.clone(),
        message: s.message.clone(),
        log_path: PathBuf::from(&s.log_path),
        annotations: s.annotations.clone(),
    };
    if state == ContainerState::Exited {
        out.message = termination_message(s, &out).unwrap_or(out.message);
    }
    out
}

fn termination_message(s: &cri::ContainerStatus, c: &RuntimeContainer) -> Option<String> {
    let path = s.annotations.get(keys::MESSAGE_PATH)?;
    let host = s.mounts.iter().find(|m| &m.container_path == path).map(|m| m.host_path.clone());
    let from_file = host.and_then(|p| read_head(&PathBuf::from(p), MESSAGE)).filter(|t| !t.is_empty());
    if from_file.is_some() {
        return from_file;
    }
    let fall_back = s.annotations.get(keys::MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
    (fall_back && s.exit_code != 0).then(|| tail_of_log(&c.log_path)).flatten()
}

fn read_head(path: &std::path::Path, most: usize) -> Option<String> {
    use std::io::Read;
    let mut data = Vec::new();
    std::fs::File::open(path).ok()?.take(most as u64).read_to_end(&mut data).ok()?;
    Some(String::from_utf8_lossy(&data).into_owned())
}

/// Last 80 lines, at most 2048 bytes, of a CRI log without its line headers.
fn tail_of_log(path: &std::path::Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(16 * 1024))).ok()?;
    let mut data = Vec::new();
    file.read_to_end(&mut data).ok()?;
    let text = String::from_utf8_lossy(&data);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let mut tail = lines.get(lines.len().saturating_sub(80)..)?.join("\n");
    while tail.len() > 2048 {
        tail = tail.chars().skip((tail.len() - 2048).max(1)).collect();
    }
    Some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relist_too_long_ago_is_told_with_its_threshold() {
        let age = |s| Some(Duration::from_secs(s));
        assert!(verdict(None, UNHEALTHY).unwrap().contains("yet to be successful"));
        assert_eq!(verdict(age(180), UNHEALTHY), None);
        let text = verdict(age(200), UNHEALTHY).unwrap();
        assert_eq!(text, "PLEG is not healthy: pleg was last seen active 3m20s ago; threshold is 3m0s");
        // With events there are five minutes between two relists.
        assert_eq!(verdict(Some(EVENTED_PERIOD * 2), EVENTED_UNHEALTHY), None);
        assert!(verdict(age(601), EVENTED_UNHEALTHY).unwrap().ends_with("threshold is 10m0s"));
    }

    #[test]
    fn the_log_stands_in_for_a_message() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(&log, "2026-01-01T00:00:00Z stdout F one two\n2026-01-01T00:00:00Z stderr F bad\n")
            .unwrap();
        assert_eq!(tail_of_log(&log).as_deref(), Some("one two\nbad"));
        let status = |policy: &str, code| cri::ContainerStatus {
            state: cri::ContainerState::ContainerExited as i32,
            exit_code: code,
            log_path: log.display().to_string(),
            annotations: HashMap::from([
                (keys::MESSAGE_PATH.to_owned(), "/dev/termination-log".to_owned()),
                (keys::MESSAGE_POLICY.to_owned(), policy.to_owned()),
            ]),
            ..Default::default()
        };
        assert_eq!(container_from_status("s", &status("FallbackToLogsOnError", 1)).message, "one two\nbad");
        assert_eq!(container_from_status("s", &status("File", 1)).message, "");
        assert_eq!(container_from_status("s", &status("FallbackToLogsOnError", 0)).message, "");
    }
}
