//! update, and what every change of an object goes through.

use std::sync::Arc;

use http::StatusCode;
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::admit::Admission;
use super::body::{self, Validation};
use super::create::{self, Made, options};
use super::current::{Current, Written, store_error, write};
use super::negotiate::Format;
use super::params::Query;
use super::{Target, encode, metadata, scale};
use crate::admission::Operation;
use crate::authz::{Attributes, Decision};
use crate::http::{Request, Response};
use crate::registry;
use crate::request::{Ctx, RequestInfo};
use crate::storage::{Kv, Outcome};
use crate::strategy::Strategy;

/// How often a change is made anew because somebody else was quicker.
const TRIES: usize = 20;

/// Serves an update.
pub async fn update(ctx: &Ctx, target: &Target, query: &Query, request: Request) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let format = Format::from_headers(&parts.headers, query, true)?;
    let bytes = body::read(body).await?;
    let object =
        body::decode(ctx, &parts.headers, &bytes, &create::expected(target), Validation::of(query)?)?;
    check_identity(&object, target)?;
    if target.subresource == "scale" {
        return scale::update(ctx, target, object, &options(query), &format).await;
    }
    let (made, created) = replace(ctx, target, object, &options(query)).await?;
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    encode::made(target, &format, code, made)
}

/// Replaces an object of the server's own; yields it as stored.
pub async fn update_value(ctx: &Ctx, target: &Target, object: Value) -> Result<Value, Status> {
    let (made, _) = replace(ctx, target, object, &Value::Object(serde_json::Map::new())).await?;
    encode::to_value(target, made)
}

/// Name and namespace of a body must be those of the URL.
fn check_identity(object: &Value, target: &Target) -> Result<(), Status> {
    let (name, namespace) = (meta::name(object), meta::namespace(object));
    if name.is_empty() && target.subresource != "scale" {
        let at = machinery::field::Path::new("metadata").child("name");
        let error = machinery::field::FieldError::required(&at, "name must be provided");
        return Err(Status::invalid(&target.resource.group, &target.resource.kind, "", vec![error]));
    }
    if !name.is_empty() && name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

async fn replace(
    ctx: &Ctx,
    target: &Target,
    mut object: Value,
    options: &Value,
) -> Result<(Made, bool), Status> {
    let strategy = registry::strategy_for(&target.resource, &target.subresource);
    if target.resource.namespaced {
        meta::set_namespace(&mut object, &target.namespace);
    }
    strategy.default(&mut object);
    let wanted = Preconditions {
        version: meta::resource_version(&object).to_owned(),
        uid: meta::uid(&object).to_owned(),
        must_have_version: !strategy.allow_unconditional_update(),
    };
    let create_missing = strategy.allow_create_on_update() && target.subresource.is_empty();
    let exists = Current::load(ctx, target).await?.is_some();
    if !exists && create_missing && matches!(wanted.version.as_str(), "" | "0") {
        may_create(ctx, target).await?;
        let made = create::create_object(ctx, target, object, options).await?;
        return Ok((made, true));
    }
    let change = move |_: &Value| Ok(object.clone());
    let made = modify(ctx, target, &*strategy, &wanted, options, &change).await?;
    Ok((made, false))
}

/// Creating by an update needs the right to create.
pub async fn may_create(ctx: &Ctx, target: &Target) -> Result<(), Status> {
    let info = RequestInfo { verb: "create".into(), ..(*ctx.info).clone() };
    let attributes = Attributes { user: &ctx.user, info: &info };
    let (decision, reason) = ctx.app.authorizer.authorize(&attributes).await;
    if decision == Decision::Allow || info.path.is_empty() {
        return Ok(());
    }
    Err(Status::forbidden(&target.resource.group, &target.resource.plural, &target.name, reason))
}

/// What must hold for a change to be made.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// resourceVersion the change is based on; empty or 0 for any.
    pub version: String,
    /// uid of the object; empty for any.
    pub uid: String,
    /// The kind takes no update without a version.
    pub must_have_version: bool,
}

impl Preconditions {
    fn check(&self, target: &Target, current: &Current) -> Result<(), Status> {
        let uid = meta::uid(&current.value);
        if !self.uid.is_empty() && self.uid != uid {
            return Err(target.conflict(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
                self.uid
            )));
        }
        match self.version.as_str() {
            "" | "0" if self.must_have_version => {
                let at = machinery::field::Path::new("metadata").child("resourceVersion");
                let error = machinery::field::FieldError::invalid(
                    &at,
                    self.version.as_str(),
                    "must be specified for an update",
                );
                Err(Status::invalid(&target.resource.group, &target.resource.kind, &target.name, vec![error]))
            }
            "" | "0" => Ok(()),
            version if version == meta::resource_version(&current.value) => Ok(()),
            _ => Err(target.conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            )),
        }
    }
}

/// What an update computes from the stored object: the object it is to be.
pub type Change<'a> = &'a (dyn Fn(&Value) -> Result<Value, Status> + Send + Sync);

