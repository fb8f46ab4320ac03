//! Leader election by a Lease object, with client-go's rules and timings.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use daemon::fence::Fence;
use daemon::metrics::Metrics;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::{Backoff, jitter};

/// Between attempts while a cluster starts, when the server does not answer or has no rules yet, and for how long.
const STARTING_RETRY: Duration = Duration::from_millis(150);
const STARTING: Duration = Duration::from_secs(10);

/// Names and timings of an election.
#[derive(Clone, Debug)]
pub struct Config {
    pub namespace: String,
    pub name: String,
    /// Unique among candidates: host name, underscore, a random part.
    pub identity: String,
    /// Others wait this long after the last renewal they saw.
    pub lease: Duration,
    /// The leader gives up when it could not renew for this long.
    pub renew: Duration,
    /// Between two attempts.
    pub retry: Duration,
}

impl Config {
    /// The usual timings: 15 s, 10 s, 2 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A candidate's identity: the host's name, an underscore, and an id.
///
/// A candidate that listens on `port` for as long as it may act gets an id that is the same after a restart: while a
/// listener holds an address in a network namespace nobody else can, so the former holder of this identity is dead,
/// and its lease may be taken up at once instead of waited out. Without a port the id is random.
pub fn identity(port: Option<SocketAddr>) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let host = read("/proc/sys/kernel/hostname");
    let boot = read("/proc/sys/kernel/random/boot_id");
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let id = match port.filter(|p| p.port() != 0 && !boot.is_empty()) {
        Some(port) => {
            stable_id(&format!("{host}|{boot}|{}|{}|{port}", read("/etc/machine-id"), network.display()))
        }
        None => Uuid::new_v4(),
    };
    format!("{host}_{id}")
}

fn stable_id(text: &str) -> Uuid {
    let digest = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Who leads, as this candidate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Not us; the holder's identity, if one is known.
    Following(Option<String>),
    Leading,
    /// We led and could not keep it: whoever acts as a leader must stop at once.
    Lost,
}

/// Where the lease is kept.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The lease, `None` if there is none.
    async fn get(&self) -> Result<Option<Lease>>;
    /// Makes it; an error if it exists by now.
    async fn create(&self, lease: Lease) -> Result<Lease>;
    /// Replaces it; an error if its resource version is not the newest.
    async fn update(&self, lease: Lease) -> Result<Lease>;
}

/// A lease in the API server.
pub struct ApiStore {
    api: Api<Lease>,
    name: String,
    deadline: Duration,
}

#[async_trait]
impl Store for ApiStore {
    async fn get(&self) -> Result<Option<Lease>> {
        Ok(tokio::time::timeout(self.deadline, self.api.get_opt(&self.name)).await.context("get lease")??)
    }

    async fn create(&self, lease: Lease) -> Result<Lease> {
        let params = PostParams::default();
        let call = self.api.create(&params, &lease);
        Ok(tokio::time::timeout(self.deadline, call).await.context("create lease")??)
    }

    async fn update(&self, lease: Lease) -> Result<Lease> {
        let params = PostParams::default();
        let call = self.api.replace(&self.name, &params, &lease);
        Ok(tokio::time::timeout(self.deadline, call).await.context("update lease")??)
    }
}

/// What an election tells monitoring, by the lease's name.
#[derive(Clone, Default)]
struct Tally {
    master: Gauge,
    slowpath: Counter,
}

impl Tally {
    fn register(metrics: &Metrics, lease: &str) -> Self {
        let labels = vec![("name".to_string(), lease.to_string())];
        let masters: Family<Vec<(String, String)>, Gauge> = metrics.register(
            "leader_election_master_status",
            "Whether this process holds the lease: 1 when it leads, 0 when it stands by",
            Family::default(),
        );
        let slow: Family<Vec<(String, String)>, Counter> = metrics.register(
            "leader_election_slowpath",
            "Renewals of a held lease that an update alone could not do",
            Family::default(),
        );
        Self { master: masters.get_or_create(&labels).clone(), slowpath: slow.get_or_create(&labels).clone() }
    }
}

/// A candidate.
pub struct LeaderElector {
    config: Config,
    store: Box<dyn Store>,
    state: watch::Sender<Leadership>,
    tally: Tally,
    fence: Fence,
    /// The record last seen and when (by our clock) it was first seen like that.
    observed: Option<(Lease, Instant)>,
}

