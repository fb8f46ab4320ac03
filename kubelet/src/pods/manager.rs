//! Who feeds the workers: pods of the API and of the manifest directory, orphans of the runtime, orders to kill.

use super::admission;
use super::host::Host;
use super::static_pods::{self, MIRROR, Mirrors};
use super::table::{PodView, Source};
use super::worker::{self, Desired, KillOrder, Mirror, Worker};
use crate::events::{self, WARNING};
use control::cache::Cache;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What the manager hears.
pub enum Message {
    /// a pod of the API is new or changed
    Api(Arc<Pod>),
    /// a pod of the API is gone
    Gone(Arc<Pod>),
    /// the manifests as they are now
    Static(Vec<Pod>),
    /// a pod to be ended by order of the kubelet (eviction)
    Kill(String, KillOrder),
}

/// The manager's state.
pub struct Manager {
    host: Arc<Host>,
    workers: HashMap<String, watch::Sender<Desired>>,
    mirrors: Arc<Mirrors>,
    orphans: HashMap<String, Arc<PodView>>,
    done_tx: mpsc::UnboundedSender<String>,
    static_uids: HashSet<String>,
    sources_ready: bool,
    /// pods created anew with the UID of one that is still ending
    waiting: HashMap<String, Desired>,
}

/// Everything the manager listens to.
pub struct Inputs {
    /// API pods and orders
    pub messages: mpsc::UnboundedReceiver<Message>,
    /// manifests; None without a directory
    pub manifests: Option<mpsc::Receiver<Vec<Pod>>>,
    /// pods only the runtime knows
    pub orphans: mpsc::UnboundedReceiver<Arc<PodView>>,
    /// the API's pods; None in standalone mode
    pub cache: Option<Cache<Pod>>,
}

/// Sends the changes of the pod cache to the manager.
pub fn forward(cache: &Cache<Pod>, tx: mpsc::UnboundedSender<Message>) {
    cache.handle(move |event| {
        let replaced = match (&event.old, &event.new) {
            (Some(old), Some(new)) if old.metadata.uid != new.metadata.uid => Some(old),
            (Some(old), None) => Some(old),
            _ => None,
        };
        if let Some(old) = replaced {
            let _ = tx.send(Message::Gone(old.clone()));
        }
        if let Some(new) = &event.new {
            let _ = tx.send(Message::Api(new.clone()));
        }
    });
}

fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn full_name(pod: &Pod) -> String {
    let m = &pod.metadata;
    format!("{}/{}", m.namespace.as_deref().unwrap_or("default"), m.name.as_deref().unwrap_or_default())
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR))
}

fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded"))
}

