//! Watches every deletable kind by metadata and feeds the graph.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use control::Queue;
use control::backoff::Backoff;
use control::runner::{self, Options};
use daemon::tasks::Tasks;
use futures::StreamExt;
use kube::api::{Api, PartialObjectMeta};
use kube::core::DynamicObject;
use kube::runtime::watcher;
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, watch};

use super::graph::{Graph, Look};
use super::work::Worker;
use crate::kit::discovery::{self, Resource};
use crate::kit::{Context, Kind};

/// Longest wait for all kinds to be listed before work begins; a kind that cannot be listed must not block it.
const SYNC_DEADLINE: Duration = Duration::from_secs(30);
/// Changes of definitions come in bursts; discovery follows once they have settled a little.
const SETTLE: Duration = Duration::from_millis(500);
/// Discovery is read anew at least this often, for changes that no object tells of (a server's upgrade).
const FALLBACK: Duration = Duration::from_secs(300);

/// Kinds by `apiVersion` and `kind`.
pub type Kinds = HashMap<(String, String), Resource>;

/// The graph with the queue of what to look at in it, and the kinds known.
#[derive(Clone)]
pub struct Shared {
    pub graph: Arc<Mutex<Graph>>,
    pub queue: Queue<Look>,
    pub kinds: Arc<RwLock<Kinds>>,
    /// Asks for discovery to be read again.
    pub rediscover: Arc<Notify>,
}

/// Starts the collector.
pub fn start(context: Context) {
    if !context.config.enable_garbage_collector {
        tracing::info!("garbage collection is turned off");
        return;
    }
    let shared = Shared {
        graph: Arc::default(),
        queue: Queue::new(),
        kinds: Arc::default(),
        rediscover: Arc::new(Notify::new()),
    };
    let workers = context.config.workers("gc", 20);
    let errors = context.metrics.register(
        "garbagecollector_controller_resources_sync_error",
        "Number of garbage collector resources sync errors",
        Counter::default(),
    );
    let tasks = context.tasks.clone();
    tasks.spawn("garbage-collector monitors", async move {
        let mut monitors =
            Monitors { context: context.clone(), shared: shared.clone(), running: HashMap::new(), errors };
        monitors.refresh().await;
        if tokio::time::timeout(SYNC_DEADLINE, monitors.synced()).await.is_err() {
            monitors.errors.inc();
            tracing::warn!("not all kinds are listed yet, garbage collection begins without them");
        }
        let worker = Arc::new(Worker::new(context.clone(), shared.clone()));
        runner::start(
            Options::new("garbage-collector-controller", workers),
            shared.queue.clone(),
            &context.tasks,
            move |look| {
                let worker = worker.clone();
                async move { worker.look(look).await }
            },
        );
        monitors.follow().await;
    });
}

struct Monitor {
    tasks: Tasks,
    synced: watch::Receiver<bool>,
}

struct Monitors {
    context: Context,
    shared: Shared,
    running: HashMap<Kind, Monitor>,
    /// How often what there is to watch could not be told, or not be listed.
    errors: Counter,
}

fn watched(resource: &Resource) -> bool {
    let events = resource.kind.plural == "events";
    !events && ["delete", "list", "watch"].iter().all(|v| resource.can(v))
}

