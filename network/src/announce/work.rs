//! The task: Leases and nodes in, answers on links out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NAMESPACE;
use super::endpoints::{self, Service};
use super::lease::{self, Claim};
use super::link::{self, Answering, Link};
use super::plan::{Act, DOUBT, View, decide, rank};
use crate::facts::Nodes;

/// After a write that failed.
const AGAIN: Duration = Duration::from_millis(400);
/// After finding no link for an address.
const NO_LINK: Duration = Duration::from_secs(10);
/// For leaving Leases to others when the agent ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Answers to others who claim an address we hold are given no more often.
const INSIST: Duration = Duration::from_secs(1);

/// Answers for the addresses whose Leases this node holds.
pub struct Announcer {
    node: String,
    client: Client,
    api: Api<Lease>,
    nodes: watch::Receiver<Arc<Nodes>>,
    addresses: BTreeMap<String, Address>,
    /// Names of a listing under way.
    listing: Option<BTreeSet<String>>,
    answering: Answering,
    writes: JoinSet<Written>,
    followed: BTreeMap<Service, (AbortHandle, Option<BTreeSet<String>>)>,
    tell: mpsc::Sender<(Service, BTreeSet<String>)>,
}

struct Address {
    lease: Lease,
    claim: Claim,
    /// When the Lease was first seen as it is.
    seen: Instant,
    /// When we last renewed it, while we answer.
    renewed: Option<Instant>,
    /// A write is under way.
    busy: bool,
    /// Nothing is tried before.
    pause: Option<Instant>,
    doubted: bool,
    insisted: Option<Instant>,
}

struct Written {
    name: String,
    began: Instant,
    /// The Lease was to be ours.
    ours: bool,
    result: anyhow::Result<Lease>,
}

type Channels = (mpsc::Receiver<IpAddr>, mpsc::Receiver<(Service, BTreeSet<String>)>);

impl Announcer {
    /// Runs until cancelled; then leaves what it holds to others.
    pub async fn run(
        node: String,
        client: Client,
        nodes: watch::Receiver<Arc<Nodes>>,
        token: CancellationToken,
    ) {
        let (heard, hears) = mpsc::channel(16);
        let (tell, told) = mpsc::channel(16);
        let mut announcer = Self {
            node,
            api: Api::namespaced(lease::as_announcer(&client), NAMESPACE),
            client,
            nodes,
            addresses: BTreeMap::new(),
            listing: None,
            answering: Answering::new(heard),
            writes: JoinSet::new(),
            followed: BTreeMap::new(),
            tell,
        };
        token.run_until_cancelled(announcer.work((hears, told))).await;
        announcer.leave().await;
    }

    async fn work(&mut self, (mut hears, mut told): Channels) {
        let stream = watcher(self.api.clone(), watcher::Config::default().any_semantic());
        let mut leases = Box::pin(stream.backoff(daemon::patience::Patience::default()));
        loop {
            let names: Vec<String> = self.addresses.keys().cloned().collect();
            let next = names.iter().filter_map(|name| self.look(name)).min();
            tokio::select! {
                event = leases.next() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                Some(done) = self.writes.join_next() => if let Ok(done) = done { self.written(done) },
                changed = self.nodes.changed() => if changed.is_err() { return },
                Some((service, nodes)) = told.recv() => {
                    if let Some(followed) = self.followed.get_mut(&service) {
                        followed.1 = Some(nodes);
                    }
                }
                Some(address) = hears.recv() => self.heard(address),
                () = until(next) => {}
            }
        }
    }

    fn event(&mut self, event: Result<Event<Lease>, watcher::Error>) {
        match event {
            Ok(Event::Init) => self.listing = Some(BTreeSet::new()),
            Ok(Event::InitApply(lease)) => {
                let name = lease.metadata.name.clone().unwrap_or_default();
                self.listing.get_or_insert_default().insert(name);
                self.take(lease);
            }
            Ok(Event::InitDone) => {
                let there = self.listing.take().unwrap_or_default();
                let gone: Vec<String> =
                    self.addresses.keys().filter(|n| !there.contains(*n)).cloned().collect();
                gone.iter().for_each(|name| self.forget(name));
            }
            Ok(Event::Apply(lease)) => self.take(lease),
            Ok(Event::Delete(lease)) => self.forget(lease.metadata.name.as_deref().unwrap_or_default()),
            Err(error) => tracing::debug!(%error, "watching addresses"),
        }
    }

