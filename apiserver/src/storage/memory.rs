//! The store kept in memory: for tests, with etcd's semantics.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Along, Batch, Error, Event, Kv, Outcome, Page, Read, Storage, Watch};

const WATCH_BUFFER: usize = 100_000;

/// A store that is gone with the process. Keys with a time to live are kept.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

struct State {
    revision: u64,
    compacted: u64,
    kvs: BTreeMap<String, Kv>,
    /// All changes since the last compaction; `None` values are deletions.
    log: Vec<(u64, String, Option<Kv>)>,
    /// What there was at the compaction.
    base: BTreeMap<String, Kv>,
    watchers: Vec<(String, mpsc::Sender<Result<Batch, Error>>)>,
    compactions: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            kvs: BTreeMap::new(),
            log: Vec::new(),
            base: BTreeMap::new(),
            watchers: Vec::new(),
            compactions: 0,
        }
    }
}

impl State {
    /// One transaction: all these keys at one new revision.
    fn write(&mut self, changes: Vec<(String, Option<Bytes>)>) -> u64 {
        self.revision += 1;
        let first = self.log.len();
        for (key, value) in changes {
            self.change(key, value);
        }
        self.tell(first);
        self.revision
    }

    fn change(&mut self, key: String, value: Option<Bytes>) {
        let create_revision = self.kvs.get(&key).map_or(self.revision, |kv| kv.create_revision);
        let kv =
            value.map(|value| Kv { key: key.clone(), value, create_revision, mod_revision: self.revision });
        match &kv {
            Some(kv) => self.kvs.insert(key.clone(), kv.clone()),
            None => self.kvs.remove(&key),
        };
        self.log.push((self.revision, key, kv));
    }

    fn version(&self, key: &str) -> u64 {
        self.kvs.get(key).map_or(0, |kv| kv.mod_revision)
    }

    /// Tells watchers of what the log has from `first` on.
    fn tell(&mut self, first: usize) {
        let changes = self.log.get(first..).unwrap_or_default();
        self.watchers.retain(|(prefix, sender)| {
            let events: Vec<Event> =
                changes.iter().filter(|c| c.1.starts_with(prefix)).map(event_of).collect();
            events.is_empty() || sender.try_send(Ok(Batch::Events(events))).is_ok()
        });
    }

    /// What there was at a revision.
    fn at(&self, revision: u64) -> Result<BTreeMap<String, Kv>, Error> {
        if revision < self.compacted {
            return Err(Error::Compacted(revision));
        }
        if revision > self.revision {
            return Err(Error::Future(revision));
        }
        let mut kvs = self.base.clone();
        for (_, key, kv) in self.log.iter().take_while(|(at, ..)| *at <= revision) {
            match kv {
                Some(kv) => kvs.insert(key.clone(), kv.clone()),
                None => kvs.remove(key),
            };
        }
        Ok(kvs)
    }

    fn write_if(&mut self, key: &str, value: Option<Bytes>, expected: u64, along: &[Along]) -> Outcome {
        let current = self.kvs.get(key);
        let behind = along.iter().any(|a| self.version(&a.key) != a.expected);
        if behind || self.version(key) != expected {
            return Outcome::Conflict(current.cloned());
        }
        if value.is_none() && current.is_none() {
            return Outcome::Done(self.revision);
        }
        let others = along.iter().map(|a| (a.key.clone(), Some(a.value.clone())));
        Outcome::Done(self.write([(key.to_owned(), value)].into_iter().chain(others).collect()))
    }
}

fn event_of((revision, key, kv): &(u64, String, Option<Kv>)) -> Event {
    match kv {
        Some(kv) => Event::Put(kv.clone()),
        None => Event::Delete { key: key.clone(), revision: *revision },
    }
}

#[async_trait]
impl Storage for Memory {
    async fn get(&self, key: &str) -> Result<Read, Error> {
        let state = self.state.lock();
        Ok(Read { kv: state.kvs.get(key).cloned(), revision: state.revision })
    }

    async fn list(&self, start: &str, end: &str, limit: u64, revision: Option<u64>) -> Result<Page, Error> {
        let state = self.state.lock();
        let at = revision.unwrap_or(state.revision);
        let kvs = state.at(at)?;
        let all = kvs.range(start.to_owned()..end.to_owned());
        let count = all.clone().count() as u64;
        let take = if limit == 0 { count } else { limit };
        let kvs: Vec<Kv> = all.take(take as usize).map(|(_, kv)| kv.clone()).collect();
        Ok(Page { more: count > kvs.len() as u64, kvs, count, revision: at })
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        _ttl: Option<Duration>,
        along: &[Along],
    ) -> Result<Outcome, Error> {
        Ok(self.state.lock().write_if(key, Some(value), expected, along))
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<Outcome, Error> {
        Ok(self.state.lock().write_if(key, None, expected, &[]))
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, Error> {
        let (sender, batches) = mpsc::channel(WATCH_BUFFER);
        let mut state = self.state.lock();
        if after < state.compacted {
            let _ = sender.try_send(Err(Error::Compacted(state.compacted)));
            return Ok(Watch { batches });
        }
        let missed = state.log.iter().filter(|(at, key, _)| *at > after && key.starts_with(prefix));
        for change in missed {
            let _ = sender.try_send(Ok(Batch::Events(vec![event_of(change)])));
        }
        state.watchers.push((prefix.to_owned(), sender));
        Ok(Watch { batches })
    }

    async fn request_progress(&self) {
        let state = self.state.lock();
        for (_, sender) in &state.watchers {
            let _ = sender.try_send(Ok(Batch::Progress(state.revision)));
        }
    }

    async fn revision(&self) -> Result<u64, Error> {
        Ok(self.state.lock().revision)
    }

    async fn compact(&self, revision: u64, last: u64) -> Result<(u64, u64), Error> {
        let mut state = self.state.lock();
        if state.compactions != last {
            return Ok((state.compactions, state.revision));
        }
        state.compactions += 1;
        if revision > state.compacted {
            state.base = state.at(revision)?;
            state.log.retain(|(at, ..)| *at > revision);
            state.compacted = revision;
        }
        Ok((state.compactions, state.revision))
    }
}
