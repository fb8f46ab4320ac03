//! pods/binding: puts a pod on a node.

use http::StatusCode;
use machinery::field::{FieldError, Path};
use machinery::status::Status;
use machinery::{meta, time};
use serde_json::{Value, json};

use super::admit::Admission;
use super::current::{Current, Written, write};
use super::negotiate::Format;
use super::{Target, encode};
use crate::admission::Operation;
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
    let mut current = Current::load(ctx, target).await?.ok_or_else(|| target.not_found())?;
    for _ in 0..TRIES {
        let mut pod = match bound(target, &current.value, binding) {
            Ok(pod) => pod,
            Err(status) if current.cached => {
                current = Current::fetch(ctx, target).await?.ok_or_else(|| target.not_found())?;
                bound(target, &current.value, binding).map_err(|_| status)?
            }
            Err(status) => return Err(status),
        };
        match write(ctx, target, &mut pod, current.entry.rv, None).await? {
            Written::Done(_) => return Ok(()),
            Written::Conflict(Some(kv)) => current = Current::from_kv(target, &kv)?,
            Written::Conflict(None) => return Err(target.not_found()),
        }
    }
    Err(target.conflict("the pod is being modified by others; please try again"))
}

/// The pod as it is once bound; Conflict when it can't be.
fn bound(target: &Target, pod: &Value, binding: &Value) -> Result<Value, Status> {
    let node = binding["target"]["name"].as_str().unwrap_or("");
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", &target.name, why));
    let (uid, version) = (meta::uid(binding), meta::resource_version(binding));
    if !uid.is_empty() && uid != meta::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        ));
    }
    if !version.is_empty() && version != meta::resource_version(pod) {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            meta::resource_version(pod)
        ));
    }
    if meta::deletion_timestamp(pod).is_some() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", target.name));
    }
    if let Some(assigned) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return conflict(format!("pod {} is already assigned to node {assigned:?}", target.name));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", target.name));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    for (key, value) in meta::annotations(binding).into_iter().flatten() {
        meta::set_annotation(&mut pod, key, value.as_str().unwrap_or_default());
    }
    for (key, value) in meta::labels(binding).into_iter().flatten() {
        meta::set_label(&mut pod, key, value.as_str().unwrap_or_default());
    }
    if let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("nominatedNodeName");
    }
    set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}));
    Ok(pod)
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