impl Monitors {
    /// Reads discovery until it can be read, and starts and ends watches accordingly.
    async fn refresh(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let found = loop {
            match discovery::preferred(&self.context.root).await {
                Ok(found) => break found,
                Err(error) => {
                    self.errors.inc();
                    tracing::warn!(error = format!("{error:#}"), "discovery failed");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        };
        let by_kind =
            found.resources.iter().map(|r| ((r.kind.api_version(), r.kind.kind.to_string()), r.clone()));
        self.shared.kinds.write().extend(by_kind);
        let wanted: HashSet<Kind> =
            found.resources.iter().filter(|r| watched(r)).map(|r| r.kind.clone()).collect();
        // While a group cannot be asked, its watches stay: they come back by themselves.
        if !found.failed.is_empty() {
            self.errors.inc();
        } else {
            let gone: Vec<Kind> = self.running.keys().filter(|k| !wanted.contains(k)).cloned().collect();
            gone.iter().for_each(|kind| self.end(kind));
        }
        for kind in wanted {
            if !self.running.contains_key(&kind) {
                let monitor = self.begin(&kind);
                self.running.insert(kind, monitor);
            }
        }
    }

    fn begin(&self, kind: &Kind) -> Monitor {
        let tasks = self.context.tasks.child();
        let (sender, synced) = watch::channel(false);
        let (context, shared, kind) = (self.context.clone(), self.shared.clone(), kind.clone());
        tasks.spawn(format!("garbage-collector watch of {}", kind.plural), async move {
            follow(context, shared, kind, sender).await;
        });
        Monitor { tasks, synced }
    }

    fn end(&mut self, kind: &Kind) {
        let Some(monitor) = self.running.remove(kind) else { return };
        tracing::info!(kind = %kind.kind, "kind is no longer served");
        monitor.tasks.token().cancel();
        self.shared.kinds.write().remove(&(kind.api_version(), kind.kind.to_string()));
        let mut graph = self.shared.graph.lock();
        let gone: Vec<_> = graph.of_kind(&kind.api_version(), &kind.kind).cloned().collect();
        let looks: Vec<Look> = gone.iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        looks.into_iter().for_each(|l| self.shared.queue.add(l));
    }

    async fn synced(&self) {
        for monitor in self.running.values() {
            let mut synced = monitor.synced.clone();
            // An error: the watch has ended with the daemon.
            let _ = synced.wait_for(|s| *s).await;
        }
    }

    /// Reads discovery again when definitions change.
    async fn follow(mut self) {
        loop {
            let asked = self.shared.rediscover.clone();
            let _ = tokio::time::timeout(FALLBACK, asked.notified()).await;
            tokio::time::sleep(SETTLE).await;
            self.refresh().await;
        }
    }
}

fn definition(kind: &Kind) -> bool {
    matches!(kind.plural.as_ref(), "customresourcedefinitions" | "apiservices")
}

/// Takes news of a kind into the graph. `listed` are the objects a listing under way has shown; what it does not show
/// is gone.
pub(super) fn heed(
    graph: &mut Graph,
    (api_version, kind): (&str, &str),
    listed: &mut Option<HashSet<String>>,
    event: watcher::Event<PartialObjectMeta<DynamicObject>>,
) -> Vec<Look> {
    match event {
        watcher::Event::Init => {
            *listed = Some(HashSet::new());
            Vec::new()
        }
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            if let (Some(listed), Some(uid)) = (listed.as_mut(), &object.metadata.uid) {
                listed.insert(uid.clone());
            }
            graph.upsert(api_version, kind, &object.metadata)
        }
        watcher::Event::Delete(object) => graph.remove(object.metadata.uid.as_deref().unwrap_or_default()),
        watcher::Event::InitDone => {
            let seen = listed.take().unwrap_or_default();
            let all = graph.of_kind(api_version, kind);
            let mut gone: Vec<_> = all.filter(|u| !seen.contains(&***u)).cloned().collect();
            gone.sort_unstable();
            gone.iter().flat_map(|uid| graph.remove(uid)).collect()
        }
    }
}

async fn follow(context: Context, shared: Shared, kind: Kind, synced: watch::Sender<bool>) {
    let dynamic = kind.dynamic();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(context.root.clone(), &dynamic);
    let open = || Box::pin(watcher(api.clone(), watcher::Config::default().any_semantic()));
    let mut stream = open();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut listed: Option<HashSet<String>> = None;
    let api_version = kind.api_version();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(kind = %kind.kind, %error, "metadata watch failed");
                tokio::time::sleep(backoff.next_wait()).await;
                if control::cache::is_expired(&error) {
                    stream = open();
                }
                continue;
            }
        };
        if matches!(event, watcher::Event::InitDone) {
            synced.send_replace(true);
        }
        let looks = heed(&mut shared.graph.lock(), (&api_version, &kind.kind), &mut listed, event);
        backoff.reset();
        if definition(&kind) && *synced.borrow() {
            shared.rediscover.notify_one();
        }
        looks.into_iter().for_each(|look| shared.queue.add(look));
    }
}
