//! The store kept in etcd.

mod finishing;
mod members;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
    WatchOptions, WatchResponse,
};
use finishing::Finishing;
use members::{Clients, Members};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Along, Batch, Error, Event, Kv, Outcome, Page, Read, Storage, Watch};

/// Deadline of reads and writes; clients retry what fails.
const CALL: Duration = Duration::from_secs(5);
/// Deadline of one page of a list, which may be large.
const LIST: Duration = Duration::from_secs(30);
/// Batches a watch may have waiting.
const WATCH_BUFFER: usize = 256;
/// One etcd lease serves keys written within this time, up to so many.
const LEASE_SHARE: Duration = Duration::from_secs(60);
const LEASE_KEYS: u32 = 1000;
/// Shorter lives are counted exactly: their leases are not shared.
const LEASE_SHARED_FROM: Duration = Duration::from_secs(60);
/// What is lost in a change of the leader is only given up by etcd after six seconds; where asking again does no harm,
/// it is asked again after this part of a call's deadline.
const PATIENCE: u32 = 3;
/// Pause before a call is tried again with the same member.
const AGAIN: Duration = Duration::from_millis(100);
/// The key that coordinates compaction between API servers, as upstream's.
const COMPACT_KEY: &str = "compact_rev_key";

/// How to reach etcd.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Endpoints, `https://host:port`.
    pub endpoints: Vec<String>,
    /// CA of the servers.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

struct Lease {
    id: i64,
    made: Instant,
    keys: u32,
}

/// etcd, as a store.
pub struct Etcd {
    members: Arc<Members>,
    leases: tokio::sync::Mutex<HashMap<u64, Lease>>,
    ask_progress: Arc<Notify>,
    read_key: String,
}

/// Why a call to etcd failed, and what is known about it.
struct Failed {
    error: Error,
    /// It never got to the point of changing anything.
    before: bool,
    /// The member's fault, or that of the whole cluster: not the caller's.
    passing: bool,
    /// There was no answer in the time given.
    silent: bool,
}

impl Etcd {
    /// A client of these endpoints. Does not wait for them to answer. `prefix` is what all keys begin with.
    pub async fn connect(options: &Options, prefix: &str) -> anyhow::Result<Self> {
        let read_key = format!("{prefix}/health");
        Ok(Self {
            members: Members::connect(options, read_key.clone()).await?,
            leases: tokio::sync::Mutex::default(),
            ask_progress: Arc::default(),
            read_key,
        })
    }

    /// A call that may be made twice. Goes on with other members, and through a change of the leader, until `deadline`.
    async fn ask<T, F, W>(&self, deadline: Duration, call: F) -> Result<T, Error>
    where
        F: Fn(Clients) -> W,
        W: Future<Output = Result<T, etcd_client::Error>>,
    {
        let until = Instant::now() + deadline;
        let mut tried = 0;
        loop {
            let clients = self.members.clients().await;
            let limit = until.min(Instant::now() + deadline / PATIENCE);
            let failed = match once(&clients, limit, call(clients.clone())).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tried += 1;
            if !self.again(&clients, &failed, tried, until).await {
                return Err(failed.error);
            }
        }
    }

    /// Whether a failed call is worth another try; waits a little if it is.
    async fn again(&self, clients: &Clients, failed: &Failed, tried: usize, until: Instant) -> bool {
        if !failed.passing || Instant::now() + AGAIN >= until {
            return false;
        }
        if failed.silent {
            return true;
        }
        if elects(&failed.error) {
            tokio::time::sleep(AGAIN).await;
            return true;
        }
        if !self.members.failed(clients) || tried >= 3 * self.members.len() {
            return false;
        }
        // All were tried: one may be on its way.
        if tried.is_multiple_of(self.members.len()) {
            tokio::time::sleep(AGAIN).await;
        }
        true
    }

