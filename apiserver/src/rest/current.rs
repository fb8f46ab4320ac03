//! The stored state a write starts from, and the write itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use machinery::status::Status;
use serde_json::Value;

use super::{Target, convert};
use crate::admission::resource_quota::Charge;
use crate::cache::{Entry, EventType};
use crate::request::Ctx;
use crate::storage::{Error, Kv, Outcome};

/// An object as it is stored, in the version of the request.
pub struct Current {
    /// The object.
    pub value: Value,
    /// The object as the cache would hold it.
    pub entry: Arc<Entry>,
    /// Whether it comes from the cache and may be out of date.
    pub cached: bool,
}

impl Current {
    /// The object from the cache, or from the store when the cache has none. None if it does not exist.
    pub async fn load(ctx: &Ctx, target: &Target) -> Result<Option<Self>, Status> {
        match target.stored()?.get(&target.namespace, &target.name) {
            Some(entry) => Self::of(target, entry, true).map(Some),
            None => Self::fetch(ctx, target).await,
        }
    }

    /// What to decide by after an error: what the cache had may have been old, so the error counts only if it stands with
    /// what the store has.
    pub async fn newer_or(&self, ctx: &Ctx, target: &Target, error: Status) -> Result<Self, Status> {
        if !self.cached {
            return Err(error);
        }
        let fresh = Self::fetch(ctx, target).await?.ok_or_else(|| target.not_found())?;
        if fresh.entry.rv == self.entry.rv { Err(error) } else { Ok(fresh) }
    }

    /// The object from the store.
    pub async fn fetch(ctx: &Ctx, target: &Target) -> Result<Option<Self>, Status> {
        stored(ctx, target).await?.map(|kv| Self::from_kv(target, &kv)).transpose()
    }

    /// The object as found by a transaction.
    pub fn from_kv(target: &Target, kv: &Kv) -> Result<Self, Status> {
        Self::of(target, Arc::new(entry_of(target, kv)?), false)
    }

    fn of(target: &Target, entry: Arc<Entry>, cached: bool) -> Result<Self, Status> {
        let mut value = entry.parse();
        convert::from_stored(&mut value, target)?;
        Ok(Self { value, entry, cached })
    }
}

/// What the store has under the target's key.
pub async fn stored(ctx: &Ctx, target: &Target) -> Result<Option<Kv>, Status> {
    let read = ctx.app.storage.get(&target.key()?).await;
    Ok(read.map_err(|e| store_error(target, "get", &e))?.kv)
}

/// Makes an entry of a stored value.
pub fn entry_of(target: &Target, kv: &Kv) -> Result<Entry, Status> {
    let collection = target.stored()?;
    let event = if kv.create_revision == kv.mod_revision { EventType::Added } else { EventType::Modified };
    let key = kv.key.strip_prefix(&collection.prefix).unwrap_or(&kv.key);
    (crate::cache::feed::stored_json(&kv.value))
        .and_then(|json| Entry::build(event, key.into(), kv.mod_revision, &json, collection.wanted()))
        .map_err(|reason| Status::internal(format!("unable to decode stored object {}: {reason}", kv.key)))
}

/// The bytes that are stored for an object: its storage version, without a resourceVersion (which is taken out of it).
pub fn stored_bytes(target: &Target, object: &mut Value) -> Result<Bytes, Status> {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("resourceVersion");
    }
    if !convert::is_foreign(target) {
        return serde_json::to_vec(object).map(Bytes::from).map_err(Status::internal);
    }
    let mut stored = object.clone();
    convert::to_stored(&mut stored, target)?;
    serde_json::to_vec(&stored).map(Bytes::from).map_err(Status::internal)
}

/// What a conditional write came to.
pub enum Written {
    /// The new state.
    Done(Arc<Entry>),
    /// Somebody else wrote; what is there now.
    Conflict(Option<Kv>),
}

/// Writes an object whose last write must be at `expected` (0: must not exist), and with it what it costs its
/// namespace's quotas.
pub async fn write(
    ctx: &Ctx,
    target: &Target,
    object: &mut Value,
    expected: u64,
    ttl: Option<u64>,
) -> Result<Written, Status> {
    let bytes = stored_bytes(target, object)?;
    write_bytes(ctx, target, bytes, expected, ttl).await
}

/// The same for an object that is encoded already, as it is to be stored.
pub async fn write_bytes(
    ctx: &Ctx,
    target: &Target,
    bytes: Bytes,
    expected: u64,
    ttl: Option<u64>,
) -> Result<Written, Status> {
    let key = target.key()?;
    let ttl = ttl.map(Duration::from_secs);
    let mut charge = ctx.charges.take();
    loop {
        let along = charge.as_ref().map_or(Ok(Vec::new()), Charge::along)?;
        let outcome = ctx.app.storage.put(&key, bytes.clone(), expected, ttl, &along).await;
        match outcome.map_err(|e| store_error(target, &ctx.info.verb, &e))? {
            Outcome::Conflict(kv) => match &mut charge {
                // Not the object, a quota was written meanwhile.
                Some(charge) if kv.as_ref().map_or(0, |kv| kv.mod_revision) == expected => {
                    charge.renew(ctx).await?;
                }
                _ => return Ok(Written::Conflict(kv)),
            },
            Outcome::Done(revision) => {
                let create_revision = if expected == 0 { revision } else { 1 };
                let kv = Kv { key, value: bytes, create_revision, mod_revision: revision };
                return Ok(Written::Done(Arc::new(entry_of(target, &kv)?)));
            }
        }
    }
}

/// A store's error as the caller sees it.
pub fn store_error(target: &Target, verb: &str, error: &Error) -> Status {
    let resource = &target.resource;
    match error {
        Error::TooLarge => Status::request_entity_too_large("etcdserver: request is too large"),
        Error::Compacted(_) => Status::expired(error.to_string()),
        Error::Future(_) => Status::timeout(error, 1),
        Error::Timeout(text) => {
            tracing::debug!(
                error = text,
                verb,
                resource = resource.plural,
                "the store did not answer in time"
            );
            Status::server_timeout(&resource.group, &resource.plural, verb, 1)
        }
        Error::Unavailable(text) => {
            tracing::debug!(error = text, verb, resource = resource.plural, "the store is not available");
            Status::service_unavailable(format!("storage is not available: {text}")).with_retry(1)
        }
    }
}
