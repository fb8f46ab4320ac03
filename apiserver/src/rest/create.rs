//! create.

use http::StatusCode;
use machinery::status::Status;
use machinery::{meta, names, time};
use serde_json::Value;

use super::admit::Admission;
use super::body::{self, Expected, Validation};
use super::current::{Written, write};
use super::negotiate::Format;
use super::params::Query;
use super::{Target, binding, encode, eviction, metadata};
use crate::admission::Operation;
use crate::http::{Request, Response};
use crate::registry;
use crate::request::Ctx;
use crate::reviews;
use crate::strategy::Strategy;

/// How often a generated name that is taken is replaced by another.
const GENERATE_TRIES: usize = 8;

/// Serves a create.
pub async fn create(ctx: &Ctx, target: &Target, query: &Query, request: Request) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let format = Format::from_headers(&parts.headers, query, true)?;
    let bytes = body::read(body).await?;
    let object = body::decode(ctx, &parts.headers, &bytes, &expected(target), Validation::of(query)?)?;
    match target.subresource.as_str() {
        "binding" => return binding::create(ctx, target, object, &format).await,
        "eviction" => return eviction::create(ctx, target, object, &format).await,
        "" => {}
        _ => return Err(target.not_supported("create")),
    }
    if target.resource.plural == "bindings" {
        let pods = Target::named(&ctx.app, "v1", "pods", &target.namespace, meta::name(&object))?;
        return binding::create(ctx, &pods.with_subresource("binding"), object, &format).await;
    }
    let entry = create_object(ctx, target, object, &options(query)).await?;
    encode::made(target, &format, StatusCode::CREATED, entry)
}

/// Serves the create of a review: answered, never stored.
pub async fn review(ctx: &Ctx, target: &Target, query: &Query, request: Request) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let format = Format::from_headers(&parts.headers, query, true)?;
    let bytes = body::read(body).await?;
    let mut object = body::decode(ctx, &parts.headers, &bytes, &expected(target), Validation::of(query)?)?;
    check_namespace(&mut object, target)?;
    registry::strategy_for(&target.resource, &target.subresource).default(&mut object);
    let answer = reviews::create(ctx, &target.resource, &target.subresource, object).await?;
    encode::value(target, &format, StatusCode::CREATED, answer)
}

/// The kind a target's bodies have.
pub fn expected(target: &Target) -> Expected {
    match target.subresource() {
        Some(sub) => Expected { gvk: sub.gvk.clone(), object_type: sub.object_type },
        None => Expected { gvk: target.resource.gvk(), object_type: target.resource.object_type },
    }
}

/// The options of a query as admission sees them.
pub fn options(query: &Query) -> Value {
    let mut options = serde_json::Map::new();
    for key in ["fieldManager", "fieldValidation"] {
        if query.has(key) {
            options.insert(key.into(), query.get(key).into());
        }
    }
    let dry_run = query.all("dryRun");
    if !dry_run.is_empty() {
        options.insert("dryRun".into(), dry_run.into());
    }
    Value::Object(options)
}

/// What a create or update leaves: the stored state, or for a dry run what it would have been.
pub enum Made {
    /// As stored.
    Stored(std::sync::Arc<crate::cache::Entry>),
    /// As it would be.
    Dry(Value),
}

/// Creates an object of the server's own; yields it as stored.
pub async fn create_value(ctx: &Ctx, target: &Target, object: Value) -> Result<Value, Status> {
    let made = create_object(ctx, target, object, &Value::Object(serde_json::Map::new())).await?;
    encode::to_value(target, made)
}

