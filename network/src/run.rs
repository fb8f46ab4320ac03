//! The daemon: node events in, files, rules and routes out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use daemon::files::DirWatch;
use daemon::nftables::Guard;
use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::announce::Announcer;
use crate::backend::Backend;
use crate::facts::{NodeFacts, Nodes, read};
use crate::routes::{Disturbances, Kernel};
use crate::{cni, masquerade};

/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Smallest packet size that IPv6 allows.
const SMALLEST: u32 = 1280;

/// What the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Own node.
    pub node_name: String,
    /// Networks of all pods; without them the nodes' podCIDRs count.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where the runtime looks for CNI configuration.
    pub conf_dir: PathBuf,
    /// Link to other nodes; found by the node's address when not given.
    pub iface: Option<String>,
    /// Answers for addresses of Services on its links.
    pub announce: bool,
}

/// Runs until cancelled.
pub async fn run(
    config: Config,
    client: Client,
    kernel: Arc<dyn Kernel>,
    backend: Box<dyn Backend>,
    disturbances: Disturbances,
    token: CancellationToken,
) -> Result<()> {
    daemon::notify::waiting("this machine's Node and its podCIDR");
    let (known, followed) = watch::channel(Arc::default());
    let announcing = config.announce.then(|| {
        tokio::spawn(Announcer::run(config.node_name.clone(), client.clone(), followed, token.clone()))
    });
    let agent = Agent {
        config,
        client,
        kernel,
        backend,
        nodes: Nodes::new(),
        known,
        listing: None,
        complete: false,
        ready: false,
        token: token.clone(),
        loaded: String::new(),
        written: None,
        guard: open_guard(),
        files: None,
    };
    let done = token.run_until_cancelled(agent.work(disturbances)).await.unwrap_or(Ok(()));
    token.cancel();
    if let Some(announcing) = announcing {
        announcing.await.context("announcing addresses")?;
    }
    done
}

struct Agent {
    config: Config,
    client: Client,
    kernel: Arc<dyn Kernel>,
    backend: Box<dyn Backend>,
    nodes: Nodes,
    /// Tells the announcer.
    known: watch::Sender<Arc<Nodes>>,
    /// Nodes of a listing under way.
    listing: Option<Nodes>,
    complete: bool,
    /// Everything was as it should be once, and the service manager was told.
    ready: bool,
    token: CancellationToken,
    loaded: String,
    /// What the CNI configuration was last written for, and with which packet size.
    written: Option<(NodeFacts, u32)>,
    /// Hears when others change our table.
    guard: Option<Guard>,
    /// Sees when others change the runtime's CNI configuration.
    files: Option<DirWatch>,
}

impl Agent {
    async fn work(mut self, mut disturbances: Disturbances) -> Result<()> {
        let api = Api::<Node>::all(self.client.clone());
        let stream = watcher(api, watcher::Config::default().any_semantic())
            .backoff(daemon::patience::Patience::default());
        let mut nodes = Box::pin(stream.ready_chunks(500));
        let mut pause = None;
        loop {
            let changed = tokio::select! {
                () = disturbed(self.guard.as_ref()) => {
                    self.loaded.clear();
                    true
                }
                () = disordered(&mut self.files) => {
                    self.written = None;
                    true
                }
                events = nodes.next() => {
                    let events = events.context("the watch of nodes ended")?;
                    events.into_iter().map(|e| self.event(e)).filter(|changed| *changed).count() > 0
                }
                () = disturbances.next() => true,
                () = rest(pause) => true,
            };
            if changed && self.complete {
                self.tell();
                pause = match self.apply().await {
                    Ok(()) => None,
                    Err(error) => {
                        tracing::warn!("{error:#}");
                        Some(longer(pause))
                    }
                };
            }
        }
    }

    /// Tells the announcer of the nodes, if they are others than it knows.
    fn tell(&self) {
        self.known.send_if_modified(|known| {
            let news = **known != self.nodes;
            if news {
                *known = Arc::new(self.nodes.clone());
            }
            news
        });
    }

    /// True when something changed that counts.
    fn event(&mut self, event: Result<Event<Node>, watcher::Error>) -> bool {
        let name = |n: &Node| n.metadata.name.clone().unwrap_or_default();
        match event {
            Ok(Event::Init) => self.listing = Some(Nodes::new()),
            Ok(Event::InitApply(n)) => {
                self.listing.get_or_insert_default().insert(name(&n), read(&n));
            }
            Ok(Event::InitDone) => {
                self.complete = true;
                let listed = self.listing.take().unwrap_or_default();
                return std::mem::replace(&mut self.nodes, listed.clone()) != listed;
            }
            Ok(Event::Apply(n)) => {
                let facts = read(&n);
                return self.nodes.insert(name(&n), facts.clone()) != Some(facts);
            }
            Ok(Event::Delete(n)) => return self.nodes.remove(&name(&n)).is_some(),
            Err(error) => tracing::warn!(%error, "watching nodes"),
        }
        false
    }