    /// Writes if the key's last write is `expected`. A write whose answer was lost is tried again only where that can
    /// change nothing twice, or asked after; `value` is what it leaves behind.
    async fn write(
        &self,
        key: &str,
        expected: u64,
        op: impl Fn() -> TxnOp + Send + Sync,
        value: Option<&Bytes>,
        along: &[Along],
    ) -> Result<Outcome, Error> {
        let is_at = |key: &str, at: u64| Compare::mod_revision(key, CompareOp::Equal, at as i64);
        // Made anew for each try: nearly always there is one, and a copy would cost it a copy of the value.
        let txn = || {
            let others = along.iter().map(|a| is_at(&a.key, a.expected));
            let puts = along.iter().map(|a| TxnOp::put(a.key.as_str(), a.value.clone(), None));
            Txn::new()
                .when([is_at(key, expected)].into_iter().chain(others).collect::<Vec<_>>())
                .and_then([op()].into_iter().chain(puts).collect::<Vec<_>>())
                .or_else(vec![TxnOp::get(key, None)])
        };
        let until = Instant::now() + CALL;
        let (mut lost, mut tried) = (false, 0);
        loop {
            let clients = self.members.clients().await;
            let mut kv = clients.kv.clone();
            // An update that happened changed the revision it compares with: it can't happen twice.
            let repeatable = value.is_some() && expected > 0;
            let limit = if repeatable { until.min(Instant::now() + CALL / PATIENCE) } else { until };
            let sent = txn();
            let call = Finishing::new(async move { kv.txn(sent).await });
            let failed = match once(&clients, limit, call).await {
                Ok(response) => return judge(outcome_of(response), lost, value),
                Err(failed) => failed,
            };
            lost |= !failed.before;
            tried += 1;
            let again = self.again(&clients, &failed, tried, until).await;
            match value {
                _ if again && (!lost || repeatable) => {}
                // A created key may have been deleted again by now; so it is looked for, not created once more.
                Some(_) if again => {
                    let found = self.get(key).await?.kv;
                    return judge(Outcome::Conflict(found), true, value);
                }
                _ if lost => return Err(Error::Timeout(failed.error.to_string())),
                _ => return Err(failed.error),
            }
        }
    }

    /// A lease of at least `ttl`, shared with what was written shortly before.
    async fn lease_for(&self, ttl: Duration) -> Result<i64, Error> {
        let shared = if ttl < LEASE_SHARED_FROM { Duration::ZERO } else { LEASE_SHARE.min(ttl / 4) };
        let mut leases = self.leases.lock().await;
        if let Some(lease) = leases.get_mut(&ttl.as_secs())
            && lease.keys < LEASE_KEYS
            && lease.made.elapsed() < shared
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let seconds = (ttl + shared).as_secs() as i64;
        let granted =
            self.ask(CALL, |clients| async move { clients.lease.clone().grant(seconds, None).await }).await?;
        let lease = Lease { id: granted.id(), made: Instant::now(), keys: 1 };
        leases.insert(ttl.as_secs(), lease);
        Ok(granted.id())
    }
}

/// One try with one member.
async fn once<T>(
    clients: &Clients,
    until: Instant,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Failed> {
    let lost = |error, silent| Failed { error, before: false, passing: true, silent };
    tokio::select! {
        biased;
        outcome = call => outcome.map_err(|e| failed_of(&e)),
        () = clients.cut.cancelled() => {
            Err(lost(Error::Unavailable("etcd member does not answer".into()), false))
        }
        () = tokio::time::sleep_until(until.into()) => {
            Err(lost(Error::Timeout("etcd did not answer in time".into()), true))
        }
    }
}

fn outcome_of(mut response: TxnResponse) -> Outcome {
    match response.succeeded() {
        true => Outcome::Done(revision_of(&response)),
        false => Outcome::Conflict(found(&mut response)),
    }
}

/// What a transaction came to, when an earlier try of it may have been the one that changed the key.
fn judge(outcome: Outcome, lost: bool, value: Option<&Bytes>) -> Result<Outcome, Error> {
    match outcome {
        Outcome::Conflict(Some(kv)) if lost && Some(&kv.value) == value => Ok(Outcome::Done(kv.mod_revision)),
        Outcome::Conflict(_) if lost => Err(Error::Timeout("etcd's answer to the write was lost".into())),
        outcome => Ok(outcome),
    }
}

fn failed_of(error: &etcd_client::Error) -> Failed {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return Failed {
            error: Error::Unavailable(error.to_string()),
            before: false,
            passing: false,
            silent: false,
        };
    };
    let text = status.message();
    if text.contains("has been compacted") {
        return Failed { error: Error::Compacted(0), before: true, passing: false, silent: false };
    }
    if text.contains("is a future revision") {
        return Failed { error: Error::Future(0), before: true, passing: false, silent: false };
    }
    if text.contains("request is too large") || text.contains("larger than max") {
        return Failed { error: Error::TooLarge, before: true, passing: false, silent: false };
    }
    let connecting = not_connected(status);
    let passing = connecting || PASSING.contains(&i32::from(status.code()));
    let before = connecting || text.contains("no leader") || text.contains("lease not found");
    let error = match text.contains("timed out") && !connecting {
        true => Error::Timeout(text.to_owned()),
        false if text.starts_with("etcdserver:") => Error::Unavailable(text.to_owned()),
        false => Error::Unavailable(daemon::logging::brief(status)),
    };
    Failed { error, before, passing, silent: false }
}