impl LeaderElector {
    /// A candidate for a lease in the API server.
    pub fn new(client: kube::Client, config: Config) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        let store = ApiStore { api, name: config.name.clone(), deadline: config.renew / 2 };
        Self::with_store(Box::new(store), config)
    }

    /// A candidate for a lease kept anywhere.
    pub fn with_store(store: Box<dyn Store>, config: Config) -> Self {
        let state = watch::channel(Leadership::Following(None)).0;
        Self { config, store, state, tally: Tally::default(), fence: Fence::default(), observed: None }
    }

    /// Keeps `fence` open while this candidate surely leads, and closes it for good when it has led.
    pub fn fence(mut self, fence: &Fence) -> Self {
        self.fence = fence.clone();
        self
    }

    /// Shows in `metrics` whether this candidate leads.
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.tally = Tally::register(metrics, &self.config.name);
        self
    }

    /// How long this candidate goes on trying to renew, or to give back, the lease.
    pub fn patience(&self) -> Duration {
        self.config.renew
    }

    /// Follows who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.state.subscribe()
    }

    /// Stands for election, leads, and returns when leadership was lost or `token` was cancelled. A cancelled leader
    /// releases the lease, so that the next need not wait; cancel only when the leader's work has ended.
    pub async fn run(mut self, token: CancellationToken) {
        if token.run_until_cancelled(self.acquire()).await.is_none() {
            return;
        }
        tracing::info!(lease = self.config.name, identity = self.config.identity, "became leader");
        self.tally.master.set(1);
        self.state.send_replace(Leadership::Leading);
        if token.run_until_cancelled(self.keep()).await.is_none() {
            self.release().await;
            return;
        }
        self.fence.close();
        self.tally.master.set(0);
        tracing::error!(lease = self.config.name, "leadership lost");
        self.state.send_replace(Leadership::Lost);
    }

    async fn acquire(&mut self) {
        // A server that is not ready yet is asked again soon; one that says another leads, at the usual pace.
        let mut backoff = Backoff::new(STARTING_RETRY.min(self.config.retry), self.config.retry);
        let started = Instant::now();
        loop {
            match self.attempt().await {
                Some(true) => return,
                Some(false) => tokio::time::sleep(jitter(self.config.retry)).await,
                None if started.elapsed() < STARTING => tokio::time::sleep(jitter(STARTING_RETRY)).await,
                None => tokio::time::sleep(backoff.next_wait()).await,
            }
        }
    }

    /// Renews until that fails for the whole renew deadline.
    async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry).await;
            let deadline = renewed + self.config.renew;
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Some(true)) => renewed = Instant::now(),
                Ok(_) if Instant::now() < deadline => {}
                _ => return,
            }
        }
    }

    /// One try to take or renew the lease; `None` if the server could not be asked.
    async fn attempt(&mut self) -> Option<bool> {
        let begun = Instant::now();
        match self.try_hold().await {
            Ok(held) => {
                if held {
                    self.fence.renewed(begun, self.config.lease);
                }
                Some(held)
            }
            Err(error) => {
                tracing::debug!(
                    lease = self.config.name,
                    error = format!("{error:#}"),
                    "lease attempt failed"
                );
                // What we believe about the lease may be out of date; the next try reads it.
                if let Some((lease, _)) = &mut self.observed {
                    lease.metadata.resource_version = None;
                }
                None
            }
        }
    }

    async fn try_hold(&mut self) -> Result<bool> {
        // While we lead, nobody else may have changed the lease: an update alone tells.
        if let Some((lease, _)) = self.observed.clone()
            && holder(&lease) == Some(self.config.identity.as_str())
            && lease.metadata.resource_version.is_some()
        {
            let renewed = self.claim(&lease);
            let stored = self.store.update(renewed).await.inspect_err(|_| _ = self.tally.slowpath.inc())?;
            self.observe(stored);
            return Ok(true);
        }
        let Some(current) = self.store.get().await? else {
            let fresh = self.claim(&Lease::default());
            let stored = self.store.create(fresh).await?;
            self.observe(stored);
            return Ok(true);
        };
        self.observe(current.clone());
        if self.held_by_other(&current) {
            return Ok(false);
        }
        let stored = self.store.update(self.claim(&current)).await?;
        self.observe(stored);
        Ok(true)
    }

    fn held_by_other(&self, current: &Lease) -> bool {
        let Some(holder) = holder(current).filter(|h| *h != self.config.identity) else { return false };
        let seen = self.observed.as_ref().map_or_else(Instant::now, |(_, at)| *at);
        let seconds = current.spec.as_ref().and_then(|s| s.lease_duration_seconds);
        let length = seconds.map_or(self.config.lease, |s| Duration::from_secs(s.max(0) as u64));
        let valid = seen + length > Instant::now();
        if valid {
            let known = Leadership::Following(Some(holder.to_string()));
            self.state.send_if_modified(|s| std::mem::replace(s, known.clone()) != known);
        }
        valid
    }

    fn observe(&mut self, lease: Lease) {
        let unchanged = self.observed.as_ref().filter(|(old, _)| old.spec == lease.spec).map(|(_, at)| *at);
        self.observed = Some((lease, unchanged.unwrap_or_else(Instant::now)));
    }

    /// `current` as it looks once it is ours.
    fn claim(&self, current: &Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = current.spec.clone().unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(self.config.identity.as_str());
        let fresh = current.metadata.name.is_none();
        let mut lease = current.clone();
        lease.metadata.name = Some(self.config.name.clone());
        lease.metadata.namespace = Some(self.config.namespace.clone());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(self.config.lease.as_secs() as i32),
            acquire_time: if ours { old.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!ours && !fresh)),
            ..old
        });
        lease
    }

    /// Leaves the lease without a holder and with the shortest duration, as client-go does.
    async fn release(&mut self) {
        self.tally.master.set(0);
        let Some((mut lease, _)) = self.observed.take() else { return };
        if holder(&lease) != Some(self.config.identity.as_str()) {
            return;
        }
        let now = MicroTime(Timestamp::now());
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(now.clone());
            spec.acquire_time = Some(now);
        }
        match self.store.update(lease).await {
            Ok(_) => tracing::info!(lease = self.config.name, "lease released"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "lease could not be released"),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|h| !h.is_empty())
}

