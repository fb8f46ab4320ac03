//! delete and deletecollection.

use std::sync::Arc;

use http::StatusCode;
use machinery::field::{FieldError, Path};
use machinery::status::Status;
use machinery::{meta, time};
use serde_json::{Value, json};

use super::admit::Admission;
use super::current::{Current, Written, store_error, write};
use super::negotiate::Format;
use super::params::{ListParams, Query};
use super::update::{finished, main_strategy};
use super::{Target, body, encode, list};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::http::{Request, Response};
use crate::request::Ctx;
use crate::storage::{Kv, Outcome};
use crate::strategy::{GcPolicy, Strategy};

const TRIES: usize = 20;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Serves a delete.
pub async fn delete(ctx: &Ctx, target: &Target, query: &Query, request: Request) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let format = Format::from_headers(&parts.headers, query, true)?;
    let options = body::delete_options(&parts.headers, &body::read(body).await?, query)?;
    check_options(&options)?;
    let mut ctx = ctx.clone();
    ctx.dry_run |= options["dryRun"].as_array().is_some_and(|d| d.contains(&json!("All")));
    let deleted = delete_object(&ctx, target, &options).await?;
    answer(target, &format, &options, deleted)
}

fn answer(target: &Target, format: &Format, options: &Value, deleted: Deleted) -> Result<Response, Status> {
    let resource = &target.resource;
    match deleted {
        Deleted::Gone(object) if !main_strategy(target).returns_deleted_object() => {
            let status =
                Status::deleted(&resource.group, &resource.plural, meta::name(&object), meta::uid(&object));
            encode::status(format, StatusCode::OK, &status)
        }
        Deleted::Gone(object) => encode::object_value(target, format, StatusCode::OK, object),
        Deleted::Going(object) => {
            let waits = options["orphanDependents"] == json!(false);
            let code = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
            encode::object_value(target, format, code, object)
        }
    }
}

fn check_options(options: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let policy = options["propagationPolicy"].as_str().unwrap_or("");
    if !policy.is_empty() && !options["orphanDependents"].is_null() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(&Path::new("propagationPolicy"), policy, why));
    }
    if !matches!(policy, "" | "Orphan" | "Background" | "Foreground") {
        errors.push(FieldError::not_supported(
            &Path::new("propagationPolicy"),
            policy,
            &["Foreground", "Background", "Orphan", "nil"],
        ));
    }
    for value in options["dryRun"].as_array().into_iter().flatten().filter(|v| **v != "All") {
        errors.push(FieldError::not_supported(&Path::new("dryRun"), value.clone(), &["All"]));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors)) }
}

/// What a delete came to.
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Value),
    /// It is on its way: grace or finalizers are waited for.
    Going(Value),
}

/// Deletes an object as its options and its kind ask for.
pub async fn delete_object(ctx: &Ctx, target: &Target, options: &Value) -> Result<Deleted, Status> {
    let strategy = main_strategy(target);
    let mut current = Current::load(ctx, target).await?.ok_or_else(|| target.not_found())?;
    for _ in 0..TRIES {
        let outcome = attempt(ctx, target, &*strategy, options, &current).await;
        match outcome {
            Ok(Step::Done(deleted)) => return Ok(deleted),
            Ok(Step::Lost(None)) => return Err(target.not_found()),
            Ok(Step::Lost(Some(kv))) => current = Current::from_kv(target, &kv)?,
            Err(status) => current = current.newer_or(ctx, target, status).await?,
        }
    }
    Err(target.conflict("the object is being modified by others; please try again"))
}

enum Step {
    Done(Deleted),
    Lost(Option<Kv>),
}

async fn attempt(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    options: &Value,
    current: &Current,
) -> Result<Step, Status> {
    check_preconditions(target, options, &current.value)?;
    let admission = Admission { ctx, target, op: Operation::Delete, options };
    admission.mutate(None, Some(&current.value)).await?;
    admission.validate(None, Some(&current.value)).await?;
    match plan(strategy, options, &current.value) {
        Plan::Nothing => settled(ctx, target, current).await,
        Plan::Remove => remove(ctx, target, strategy, current).await,
        Plan::Mark(object) => mark(ctx, target, object, current).await,
    }
}

fn check_preconditions(target: &Target, options: &Value, object: &Value) -> Result<(), Status> {
    for (key, what, actual) in [
        ("uid", "UID", meta::uid(object)),
        ("resourceVersion", "ResourceVersion", meta::resource_version(object)),
    ] {
        let wanted = options.pointer(&format!("/preconditions/{key}")).and_then(Value::as_str);
        if let Some(wanted) = wanted.filter(|w| *w != actual) {
            return Err(target.conflict(format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
            )));
        }
    }
    Ok(())
}

