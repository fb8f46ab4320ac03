//! The members of the etcd cluster: which one is talked to, when to turn to another, and with which certificate.
//!
//! All calls go to one member, the nearest that answers; a balancer inside the client library would spread them and
//! fail those that fall to a dead member. Whoever sees a member fail reports it and takes the next. A member that hangs
//! is found by asking it every second, and only if there is another to turn to; calls that wait for it are cut off.

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use daemon::cert::Reloading;
use etcd_client::{Client, ConnectOptions, GetOptions, KvClient, LeaseClient, TlsOptions, WatchClient};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Options;

/// How often the member in use is asked whether it is still there, and how long it may take to say so.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_millis(700);
/// A member that failed is passed over for this long, unless all did.
const SHUNNED: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
/// So many good answers in a row bring the nearest member back into use.
const RETURN_AFTER: u32 = 3;

/// What calls are made with. Belongs to one member and ends with `cut`.
#[derive(Clone)]
pub struct Clients {
    pub kv: KvClient,
    pub watch: WatchClient,
    pub lease: LeaseClient,
    /// Cancelled when the member is given up: what waits for it waits in vain.
    pub cut: CancellationToken,
    place: usize,
}

struct Member {
    endpoint: String,
    clients: Clients,
    failed: Option<Instant>,
}

struct State {
    members: Vec<Member>,
    current: usize,
    /// Of the certificates the clients were made with.
    generation: u64,
}

/// The members, nearest first.
pub struct Members {
    tls: Option<Reloading<TlsOptions>>,
    state: Mutex<State>,
    /// One rebuild at a time.
    rebuilding: tokio::sync::Mutex<()>,
    probe_key: String,
}

impl Members {
    /// Clients for all endpoints. Does not wait for them to answer. `probe_key` is what they are asked for.
    pub async fn connect(options: &Options, probe_key: String) -> Result<Arc<Self>> {
        let tls = match options.endpoints.iter().any(|e| e.starts_with("https://")) {
            true => Some(follow(options.clone())?),
            false => None,
        };
        let now = tls.as_ref().map(Reloading::current);
        let mut members = Vec::new();
        for (place, endpoint) in nearest_first(&options.endpoints).into_iter().enumerate() {
            let clients = connect(&endpoint, now.as_ref().map(|(tls, _)| (**tls).clone()), place).await?;
            members.push(Member { endpoint, clients, failed: None });
        }
        let state = State { members, current: 0, generation: now.map_or(0, |(_, g)| g) };
        let made =
            Arc::new(Self { tls, state: Mutex::new(state), rebuilding: Default::default(), probe_key });
        if options.endpoints.len() > 1 {
            tokio::spawn(watch_over(Arc::downgrade(&made)));
        }
        Ok(made)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.state.lock().members.len()
    }

    /// The member in use, over connections made with the certificate that is on disk now.
    pub async fn clients(&self) -> Clients {
        if let Some((tls, generation)) = self.tls.as_ref().map(Reloading::current)
            && self.state.lock().generation != generation
        {
            self.rebuild(&tls, generation).await;
        }
        let state = self.state.lock();
        // There is at least one, and `current` is one of them.
        state.members[state.current].clients.clone()
    }

    /// New connections with a new certificate. Those under way are let finish: what etcd has let in stays in.
    async fn rebuild(&self, tls: &TlsOptions, generation: u64) {
        let _alone = self.rebuilding.lock().await;
        let endpoints: Vec<String> = {
            let state = self.state.lock();
            if state.generation == generation {
                return;
            }
            state.members.iter().map(|m| m.endpoint.clone()).collect()
        };
        let mut made = Vec::new();
        for (place, endpoint) in endpoints.iter().enumerate() {
            match connect(endpoint, Some(tls.clone()), place).await {
                Ok(clients) => made.push(clients),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "etcd's new client certificate is unusable");
                    break;
                }
            }
        }
        let mut state = self.state.lock();
        state.generation = generation;
        if made.len() == endpoints.len() {
            for (member, clients) in state.members.iter_mut().zip(made) {
                let cut = member.clients.cut.clone();
                member.clients = Clients { cut, ..clients };
            }
        }
    }

    /// Says that a call failed for the member's sake. True if there is another to try it with.
    pub fn failed(&self, clients: &Clients) -> bool {
        let mut state = self.state.lock();
        let Some(member) = state.members.get_mut(clients.place) else { return false };
        member.failed = Some(Instant::now());
        if state.current != clients.place {
            return true;
        }
        let Some(next) = next(&state) else { return false };
        turn(&mut state, next);
        true
    }

    /// Uses a member known to answer.
    fn use_member(&self, place: usize) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.get_mut(place) {
            member.failed = None;
        }
        turn(&mut state, place);
    }

    fn current(&self) -> (usize, Clients) {
        let state = self.state.lock();
        (state.current, state.members[state.current].clients.clone())
    }

    async fn answers(&self, clients: Clients) -> bool {
        let options = GetOptions::new().with_count_only();
        let mut kv = clients.kv;
        let asked = kv.get(self.probe_key.as_str(), Some(options));
        matches!(tokio::time::timeout(PROBE, asked).await, Ok(Ok(_)))
    }

    /// The first of the others that answers.
    async fn answering(&self, but: usize) -> Option<usize> {
        let others: Vec<Clients> = {
            let state = self.state.lock();
            state.members.iter().map(|m| m.clients.clone()).filter(|c| c.place != but).collect()
        };
        let asking = others.into_iter().map(|clients| {
            Box::pin(async move {
                let place = clients.place;
                self.answers(clients).await.then_some(place).ok_or(())
            })
        });
        futures::future::select_ok(asking).await.ok().map(|(place, _)| place)
    }
}

