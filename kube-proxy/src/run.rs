//! The daemon: watches feed the proxies, and whatever came in together becomes one transaction.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashSet;
use anyhow::{Context, Result};
use daemon::files::FileWatch;
use daemon::nftables::{Guard, Heard};
use daemon::tasks::Tasks;
use futures::stream::{BoxStream, StreamExt};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::chains::{LocalTraffic, Settings};
use crate::config::{Config, DetectLocal};
use crate::events::Teller;
use crate::health::{Condition, NodePorts};
use crate::kernel::Kernel;
use crate::metrics::Metrics;
use crate::model::{Family, ServiceName};
use crate::parse::{HEADLESS_LABEL, PROXY_NAME_LABEL, Place, name_of};
use crate::proxier::Proxier;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const SCALE_DOWN_TAINT: &str = "ToBeDeletedByClusterAutoscaler";
/// How long to wait for the Node's addresses, and, for NodeCIDR, for its networks.
const NODE_PATIENCE: Duration = Duration::from_secs(30);
const CIDR_PATIENCE: Duration = Duration::from_secs(300);
/// Events taken together at most before the rules are brought up to date.
const TOGETHER: usize = 2000;
/// Time between two loads because somebody else changed our tables: with two proxies on one node neither gives in.
const BETWEEN_MENDS: Duration = Duration::from_secs(1);
/// First and longest pause after a failed transaction.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

type Watch<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

fn watch<K>(api: Api<K>, config: watcher::Config) -> Watch<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Clone,
{
    watcher(api, config.any_semantic()).backoff(daemon::patience::Patience::default()).boxed()
}

/// What the Node tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NodeFacts {
    ips: Vec<IpAddr>,
    zone: String,
    pod_cidrs: Vec<IpNet>,
    eligible: bool,
}

fn node_facts(node: &Node) -> NodeFacts {
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref()).into_iter().flatten();
    let of = |kind: &'static str| addresses.clone().filter(move |a| a.type_ == kind);
    let parsed = of("InternalIP").chain(of("ExternalIP")).filter_map(|a| a.address.parse().ok());
    let spec = node.spec.as_ref();
    let cidrs = spec.and_then(|s| s.pod_cidrs.as_ref()).into_iter().flatten().filter_map(|c| c.parse().ok());
    let tainted =
        spec.and_then(|s| s.taints.as_ref()).into_iter().flatten().any(|t| t.key == SCALE_DOWN_TAINT);
    let zone = node.metadata.labels.as_ref().and_then(|l| l.get(ZONE_LABEL));
    NodeFacts {
        ips: parsed.collect(),
        zone: zone.cloned().unwrap_or_default(),
        pod_cidrs: cidrs.collect(),
        eligible: node.metadata.deletion_timestamp.is_none() && !tainted,
    }
}

/// The node's first address of each family: those that serve node ports by default.
fn primary(facts: &NodeFacts, config: &Config) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = config.bind_address.into_iter().chain(facts.ips.iter().copied()).collect();
    let first = |family| all.iter().copied().find(|ip| Family::of(*ip) == family);
    let found: Vec<IpAddr> = [first(Family::V4), first(Family::V6)].into_iter().flatten().collect();
    if found.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { found }
}

fn settings(family: Family, config: &Config, facts: &NodeFacts) -> Settings {
    let of_family = |nets: &[IpNet]| nets.iter().find(|n| Family::of(n.addr()) == family).copied();
    let local = match &config.detect_local {
        DetectLocal::ClusterCidr => of_family(&config.cluster_cidrs).map(LocalTraffic::Network),
        DetectLocal::NodeCidr => of_family(&facts.pod_cidrs).map(LocalTraffic::Network),
        DetectLocal::BridgeInterface(name) => Some(LocalTraffic::Bridge(name.clone())),
        DetectLocal::InterfaceNamePrefix(name) => Some(LocalTraffic::Prefix(name.clone())),
    };
    Settings {
        family,
        node_ips: primary(facts, config).into_iter().filter(|ip| Family::of(*ip) == family).collect(),
        node_port_nets: config.node_port_nets.clone(),
        local: local.unwrap_or_default(),
        masquerade_bit: config.masquerade_bit,
        masquerade_all: config.masquerade_all,
    }
}

/// Removes the tables of both families.
pub fn cleanup(config: &Config) -> Result<()> {
    let kernel = Kernel::open().context("open a netlink socket")?;
    for family in [Family::V4, Family::V6] {
        let removed = kernel.remove(&settings(family, config, &NodeFacts::default()));
        if let Err(error) = removed {
            tracing::warn!(family = family.label(), %error, "cannot remove the table");
        }
    }
    Ok(())
}

