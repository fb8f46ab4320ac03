//! What keeps the cache in step with the store: one list, then one watch, for everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ahash::AHashMap;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::Cache;
use super::collection::Collection;
use super::entry::{Entry, EventType};
use crate::storage::{Batch, Error, Event, Kv, prefix_end};

const PAGE: u64 = 500;
const TIDY_EVERY: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Values upstream writes in protobuf begin with this.
const PROTOBUF_MAGIC: &[u8] = b"k8s\0";

impl Cache {
    /// Feeds the cache until cancelled. Waits out a store that is away, says so once, and goes on where it was.
    pub async fn feed(self: Arc<Self>, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.clone().feed_forever() => {}
        }
    }

    async fn feed_forever(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        let mut resume = None;
        loop {
            let outcome = match resume {
                None => self.load().await,
                Some(revision) => Ok(revision),
            };
            let ended = match outcome {
                Ok(revision) => {
                    let ended = self.follow(revision, &mut backoff).await;
                    resume = Some(self.revision());
                    ended
                }
                Err(error) => error,
            };
            self.healthy.store(false, Ordering::Relaxed);
            if matches!(ended, Error::Compacted(_) | Error::Future(_)) {
                tracing::info!("the store's history was compacted beyond the watch; reading everything anew");
                resume = None;
                continue;
            }
            backoff.wait(&ended).await;
        }
    }

    async fn load(&self) -> Result<u64, Error> {
        let start = format!("{}/", self.prefix);
        let end = prefix_end(&start);
        let (mut from, mut at) = (start, None);
        let mut found: AHashMap<String, (Arc<Collection>, Vec<Entry>)> = AHashMap::new();
        for collection in self.collections() {
            found.insert(collection.prefix.clone(), (collection, Vec::new()));
        }
        let revision = loop {
            let page = self.storage.list(&from, &end, PAGE, at).await?;
            at.get_or_insert(page.revision);
            let last = page.kvs.last().map(|kv| kv.key.clone());
            for kv in page.kvs {
                self.sort_in(&mut found, &kv);
            }
            match last {
                Some(last) if page.more => from = format!("{last}\0"),
                _ => break at.unwrap_or(page.revision),
            }
        };
        for (collection, entries) in found.into_values() {
            collection.replace(entries, revision);
        }
        self.revision.send_replace(revision);
        self.synced.send_replace(true);
        Ok(revision)
    }

    fn sort_in(&self, found: &mut AHashMap<String, (Arc<Collection>, Vec<Entry>)>, kv: &Kv) {
        let Some((collection, key)) = self.locate(&kv.key) else { return };
        let Some((_, entries)) = found.get_mut(&collection.prefix) else { return };
        let event =
            if kv.create_revision == kv.mod_revision { EventType::Added } else { EventType::Modified };
        let made = stored_json(&kv.value)
            .and_then(|json| Entry::build(event, key.into(), kv.mod_revision, &json, collection.wanted()));
        match made {
            Ok(entry) => entries.push(entry),
            Err(reason) => undecodable(&kv.key, &reason),
        }
    }

    async fn follow(&self, revision: u64, backoff: &mut Backoff) -> Error {
        let mut watch = match self.storage.watch(&format!("{}/", self.prefix), revision).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        self.healthy.store(true, Ordering::Relaxed);
        backoff.reset();
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            let batch = tokio::select! {
                batch = watch.batches.recv() => batch,
                _ = tidy.tick() => {
                    self.collections().iter().for_each(|c| c.tidy());
                    continue;
                }
            };
            match batch {
                Some(Ok(Batch::Progress(at))) => self.advance(at),
                Some(Ok(Batch::Events(events))) => self.apply(events),
                Some(Err(error)) => return error,
                None => return Error::Unavailable("watch ended".into()),
            }
        }
    }

    fn apply(&self, events: Vec<Event>) {
        let mut newest = 0;
        for event in events {
            match event {
                Event::Put(kv) => {
                    newest = newest.max(kv.mod_revision);
                    self.apply_put(&kv);
                }
                Event::Delete { key, revision } => {
                    newest = newest.max(revision);
                    if let Some((collection, rest)) = self.locate(&key) {
                        collection.remove(rest, revision);
                    }
                }
            }
        }
        self.advance(newest);
    }

    fn apply_put(&self, kv: &Kv) {
        let Some((collection, key)) = self.locate(&kv.key) else { return };
        let created = kv.create_revision == kv.mod_revision;
        let taken =
            stored_json(&kv.value).and_then(|json| collection.put(key, created, kv.mod_revision, &json));
        if let Err(reason) = taken {
            undecodable(&kv.key, &reason);
            collection.remove(key, kv.mod_revision);
        }
    }

    fn advance(&self, revision: u64) {
        self.revision.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }
}

/// A stored value as JSON: as it is, or decoded from upstream's protobuf.
pub fn stored_json(value: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, String> {
    if !value.starts_with(PROTOBUF_MAGIC) {
        return Ok(std::borrow::Cow::Borrowed(value));
    }
    let (_, _, object) = codec::proto::decode_object(value).map_err(|e| e.to_string())?;
    let json = serde_json::to_vec(&object).map_err(|e| e.to_string())?;
    Ok(std::borrow::Cow::Owned(json))
}

fn undecodable(key: &str, reason: &str) {
    tracing::error!(key, reason, "a stored object can't be decoded and is left out");
}

#[derive(Default)]
struct Backoff {
    wait: Duration,
    told: bool,
}

impl Backoff {
    fn reset(&mut self) {
        if self.told {
            tracing::info!("the store is back");
        }
        *self = Self::default();
    }

    async fn wait(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "the store does not answer; waiting for it");
        }
        self.wait = (self.wait * 2).clamp(Duration::from_millis(50), BACKOFF_MAX);
        let jitter = rand::rng().random_range(0.8..1.2);
        tokio::time::sleep(self.wait.mul_f64(jitter)).await;
    }
}
