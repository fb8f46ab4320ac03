//! The store kept in etcd.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, KeyValue, KvClient, LeaseClient,
    PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchClient, WatchOptions, WatchResponse,
};
use tokio::sync::{Notify, mpsc};

use super::{Batch, Error, Event, Kv, Outcome, Page, Read, Storage, Watch};

/// Deadline of reads and writes; clients retry what fails.
const CALL: Duration = Duration::from_secs(5);
/// Deadline of one page of a list, which may be large.
const LIST: Duration = Duration::from_secs(30);
/// Batches a watch may have waiting.
const WATCH_BUFFER: usize = 256;
/// One etcd lease serves keys written within this time, up to so many.
const LEASE_SHARE: Duration = Duration::from_secs(60);
const LEASE_KEYS: u32 = 1000;
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
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    leases: tokio::sync::Mutex<HashMap<u64, Lease>>,
    ask_progress: std::sync::Arc<Notify>,
    read_key: String,
}

impl Etcd {
    /// A client of these endpoints. Does not wait for them to answer. `prefix` is what all keys begin with.
    pub async fn connect(options: &Options, prefix: &str) -> anyhow::Result<Self> {
        let mut connect = ConnectOptions::new()
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(Duration::from_secs(5))
            .with_require_leader(true);
        if let Some(tls) = tls(options)? {
            connect = connect.with_tls(tls);
        }
        let client = Client::connect(&options.endpoints, Some(connect)).await.context("etcd client")?;
        Ok(Self {
            kv: client
                .kv_client()
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX),
            watch: client.watch_client().max_decoding_message_size(usize::MAX),
            lease: client.lease_client(),
            leases: tokio::sync::Mutex::default(),
            ask_progress: std::sync::Arc::default(),
            read_key: format!("{prefix}/health"),
        })
    }

    async fn put_if(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
    ) -> Result<Outcome, Error> {
        let options = match ttl {
            Some(ttl) => Some(PutOptions::new().with_lease(self.lease_for(ttl).await?)),
            None => None,
        };
        let txn = Txn::new()
            .when(vec![Compare::mod_revision(key, CompareOp::Equal, expected as i64)])
            .and_then(vec![TxnOp::put(key, value, options)])
            .or_else(vec![TxnOp::get(key, None)]);
        self.commit(txn).await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, Error> {
        let mut response = call(CALL, self.kv.clone().txn(txn)).await.map_err(write_error)?;
        if response.succeeded() {
            return Ok(Outcome::Done(revision_of(&response)));
        }
        Ok(Outcome::Conflict(found(&mut response)))
    }

    /// A lease of at least `ttl`, shared with what was written shortly before.
    async fn lease_for(&self, ttl: Duration) -> Result<i64, Error> {
        let mut leases = self.leases.lock().await;
        if let Some(lease) = leases.get_mut(&ttl.as_secs())
            && lease.keys < LEASE_KEYS
            && lease.made.elapsed() < LEASE_SHARE.min(ttl / 4)
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let seconds = (ttl + LEASE_SHARE.min(ttl / 4)).as_secs() as i64;
        let granted = call(CALL, self.lease.clone().grant(seconds, None)).await?;
        let lease = Lease { id: granted.id(), made: Instant::now(), keys: 1 };
        leases.insert(ttl.as_secs(), lease);
        Ok(granted.id())
    }
}

fn tls(options: &Options) -> anyhow::Result<Option<TlsOptions>> {
    if !options.endpoints.iter().any(|e| e.starts_with("https://")) {
        return Ok(None);
    }
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut tls = TlsOptions::new();
    if let Some(ca) = &options.ca {
        tls = tls.ca_certificate(etcd_client::Certificate::from_pem(read(ca)?));
    }
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        tls = tls.identity(etcd_client::Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(Some(tls))
}

async fn call<T>(
    deadline: Duration,
    future: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, future).await {
        Ok(outcome) => outcome.map_err(|e| error_of(&e)),
        Err(_) => Err(Error::Timeout("etcd did not answer in time".into())),
    }
}

