//! A kind's description at work: the strategy the request path asks.

use super::errs::Errs;
use super::kind::{Deletion, Generation, Kind, StatusMeta, Sub};
use super::val::{drop_key, get, i, keep, members, s, same, same_at, sub};
use super::{defaults, rules};
use crate::request::Ctx;
use crate::strategy::{GcPolicy, GracefulDelete, Guard, Strategy};
use async_trait::async_trait;
use machinery::field::FieldError;
use machinery::kinds::Resource;
use machinery::schema::Type;
use machinery::status::Status;
use serde_json::{Value, json};

enum Endpoint {
    Object,
    Status,
    Part(Sub),
}

/// The strategy of one endpoint of a built-in kind.
pub struct KindStrategy {
    kind: &'static Kind,
    ty: Option<&'static Type>,
    endpoint: Endpoint,
}

impl KindStrategy {
    /// The strategy of a resource, or of a subresource of it.
    pub fn new(kind: &'static Kind, resource: &Resource, subresource: &str) -> Self {
        let part = kind.subresources.iter().find(|(name, _)| *name == subresource).map(|(_, sub)| *sub);
        let endpoint = match (subresource, part) {
            (_, Some(part)) => Endpoint::Part(part),
            ("status", None) => Endpoint::Status,
            _ => Endpoint::Object,
        };
        Self { kind, ty: resource.object_type, endpoint }
    }

    fn is_service(&self) -> bool {
        self.kind.group.is_empty()
            && self.kind.plural == "services"
            && matches!(self.endpoint, Endpoint::Object)
    }

    /// Everything that is checked without a request: rules of a new object.
    pub fn check_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errs = Errs::default();
        rules::check(object, self.kind.rules, &mut errs);
        (self.kind.validate)(object, None, &mut errs);
        errs.0
    }

    /// Rules of a changed object.
    pub fn check_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errs = Errs::default();
        match &self.endpoint {
            Endpoint::Object => {
                rules::check(new, self.kind.rules, &mut errs);
                (self.kind.validate)(new, Some(old), &mut errs);
                rules::fixed(new, old, self.kind.fixed, &mut errs);
                (self.kind.validate_update)(new, old, &mut errs);
            }
            Endpoint::Status => {
                rules::check(new, self.kind.status_rules, &mut errs);
                (self.kind.validate_status)(new, old, &mut errs);
            }
            Endpoint::Part(part) => (part.validate)(new, old, &mut errs),
        }
        errs.0
    }

    /// What the server sets in a new object, whoever made it.
    pub fn start(&self, object: &mut Value) {
        if self.kind.status {
            drop_key(object, "status");
        }
        match self.kind.generation {
            Generation::None | Generation::OnChange(_) => {}
            _ => {
                sub(members(object), "metadata").insert("generation".into(), json!(1));
            }
        }
        (self.kind.prepare_create)(object);
        // A custom resource has no status until somebody writes one.
        if self.kind.status && self.ty.is_some() {
            members(object).entry("status").or_insert_with(|| json!({}));
        }
    }

    /// What the server keeps or sets in a changed object.
    pub fn carry_over(&self, new: &mut Value, old: &Value) {
        match &self.endpoint {
            Endpoint::Object => {
                if self.kind.status {
                    keep(new, old, "status");
                }
                (self.kind.prepare_update)(new, old);
                raise_generation(self.kind.generation, new, old);
            }
            Endpoint::Status => {
                status_only(self.kind.status_meta, new, old);
                (self.kind.prepare_status)(new, old);
            }
            Endpoint::Part(part) => {
                (part.prepare)(new, old);
                raise_generation(self.kind.generation, new, old);
            }
        }
    }
}

/// Raises the generation when what it counts has changed.
fn raise_generation(rule: Generation, new: &mut Value, old: &Value) {
    let members_differ = |names: &[&str]| names.iter().any(|k| !same_at(new, old, k));
    let meta = |v: &Value, key: &str| get(v, "metadata").and_then(|m| m.get(key)).cloned();
    let meta_differs = |key: &str| !same(meta(new, key).as_ref(), meta(old, key).as_ref());
    let changed = match rule {
        Generation::None | Generation::Fixed => false,
        Generation::Members(names) | Generation::OnChange(names) => members_differ(names),
        Generation::MembersOrAnnotations(names) => members_differ(names) || meta_differs("annotations"),
        Generation::AllButMetadata => other_members_differ(new, old),
        Generation::AllButMetadataOrLabels => other_members_differ(new, old) || meta_differs("labels"),
    };
    if changed {
        let generation = get(old, "metadata").and_then(|m| i(m, "generation")).unwrap_or(0) + 1;
        sub(members(new), "metadata").insert("generation".into(), json!(generation));
    }
}

fn other_members_differ(new: &Value, old: &Value) -> bool {
    let names = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let all = names(new).into_iter().chain(names(old));
    all.filter(|k| !matches!(k.as_str(), "metadata" | "apiVersion" | "kind")).any(|k| !same_at(new, old, &k))
}