/// Runs until the end of the process.
pub async fn run(host: Arc<Host>, mirrors: Arc<Mirrors>, mut inputs: Inputs) {
    let (done_tx, mut done) = mpsc::unbounded_channel();
    let mut m = Manager {
        host: host.clone(),
        workers: HashMap::new(),
        mirrors,
        orphans: HashMap::new(),
        done_tx,
        static_uids: HashSet::new(),
        sources_ready: false,
        waiting: HashMap::new(),
    };
    if let Some(rx) = inputs.manifests.as_mut()
        && let Some(pods) = rx.recv().await
    {
        m.set_static(pods);
    }
    let synced = m.first_list(inputs.cache.clone());
    tokio::pin!(synced);
    let mut beat = tokio::time::interval(Duration::from_secs(10));
    let mut listed = false;
    loop {
        host.ctx.sync_loop_ns.store(super::host::now_ns(), Ordering::Relaxed);
        let next_manifests = async {
            match inputs.manifests.as_mut() {
                Some(rx) => rx.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // what is wanted is heard before what is to be reaped
            biased;
            pods = &mut synced, if !listed => {
                listed = true;
                for pod in pods {
                    m.api(pod);
                }
                m.sources_ready = true;
                m.reap_orphans();
            }
            Some(message) = inputs.messages.recv(), if listed => m.take(message),
            Some(pods) = next_manifests => m.take(Message::Static(pods)),
            Some(view) = inputs.orphans.recv() => m.orphan(view),
            Some(uid) = done.recv() => m.ended(&uid),
            _ = beat.tick() => {}
            else => std::future::pending::<()>().await,
        }
        host.ctx.metrics.desired_pods.set(i64::try_from(m.workers.len()).unwrap_or(0));
    }
}

impl Manager {
    /// The API's pods once they are known, those already running first, then by age.
    fn first_list(&self, cache: Option<Cache<Pod>>) -> impl Future<Output = Vec<Arc<Pod>>> + use<> {
        let host = self.host.clone();
        async move {
            let Some(cache) = cache else { return Vec::new() };
            cache.synced().await;
            let mut node = host.ctx.node.subscribe();
            // what the node has must be known before anything can be admitted
            let known = node.wait_for(|n| {
                !n.allocatable.is_empty() && (n.node.is_some() || !host.ctx.config.file.register_node)
            });
            let _ = tokio::time::timeout(Duration::from_secs(60), known).await;
            host.relist.seeded().await;
            let mut pods = cache.list();
            let started = |p: &Pod| p.status.as_ref().is_some_and(|s| s.start_time.is_some());
            pods.sort_by_key(|p| (!started(p), p.metadata.creation_timestamp.clone()));
            pods
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Api(pod) => self.api(pod),
            Message::Gone(pod) => self.gone(&pod),
            Message::Static(pods) => self.set_static(pods),
            Message::Kill(uid, order) => self.kill(&uid, order),
        }
    }

    fn api(&mut self, pod: Arc<Pod>) {
        if is_mirror(&pod) {
            self.mirror_seen(pod);
            return;
        }
        let uid = uid_of(&pod);
        if let Some(tx) = self.workers.get(&uid) {
            self.host.ctx.pods.update(&uid, |e| e.pod = pod.clone());
            tx.send_if_modified(|d| {
                let changed = *d.pod != *pod;
                d.pod = pod;
                d.orphan = false;
                changed
            });
            return;
        }
        let mut desired = Desired { pod: pod.clone(), source: Source::Api, ..Default::default() };
        desired.kill = self.admit(&pod, false);
        self.add(uid, desired);
    }

    /// None if the pod is taken, else the order to fail it.
    fn admit(&self, pod: &Pod, is_static: bool) -> Option<KillOrder> {
        let seen = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        let runs = !self.host.relist.view(&uid_of(pod)).containers.is_empty();
        if seen || runs || is_terminal(pod) || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let others: Vec<Arc<Pod>> = self
            .host
            .ctx
            .pods
            .list()
            .into_iter()
            .filter(|e| !e.finished && !matches!(e.status.phase.as_deref(), Some("Failed" | "Succeeded")))
            .map(|e| e.pod)
            .collect();
        let node = self.host.ctx.node.borrow().clone();
        let refusal = self.pressure(pod).or_else(|| {
            admission::admit(pod, &others, &node.allocatable, node.node.as_deref(), is_static).err()
        })?;
        self.host.ctx.metrics.admission_rejections.inc();
        self.host.ctx.events.record(events::pod_ref(pod), WARNING, &refusal.reason, refusal.message.clone());
        Some(KillOrder {
            reason: refusal.reason,
            message: format!("Pod was rejected: {}", refusal.message),
            grace: Some(1),
            disruption: false,
            rejected: true,
        })
    }

    fn pressure(&self, pod: &Pod) -> Option<admission::Refusal> {
        let p = *self.host.ctx.pressure.borrow();
        if super::resources::is_critical(pod) || !(p.memory || p.disk || p.pid) {
            return None;
        }
        if p.memory && !p.disk && !p.pid && super::resources::qos(pod) != super::resources::Qos::BestEffort {
            return None;
        }
        let names = [(p.disk, "DiskPressure"), (p.memory, "MemoryPressure"), (p.pid, "PIDPressure")];
        let list: Vec<&str> = names.iter().filter(|(on, _)| *on).map(|(_, n)| *n).collect();
        let message = format!("The node had condition: [{}]. ", list.join(" "));
        Some(admission::Refusal { reason: "Evicted".into(), message })
    }

    fn add(&mut self, uid: String, desired: Desired) {
        let cgroup = self.host.layout.path(super::resources::qos(&desired.pod), &uid);
        if !desired.orphan {
            self.host.ctx.pods.upsert(&uid, |e| {
                e.pod = desired.pod.clone();
                e.source = desired.source;
                e.status = Arc::new(desired.pod.status.clone().unwrap_or_default());
                e.cgroup = cgroup;
            });
        }
        self.orphans.remove(&uid);
        let (tx, rx) = watch::channel(desired);
        self.workers.insert(uid.clone(), tx);
        Worker::spawn(self.host.clone(), uid, rx, self.done_tx.clone());
    }

    fn gone(&mut self, pod: &Pod) {
        if is_mirror(pod) {
            let key = full_name(pod);
            let mut state = self.mirrors.state.lock();
            if state.present.get(&key).is_some_and(|p| p.metadata.uid == pod.metadata.uid) {
                state.present.remove(&key);
            }
            drop(state);
            self.mirrors.wake.notify_one();
            self.tell_static(&key, None);
            return;
        }
        if let Some(tx) = self.workers.get(&uid_of(pod)) {
            tx.send_modify(|d| d.gone = true);
        }
    }

    fn kill(&mut self, uid: &str, order: KillOrder) {
        if let Some(tx) = self.workers.get(uid) {
            tx.send_if_modified(|d| {
                let first = d.kill.is_none();
                if first {
                    d.kill = Some(order);
                }
                first
            });
        }
    }

    fn mirror_seen(&mut self, mirror: Arc<Pod>) {
        let key = full_name(&mirror);
        let fits = {
            let mut state = self.mirrors.state.lock();
            let fits = state.wanted.get(&key).is_some_and(|w| static_pods::mirrors(&mirror, w));
            state.present.insert(key.clone(), mirror.clone());
            fits
        };
        self.mirrors.wake.notify_one();
        if fits {
            self.tell_static(&key, Some(&mirror));
        }
    }

    /// Tells the worker of a static pod about its mirror.
    fn tell_static(&self, key: &str, mirror: Option<&Pod>) {
        let uid = self.mirrors.state.lock().wanted.get(key).map(|p| uid_of(p));
        let Some(tx) = uid.and_then(|u| self.workers.get(&u)) else { return };
        let new = mirror.map(|m| Mirror {
            uid: uid_of(m),
            version: worker::version(m),
            status: Arc::new(m.status.clone().unwrap_or_default()),
        });
        tx.send_if_modified(|d| {
            let identity = |m: &Option<Mirror>| m.as_ref().map(|m| (m.uid.clone(), m.version));
            let changed = identity(&d.mirror) != identity(&new);
            if changed {
                d.mirror = new;
            }
            changed
        });
    }

    fn set_static(&mut self, pods: Vec<Pod>) {
        let new: HashMap<String, Arc<Pod>> = pods.into_iter().map(|p| (uid_of(&p), Arc::new(p))).collect();
        for uid in self.static_uids.iter().filter(|u| !new.contains_key(*u)) {
            if let Some(tx) = self.workers.get(uid) {
                tx.send_modify(|d| d.gone = true);
            }
        }
        {
            let mut state = self.mirrors.state.lock();
            state.wanted = new.values().map(|p| (full_name(p), p.clone())).collect();
        }
        self.mirrors.wake.notify_one();
        self.static_uids = new.keys().cloned().collect();
        for (uid, pod) in new {
            let desired = Desired { pod: pod.clone(), source: Source::File, ..Default::default() };
            match self.workers.get(&uid) {
                Some(tx) if tx.borrow().gone => {
                    self.waiting.insert(uid, desired);
                }
                Some(_) => {}
                // the old version of the same pod must be gone first: they share ports and paths
                None if self.same_name_ending(&pod) => {
                    self.waiting.insert(uid, desired);
                }
                None => self.add(uid, desired),
            }
            let key = full_name(&pod);
            let mirror = self.mirrors.state.lock().present.get(&key).cloned();
            if let Some(m) = mirror.filter(|m| static_pods::mirrors(m, &pod)) {
                self.tell_static(&key, Some(&m));
            }
        }
    }

    fn same_name_ending(&self, pod: &Pod) -> bool {
        let name = full_name(pod);
        self.workers.iter().any(|(uid, tx)| {
            let d = tx.borrow();
            *uid != uid_of(pod) && d.source != Source::Api && !d.orphan && full_name(&d.pod) == name
        })
    }

    fn orphan(&mut self, view: Arc<PodView>) {
        if self.workers.contains_key(&view.uid) {
            return;
        }
        self.orphans.insert(view.uid.clone(), view);
        if self.sources_ready {
            self.reap_orphans();
        }
    }

    /// Pods that only the runtime knows are ended and cleaned away.
    fn reap_orphans(&mut self) {
        for (uid, view) in std::mem::take(&mut self.orphans) {
            if self.workers.contains_key(&uid) || (view.sandboxes.is_empty() && view.containers.is_empty()) {
                continue;
            }
            tracing::info!(pod = %format!("{}/{}", view.namespace, view.name), %uid, "ending a pod that only the runtime knows");
            let pod = Pod {
                metadata: ObjectMeta {
                    name: Some(view.name.clone()),
                    namespace: Some(view.namespace.clone()),
                    uid: Some(uid.clone()),
                    ..Default::default()
                },
                spec: Some(PodSpec { termination_grace_period_seconds: Some(1), ..Default::default() }),
                status: None,
            };
            self.add(uid, Desired { pod: Arc::new(pod), gone: true, orphan: true, ..Default::default() });
        }
    }

    fn ended(&mut self, uid: &str) {
        self.workers.remove(uid);
        self.host.ctx.pods.remove(uid);
        if let Some(desired) = self.waiting.remove(uid) {
            self.add(uid.to_owned(), desired);
            return;
        }
        let ready: Vec<String> = self
            .waiting
            .iter()
            .filter(|(u, d)| self.static_uids.contains(*u) && !self.same_name_ending(&d.pod))
            .map(|(u, _)| u.clone())
            .collect();
        for uid in ready {
            if let Some(desired) = self.waiting.remove(&uid) {
                self.add(uid, desired);
            }
        }
    }
}