/// Runs until cancelled.
pub async fn run(config: Config, client: Client, metrics: Metrics, token: CancellationToken) -> Result<()> {
    let mut nodes = watch(Api::<Node>::all(client.clone()), own_node(&config));
    daemon::notify::waiting("this machine's Node");
    let Some(facts) = token.run_until_cancelled(first_facts(&mut nodes, &config)).await else {
        return Ok(());
    };
    let families = families(&facts, &config);
    let condition = Condition::new(&families);
    condition.set_eligible(facts.eligible);
    let tasks = Tasks::new(token.clone());
    let teller = Teller::start(client.clone(), &config.node_name, &tasks);
    serve(&config, &condition, &metrics, &teller, &token);
    teller.started();
    daemon::notify::serving(&token);
    let mut proxiers = Vec::new();
    for family in families {
        let kernel = Kernel::open().context("open a netlink socket")?;
        let place = Place { node: config.node_name.clone(), zone: facts.zone.clone() };
        proxiers.push(Proxier::new(
            settings(family, &config, &facts),
            place,
            Box::new(kernel),
            metrics.clone(),
        ));
    }
    // Other networks than the node's own addresses may have any number of them here
    let ips = if config.node_port_nets.is_empty() { primary(&facts, &config) } else { Vec::new() };
    let ports = NodePorts::new(condition.clone(), ips, teller, token.clone());
    let daemon = Daemon {
        config,
        facts,
        proxiers,
        condition,
        ports,
        services: Listing::default(),
        slices: Listing::default(),
        cidrs: BTreeMap::new(),
        listed: BTreeMap::new(),
        cidrs_settled: false,
        client,
        guard: open_guard(),
        mended: None,
    };
    token.run_until_cancelled(daemon.work(nodes)).await.unwrap_or(Ok(()))
}

fn own_node(config: &Config) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={}", config.node_name))
}

fn families(facts: &NodeFacts, config: &Config) -> Vec<Family> {
    // Pods of a family have services of it, whether the node itself has an address of it or not.
    let pods = config.cluster_cidrs.iter().map(|net| Family::of(net.addr()));
    let mut list: Vec<Family> = Vec::new();
    for family in primary(facts, config).into_iter().map(Family::of).chain(pods) {
        if !list.contains(&family) {
            list.push(family);
        }
    }
    list
}

fn serve(
    config: &Config,
    condition: &Arc<Condition>,
    metrics: &Metrics,
    teller: &Teller,
    token: &CancellationToken,
) {
    if let Some(addr) = config.healthz {
        tokio::spawn(crate::health::serve(
            addr,
            condition.clone(),
            metrics.clone(),
            teller.clone(),
            token.clone(),
        ));
    }
    if let Some(addr) = config.metrics {
        let shown = crate::configz::shown(config);
        tokio::spawn(crate::health::serve_metrics(
            addr,
            metrics.clone(),
            shown,
            teller.clone(),
            token.clone(),
        ));
    }
}

/// Waits for the Node to have what is needed; without it goes on with what is there, as upstream does. As long as the
/// API server does not answer there is nothing to go on with: rules of an earlier run stay as they are.
async fn first_facts(nodes: &mut Watch<Node>, config: &Config) -> NodeFacts {
    let by_node = config.detect_local == DetectLocal::NodeCidr;
    let patience = if by_node { CIDR_PATIENCE } else { NODE_PATIENCE };
    let mut facts = NodeFacts::default();
    let mut end: Option<tokio::time::Instant> = None;
    while facts.ips.is_empty() || (by_node && facts.pod_cidrs.is_empty()) {
        let event = tokio::select! {
            event = nodes.next() => event,
            () = until(end) => {
                tracing::warn!(node = config.node_name, "the node has no addresses yet, going on without");
                return facts;
            }
        };
        match event {
            // The beginning of an attempt says nothing of its success
            Some(Ok(Event::Init)) => continue,
            Some(Ok(Event::Apply(node) | Event::InitApply(node))) => facts = node_facts(&node),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot watch the node");
                continue;
            }
            None => return facts,
        }
        end.get_or_insert_with(|| tokio::time::Instant::now() + patience);
    }
    facts
}

async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// A watch's listing under way: what has been seen since it began, so that the rest can be taken out at its end.
#[derive(Default)]
struct Listing {
    seen: HashSet<Arc<str>>,
    complete: bool,
}

