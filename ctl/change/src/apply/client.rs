//! Apply by the client: a patch from what was applied last, what is wanted and what is there.

use super::Context;
use crate::annotation::{LAST_APPLIED, annotated, last_applied};
use crate::delete::{Deletion, delete_and_wait};
use crate::flags::{DryRun, write};
use crate::target::Target;
use crate::typed;
use anyhow::Result;
use coxctl_kit::{Error, PatchType, Write, out};
use patch::threeway::{self, States};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a patch is made anew after somebody else changed the object meanwhile.
const RETRIES: u32 = 5;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub how: PatchType,
    /// `{}` when nothing is to be done.
    pub patch: Value,
}

/// The patch that brings the live object to the wanted one, which carries its own annotation.
///
/// # Errors
/// Objects that can't be compared, and another name, kind or version.
pub fn plan(modified: &Value, current: &Value) -> Result<Step, String> {
    let original: Value = match last_applied(current) {
        Some(text) => {
            serde_json::from_str(text).map_err(|e| format!("retrieving original configuration from: {e}"))?
        }
        None => json!({}),
    };
    let states = States { original: &original, modified, current };
    match typed::of(current) {
        Some(ty) => {
            let patch = threeway::strategic(states, ty).map_err(|e| format!("creating patch with: {e}"))?;
            Ok(Step { how: PatchType::Strategic, patch })
        }
        None => {
            let patch = threeway::merge(states).map_err(|e| format!("creating patch with: {e}"))?;
            let moved = ["apiVersion", "kind"].iter().any(|k| patch.get(*k).is_some());
            if moved || patch["metadata"].get("name").is_some() {
                return Err("At least one of apiVersion, kind and name was changed".into());
            }
            Ok(Step { how: PatchType::Merge, patch })
        }
    }
}

/// Applies one object; gives the object and the word for what happened.
pub(super) async fn apply(context: &Context<'_>, target: &Target) -> Result<(Value, &'static str)> {
    let Context { cluster, dry, .. } = context;
    let sub = Some(context.flags.subresource.as_str()).filter(|s| !s.is_empty());
    let current = match cluster.get(&target.kind, target.ns(), &target.name, sub).await {
        Ok(current) => current,
        Err(e) if e.is_not_found() => return create(context, target).await.map(|object| (object, "created")),
        Err(e) => {
            let what =
                format!("retrieving current configuration of:\n{}\nfrom server for:", target.described());
            return Err(when(e, &what, &target.source).into());
        }
    };
    if last_applied(&current).is_none() {
        out::note(&missing_annotation(target));
    }
    if *dry == DryRun::Client {
        return Ok((current, "configured"));
    }
    let (patched, changed) = patch_until_settled(context, target, sub, current).await?;
    Ok((patched, if changed { "configured" } else { "unchanged" }))
}

fn missing_annotation(target: &Target) -> String {
    let name = target.plural_name();
    format!(
        "Warning: resource {name} is missing the {LAST_APPLIED} annotation which is required by coxctl apply. coxctl apply should only be used on resources created declaratively by either coxctl create --save-config or coxctl apply. The missing annotation will be patched automatically."
    )
}

fn parameters(context: &Context<'_>) -> Write {
    let manager = context.flags.field_manager.as_deref().unwrap_or("kubectl-client-side-apply");
    write(manager, context.dry, Some(context.validation))
}

async fn create(context: &Context<'_>, target: &Target) -> Result<Value> {
    let object = annotated(&target.object);
    if context.dry == DryRun::Client {
        return Ok(object);
    }
    let write = parameters(context);
    let created = context.cluster.create(&target.kind, target.ns(), &object, &write).await;
    created.map_err(|e| e.when("creating", &target.source).into())
}

async fn patch_until_settled(
    context: &Context<'_>,
    target: &Target,
    sub: Option<&str>,
    mut current: Value,
) -> Result<(Value, bool)> {
    let cluster = context.cluster;
    let modified = annotated(&target.object);
    let mut tries = 0;
    loop {
        let step = plan(&modified, &current).map_err(|text| complaint(target, &json!({}), &text))?;
        if step.patch == json!({}) {
            return Ok((current, false));
        }
        let write = parameters(context);
        let sent =
            cluster.patch(&target.kind, target.ns(), &target.name, sub, step.how, &step.patch, &write).await;
        match sent {
            Ok(patched) => return Ok((patched, true)),
            Err(e) if e.is_conflict() && tries < RETRIES => tries += 1,
            Err(e) if context.flags.force && (e.is_conflict() || e.is("Invalid")) => {
                return replace(context, target, &modified).await.map(|object| (object, true));
            }
            Err(e) => return Err(refused(target, &step.patch, e)),
        }
        if tries > 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        current = cluster.get(&target.kind, target.ns(), &target.name, sub).await?;
    }
}

/// `--force`: what can't be patched is deleted and made anew.
async fn replace(context: &Context<'_>, target: &Target, modified: &Value) -> Result<Value> {
    let options = Deletion {
        propagation: super::super::delete::propagation(&context.flags.cascade)?,
        grace: Some(context.flags.grace_period).filter(|g| *g >= 0),
    };
    delete_and_wait(context.cluster, target, &options, context.timeout).await?;
    let write = parameters(context);
    Ok(context.cluster.create(&target.kind, target.ns(), modified, &write).await?)
}

fn applying(target: &Target, patch: &Value) -> String {
    let patch = coxctl_kit::print::json::compact(patch);
    format!("applying patch:\n{patch}\nto:\n{}\nfor:", target.described())
}

fn complaint(target: &Target, patch: &Value, text: &str) -> anyhow::Error {
    when(Error::message(text), &applying(target, patch), &target.source).into()
}

fn refused(target: &Target, patch: &Value, cause: Error) -> anyhow::Error {
    let inner = when(cause, "patching", &target.source);
    when(inner, &applying(target, patch), &target.source).into()
}

/// As [`Error::when`], for long descriptions too.
fn when(cause: Error, what: &str, source: &str) -> Error {
    if cause.is("Invalid") {
        return cause;
    }
    cause.when(what, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"k": "v"}});
        let mut live = annotated(&wanted);
        assert_eq!(plan(&annotated(&wanted), &live).map(|s| s.patch), Ok(json!({})));
        live["data"]["other"] = json!("x");
        let mut next = wanted.clone();
        next["data"] = json!({"z": "1"});
        let step = plan(&annotated(&next), &live).expect("a plan");
        assert_eq!(step.how, PatchType::Strategic);
        assert_eq!(step.patch["data"], json!({"k": null, "z": "1"}));
    }

    #[test]
    fn custom_kinds() {
        let wanted =
            json!({"apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "a"}, "spec": {"l": [1]}});
        let mut live = annotated(&wanted);
        live["spec"]["l"] = json!([2]);
        let step = plan(&annotated(&wanted), &live).expect("a plan");
        assert_eq!((step.how, step.patch), (PatchType::Merge, json!({"spec": {"l": [1]}})));
        live["kind"] = json!("Y");
        assert!(plan(&annotated(&wanted), &live).is_err());
    }
}