/// Changes an object: computes, prepares, admits, validates and writes, again if somebody else wrote in between.
pub async fn modify(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    wanted: &Preconditions,
    options: &Value,
    change: Change<'_>,
) -> Result<Made, Status> {
    let mut current = Current::load(ctx, target).await?.ok_or_else(|| target.not_found())?;
    for _ in 0..TRIES {
        match attempt(ctx, target, strategy, wanted, options, change, &current).await {
            Ok(Attempt::Made(made)) => return Ok(made),
            Ok(Attempt::Lost(Some(kv))) => current = Current::from_kv(target, &kv)?,
            Ok(Attempt::Lost(None)) => return Err(target.not_found()),
            Err(status) => current = current.newer_or(ctx, target, status).await?,
        }
    }
    Err(target.conflict("the object is being modified by others; please try again"))
}

enum Attempt {
    Made(Made),
    Lost(Option<Kv>),
}

async fn attempt(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    wanted: &Preconditions,
    options: &Value,
    change: Change<'_>,
    current: &Current,
) -> Result<Attempt, Status> {
    wanted.check(target, current)?;
    let old = &current.value;
    let mut new = change(old)?;
    prepare(ctx, target, strategy, options, &mut new, old).await?;
    let guard = strategy.begin_update(ctx, &mut new, old).await?;
    let outcome = match check(ctx, target, strategy, options, &mut new, old).await {
        Ok(()) => commit(ctx, target, strategy, new, current).await,
        Err(status) => Err(status),
    };
    match &outcome {
        Ok(Attempt::Made(Made::Stored(_))) => guard.commit().await,
        _ => guard.rollback().await,
    }
    outcome
}

async fn prepare(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    options: &Value,
    new: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    let admission = Admission { ctx, target, op: Operation::Update, options };
    meta::set_type(new, &target.resource.api_version(), &target.resource.kind);
    metadata::keep_system_fields(new, old);
    keep_managed_fields(new, old);
    admission.mutate(Some(new), Some(old)).await?;
    if metadata::dedupe_owners(new) {
        ctx.warnings.add(".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests");
    }
    metadata::keep_system_fields(new, old);
    strategy.prepare_for_update(ctx, new, old);
    Ok(())
}

fn keep_managed_fields(new: &mut Value, old: &Value) {
    let meta = meta::metadata_mut(new);
    match old.pointer("/metadata/managedFields") {
        Some(fields) => meta.insert("managedFields".into(), fields.clone()),
        None => meta.remove("managedFields"),
    };
}

async fn check(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    options: &Value,
    new: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    let resource = &target.resource;
    let mut errors = metadata::validate_update(new, old);
    errors.extend(strategy.validate_update(ctx, new, old));
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.group, &resource.kind, &target.name, errors));
    }
    strategy.warnings_on_update(ctx, new, old).into_iter().for_each(|w| ctx.warnings.add(w));
    strategy.canonicalize(new);
    let admission = Admission { ctx, target, op: Operation::Update, options };
    admission.validate(Some(new), Some(old)).await
}

async fn commit(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    mut new: Value,
    current: &Current,
) -> Result<Attempt, Status> {
    let main = main_strategy(target);
    if finished(&*main, &new) {
        return remove(ctx, target, &*main, new, current).await;
    }
    if new == current.value {
        return unchanged(ctx, target, current).await;
    }
    if ctx.dry_run {
        return Ok(Attempt::Made(Made::Dry(new)));
    }
    let ttl = strategy.ttl_seconds(ctx, &new);
    Ok(match write(ctx, target, &mut new, current.entry.rv, ttl).await? {
        Written::Done(entry) => Attempt::Made(Made::Stored(entry)),
        Written::Conflict(kv) => Attempt::Lost(kv),
    })
}

/// A change that changes nothing is not written. That holds only if it was judged by the newest state.
async fn unchanged(ctx: &Ctx, target: &Target, current: &Current) -> Result<Attempt, Status> {
    if current.cached {
        let read =
            ctx.app.storage.get(&target.key()?).await.map_err(|e| store_error(target, "update", &e))?;
        match read.kv {
            Some(kv) if kv.mod_revision == current.entry.rv => {}
            other => return Ok(Attempt::Lost(other)),
        }
    }
    Ok(Attempt::Made(Made::Stored(current.entry.clone())))
}

/// Whether an object that was being deleted may go now.
pub fn finished(strategy: &dyn Strategy, object: &Value) -> bool {
    meta::deletion_timestamp(object).is_some()
        && meta::deletion_grace_period(object).unwrap_or(0) == 0
        && meta::finalizers(object).is_empty()
        && strategy.may_finish_delete(object)
}

async fn remove(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    new: Value,
    current: &Current,
) -> Result<Attempt, Status> {
    if ctx.dry_run {
        return Ok(Attempt::Made(Made::Dry(new)));
    }
    let deleted = ctx.app.storage.delete(&target.key()?, current.entry.rv).await;
    match deleted.map_err(|e| store_error(target, "update", &e))? {
        Outcome::Done(_) => {
            strategy.after_delete(ctx, &new).await;
            Ok(Attempt::Made(Made::Dry(new)))
        }
        Outcome::Conflict(kv) => Ok(Attempt::Lost(kv)),
    }
}

/// The strategy of the kind itself, whatever the subresource.
pub fn main_strategy(target: &Target) -> Arc<dyn Strategy> {
    registry::strategy_for(&target.resource, "")
}