/// Creates a decoded object: defaults, admission, preparation, validation, storage.
pub async fn create_object(
    ctx: &Ctx,
    target: &Target,
    mut object: Value,
    options: &Value,
) -> Result<Made, Status> {
    let strategy = registry::strategy_for(&target.resource, "");
    check_namespace(&mut object, target)?;
    check_version(&object)?;
    drop_system_fields(&mut object);
    strategy.default(&mut object);
    let admission = Admission { ctx, target, op: Operation::Create, options };
    admission.mutate(Some(&mut object), None).await?;
    if metadata::dedupe_owners(&mut object) {
        ctx.warnings.add(".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests");
    }
    fill_system_fields(&mut object);
    let mut target = target.clone();
    let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
    // Every try starts from here: what the server fills in may depend on the name (a job's labels, an address taken).
    let start = generated.then(|| object.clone());
    let mut tries = 0;
    loop {
        if let Some(start) = &start {
            object = start.clone();
            let name = names::generate(meta::generate_name(&object));
            meta::set_name(&mut object, &name);
        }
        strategy.prepare_for_create(ctx, &mut object);
        target.name = meta::name(&object).to_owned();
        let made = store(ctx, &target, &mut object, &*strategy, options).await?;
        tries += 1;
        match made {
            Some(made) => return Ok(made),
            None if generated && tries < GENERATE_TRIES => {}
            None if generated => {
                return Err(Status::generate_name_conflict(
                    &target.resource.group,
                    &target.resource.plural,
                    &target.name,
                ));
            }
            None => {
                return Err(Status::already_exists(
                    &target.resource.group,
                    &target.resource.plural,
                    &target.name,
                ));
            }
        }
    }
}

/// Takes what the object needs, checks it and writes it; None when the name is taken.
async fn store(
    ctx: &Ctx,
    target: &Target,
    object: &mut Value,
    strategy: &dyn Strategy,
    options: &Value,
) -> Result<Option<Made>, Status> {
    let guard = strategy.begin_create(ctx, object).await?;
    let written = match check(ctx, target, object, strategy, options).await {
        Ok(()) if ctx.dry_run => match exists(ctx, target).await {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(Made::Dry(object.clone()))),
            Err(status) => Err(status),
        },
        Ok(()) => match write(ctx, target, object, 0, strategy.ttl_seconds(ctx, object)).await {
            Ok(Written::Done(entry)) => Ok(Some(Made::Stored(entry))),
            Ok(Written::Conflict(_)) => Ok(None),
            Err(status) => Err(status),
        },
        Err(status) => Err(status),
    };
    match &written {
        Ok(Some(Made::Stored(_))) => guard.commit().await,
        _ => guard.rollback().await,
    }
    written
}

async fn exists(ctx: &Ctx, target: &Target) -> Result<bool, Status> {
    Ok(super::current::Current::fetch(ctx, target).await?.is_some())
}

async fn check(
    ctx: &Ctx,
    target: &Target,
    object: &mut Value,
    strategy: &dyn Strategy,
    options: &Value,
) -> Result<(), Status> {
    let resource = &target.resource;
    let mut errors = metadata::validate_create(object, resource.namespaced, strategy);
    errors.extend(strategy.validate_create(ctx, object));
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.group, &resource.kind, &target.name, errors));
    }
    strategy.warnings_on_create(ctx, object).into_iter().for_each(|w| ctx.warnings.add(w));
    strategy.canonicalize(object);
    let admission = Admission { ctx, target, op: Operation::Create, options };
    admission.validate(Some(object), None).await
}

fn check_namespace(object: &mut Value, target: &Target) -> Result<(), Status> {
    if !target.resource.namespaced {
        return Ok(());
    }
    match meta::namespace(object) {
        "" => meta::set_namespace(object, &target.namespace),
        same if same == target.namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

fn check_version(object: &Value) -> Result<(), Status> {
    match meta::resource_version(object) {
        "" | "0" => Ok(()),
        _ => Err(Status::internal("resourceVersion should not be set on objects to be created")),
    }
}

fn drop_system_fields(object: &mut Value) {
    let meta = meta::metadata_mut(object);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "managedFields",
    ] {
        meta.remove(key);
    }
}

fn fill_system_fields(object: &mut Value) {
    meta::set_uid(object, &names::new_uid());
    meta::set_creation_timestamp(object, &time::now_rfc3339());
}
