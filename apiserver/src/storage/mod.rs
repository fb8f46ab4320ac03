//! The store: bytes under keys, with revisions. etcd and memory both keep this contract.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub mod etcd;
pub mod memory;

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv {
    /// Full key.
    pub key: String,
    /// Value as written.
    pub value: Bytes,
    /// Revision of the write that created the key.
    pub create_revision: u64,
    /// Revision of the last write.
    pub mod_revision: u64,
}

/// The answer to a get.
#[derive(Debug, Clone)]
pub struct Read {
    /// The value, if the key exists.
    pub kv: Option<Kv>,
    /// The store's revision at the time.
    pub revision: u64,
}

/// A part of a range, in key order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The values.
    pub kvs: Vec<Kv>,
    /// Whether the range goes on beyond them.
    pub more: bool,
    /// How many keys the whole range has.
    pub count: u64,
    /// The revision read at.
    pub revision: u64,
}

/// What a transaction came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Written, at this revision.
    Done(u64),
    /// The key is not as expected; this is what is there.
    Conflict(Option<Kv>),
}

/// A key that is written along with another: both, or neither.
#[derive(Debug, Clone)]
pub struct Along {
    /// Full key.
    pub key: String,
    /// What it is to hold.
    pub value: Bytes,
    /// Its last write must be this one.
    pub expected: u64,
}

/// One change of a watched key.
#[derive(Debug, Clone)]
pub enum Event {
    /// Written.
    Put(Kv),
    /// Deleted, at this revision.
    Delete {
        /// Full key.
        key: String,
        /// Revision of the deletion.
        revision: u64,
    },
}

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum Batch {
    /// Changes in order. All changes of one revision come in one batch.
    Events(Vec<Event>),
    /// Nothing watched has changed up to this revision that was not yielded.
    Progress(u64),
}

/// Why the store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The revision asked for is gone; the second is the oldest there is, where known.
    #[error("required revision {0} has been compacted")]
    Compacted(u64),
    /// The revision asked for lies ahead.
    #[error("required revision {0} is a future revision")]
    Future(u64),
    /// The value is too large for the store.
    #[error("request is too large")]
    TooLarge,
    /// No answer, or not in time.
    #[error("{0}")]
    Unavailable(String),
    /// The outcome of a write is unknown.
    #[error("{0}")]
    Timeout(String),
}

/// A running watch; dropping it ends it. An `Err` is the last thing it yields.
pub struct Watch {
    /// What happened, in order.
    pub batches: mpsc::Receiver<Result<Batch, Error>>,
}

/// A store. Every call has a deadline of its own.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The value of one key, linearizable.
    async fn get(&self, key: &str) -> Result<Read, Error>;

    /// Keys from `start` (inclusive) to `end` (exclusive), at most `limit` (0 = all), at a revision or now.
    async fn list(&self, start: &str, end: &str, limit: u64, revision: Option<u64>) -> Result<Page, Error>;

    /// Writes a key whose last write must be `expected` (0: it must not exist), and what goes along with it; it lives for
    /// `ttl` if given. A conflict tells of the key itself: if that is as expected, one of those along with it is not.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
        along: &[Along],
    ) -> Result<Outcome, Error>;

    /// Writes a key that must not exist; it lives for `ttl` if given.
    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Outcome, Error> {
        self.put(key, value, 0, ttl, &[]).await
    }

    /// Writes a key whose last write must be `expected`.
    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
    ) -> Result<Outcome, Error> {
        self.put(key, value, expected, ttl, &[]).await
    }

    /// Deletes a key whose last write must be `expected`.
    async fn delete(&self, key: &str, expected: u64) -> Result<Outcome, Error>;

    /// Changes under `prefix` after revision `after`, and progress when asked or from time to time.
    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, Error>;

    /// Makes running watches yield their progress soon.
    async fn request_progress(&self);

    /// The newest revision, linearizable and cheap.
    async fn revision(&self) -> Result<u64, Error>;

    /// Forgets what lies before `revision`, if nobody else did in the meantime: `last` is the compaction's own counter
    /// as it was seen last. Yields the counter as it is now and the newest revision.
    async fn compact(&self, revision: u64, last: u64) -> Result<(u64, u64), Error>;
}

/// The end of the range of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0x7f {
            end.push(last + 1);
            return String::from_utf8_lossy(&end).into_owned();
        }
    }
    "\0".into()
}