struct Daemon {
    config: Config,
    facts: NodeFacts,
    proxiers: Vec<Proxier>,
    condition: Arc<Condition>,
    ports: NodePorts,
    services: Listing,
    slices: Listing,
    cidrs: BTreeMap<String, Vec<IpNet>>,
    /// Those of a listing under way.
    listed: BTreeMap<String, Vec<IpNet>>,
    /// Service networks are known, or known not to be had.
    cidrs_settled: bool,
    client: Client,
    guard: Option<Guard>,
    mended: Option<Instant>,
}

enum Input {
    Services(Vec<Result<Event<Service>, watcher::Error>>),
    Slices(Vec<Result<Event<EndpointSlice>, watcher::Error>>),
    Node(Box<Result<Event<Node>, watcher::Error>>),
    Cidr(Box<Result<Event<ServiceCIDR>, watcher::Error>>),
    Disturbed(Heard),
    Retry,
    End,
}

/// Waits for one event and takes with it all that are there already.
async fn some<K>(
    stream: &mut Pin<Box<futures::stream::ReadyChunks<Watch<K>>>>,
) -> Option<Vec<Result<Event<K>, watcher::Error>>>
where
    K: Send + 'static,
{
    stream.next().await
}

impl Daemon {
    async fn work(mut self, mut nodes: Watch<Node>) -> Result<()> {
        let config = |label: &str| watcher::Config::default().labels(&format!("!{label}"));
        let services = watch(Api::<Service>::all(self.client.clone()), config(PROXY_NAME_LABEL));
        let mut services = Box::pin(services.ready_chunks(TOGETHER));
        let slices = |client: &Client| {
            Box::pin(
                watch(Api::<EndpointSlice>::all(client.clone()), config(HEADLESS_LABEL))
                    .ready_chunks(TOGETHER),
            )
        };
        let mut slice_watch = slices(&self.client);
        let mut cidrs = watch(Api::<ServiceCIDR>::all(self.client.clone()), watcher::Config::default());
        let mut file = self.config.file.as_deref().and_then(watch_file);
        let own: Vec<u32> = self.proxiers.iter().filter_map(Proxier::port).collect();
        let mut pause: Option<Duration> = None;
        loop {
            let input = tokio::select! {
                x = some(&mut services) => x.map_or(Input::End, Input::Services),
                x = some(&mut slice_watch) => x.map_or(Input::End, Input::Slices),
                x = nodes.next() => x.map_or(Input::End, |e| Input::Node(Box::new(e))),
                x = cidrs.next() => x.map_or(Input::End, |e| Input::Cidr(Box::new(e))),
                () = rest(pause) => Input::Retry,
                x = heard(self.guard.as_ref(), &own) => Input::Disturbed(x),
                () = changed(&mut file) => anyhow::bail!("the configuration file changed, starting anew"),
            };
            match input {
                Input::Services(list) => list.into_iter().for_each(|e| self.on_service(e)),
                Input::Slices(list) => list.into_iter().for_each(|e| self.on_slice(e)),
                Input::Node(e) => {
                    if self.on_node(*e)? {
                        self.slices = Listing::default();
                        slice_watch = slices(&self.client);
                    }
                }
                Input::Cidr(e) => self.on_cidr(*e),
                Input::Disturbed(how) => {
                    if let Some(wait) = self.on_disturbance(how) {
                        pause = Some(wait);
                        continue;
                    }
                }
                Input::Retry => {}
                Input::End => anyhow::bail!("a watch ended"),
            }
            pause = self.sync(pause);
        }
    }

    fn on_service(&mut self, event: Result<Event<Service>, watcher::Error>) {
        let key = |s: &Service| name_of(s.metadata.namespace.as_deref(), s.metadata.name.as_deref());
        match event {
            Ok(Event::Init) => {
                self.services = Listing { complete: self.services.complete, ..Listing::default() }
            }
            Ok(Event::Apply(s)) => self.put_service(&key(&s), Some(&s)),
            Ok(Event::InitApply(s)) => {
                let name = key(&s);
                self.put_service(&name, Some(&s));
                self.services.seen.insert(name);
            }
            Ok(Event::Delete(s)) => self.put_service(&key(&s), None),
            Ok(Event::InitDone) => {
                let seen = std::mem::take(&mut self.services.seen);
                let known = self.proxiers.iter().flat_map(Proxier::service_names).collect::<HashSet<_>>();
                known.difference(&seen).for_each(|name| self.put_service(name, None));
                self.services.complete = true;
            }
            Err(error) => tracing::warn!(%error, "watching services"),
        }
    }

