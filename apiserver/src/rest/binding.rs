//! pods/binding: puts a pod on a node.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use machinery::field::{FieldError, Path};
use machinery::status::Status;
use machinery::{meta, time};
use serde_json::{Map, Value, json};

use super::admit::Admission;
use super::current::{Written, entry_of, stored, write_bytes};
use super::members::Members;
use super::negotiate::Format;
use super::{Target, encode};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::http::Response;
use crate::request::Ctx;

const TRIES: usize = 20;

/// Serves the create of a binding.
pub async fn create(
    ctx: &Ctx,
    target: &Target,
    mut binding: Value,
    format: &Format,
) -> Result<Response, Status> {
    check(target, &binding)?;
    let options = json!({});
    let admission = Admission { ctx, target, op: Operation::Create, options: &options };
    admission.mutate(Some(&mut binding), None).await?;
    admission.validate(Some(&mut binding), None).await?;
    if !ctx.dry_run {
        bind(ctx, target, &binding).await?;
    }
    let mut status = Status::success();
    status.code = 201;
    encode::status(format, StatusCode::CREATED, &status)
}

fn check(target: &Target, binding: &Value) -> Result<(), Status> {
    if !target.name.is_empty() && meta::name(binding) != target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut errors = Vec::new();
    let at = Path::new("target");
    let kind = binding["target"]["kind"].as_str().unwrap_or("");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&at.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding["target"]["name"].as_str().unwrap_or("").is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Binding", meta::name(binding), errors)) }
}

async fn bind(ctx: &Ctx, target: &Target, binding: &Value) -> Result<(), Status> {
    let cached = target.stored()?.get(&target.namespace, &target.name);
    let mut cache_may_lag = cached.is_some();
    let mut pod = match cached {
        Some(pod) => pod,
        None => in_store(ctx, target).await?,
    };
    for _ in 0..TRIES {
        let bytes = match bound(target, &pod, binding) {
            Err(_) if std::mem::take(&mut cache_may_lag) => {
                pod = in_store(ctx, target).await?;
                continue;
            }
            outcome => outcome?,
        };
        match write_bytes(ctx, target, bytes, pod.rv, None).await? {
            Written::Done(_) => return Ok(()),
            Written::Conflict(Some(kv)) => pod = Arc::new(entry_of(target, &kv)?),
            Written::Conflict(None) => return Err(target.not_found()),
        }
    }
    Err(target.conflict("the pod is being modified by others; please try again"))
}

async fn in_store(ctx: &Ctx, target: &Target) -> Result<Arc<Entry>, Status> {
    let kv = stored(ctx, target).await?.ok_or_else(|| target.not_found())?;
    Ok(Arc::new(entry_of(target, &kv)?))
}

/// The pod as it is stored once bound; Conflict when it can't be.
fn bound(target: &Target, pod: &Entry, binding: &Value) -> Result<Bytes, Status> {
    let mut whole = Members::of(pod.json())?;
    let (mut metadata, mut spec) = (whole.open("metadata")?, whole.open("spec")?);
    unbound(target, pod, &metadata, &spec, binding)?;
    spec.set("nodeName", &binding["target"]["name"])?;
    metadata.remove("resourceVersion");
    for (member, added) in [("annotations", meta::annotations(binding)), ("labels", meta::labels(binding))] {
        merge(&mut metadata, member, added)?;
    }
    let mut status = json!({"status": whole.value("status")});
    if let Some(status) = status["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    set_condition(&mut status, json!({"type": "PodScheduled", "status": "True"}));
    whole.set("metadata", &metadata)?;
    whole.set("spec", &spec)?;
    whole.set("status", &status["status"])?;
    serde_json::to_vec(&whole).map(Bytes::from).map_err(Status::internal)
}

fn merge(metadata: &mut Members<'_>, member: &str, added: Option<&Map<String, Value>>) -> Result<(), Status> {
    let Some(added) = added.filter(|a| !a.is_empty()) else { return Ok(()) };
    let mut all = match metadata.value(member) {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    all.extend(added.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().into())));
    metadata.set(member, &all)
}

/// That the binding means this pod, and that the pod may still be put somewhere.
fn unbound(
    target: &Target,
    pod: &Entry,
    metadata: &Members<'_>,
    spec: &Members<'_>,
    binding: &Value,
) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", &target.name, why));
    let (uid, version) = (meta::uid(binding), meta::resource_version(binding));
    if !uid.is_empty() && uid != pod.uid() {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            pod.uid()
        ));
    }
    if !version.is_empty() && version != pod.rv.to_string() {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            pod.rv
        ));
    }
    if metadata.has("deletionTimestamp") {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", target.name));
    }
    let assigned = spec.text("nodeName");
    if !assigned.is_empty() {
        return conflict(format!("pod {} is already assigned to node {assigned:?}", target.name));
    }
    if spec.value("schedulingGates").as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", target.name));
    }
    Ok(())
}

/// Puts a condition into a pod's status; its time changes only with its status.
pub fn set_condition(pod: &mut Value, mut condition: Value) {
    let now = time::now_rfc3339();
    let conditions = meta::member_mut(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let found = list.iter_mut().find(|c| c["type"] == condition["type"]);
    let same = found.as_ref().is_some_and(|c| c["status"] == condition["status"]);
    condition["lastTransitionTime"] = match &found {
        Some(before) if same => before["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    match found {
        Some(before) => *before = condition,
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let mut pod = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "t"}]}});
        set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}));
        assert_eq!(pod["status"]["conditions"][0]["lastTransitionTime"], "t");
        set_condition(&mut pod, json!({"type": "PodScheduled", "status": "False", "reason": "R"}));
        assert_ne!(pod["status"]["conditions"][0]["lastTransitionTime"], "t");
        let mut bare = json!({"metadata": {}});
        set_condition(&mut bare, json!({"type": "A", "status": "True"}));
        assert_eq!(bare["status"]["conditions"][0]["type"], "A");
    }
}