/// Only the status changes, and of metadata what the kind lets through.
fn status_only(meta: StatusMeta, new: &mut Value, old: &Value) {
    let keys: Vec<String> =
        new.as_object().into_iter().chain(old.as_object()).flat_map(|o| o.keys().cloned()).collect();
    for key in keys.iter().filter(|k| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata" | "status")) {
        keep(new, old, key);
    }
    let old_meta = get(old, "metadata").cloned().unwrap_or_default();
    let new_meta = members(new).entry("metadata").or_insert_with(|| json!({}));
    match meta {
        StatusMeta::Free => {}
        StatusMeta::KeepLabels => keep(new_meta, &old_meta, "labels"),
        StatusMeta::KeepOwners => {
            ["ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"]
                .iter()
                .for_each(|k| keep(new_meta, &old_meta, k));
        }
        StatusMeta::Keep => keep_meta(new_meta, &old_meta),
    }
}

/// Takes over all metadata but what belongs to the request itself.
pub fn keep_meta(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for key in ["managedFields", "resourceVersion"] {
        keep(&mut kept, new, key);
    }
    *new = kept;
}

#[async_trait]
impl Strategy for KindStrategy {
    fn default(&self, object: &mut Value) {
        if let Some(ty) = self.ty {
            defaults::apply(ty, object);
        }
    }

    fn prepare_for_create(&self, ctx: &Ctx, object: &mut Value) {
        self.start(object);
        if let Some(from_user) = self.kind.from_user {
            from_user(object, &ctx.user);
        }
    }

    fn validate_create(&self, _ctx: &Ctx, object: &Value) -> Vec<FieldError> {
        self.check_create(object)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        if prefix { self.kind.name.check_prefix(name) } else { self.kind.name.check(name) }
    }

    fn prepare_for_update(&self, _ctx: &Ctx, new: &mut Value, old: &Value) {
        self.carry_over(new, old);
    }

    fn validate_update(&self, _ctx: &Ctx, new: &Value, old: &Value) -> Vec<FieldError> {
        self.check_update(new, old)
    }

    fn warnings_on_create(&self, _ctx: &Ctx, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        (self.kind.warnings)(object, None, &mut warnings);
        warnings
    }

    fn warnings_on_update(&self, _ctx: &Ctx, new: &Value, old: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if matches!(self.endpoint, Endpoint::Object) {
            (self.kind.warnings)(new, Some(old), &mut warnings);
        }
        warnings
    }

    fn canonicalize(&self, object: &mut Value) {
        (self.kind.canonicalize)(object);
    }

    fn allow_create_on_update(&self) -> bool {
        self.kind.create_on_update && matches!(self.endpoint, Endpoint::Object)
    }

    fn allow_unconditional_update(&self) -> bool {
        self.kind.unconditional_update
    }

    fn check_graceful_delete(&self, object: &Value, asked: Option<i64>) -> Option<GracefulDelete> {
        match self.kind.deletion {
            Deletion::Immediate => None,
            Deletion::Pod => Some(GracefulDelete { seconds: super::kinds::pod::grace(object, asked) }),
            Deletion::Namespace => Some(GracefulDelete { seconds: 0 }),
        }
    }

    fn default_gc_policy(&self) -> GcPolicy {
        self.kind.gc
    }

    fn returns_deleted_object(&self) -> bool {
        matches!(self.kind.deletion, Deletion::Pod | Deletion::Namespace)
            || matches!(
                (self.kind.group, self.kind.plural),
                (
                    "",
                    "services"
                        | "serviceaccounts"
                        | "persistentvolumes"
                        | "persistentvolumeclaims"
                        | "podtemplates"
                        | "resourcequotas"
                )
            )
    }

    fn may_finish_delete(&self, object: &Value) -> bool {
        self.kind.deletion != Deletion::Namespace || super::kinds::namespace::is_empty(object)
    }

    fn prepare_for_delete(&self, object: &mut Value) {
        if self.kind.deletion == Deletion::Namespace {
            super::kinds::namespace::terminate(object);
        }
    }

    fn ttl_seconds(&self, ctx: &Ctx, _object: &Value) -> Option<u64> {
        (self.kind.plural == "events").then(|| ctx.app.config.event_ttl.as_secs())
    }

    fn decorate(&self, object: &mut Value) {
        if let Some(ty) = self.ty {
            defaults::apply(ty, object);
        }
    }

    async fn begin_create(&self, ctx: &Ctx, object: &mut Value) -> Result<Guard, Status> {
        if self.is_service() { crate::alloc::begin_create(ctx, object).await } else { Ok(Guard::none()) }
    }

    async fn begin_update(&self, ctx: &Ctx, new: &mut Value, old: &Value) -> Result<Guard, Status> {
        if self.is_service() { crate::alloc::begin_update(ctx, new, old).await } else { Ok(Guard::none()) }
    }

    async fn after_delete(&self, ctx: &Ctx, object: &Value) {
        if self.is_service() {
            crate::alloc::after_delete(ctx, object).await;
        }
    }
}

/// The name of an object, for messages.
pub fn name_of(object: &Value) -> &str {
    get(object, "metadata").map(|m| s(m, "name")).unwrap_or_default()
}