#[cfg(test)]
pub(crate) mod memory;

#[cfg(test)]
mod tests {
    use super::memory::Memory;
    use super::*;

    fn start(store: &Memory, identity: &str) -> (watch::Receiver<Leadership>, CancellationToken) {
        let config = Config::new("kube-system", "test", identity);
        let elector = LeaderElector::with_store(Box::new(store.clone()), config);
        let (receiver, token) = (elector.leadership(), CancellationToken::new());
        tokio::spawn(elector.run(token.clone()));
        (receiver, token)
    }

    async fn secs(n: u64) {
        tokio::time::sleep(Duration::from_secs(n)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_a_release_hands_over_quickly() {
        let store = Memory::default();
        let (a, stop_a) = start(&store, "a");
        secs(1).await;
        let (b, _stop_b) = start(&store, "b");
        secs(60).await;
        assert_eq!(*a.borrow(), Leadership::Leading);
        assert_eq!(*b.borrow(), Leadership::Following(Some("a".into())));
        stop_a.cancel();
        secs(4).await;
        assert_eq!((b.borrow().clone(), store.holder()), (Leadership::Leading, Some("b".into())));
        let spec = store.get().await.unwrap().and_then(|l| l.spec).unwrap();
        assert_eq!(spec.lease_transitions, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_cut_off_gives_up_before_another_takes_over() {
        let store = Memory::default();
        let (a, _stop) = start(&store, "a");
        secs(3).await;
        store.cut(true);
        secs(9).await;
        assert_eq!(*a.borrow(), Leadership::Leading);
        secs(4).await;
        assert_eq!(*a.borrow(), Leadership::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_after_the_lease() {
        let (store, fence) = (Memory::default(), Fence::default());
        let elector =
            LeaderElector::with_store(Box::new(store.clone()), Config::new("kube-system", "test", "a"));
        tokio::spawn(elector.fence(&fence).run(CancellationToken::new()));
        secs(60).await;
        assert!(fence.is_open(), "each renewal opens it anew");
        // As a process finds itself that was stopped: its timers have not run, and it is much later.
        fence.renewed(Instant::now() - Duration::from_secs(20), Duration::from_secs(15));
        assert!(!fence.is_open());
        secs(3).await;
        assert!(fence.is_open());
        store.cut(true);
        secs(13).await;
        assert!(!fence.is_open(), "leadership lost");
    }

    #[tokio::test(start_paused = true)]
    async fn monitoring_sees_who_leads() {
        let (store, metrics) = (Memory::default(), Metrics::new());
        let elector =
            LeaderElector::with_store(Box::new(store.clone()), Config::new("kube-system", "test", "a"));
        let elector = elector.metrics(&metrics);
        let shows = |line: &str| metrics.encode().lines().any(|l| l == line);
        assert!(shows("leader_election_master_status{name=\"test\"} 0"));
        tokio::spawn(elector.run(CancellationToken::new()));
        secs(3).await;
        assert!(shows("leader_election_master_status{name=\"test\"} 1"));
        store.cut(true);
        secs(13).await;
        assert!(shows("leader_election_master_status{name=\"test\"} 0"), "{}", metrics.encode());
        assert!(!shows("leader_election_slowpath_total{name=\"test\"} 0"), "{}", metrics.encode());
    }

    #[test]
    fn an_identity_is_bound_to_its_port() {
        let at = |port: u16| identity(Some(SocketAddr::from(([127, 0, 0, 1], port))));
        assert_eq!(at(10257), at(10257));
        assert_ne!(at(10257), at(10258));
        assert_ne!(identity(None), identity(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_leader_is_followed_by_itself_at_once() {
        let store = Memory::default();
        let config = Config::new("kube-system", "test", "host_1");
        let dead = LeaderElector::with_store(Box::new(store.clone()), config);
        store.put(dead.claim(&Lease::default()), true).unwrap();
        let (again, _stop) = start(&store, "host_1");
        secs(1).await;
        assert_eq!(*again.borrow(), Leadership::Leading);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_leader_is_replaced_after_its_lease() {
        let store = Memory::default();
        let other =
            LeaderElector::with_store(Box::new(store.clone()), Config::new("kube-system", "test", "dead"));
        store.put(other.claim(&Lease::default()), true).unwrap();
        let (b, _stop) = start(&store, "b");
        secs(14).await;
        assert_eq!(*b.borrow(), Leadership::Following(Some("dead".into())));
        secs(5).await;
        assert_eq!(*b.borrow(), Leadership::Leading);
    }
}