/// What is to be done to an object that somebody deletes.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// It is being deleted already, and this changes nothing.
    Nothing,
    /// It goes now.
    Remove,
    /// It is marked, and waits.
    Mark(Value),
}

/// Decides it. Pure but for the clock.
pub fn plan(strategy: &dyn Strategy, options: &Value, old: &Value) -> Plan {
    let asked = options["gracePeriodSeconds"].as_i64().map(|s| if s < 0 { 1 } else { s });
    let mut new = old.clone();
    set_finalizers(&mut new, options, strategy.default_gc_policy());
    let waits = !meta::finalizers(&new).is_empty() || !strategy.may_finish_delete(old);
    let grace = match grace(strategy, asked, old) {
        Grace::Pending => {
            return if meta::finalizers(&new) == meta::finalizers(old) {
                Plan::Nothing
            } else {
                Plan::Mark(new)
            };
        }
        Grace::None => 0,
        Grace::Seconds(seconds) => seconds,
    };
    if grace == 0 && !waits {
        return Plan::Remove;
    }
    mark_deleting(&mut new, old, grace);
    if meta::deletion_timestamp(old).is_none() {
        strategy.prepare_for_delete(&mut new);
    }
    if new == *old { Plan::Nothing } else { Plan::Mark(new) }
}

enum Grace {
    None,
    Pending,
    Seconds(i64),
}

fn grace(strategy: &dyn Strategy, asked: Option<i64>, old: &Value) -> Grace {
    let Some(graceful) = strategy.check_graceful_delete(old, asked) else { return Grace::None };
    if meta::deletion_timestamp(old).is_none() {
        return Grace::Seconds(graceful.seconds.max(0));
    }
    // It is being deleted: the grace may only become shorter.
    let running = meta::deletion_grace_period(old).unwrap_or(0);
    match asked {
        _ if running == 0 => Grace::None,
        Some(seconds) if seconds < running => Grace::Seconds(seconds),
        _ => Grace::Pending,
    }
}

fn mark_deleting(new: &mut Value, old: &Value, grace: i64) {
    let first = meta::deletion_timestamp(old).is_none();
    let running = meta::deletion_grace_period(old).unwrap_or(0);
    if !first && grace >= running {
        return;
    }
    let now = time::now_unix();
    let start = match meta::deletion_timestamp(old).and_then(time::parse) {
        Some(at) => time::to_unix(at) - running,
        None => now,
    };
    let at = time::from_unix(start + grace, 0).map(time::format_seconds).unwrap_or_default();
    meta::set_deletion(new, &at, grace);
    if first && meta::generation(old) > 0 {
        meta::set_generation(new, meta::generation(old) + 1);
    }
}

fn set_finalizers(object: &mut Value, options: &Value, default: GcPolicy) {
    if default == GcPolicy::None {
        return;
    }
    let present: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    let has = |name: &str| present.iter().any(|f| f == name);
    let (orphan, foreground) =
        match (options["propagationPolicy"].as_str(), options["orphanDependents"].as_bool()) {
            (Some("Orphan"), _) | (None, Some(true)) => (true, false),
            (Some("Foreground"), _) => (false, true),
            (Some("Background"), _) | (None, Some(false)) => (false, false),
            _ if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
            _ => (default == GcPolicy::Orphan, false),
        };
    let mut names: Vec<&str> =
        present.iter().map(String::as_str).filter(|f| *f != ORPHAN && *f != FOREGROUND).collect();
    if orphan {
        names.push(ORPHAN);
    }
    if foreground {
        names.push(FOREGROUND);
    }
    if names.len() != present.len() || names.iter().any(|n| !has(n)) {
        meta::set_finalizers(object, &names);
    }
}

/// Nothing is to be done, if the cache was right about it.
async fn settled(ctx: &Ctx, target: &Target, current: &Current) -> Result<Step, Status> {
    if current.cached {
        let read =
            ctx.app.storage.get(&target.key()?).await.map_err(|e| store_error(target, "delete", &e))?;
        match read.kv {
            Some(kv) if kv.mod_revision == current.entry.rv => {}
            other => return Ok(Step::Lost(other)),
        }
    }
    Ok(Step::Done(Deleted::Going(current.value.clone())))
}

async fn remove(
    ctx: &Ctx,
    target: &Target,
    strategy: &dyn Strategy,
    current: &Current,
) -> Result<Step, Status> {
    if ctx.dry_run {
        return Ok(Step::Done(Deleted::Gone(current.value.clone())));
    }
    let outcome = ctx.app.storage.delete(&target.key()?, current.entry.rv).await;
    match outcome.map_err(|e| store_error(target, "delete", &e))? {
        Outcome::Conflict(kv) => Ok(Step::Lost(kv)),
        Outcome::Done(revision) => {
            strategy.after_delete(ctx, &current.value).await;
            let mut object = current.value.clone();
            meta::set_resource_version(&mut object, &revision.to_string());
            Ok(Step::Done(Deleted::Gone(object)))
        }
    }
}