    fn put_service(&mut self, name: &ServiceName, service: Option<&Service>) {
        self.proxiers.iter_mut().for_each(|p| p.service(name, service));
    }

    fn on_slice(&mut self, event: Result<Event<EndpointSlice>, watcher::Error>) {
        let key = |s: &EndpointSlice| name_of(s.metadata.namespace.as_deref(), s.metadata.name.as_deref());
        match event {
            Ok(Event::Init) => self.slices = Listing { complete: self.slices.complete, ..Listing::default() },
            Ok(Event::Apply(s)) => self.put_slice(&key(&s), Some(&s)),
            Ok(Event::InitApply(s)) => {
                let name = key(&s);
                self.put_slice(&name, Some(&s));
                self.slices.seen.insert(name);
            }
            Ok(Event::Delete(s)) => self.put_slice(&key(&s), None),
            Ok(Event::InitDone) => {
                let seen = std::mem::take(&mut self.slices.seen);
                let known = self.proxiers.iter().flat_map(Proxier::slice_keys).collect::<HashSet<_>>();
                known.difference(&seen).for_each(|name| self.put_slice(name, None));
                self.slices.complete = true;
            }
            Err(error) => tracing::warn!(%error, "watching endpoint slices"),
        }
    }

    fn put_slice(&mut self, key: &Arc<str>, slice: Option<&EndpointSlice>) {
        for p in &mut self.proxiers {
            match slice {
                Some(s) => p.slice(key, s),
                None => p.slice_gone(key),
            }
        }
    }

    /// True when slices must be read anew because the node's place changed.
    fn on_node(&mut self, event: Result<Event<Node>, watcher::Error>) -> Result<bool> {
        let facts = match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => node_facts(&node),
            // The last copy of a deleted node stays in force, but load balancers should not count on it
            Ok(Event::Delete(_)) => NodeFacts { eligible: false, ..self.facts.clone() },
            Ok(_) => return Ok(false),
            Err(error) => {
                tracing::warn!(%error, "watching the node");
                return Ok(false);
            }
        };
        if self.config.detect_local == DetectLocal::NodeCidr && facts.pod_cidrs != self.facts.pod_cidrs {
            anyhow::bail!("the node's podCIDRs changed, starting anew");
        }
        let moved = facts.zone != self.facts.zone;
        self.condition.set_eligible(facts.eligible);
        self.facts = NodeFacts {
            ips: if facts.ips.is_empty() { self.facts.ips.clone() } else { facts.ips.clone() },
            ..facts
        };
        for p in &mut self.proxiers {
            p.set_settings(settings(p.family(), &self.config, &self.facts));
            p.set_place(Place { node: self.config.node_name.clone(), zone: self.facts.zone.clone() });
        }
        Ok(moved)
    }

    fn on_cidr(&mut self, event: Result<Event<ServiceCIDR>, watcher::Error>) {
        let nets = |c: &ServiceCIDR| {
            let listed = c.spec.as_ref().and_then(|s| s.cidrs.as_ref()).into_iter().flatten();
            listed.filter_map(|t| t.parse().ok()).collect::<Vec<IpNet>>()
        };
        let name = |c: &ServiceCIDR| c.metadata.name.clone().unwrap_or_default();
        match event {
            Ok(Event::Apply(c)) => drop(self.cidrs.insert(name(&c), nets(&c))),
            Ok(Event::Delete(c)) => drop(self.cidrs.remove(&name(&c))),
            // What is known stays in force until a listing is complete
            Ok(Event::Init) => return self.listed.clear(),
            Ok(Event::InitApply(c)) => return drop(self.listed.insert(name(&c), nets(&c))),
            Ok(Event::InitDone) => {
                self.cidrs = std::mem::take(&mut self.listed);
                self.cidrs_settled = true;
            }
            // An older API server does not know the kind
            Err(error) => {
                self.cidrs_settled = true;
                return tracing::debug!(%error, "watching service networks");
            }
        }
        let all: Vec<IpNet> = self.cidrs.values().flatten().copied().collect();
        self.proxiers.iter_mut().for_each(|p| p.service_networks(&all));
    }

    /// Somebody else changed the packet filter. Gives back how long to leave it so, when it was put right only just.
    fn on_disturbance(&mut self, how: Heard) -> Option<Duration> {
        match how {
            Heard::Foreign => self.proxiers.iter_mut().for_each(Proxier::distrust),
            Heard::TooMuch => self.proxiers.iter_mut().for_each(|p| _ = p.verify()),
        }
        if !self.proxiers.iter().any(Proxier::full) {
            return None;
        }
        let wait = self.mended.map_or(Duration::ZERO, |t| BETWEEN_MENDS.saturating_sub(t.elapsed()));
        if !wait.is_zero() {
            return Some(wait);
        }
        tracing::warn!("somebody else changed our tables, loading them anew");
        self.mended = Some(Instant::now());
        None
    }

    /// A step of one family. What others do to the table while it is loaded is not heard, so it is looked at after.
    fn step(&mut self, n: usize) -> std::io::Result<()> {
        let Some(p) = self.proxiers.get_mut(n) else { return Ok(()) };
        let guard = self.guard.as_ref().filter(|_| p.full());
        guard.iter().for_each(|g| g.cover());
        let done = tokio::task::block_in_place(|| p.sync());
        if let Some(g) = guard {
            g.uncover();
            if p.verify() {
                return Err(std::io::Error::other("the table was removed as it was loaded"));
            }
        }
        done
    }

    /// One step for each family. Nothing is loaded before all listings are complete, so that a restart never takes
    /// services away. Gives back how long to wait before trying again.
    fn sync(&mut self, pause: Option<Duration>) -> Option<Duration> {
        if !self.services.complete || !self.slices.complete || !self.cidrs_settled {
            return None;
        }
        let mut failed = false;
        for n in 0..self.proxiers.len() {
            let Some(family) = self.proxiers.get(n).filter(|p| p.pending()).map(Proxier::family) else {
                continue;
            };
            self.condition.queued(family);
            match self.step(n) {
                Ok(()) => self.condition.synced(family),
                Err(error) => {
                    tracing::error!(family = family.label(), %error, "cannot change the rules, will load all");
                    failed = true;
                }
            }
        }
        let ports = self.proxiers.iter().flat_map(|p| p.health_ports().clone()).collect();
        self.ports.update(&ports);
        failed.then(|| pause.map_or(RETRY.0, |p| (p * 2).min(RETRY.1)))
    }
}

