//! Apply by the server, and taking over what the client applied before.

use super::Context;
use crate::annotation::{LAST_APPLIED, last_applied};
use crate::flags::write;
use crate::target::Target;
use anyhow::Result;
use coxctl_kit::{Error, PatchType, Write};
use serde_json::{Value, json};

const HELP: &str = "Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

/// Applies one object.
pub(super) async fn apply(context: &Context<'_>, target: &Target) -> Result<Value> {
    let applied = send(context, target).await?;
    match take_over(context, target, &applied).await? {
        true => send(context, target).await,
        false => Ok(applied),
    }
}

fn parameters(context: &Context<'_>) -> Write {
    let manager = context.flags.field_manager.as_deref().unwrap_or("kubectl");
    Write {
        force: Some(context.flags.force_conflicts),
        ..write(manager, context.dry, Some(context.validation))
    }
}

async fn send(context: &Context<'_>, target: &Target) -> Result<Value> {
    let sub = Some(context.flags.subresource.as_str()).filter(|s| !s.is_empty());
    let mut wanted = target.object.clone();
    if let Some(metadata) = wanted["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let (kind, how) = (&target.kind, PatchType::Apply);
    let sent =
        context.cluster.patch(kind, target.ns(), &target.name, sub, how, &wanted, &parameters(context)).await;
    sent.map_err(|e| refused(e).into())
}

fn refused(cause: Error) -> Error {
    if cause.is_conflict() {
        return Error::message(format!("{cause}\n{HELP}"));
    }
    if cause.status().is_some_and(|status| status.code == 415) {
        return Error::message(format!("Server-side apply not available on the server: ({cause})"));
    }
    cause
}

/// An object that the client applied before remembers it in an annotation which another manager owns. The
/// annotation is applied under a name of its own, and the other manager's fields become ours.
async fn take_over(context: &Context<'_>, target: &Target, applied: &Value) -> Result<bool> {
    if context.dry != crate::flags::DryRun::None || last_applied(applied).is_none() {
        return Ok(false);
    }
    let manager = context.flags.field_manager.as_deref().unwrap_or("kubectl");
    let Some(old) = updater(applied, manager) else { return Ok(false) };
    remember(context, target, applied).await?;
    let current = context.cluster.get(&target.kind, target.ns(), &target.name, None).await?;
    let fields = current["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let merged = migrated(&fields, &old, manager);
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": merged},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": current["metadata"]["resourceVersion"]},
    ]);
    let (cluster, kind) = (context.cluster, &target.kind);
    let sent = cluster
        .patch(kind, target.ns(), &target.name, None, PatchType::Json, &patch, &Write::default())
        .await;
    match sent {
        Ok(_) => Ok(true),
        Err(e) if e.is_conflict() => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The manager that owns the annotation through updates.
fn updater(object: &Value, manager: &str) -> Option<String> {
    let annotation = format!("f:{LAST_APPLIED}");
    let entries = object["metadata"]["managedFields"].as_array()?;
    let owns = |entry: &&Value| {
        entry["operation"] == "Update"
            && entry["subresource"].as_str().is_none_or(str::is_empty)
            && entry["fieldsV1"]["f:metadata"]["f:annotations"].get(&annotation).is_some()
    };
    let name = entries.iter().find(owns)?["manager"].as_str()?;
    (name != manager).then(|| name.to_string())
}

async fn remember(context: &Context<'_>, target: &Target, applied: &Value) -> Result<()> {
    let text = last_applied(applied).unwrap_or_default();
    let mut metadata = json!({"name": target.name, "annotations": {LAST_APPLIED: text}});
    if let Some(namespace) = target.ns() {
        metadata["namespace"] = json!(namespace);
    }
    let bare =
        json!({"apiVersion": target.kind.api_version(), "kind": target.kind.kind, "metadata": metadata});
    let write =
        Write { field_manager: Some("kubectl-last-applied".into()), force: Some(true), ..Write::default() };
    let (cluster, kind) = (context.cluster, &target.kind);
    cluster.patch(kind, target.ns(), &target.name, None, PatchType::Apply, &bare, &write).await?;
    Ok(())
}

/// The entries with the old manager's fields joined into the applying manager's.
fn migrated(entries: &[Value], old: &str, manager: &str) -> Vec<Value> {
    let is_old = |e: &Value| {
        e["manager"] == old
            && e["operation"] == "Update"
            && e["subresource"].as_str().is_none_or(str::is_empty)
    };
    let mut joined = json!({});
    entries.iter().filter(|e| is_old(e)).for_each(|e| join(&mut joined, &e["fieldsV1"]));
    let annotation = format!("f:{LAST_APPLIED}");
    if let Some(map) = joined.pointer_mut("/f:metadata/f:annotations").and_then(Value::as_object_mut) {
        map.remove(&annotation);
    }
    let mut out: Vec<Value> = entries.iter().filter(|e| !is_old(e)).cloned().collect();
    let ours = |e: &&mut Value| e["manager"] == manager && e["operation"] == "Apply";
    if let Some(entry) = out.iter_mut().find(ours) {
        join(&mut entry["fieldsV1"], &joined);
    }
    out
}

fn join(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (name, value) in from {
        join(into.entry(name.clone()).or_insert_with(|| json!({})), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_move_to_the_applier() {
        let annotation = format!("f:{LAST_APPLIED}");
        let entries = [
            json!({"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}}, "f:metadata": {"f:annotations": {".": {}, annotation: {}}}}}),
            json!({"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:data": {"f:b": {}}}}),
        ];
        let object = json!({"metadata": {"managedFields": entries}});
        assert_eq!(updater(&object, "kubectl").as_deref(), Some("kubectl-client-side-apply"));
        let out = migrated(&entries, "kubectl-client-side-apply", "kubectl");
        let fields = json!({"f:data": {"f:a": {}, "f:b": {}}, "f:metadata": {"f:annotations": {".": {}}}});
        assert_eq!((out.len(), &out[0]["fieldsV1"]), (1, &fields));
    }
}