async fn mark(ctx: &Ctx, target: &Target, mut object: Value, current: &Current) -> Result<Step, Status> {
    debug_assert!(!finished(&*main_strategy(target), &object));
    if ctx.dry_run {
        return Ok(Step::Done(Deleted::Going(object)));
    }
    Ok(match write(ctx, target, &mut object, current.entry.rv, None).await? {
        Written::Conflict(kv) => Step::Lost(kv),
        Written::Done(entry) => Step::Done(Deleted::Going(as_value(target, &entry)?)),
    })
}

fn as_value(target: &Target, entry: &Arc<Entry>) -> Result<Value, Status> {
    encode::entry_value(target, entry)
}

/// Serves a deletecollection: each object that the selectors choose.
pub async fn delete_collection(
    ctx: &Ctx,
    target: &Target,
    query: &Query,
    request: Request,
) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let format = Format::from_headers(&parts.headers, query, true)?;
    let params = ListParams::from_query(query)?;
    let options = body::delete_options(&parts.headers, &body::read(body).await?, query)?;
    check_options(&options)?;
    let mut ctx = ctx.clone();
    ctx.dry_run |= options["dryRun"].as_array().is_some_and(|d| d.contains(&json!("All")));
    let page = list::select(&ctx, target, &params).await?;
    let mut items = Vec::new();
    for entry in &page.entries {
        let mut one = target.clone();
        (one.namespace, one.name) = (entry.namespace().to_owned(), entry.name().to_owned());
        match delete_object(&ctx, &one, &options).await {
            Ok(Deleted::Gone(object) | Deleted::Going(object)) => items.push(object),
            Err(status) if status.is("NotFound") => {}
            Err(status) => return Err(status),
        }
    }
    encode::list_values(target, &format, &page, items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{GracefulDelete, Plain};

    struct Pods;
    impl Strategy for Pods {
        fn check_graceful_delete(&self, _object: &Value, asked: Option<i64>) -> Option<GracefulDelete> {
            Some(GracefulDelete { seconds: asked.unwrap_or(30) })
        }
    }

    fn object(finalizers: &[&str]) -> Value {
        json!({"metadata": {"name": "a", "generation": 1, "finalizers": finalizers}})
    }

    fn marked(plan: Plan) -> Value {
        match plan {
            Plan::Mark(object) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_kinds_go_at_once_or_wait_for_finalizers() {
        assert_eq!(plan(&Plain, &json!({}), &object(&[])), Plan::Remove);
        let waiting = marked(plan(&Plain, &json!({}), &object(&["x.io/y"])));
        assert_eq!((meta::deletion_grace_period(&waiting), meta::generation(&waiting)), (Some(0), 2));
        assert_eq!(plan(&Plain, &json!({}), &waiting), Plan::Nothing);
    }

    #[test]
    fn propagation() {
        let foreground = marked(plan(&Plain, &json!({"propagationPolicy": "Foreground"}), &object(&[])));
        assert_eq!(meta::finalizers(&foreground), ["foregroundDeletion"]);
        let orphan = marked(plan(&Plain, &json!({"orphanDependents": true}), &object(&[])));
        assert_eq!(meta::finalizers(&orphan), ["orphan"]);
        assert_eq!(
            plan(&Plain, &json!({"propagationPolicy": "Background"}), &object(&["orphan"])),
            Plan::Remove
        );
        assert!(matches!(plan(&Plain, &json!({}), &object(&["orphan"])), Plan::Mark(_)));
    }

    #[test]
    fn grace_may_only_become_shorter() {
        let first = marked(plan(&Pods, &json!({}), &object(&[])));
        assert_eq!(meta::deletion_grace_period(&first), Some(30));
        assert_eq!(plan(&Pods, &json!({}), &first), Plan::Nothing);
        assert_eq!(plan(&Pods, &json!({"gracePeriodSeconds": 60}), &first), Plan::Nothing);
        let shorter = marked(plan(&Pods, &json!({"gracePeriodSeconds": 5}), &first));
        assert_eq!(meta::deletion_grace_period(&shorter), Some(5));
        assert!(meta::deletion_timestamp(&shorter) < meta::deletion_timestamp(&first));
        assert_eq!(meta::generation(&shorter), 2);
        assert_eq!(plan(&Pods, &json!({"gracePeriodSeconds": 0}), &first), Plan::Remove);
    }
}