fn error_of(error: &etcd_client::Error) -> Error {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return Error::Unavailable(error.to_string());
    };
    let text = status.message();
    if text.contains("has been compacted") {
        return Error::Compacted(0);
    }
    if text.contains("is a future revision") {
        return Error::Future(0);
    }
    if text.contains("request is too large") || text.contains("larger than max") {
        return Error::TooLarge;
    }
    if text.contains("timed out") {
        return Error::Timeout(text.to_owned());
    }
    Error::Unavailable(text.to_owned())
}

/// A write that was cut off may have happened.
fn write_error(error: Error) -> Error {
    match error {
        Error::Unavailable(text) if text.contains("connection") || text.contains("transport") => {
            Error::Timeout(text)
        }
        other => other,
    }
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
        let mut response = call(CALL, self.kv.clone().get(key, None)).await?;
        let revision = response.header().map_or(0, |h| h.revision() as u64);
        Ok(Read { kv: response.take_kvs().pop().map(kv_of), revision })
    }

    async fn list(&self, start: &str, end: &str, limit: u64, revision: Option<u64>) -> Result<Page, Error> {
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(limit as i64)
            .with_revision(revision.unwrap_or(0) as i64);
        let mut response = call(LIST, self.kv.clone().get(start, Some(options)))
            .await
            .map_err(|e| at_revision(e, revision))?;
        Ok(Page {
            more: response.more(),
            count: response.count() as u64,
            revision: revision.unwrap_or_else(|| response.header().map_or(0, |h| h.revision() as u64)),
            kvs: response.take_kvs().into_iter().map(kv_of).collect(),
        })
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Outcome, Error> {
        self.put_if(key, value, 0, ttl).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
    ) -> Result<Outcome, Error> {
        self.put_if(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<Outcome, Error> {
        let txn = Txn::new()
            .when(vec![Compare::mod_revision(key, CompareOp::Equal, expected as i64)])
            .and_then(vec![TxnOp::delete(key, None)])
            .or_else(vec![TxnOp::get(key, None)]);
        self.commit(txn).await
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, Error> {
        let options =
            WatchOptions::new().with_prefix().with_start_revision(after as i64 + 1).with_progress_notify();
        let stream = call(CALL, self.watch.clone().watch(prefix, Some(options))).await?;
        let (sender, batches) = mpsc::channel(WATCH_BUFFER);
        let ask = self.ask_progress.clone();
        tokio::spawn(pump(stream, sender, ask));
        Ok(Watch { batches })
    }

    async fn request_progress(&self) {
        self.ask_progress.notify_one();
    }

    async fn revision(&self) -> Result<u64, Error> {
        let options = GetOptions::new().with_count_only();
        let response = call(CALL, self.kv.clone().get(self.read_key.as_str(), Some(options))).await?;
        Ok(response.header().map_or(0, |h| h.revision() as u64))
    }

    async fn compact(&self, revision: u64, last: u64) -> Result<(u64, u64), Error> {
        let txn = Txn::new()
            .when(vec![Compare::version(COMPACT_KEY, CompareOp::Equal, last as i64)])
            .and_then(vec![TxnOp::put(COMPACT_KEY, revision.to_string(), None)])
            .or_else(vec![TxnOp::get(COMPACT_KEY, None)]);
        let response = call(CALL, self.kv.clone().txn(txn)).await?;
        let now = revision_of(&response);
        if !response.succeeded() {
            let version = response.op_responses().into_iter().find_map(|op| match op {
                TxnOpResponse::Get(get) => get.kvs().first().map(|kv| kv.version() as u64),
                _ => None,
            });
            return Ok((version.unwrap_or(0), now));
        }
        if revision > 0 {
            match call(LIST, self.kv.clone().compact(revision as i64, None)).await {
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
    ask: std::sync::Arc<Notify>,
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
        };
        let batch = match message {
            Ok(Some(response)) => match batch_of(&response) {
                None => continue,
                Some(batch) => batch,
            },
            Ok(None) => Err(Error::Unavailable("etcd ended the watch".into())),
            Err(error) => Err(error_of(&error)),
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