async fn rest(pause: Option<Duration>) {
    match pause {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn watch_file(path: &std::path::Path) -> Option<FileWatch> {
    let watch = FileWatch::new(path);
    watch
        .inspect_err(|error| tracing::warn!(%error, file = %path.display(), "changes will not be noticed"))
        .ok()
}

async fn changed(file: &mut Option<FileWatch>) {
    if let Some(watch) = file
        && watch.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn open_guard() -> Option<Guard> {
    Guard::open(crate::chains::TABLE)
        .inspect_err(|error| tracing::warn!(%error, "changes of our tables by others will not be noticed"))
        .ok()
}

async fn heard(guard: Option<&Guard>, own: &[u32]) -> Heard {
    let Some(guard) = guard else { return std::future::pending().await };
    match guard.heard(own).await {
        Ok(what) => what,
        Err(error) => {
            tracing::warn!(%error, "the packet filter tells nothing any more");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn config() -> Config {
        let args = ["kube-proxy", "--hostname-override=n"].map(String::from);
        Config::from_flags(&crate::config::Flags::read(args.to_vec())).unwrap()
    }

    fn node() -> Node {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "n"},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.1"}]}}))
        .unwrap()
    }

    fn gone() -> watcher::Error {
        watcher::Error::NoResourceVersion
    }

    #[test]
    fn families_are_those_of_the_node_and_of_pods() {
        let facts = node_facts(&node());
        let mut config = config();
        assert_eq!(families(&facts, &config), [Family::V4]);
        config.cluster_cidrs = ["10.244.0.0/16", "fd00:244::/48"].map(|n| n.parse().unwrap()).to_vec();
        assert_eq!(families(&facts, &config), [Family::V4, Family::V6]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_waited_for() {
        let hours = stream::iter(0..4).then(|_| async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Err(gone())
        });
        let begin = stream::iter([Ok(Event::Init), Err(gone()), Ok(Event::Init)]);
        let end = stream::iter([Ok(Event::InitApply(node()))]);
        let facts = first_facts(&mut begin.chain(hours).chain(end).boxed(), &config()).await;
        assert_eq!(facts.ips, ["172.30.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_addresses_is_not_waited_for_long() {
        let nothing = stream::iter([Ok(Event::Init), Ok(Event::InitDone)]).chain(stream::pending());
        let begin = tokio::time::Instant::now();
        assert_eq!(first_facts(&mut nothing.boxed(), &config()).await, NodeFacts::default());
        assert_eq!(begin.elapsed(), NODE_PATIENCE);
    }
}