    /// Brings everything up to date. Routes come even if this node has no network of its own yet.
    async fn apply(&mut self) -> Result<()> {
        let routed = self.backend.apply(&self.nodes, &self.config.node_name).await;
        let Some(own) = self.nodes.get(&self.config.node_name).filter(|f| !f.cidrs.is_empty()).cloned()
        else {
            tracing::info!(node = self.config.node_name, "the node has no podCIDR yet");
            return routed;
        };
        self.masquerade(&own).await?;
        self.configure(&own).await?;
        routed?;
        if !own.available {
            self.announce().await?;
        }
        if !std::mem::replace(&mut self.ready, true) {
            daemon::notify::serving(&self.token);
        }
        Ok(())
    }

    async fn masquerade(&mut self, own: &NodeFacts) -> Result<()> {
        let cluster: Vec<IpNet> = match self.config.cluster_cidrs.as_slice() {
            [] => self.nodes.values().flat_map(|f| f.cidrs.iter().copied()).collect(),
            given => given.to_vec(),
        };
        let rules = masquerade::rules(&own.cidrs, &cluster);
        if rules == self.loaded {
            return Ok(());
        }
        self.guard.iter().for_each(Guard::cover);
        let done = masquerade::load(&rules).await.context("masquerading");
        self.guard.iter().for_each(Guard::uncover);
        done?;
        self.loaded = rules;
        Ok(())
    }

    async fn configure(&mut self, own: &NodeFacts) -> Result<()> {
        let link = self.kernel.mtu(own.ips.first().copied(), self.config.iface.as_deref()).await;
        let mtu = link.unwrap_or_else(|error| {
            tracing::warn!("{error:#}; taking the usual packet size");
            1500
        });
        let mtu = mtu.saturating_sub(self.backend.overhead()).max(SMALLEST);
        let same = |(w, size): &(NodeFacts, u32)| w.cidrs == own.cidrs && w.ips == own.ips && *size == mtu;
        if self.written.as_ref().is_some_and(same) {
            return Ok(());
        }
        if cni::install(&self.config.conf_dir, &cni::conflist(&own.cidrs, mtu))? {
            tracing::info!(cidrs = ?own.cidrs, mtu, "wrote the CNI configuration");
        }
        self.written = Some((own.clone(), mtu));
        if self.files.is_none() {
            self.files = watch_files(&self.config.conf_dir);
        }
        Ok(())
    }

    /// Tells schedulers and others that pods here can talk.
    async fn announce(&self) -> Result<()> {
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = serde_json::json!({"status": {"conditions": [{
            "type": "NetworkUnavailable", "status": "False", "reason": "CoxswainNetworkIsUp",
            "message": "coxswain-network is running on this node",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }]}});
        let api = Api::<Node>::all(self.client.clone());
        let params = PatchParams::default();
        api.patch_status(&self.config.node_name, &params, &Patch::Strategic(patch))
            .await
            .context("node condition")?;
        Ok(())
    }
}

fn open_guard() -> Option<Guard> {
    let guard = Guard::open(masquerade::TABLE);
    guard
        .inspect_err(|error| tracing::warn!(%error, "changes of our table by others will not be noticed"))
        .ok()
}

/// Waits until somebody else changed our table, or so much that nobody can tell.
async fn disturbed(guard: Option<&Guard>) {
    let Some(guard) = guard else { return std::future::pending().await };
    if let Err(error) = guard.heard(&[]).await {
        tracing::warn!(%error, "the packet filter tells nothing any more");
        std::future::pending().await
    }
    tracing::warn!("somebody else changed our table, loading it anew");
}

fn watch_files(dir: &std::path::Path) -> Option<DirWatch> {
    let watch = DirWatch::new(dir);
    watch
        .inspect_err(|error| tracing::warn!(%error, "changes of the CNI configuration will not be noticed"))
        .ok()
}

/// Waits until a file of the directory changed. Our own writing shows too, and is found to be right.
async fn disordered(files: &mut Option<DirWatch>) {
    let Some(watch) = files else { return std::future::pending().await };
    if watch.changed().await.is_err() {
        // The directory is gone; writing the file makes it again, and with it a new watch
        *files = None;
    }
}

async fn rest(pause: Option<Duration>) {
    match pause {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Twice as long as before, less up to a fifth so that nodes do not come in step.
fn longer(pause: Option<Duration>) -> Duration {
    let next = pause.map_or(RETRY.0, |p| (p * 2).min(RETRY.1));
    next.mul_f64(rand::random_range(0.8..=1.0))
}
