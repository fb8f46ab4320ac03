//! pods/eviction: a delete that asks the disruption budgets first.

use std::sync::Arc;

use http::StatusCode;
use machinery::selector::LabelSelector;
use machinery::status::Status;
use machinery::{meta, time};
use serde_json::{Value, json};

use super::admit::Admission;
use super::binding::set_condition;
use super::current::{Current, Written, write};
use super::delete::delete_object;
use super::negotiate::Format;
use super::{Target, encode};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::http::Response;
use crate::request::Ctx;

const TRIES: usize = 20;
const DISRUPTED_MAX: usize = 2000;

/// Serves the create of an eviction.
pub async fn create(
    ctx: &Ctx,
    target: &Target,
    mut eviction: Value,
    format: &Format,
) -> Result<Response, Status> {
    if meta::name(&eviction) != target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let delete_options = eviction.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
    let mut ctx = ctx.clone();
    ctx.dry_run |= delete_options["dryRun"].as_array().is_some_and(|d| d.contains(&json!("All")));
    let options = json!({});
    let admission = Admission { ctx: &ctx, target, op: Operation::Create, options: &options };
    admission.mutate(Some(&mut eviction), None).await?;
    admission.validate(Some(&mut eviction), None).await?;
    evict(&ctx, &target.with_subresource(""), &delete_options).await?;
    let mut status = Status::success();
    status.code = 201;
    encode::status(format, StatusCode::CREATED, &status)
}

async fn evict(ctx: &Ctx, pods: &Target, options: &Value) -> Result<(), Status> {
    // A budget that was made just before counts.
    ctx.app.reader.caught_up().await?;
    let pod = Current::load(ctx, pods).await?.ok_or_else(|| pods.not_found())?;
    if needs_no_budget(&pod.value) {
        return delete_object(ctx, pods, options).await.map(|_| ());
    }
    if let Some(budget) = budget_of(ctx, &pod.entry)? {
        spend(ctx, pods, &pod.value, &budget).await?;
        mark(ctx, pods).await?;
    }
    delete_object(ctx, pods, options).await.map(|_| ())
}

fn needs_no_budget(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    matches!(phase, "Pending" | "Succeeded" | "Failed") || meta::deletion_timestamp(pod).is_some()
}

fn budget_of(ctx: &Ctx, pod: &Arc<Entry>) -> Result<Option<Arc<Entry>>, Status> {
    let budgets = ctx.app.reader.list("poddisruptionbudgets.policy", pod.namespace());
    let mut matching = budgets.into_iter().filter(|budget| {
        LabelSelector::from_json(&budget.parse()["spec"]["selector"]).is_ok_and(|s| s.matches(&**pod))
    });
    match (matching.next(), matching.next()) {
        (_, Some(_)) => Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
        (found, None) => Ok(found),
    }
}

async fn spend(ctx: &Ctx, pods: &Target, pod: &Value, budget: &Arc<Entry>) -> Result<(), Status> {
    let budgets =
        Target::named(&ctx.app, "policy/v1", "poddisruptionbudgets", budget.namespace(), budget.name())?;
    let Some(mut current) = Current::fetch(ctx, &budgets).await? else { return Ok(()) };
    for _ in 0..TRIES {
        let Some(mut spent) = decide(pods, pod, &current.value)? else { return Ok(()) };
        if ctx.dry_run {
            return Ok(());
        }
        match write(ctx, &budgets, &mut spent, current.entry.rv, None).await? {
            Written::Done(_) | Written::Conflict(None) => return Ok(()),
            Written::Conflict(Some(kv)) => current = Current::from_kv(&budgets, &kv)?,
        }
    }
    Err(refused("Cannot evict pod as the budget is being modified by others.", 10))
}

fn refused(message: &str, retry: u32) -> Status {
    Status::too_many_requests(message, retry)
}

/// The budget after the eviction; None when the pod costs nothing.
fn decide(pods: &Target, pod: &Value, budget: &Value) -> Result<Option<Value>, Status> {
    let status = &budget["status"];
    let number = |key: &str| status[key].as_i64().unwrap_or(0);
    let name = meta::name(budget);
    if !is_ready(pod) && unhealthy_may_go(budget) {
        return Ok(None);
    }
    if number("observedGeneration") < meta::generation(budget) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused("Cannot evict pod as it would violate the pod's disruption budget.", 10)
            .with_cause("DisruptionBudget", why, ""));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 || status["disruptedPods"].as_object().is_some_and(|m| m.len() > DISRUPTED_MAX) {
        return Err(Status::forbidden(
            "policy",
            "poddisruptionbudgets",
            name,
            "pdb disruptions allowed is negative or too many evictions are unconfirmed",
        ));
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("desiredHealthy"),
            number("currentHealthy")
        );
        return Err(refused("Cannot evict pod as it would violate the pod's disruption budget.", 0)
            .with_cause("DisruptionBudget", why, ""));
    }
    let mut spent = budget.clone();
    spent["status"]["disruptionsAllowed"] = (allowed - 1).into();
    spent["status"]["disruptedPods"][&pods.name] = time::now_rfc3339().into();
    Ok(Some(spent))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn unhealthy_may_go(budget: &Value) -> bool {
    let status = &budget["status"];
    let (current, desired) =
        (status["currentHealthy"].as_i64().unwrap_or(0), status["desiredHealthy"].as_i64().unwrap_or(0));
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || (current >= desired && desired > 0)
}

async fn mark(ctx: &Ctx, pods: &Target) -> Result<(), Status> {
    if ctx.dry_run {
        return Ok(());
    }
    let Some(mut current) = Current::load(ctx, pods).await? else { return Ok(()) };
    for _ in 0..TRIES {
        let mut pod = current.value.clone();
        set_condition(
            &mut pod,
            json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting"}),
        );
        match write(ctx, pods, &mut pod, current.entry.rv, None).await? {
            Written::Done(_) | Written::Conflict(None) => return Ok(()),
            Written::Conflict(Some(kv)) => current = Current::from_kv(pods, &kv)?,
        }
    }
    Ok(())
}
