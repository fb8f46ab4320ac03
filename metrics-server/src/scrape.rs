//! Asking all kubelets, again and again.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::decode;
use crate::kubelet::Kubelets;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::watch::Seen;

/// Kubelets asked at the same time.
const TOGETHER: usize = 64;
/// Requests are spread over so long for each node, and over this long at most.
const SPREAD: (Duration, Duration) = (Duration::from_millis(8), Duration::from_secs(4));
/// A rate needs two points: after the first round the second follows sooner than usual.
const FIRST: Duration = Duration::from_secs(3);
/// Between two scrapes of a node that are not on schedule.
const APART: Duration = Duration::from_secs(3);
/// A container that is old enough by the calendar of its node should be so by ours.
const MARGIN: Duration = Duration::from_millis(300);

/// Reads all nodes at the resolution, and in between those on which a container has just started: what it uses is known
/// as soon as it can be, not only with the next round but one.
pub struct Scraper {
    kubelets: Kubelets,
    seen: Seen,
    store: Arc<Store>,
    metrics: Metrics,
    resolution: Duration,
    /// Nodes to be read before the next round, and when.
    early: Mutex<AHashMap<Arc<str>, Instant>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    began: Instant,
    good: bool,
}

impl Scraper {
    /// Nothing is asked until [`Scraper::run`].
    pub fn new(
        kubelets: Kubelets,
        seen: Seen,
        store: Arc<Store>,
        metrics: Metrics,
        resolution: Duration,
    ) -> Arc<Self> {
        let state = Mutex::new(State { began: Instant::now(), good: true });
        Arc::new(Self { kubelets, seen, store, metrics, resolution, early: Mutex::default(), state })
    }

    /// Goes on for ever. The first round waits until the nodes are known.
    pub async fn run(self: Arc<Self>) {
        self.seen.nodes.synced().await;
        self.round().await;
        tokio::time::sleep(FIRST).await;
        let mut tick = tokio::time::interval(self.resolution);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.early.lock().values().min().copied();
            tokio::select! {
                _ = tick.tick() => self.round().await,
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.between().await;
                }
            }
        }
    }

    /// Whether rounds begin when they should.
    ///
    /// # Errors
    /// With the reason.
    pub fn timely(&self) -> Result<(), String> {
        let (waited, most) =
            (self.state.lock().began.elapsed(), self.resolution.mul_f64(1.1) + SPREAD.1 + FIRST);
        if waited <= most {
            return Ok(());
        }
        Err(format!(
            "time since last tick ({waited:?}) was greater than expected metrics resolution ({most:?})"
        ))
    }

    /// Whether there is something to tell, and the last round reached anyone.
    ///
    /// # Errors
    /// With the reason.
    pub fn ready(&self) -> Result<(), String> {
        match (self.state.lock().good, self.store.ready()) {
            (false, _) => Err("last tick wasn't healthy".into()),
            (_, false) => Err("no metrics to serve".into()),
            _ => Ok(()),
        }
    }

    async fn round(self: &Arc<Self>) {
        let began = Instant::now();
        self.state.lock().began = began;
        let nodes = self.seen.nodes.list();
        self.store.retain(|name| self.seen.nodes.get("", name).is_some());
        self.early.lock().retain(|name, _| self.seen.nodes.get("", name).is_some());
        let spread = SPREAD.0.saturating_mul(u32::try_from(nodes.len()).unwrap_or(u32::MAX)).min(SPREAD.1);
        let none = nodes.is_empty();
        let good = self.all(nodes, spread).await;
        self.state.lock().good = good > 0 || none;
        self.metrics.tick(began.elapsed(), self.store.counts());
    }

    /// The nodes whose time has come.
    async fn between(self: &Arc<Self>) {
        let now = Instant::now();
        let due: Vec<Arc<str>> =
            self.early.lock().iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        self.early.lock().retain(|_, at| *at > now);
        let nodes = due.iter().filter_map(|name| self.seen.nodes.get("", name)).collect();
        self.all(nodes, Duration::ZERO).await;
    }

    /// How many answered.
    async fn all(self: &Arc<Self>, nodes: Vec<Arc<Node>>, spread: Duration) -> usize {
        let room = Arc::new(Semaphore::new(TOGETHER));
        let mut asked = JoinSet::new();
        for node in nodes {
            let (scraper, room) = (self.clone(), room.clone());
            let wait = spread.mul_f64(rand::random::<f64>());
            asked.spawn(async move {
                tokio::time::sleep(wait).await;
                let Ok(_place) = room.acquire().await else { return false };
                scraper.one(&node).await
            });
        }
        asked.join_all().await.into_iter().filter(|answered| *answered).count()
    }

    async fn one(&self, node: &Node) -> bool {
        let Some(name) = node.metadata.name.as_deref() else { return false };
        let began = Instant::now();
        let answer = self.kubelets.read(node).await;
        self.metrics.request(answer.is_ok(), began.elapsed());
        let text = match answer {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(node = name, "scrape failed: {error:#}");
                self.store.silence(name);
                return false;
            }
        };
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let name: Arc<str> = name.into();
        let wait = self.store.take(&name, decode::decode(&String::from_utf8_lossy(&text), now));
        match wait {
            Some(wait) => self.early.lock().insert(name, Instant::now() + (wait + MARGIN).max(APART)),
            None => self.early.lock().remove(&name),
        };
        true
    }
}
