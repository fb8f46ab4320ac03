//! What differs between kinds on the way to the store. Everything has a default, so plain kinds are almost empty.

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use machinery::field::FieldError;
use machinery::status::Status;
use serde_json::Value;

use crate::request::Ctx;

type UndoFn = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What was taken for a write that has not happened yet (addresses, ports). If the write fails, or is a dry run,
/// `rollback` gives it back; if it succeeds, `commit` runs (releasing what the old object no longer needs).
#[derive(Default)]
#[must_use]
pub struct Guard {
    undo: Vec<UndoFn>,
    done: Vec<UndoFn>,
}

impl Guard {
    /// Nothing was taken.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a step for when the write does not happen. Steps run in reverse order.
    pub fn on_failure<F>(&mut self, step: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.undo.push(Box::new(move || Box::pin(step())));
    }

    /// Adds a step for when the write has happened.
    pub fn on_success<F>(&mut self, step: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.done.push(Box::new(move || Box::pin(step())));
    }

    /// The write did not happen.
    pub async fn rollback(self) {
        for step in self.undo.into_iter().rev() {
            step().await;
        }
    }

    /// The write happened.
    pub async fn commit(self) {
        for step in self.done {
            step().await;
        }
    }
}

/// What the garbage collector does to dependents when a delete does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GcPolicy {
    /// Delete them after the owner.
    #[default]
    Background,
    /// Leave them, without the owner reference.
    Orphan,
    /// Owner references mean nothing (events).
    None,
}

/// What a delete asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GracefulDelete {
    /// Seconds until the object may go; 0 removes at once.
    pub seconds: i64,
}

/// The rules of one kind, or of one of its subresources.
#[async_trait]
pub trait Strategy: Send + Sync {
    /// Fills in defaults, on every decode of a client's object and again after each mutating webhook.
    fn default(&self, _object: &mut Value) {}

    /// Clears what a client may not set and starts what the server keeps (status, generation).
    fn prepare_for_create(&self, _ctx: &Ctx, _object: &mut Value) {}

    /// Rules of a new object; metadata's own rules are checked by the caller, except the form of the name.
    fn validate_create(&self, _ctx: &Ctx, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Messages about the form of metadata.name for this kind (empty = good). `prefix` is true for generateName.
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        machinery::names::is_dns1123_subdomain(name)
    }

    /// Carries over what this endpoint may not change and bumps the generation.
    fn prepare_for_update(&self, _ctx: &Ctx, _new: &mut Value, _old: &Value) {}

    /// Rules of a changed object.
    fn validate_update(&self, _ctx: &Ctx, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Warnings about a new object.
    fn warnings_on_create(&self, _ctx: &Ctx, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a changed object.
    fn warnings_on_update(&self, _ctx: &Ctx, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Puts a valid object into its one form before it is stored.
    fn canonicalize(&self, _object: &mut Value) {}

    /// An update of a missing object creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// An update need not name the resourceVersion it is based on.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Whether deletion is graceful, and with what grace, given the object and the seconds asked for (None = not said).
    /// None: the kind goes at once.
    fn check_graceful_delete(&self, _object: &Value, _asked: Option<i64>) -> Option<GracefulDelete> {
        None
    }

    /// Garbage collection when a delete names no policy.
    fn default_gc_policy(&self) -> GcPolicy {
        GcPolicy::Background
    }

    /// Whether a finished delete answers with the object instead of a Status.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// Whether deletion may complete now although no metadata finalizer is left (namespaces: spec.finalizers).
    fn may_finish_delete(&self, _object: &Value) -> bool {
        true
    }

    /// Changes an object on its way into graceful deletion (namespaces: phase Terminating).
    fn prepare_for_delete(&self, _object: &mut Value) {}

    /// Seconds after which the store drops the object by itself (events).
    fn ttl_seconds(&self, _ctx: &Ctx, _object: &Value) -> Option<u64> {
        None
    }

    /// Fills in computed parts of an object as it is read from the store (old objects that lack newer defaults).
    fn decorate(&self, _object: &mut Value) {}

    /// Takes what a new object needs from elsewhere. Runs after prepare and before validation of the result.
    async fn begin_create(&self, _ctx: &Ctx, _object: &mut Value) -> Result<Guard, Status> {
        Ok(Guard::none())
    }

    /// The same for a change.
    async fn begin_update(&self, _ctx: &Ctx, _new: &mut Value, _old: &Value) -> Result<Guard, Status> {
        Ok(Guard::none())
    }

    /// Gives back what a deleted object held.
    async fn after_delete(&self, _ctx: &Ctx, _object: &Value) {}
}

/// A kind without rules of its own.
pub struct Plain;

impl Strategy for Plain {}