    /// A Lease as it is, if that is news.
    fn take(&mut self, lease: Lease) {
        let name = lease.metadata.name.clone().unwrap_or_default();
        let Some(claim) = lease::read(&lease) else { return };
        match self.addresses.get_mut(&name) {
            Some(known) if known.lease.metadata.uid == lease.metadata.uid => {
                if lease::version(&lease) <= lease::version(&known.lease) {
                    return;
                }
                (known.lease, known.seen) = (lease, Instant::now());
                if known.claim != claim {
                    known.claim = claim;
                    self.follow();
                }
            }
            _ => {
                self.forget(&name);
                let address = Address {
                    lease,
                    claim,
                    seen: Instant::now(),
                    renewed: None,
                    busy: false,
                    pause: None,
                    doubted: false,
                    insisted: None,
                };
                self.addresses.insert(name, address);
                self.follow();
            }
        }
    }

    fn forget(&mut self, name: &str) {
        let Some(gone) = self.addresses.remove(name) else { return };
        if gone.renewed.is_some() {
            tracing::info!(address = %gone.claim.address, "the address is no longer in use");
            self.answering.withdraw(gone.claim.address);
        }
        self.follow();
    }

    /// Follows the endpoints of just those Services for which it matters.
    fn follow(&mut self) {
        let parties = self.addresses.values().flat_map(|a| &a.claim.parties).filter(|p| p.local);
        let wanted: BTreeSet<Service> = parties.map(|p| (p.namespace.clone(), p.name.clone())).collect();
        self.followed.retain(|service, (task, _)| {
            let kept = wanted.contains(service);
            if !kept {
                task.abort();
            }
            kept
        });
        for service in wanted {
            if !self.followed.contains_key(&service) {
                let task = endpoints::follow(self.client.clone(), service.clone(), self.tell.clone());
                self.followed.insert(service, (tokio::spawn(task).abort_handle(), None));
            }
        }
    }

    /// Nodes with endpoints, where it matters; while they are not known, none.
    fn local(&self, claim: &Claim) -> Option<BTreeSet<String>> {
        let parties = claim.parties.iter().filter(|p| p.local);
        let sets = parties.map(|p| {
            let known = self.followed.get(&(p.namespace.clone(), p.name.clone()));
            known.and_then(|(_, nodes)| nodes.clone()).unwrap_or_default()
        });
        sets.reduce(|a, b| &a & &b)
    }

    /// Does what is to be done about an address; when to look again, if nothing happens before.
    fn look(&mut self, name: &str) -> Option<Instant> {
        let now = Instant::now();
        let address = self.addresses.get(name).filter(|a| !a.busy)?;
        let nodes = self.nodes.borrow().clone();
        let claim = address.claim.clone();
        let view = View {
            me: &self.node,
            holder: lease::holder(&address.lease),
            seen: address.seen,
            length: lease::length(&address.lease),
            rank: rank(&self.node, claim.address, &nodes, self.local(&claim).as_ref()),
            renewed: address.renewed,
        };
        match decide(&view, now) {
            Act::Wait(until) => until,
            Act::Renew => self.renew(name, now),
            Act::Withdraw => {
                tracing::info!(address = %claim.address, holder = view.holder, "another node answers now");
                self.withdraw(name);
                self.look(name)
            }
            Act::Release => {
                tracing::info!(address = %claim.address, "leaving the address to other nodes");
                self.withdraw(name);
                self.write(name, false);
                None
            }
        }
    }

    fn withdraw(&mut self, name: &str) {
        if let Some(address) = self.addresses.get_mut(name) {
            (address.renewed, address.doubted) = (None, false);
            self.answering.withdraw(address.claim.address);
        }
    }

    fn renew(&mut self, name: &str, now: Instant) -> Option<Instant> {
        let address = self.addresses.get(name)?;
        if let Some(pause) = address.pause.filter(|p| *p > now) {
            return Some(pause);
        }
        if self.link(&address.claim).is_none() {
            let claim = address.claim.address;
            let held = lease::holder(&address.lease) == self.node;
            tracing::warn!(address = %claim, "no link of this node fits the address");
            self.withdraw(name);
            if let Some(address) = self.addresses.get_mut(name) {
                address.pause = Some(now + NO_LINK);
            }
            if held {
                self.write(name, false);
            }
            return Some(now + NO_LINK);
        }
        self.doubt(name, now);
        self.write(name, true);
        None
    }