/// The nearest of the others that has not failed lately, else the one whose failure is longest ago.
fn next(state: &State) -> Option<usize> {
    let fresh = |m: &Member| m.failed.is_none_or(|at| at.elapsed() > SHUNNED);
    let others = || state.members.iter().filter(|m| m.clients.place != state.current);
    let best = others().find(|m| fresh(m)).or_else(|| others().min_by_key(|m| m.failed));
    best.map(|m| m.clients.place)
}

/// Makes another member the one in use and cuts off what waits for the old one.
fn turn(state: &mut State, next: usize) {
    let old = state.current;
    if old == next {
        return;
    }
    state.current = next;
    let (from, to) = (&state.members[old].endpoint, &state.members[next].endpoint);
    tracing::warn!(from, to, "turning to another etcd member");
    let member = &mut state.members[old];
    std::mem::take(&mut member.clients.cut).cancel();
}

/// Asks the member in use whether it is there, turns to another when it is not, and back to the nearest when that has
/// been well for a while.
async fn watch_over(members: std::sync::Weak<Members>) {
    let mut well = 0;
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let Some(members) = members.upgrade() else { return };
        let (place, clients) = members.current();
        if !members.answers(clients).await {
            well = 0;
            if members.current().0 == place
                && let Some(next) = members.answering(place).await
            {
                members.use_member(next);
            }
            continue;
        }
        if place == 0 {
            continue;
        }
        let nearest = members.state.lock().members[0].clients.clone();
        well = if members.answers(nearest).await { well + 1 } else { 0 };
        if well >= RETURN_AFTER {
            well = 0;
            members.use_member(0);
        }
    }
}

async fn connect(endpoint: &str, tls: Option<TlsOptions>, place: usize) -> Result<Clients> {
    let mut options = ConnectOptions::new()
        .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
        .with_keep_alive_while_idle(true)
        .with_connect_timeout(CONNECT)
        .with_require_leader(true);
    if let Some(tls) = tls.filter(|_| endpoint.starts_with("https://")) {
        options = options.with_tls(tls);
    }
    let client = Client::connect([endpoint], Some(options)).await.context("etcd client")?;
    Ok(Clients {
        kv: client.kv_client().max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX),
        watch: client.watch_client().max_decoding_message_size(usize::MAX),
        lease: client.lease_client(),
        cut: CancellationToken::new(),
        place,
    })
}

/// The certificates, followed when their files are replaced.
fn follow(options: Options) -> Result<Reloading<TlsOptions>> {
    let paths: Vec<PathBuf> =
        [&options.ca, &options.cert, &options.key].into_iter().flatten().cloned().collect();
    Reloading::new(paths, move || tls(&options)).context("etcd client certificate")
}

fn tls(options: &Options) -> Result<TlsOptions> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut tls = TlsOptions::new();
    if let Some(ca) = &options.ca {
        tls = tls.ca_certificate(etcd_client::Certificate::from_pem(read(ca)?));
    }
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        let (cert, key) = (read(cert)?, read(key)?);
        // A pair that is only half replaced yet must not be taken.
        daemon::cert::certified_key(&cert, &key)?;
        tls = tls.identity(etcd_client::Identity::from_pem(cert, key));
    }
    Ok(tls)
}

/// Endpoints on this machine before others, else as given.
fn nearest_first(endpoints: &[String]) -> Vec<String> {
    let mut sorted = endpoints.to_vec();
    sorted.sort_by_key(|endpoint| !is_local(endpoint));
    sorted
}

fn is_local(endpoint: &str) -> bool {
    let host = endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let host = host.unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    // Only an address of this machine can be bound.
    ip.map_or(host == "localhost", |ip| UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_comes_first() {
        let given = [
            "https://192.0.2.7:2379",
            "https://[2001:db8::1]:2379",
            "https://127.0.0.1:2379",
            "http://localhost:1",
        ];
        let sorted = nearest_first(&given.map(String::from));
        assert_eq!(
            sorted,
            [
                "https://127.0.0.1:2379",
                "http://localhost:1",
                "https://192.0.2.7:2379",
                "https://[2001:db8::1]:2379"
            ]
        );
    }

    #[tokio::test]
    async fn a_member_that_fails_gives_way() {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(String::from).into();
        let options = Options { endpoints, ..Options::default() };
        let members = Members::connect(&options, "/health".into()).await.expect("clients");
        let first = members.clients().await;
        assert!(members.failed(&first));
        assert!(first.cut.is_cancelled());
        let second = members.clients().await;
        assert_eq!((second.place, second.cut.is_cancelled()), (1, false));
        assert!(members.failed(&first), "somebody else has turned already");
        assert!(members.failed(&second));
        assert_eq!(members.clients().await.place, 0, "the one whose failure is longest ago");
        members.use_member(1);
        let second = members.clients().await;
        members.use_member(0);
        let again = members.clients().await;
        assert_eq!((again.place, again.cut.is_cancelled(), second.cut.is_cancelled()), (0, false, true));
    }
}