/// gRPC's codes of what may be over in a moment: cancelled, unknown, unavailable.
const PASSING: [i32; 3] = [1, 2, 14];

/// Whether there was no connection to send the call over. The library's types for that can't be named from here.
fn not_connected(status: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if format!("{error:?}").starts_with("ConnectError") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Errors of a cluster that chooses its leader: the same member will do in a moment.
fn elects(error: &Error) -> bool {
    let (Error::Unavailable(text) | Error::Timeout(text)) = error else { return false };
    text.starts_with("etcdserver:")
        && ["no leader", "leader changed", "not leader", "leader failure"].iter().any(|t| text.contains(t))
}

fn revision_of(response: &TxnResponse) -> u64 {
    response.header().map_or(0, |h| h.revision() as u64)
}

fn found(response: &mut TxnResponse) -> Option<Kv> {
    response.op_responses().into_iter().find_map(|op| match op {
        TxnOpResponse::Get(mut get) => get.take_kvs().pop().map(kv_of),
        _ => None,
    })
}

fn kv_of(kv: KeyValue) -> Kv {
    let (create_revision, mod_revision) = (kv.create_revision() as u64, kv.mod_revision() as u64);
    let (key, value) = kv.into_key_value();
    let key = String::from_utf8(key).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Kv { key, value: value.into(), create_revision, mod_revision }
}

#[async_trait]
impl Storage for Etcd {
    async fn get(&self, key: &str) -> Result<Read, Error> {
        let mut response =
            self.ask(CALL, |clients| async move { clients.kv.clone().get(key, None).await }).await?;
        let revision = response.header().map_or(0, |h| h.revision() as u64);
        Ok(Read { kv: response.take_kvs().pop().map(kv_of), revision })
    }

    async fn list(&self, start: &str, end: &str, limit: u64, revision: Option<u64>) -> Result<Page, Error> {
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(limit as i64)
            .with_revision(revision.unwrap_or(0) as i64);
        let options = &options;
        let mut response = self
            .ask(LIST, |clients| async move { clients.kv.clone().get(start, Some(options.clone())).await })
            .await
            .map_err(|e| at_revision(e, revision))?;
        Ok(Page {
            more: response.more(),
            count: response.count() as u64,
            revision: revision.unwrap_or_else(|| response.header().map_or(0, |h| h.revision() as u64)),
            kvs: response.take_kvs().into_iter().map(kv_of).collect(),
        })
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
        along: &[Along],
    ) -> Result<Outcome, Error> {
        let options = match ttl {
            Some(ttl) => Some(PutOptions::new().with_lease(self.lease_for(ttl).await?)),
            None => None,
        };
        let put = || TxnOp::put(key, value.clone(), options.clone());
        let outcome = self.write(key, expected, put, Some(&value), along).await;
        if matches!(&outcome, Err(Error::Unavailable(why)) if why.contains("lease not found")) {
            // The store was set back, or its clock: the next write asks for another.
            self.leases.lock().await.clear();
        }
        outcome
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<Outcome, Error> {
        self.write(key, expected, || TxnOp::delete(key, None), None, &[]).await
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, Error> {
        let options =
            WatchOptions::new().with_prefix().with_start_revision(after as i64 + 1).with_progress_notify();
        let options = &options;
        let (stream, cut) = self
            .ask(CALL, |clients| async move {
                let stream = clients.watch.clone().watch(prefix, Some(options.clone())).await?;
                Ok((stream, clients.cut))
            })
            .await?;
        let (sender, batches) = mpsc::channel(WATCH_BUFFER);
        let ask = self.ask_progress.clone();
        tokio::spawn(pump(stream, sender, ask, cut));
        Ok(Watch { batches })
    }

    async fn request_progress(&self) {
        self.ask_progress.notify_one();
    }

    async fn revision(&self) -> Result<u64, Error> {
        let key = self.read_key.as_str();
        let counting = || Some(GetOptions::new().with_count_only());
        let response =
            self.ask(CALL, |clients| async move { clients.kv.clone().get(key, counting()).await }).await?;
        Ok(response.header().map_or(0, |h| h.revision() as u64))
    }

    async fn compact(&self, revision: u64, last: u64) -> Result<(u64, u64), Error> {
        let txn = Txn::new()
            .when(vec![Compare::version(COMPACT_KEY, CompareOp::Equal, last as i64)])
            .and_then(vec![TxnOp::put(COMPACT_KEY, revision.to_string(), None)])
            .or_else(vec![TxnOp::get(COMPACT_KEY, None)]);
        let clients = self.members.clients().await;
        let once = once(&clients, Instant::now() + CALL, clients.kv.clone().txn(txn)).await;
        let response = once.map_err(|failed| failed.error)?;
        let now = revision_of(&response);
        if !response.succeeded() {
            let version = response.op_responses().into_iter().find_map(|op| match op {
                TxnOpResponse::Get(get) => get.kvs().first().map(|kv| kv.version() as u64),
                _ => None,
            });
            return Ok((version.unwrap_or(0), now));
        }
        if revision > 0 {
            let compacted = self
                .ask(LIST, |clients| async move { clients.kv.clone().compact(revision as i64, None).await });
            match compacted.await {
                Ok(_) | Err(Error::Compacted(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((last + 1, now))
    }
}

fn at_revision(error: Error, revision: Option<u64>) -> Error {
    match error {
        Error::Compacted(_) => Error::Compacted(revision.unwrap_or(0)),
        Error::Future(_) => Error::Future(revision.unwrap_or(0)),
        other => other,
    }
}

/// Moves what etcd's stream says into the channel until either side ends.
async fn pump(
    mut stream: etcd_client::WatchStream,
    sender: mpsc::Sender<Result<Batch, Error>>,
    ask: Arc<Notify>,
    cut: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = ask.notified() => {
                if stream.request_progress().await.is_err() {
                    return;
                }
                continue;
            }
            () = sender.closed() => return,
            () = cut.cancelled() => {
                let _ = sender.send(Err(Error::Unavailable("etcd member does not answer".into()))).await;
                return;
            }
        };
        let batch = match message {
            Ok(Some(response)) => match batch_of(&response) {
                None => continue,
                Some(batch) => batch,
            },
            Ok(None) => Err(Error::Unavailable("etcd ended the watch".into())),
            Err(error) => Err(failed_of(&error).error),
        };
        let last = batch.is_err();
        if sender.send(batch).await.is_err() || last {
            return;
        }
    }
}

fn batch_of(response: &WatchResponse) -> Option<Result<Batch, Error>> {
    if response.canceled() {
        let compacted = response.compact_revision() as u64;
        return Some(Err(match compacted {
            0 => Error::Unavailable(format!("etcd cancelled the watch: {}", response.cancel_reason())),
            revision => Error::Compacted(revision),
        }));
    }
    if response.events().is_empty() {
        let revision = response.header().map_or(0, |h| h.revision() as u64);
        return (!response.created()).then_some(Ok(Batch::Progress(revision)));
    }
    Some(Ok(Batch::Events(response.events().iter().filter_map(event_of).collect())))
}

fn event_of(event: &etcd_client::Event) -> Option<Event> {
    let kv = event.kv()?;
    Some(match event.event_type() {
        EventType::Put => Event::Put(kv_of(kv.clone())),
        EventType::Delete => Event::Delete {
            key: String::from_utf8_lossy(kv.key()).into_owned(),
            revision: kv.mod_revision() as u64,
        },
    })
}