    /// Says once that renewing fails.
    fn doubt(&mut self, name: &str, now: Instant) {
        let Some(address) = self.addresses.get_mut(name) else { return };
        if address.renewed.is_some_and(|at| now >= at + DOUBT)
            && !std::mem::replace(&mut address.doubted, true)
        {
            let ip = address.claim.address;
            tracing::warn!(address = %ip, "the lease can't be renewed; answering until another node is heard to");
        }
    }

    fn write(&mut self, name: &str, ours: bool) {
        let Some(address) = self.addresses.get_mut(name) else { return };
        address.busy = true;
        let (api, lease, name, node) =
            (self.api.clone(), address.lease.clone(), name.to_string(), self.node.clone());
        self.writes.spawn(async move {
            let began = Instant::now();
            let result = lease::write(&api, &lease, ours.then_some(node.as_str())).await;
            Written { name, began, ours, result }
        });
    }

    fn written(&mut self, done: Written) {
        let Some(address) = self.addresses.get_mut(&done.name) else { return };
        address.busy = false;
        let lease = match done.result {
            Ok(lease) => lease,
            Err(error) => {
                tracing::debug!(address = %address.claim.address, "writing the lease: {error:#}");
                address.pause = Some(Instant::now() + AGAIN);
                return;
            }
        };
        address.pause = None;
        self.take(lease);
        if done.ours {
            self.hold(&done.name, done.began);
        }
    }

    /// The Lease is ours since then: answers, if that has not begun.
    fn hold(&mut self, name: &str, since: Instant) {
        let Some(address) = self.addresses.get(name) else { return };
        let (ip, first) = (address.claim.address, address.renewed.is_none());
        let Some(link) = self.link(&address.claim) else { return };
        if !self.answering.holds(ip, &link) {
            self.answering.withdraw(ip);
            if let Err(error) = self.answering.hold(ip, &link) {
                tracing::warn!(address = %ip, "{error:#}");
                if let Some(address) = self.addresses.get_mut(name) {
                    address.pause = Some(Instant::now() + NO_LINK);
                }
                self.withdraw(name);
                self.write(name, false);
                return;
            }
        }
        if first {
            tracing::info!(address = %ip, link = link.name, "answering for the address");
        }
        if let Some(address) = self.addresses.get_mut(name) {
            (address.renewed, address.doubted) = (Some(since), false);
        }
    }

    fn link(&self, claim: &Claim) -> Option<Link> {
        let nodes = self.nodes.borrow();
        let own = nodes.get(&self.node).map(|f| f.ips.clone()).unwrap_or_default();
        let links = link::links().inspect_err(|error| tracing::warn!("{error:#}")).ok()?;
        link::choose(&links, claim.address, claim.interfaces.as_deref(), &own).cloned()
    }

    /// Another claims an address that we answer for. Who is sure of its Lease insists, who doubts yields.
    fn heard(&mut self, ip: IpAddr) {
        let found = self.addresses.iter_mut().find(|(_, a)| a.claim.address == ip && a.renewed.is_some());
        let Some((name, address)) = found else { return };
        let now = Instant::now();
        if address.renewed.is_some_and(|at| now >= at + DOUBT) {
            tracing::warn!(address = %ip, "another answers on the link, and the lease could not be renewed: yielding");
            let name = name.clone();
            return self.withdraw(&name);
        }
        if address.insisted.is_none_or(|at| now >= at + INSIST) {
            address.insisted = Some(now);
            self.answering.announce(ip);
        }
    }

    /// Stops answering, and leaves the Leases to others, so that nobody has to wait for them to run out.
    async fn leave(mut self) {
        self.followed.values().for_each(|(task, _)| task.abort());
        self.writes.shutdown().await;
        let held: Vec<Address> =
            std::mem::take(&mut self.addresses).into_values().filter(|a| a.renewed.is_some()).collect();
        held.iter().for_each(|a| self.answering.withdraw(a.claim.address));
        let farewells = held.iter().map(|a| give_up(&self.api, &a.lease, &self.node));
        let _ = tokio::time::timeout(FAREWELL, join_all(farewells)).await;
    }
}

/// Leaves a Lease; a renewal that was cut short may have made it another version.
async fn give_up(api: &Api<Lease>, lease: &Lease, node: &str) {
    if lease::write(api, lease, None).await.is_ok() {
        return;
    }
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    if let Ok(Some(fresh)) = api.get_opt(name).await
        && lease::holder(&fresh) == node
    {
        let _ = lease::write(api, &fresh, None).await;
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
