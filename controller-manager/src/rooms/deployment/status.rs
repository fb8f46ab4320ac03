//! What a Deployment's status says, and its conditions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sets::{Limits, Set, total};
use crate::kit::meta::{name, until};

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
pub const COMPLETE: &str = "NewReplicaSetAvailable";
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A condition dated now.
pub fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

pub fn has_reason(status: &DeploymentStatus, kind: &str, reason: &str) -> bool {
    get(status, kind).is_some_and(|c| c.reason.as_deref() == Some(reason))
}

/// Puts a condition in place of its namesake; one of the same status and reason stays as it is.
pub fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = get(status, &new.type_).filter(|o| o.status == new.status) {
        if old.reason == new.reason {
            return;
        }
        new.last_transition_time = old.last_transition_time.clone();
    }
    remove(status, &new.type_.clone());
    status.conditions.get_or_insert_default().push(new);
}

pub fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
}

/// The seconds a rollout may take without progress; `None` means for ever.
pub fn deadline(spec: &DeploymentSpec) -> Option<i64> {
    spec.progress_deadline_seconds.filter(|d| *d != i32::MAX).map(i64::from)
}

/// Counts and availability from the sets, on top of the conditions in `base`.
pub fn count(
    d: &Deployment,
    base: &DeploymentStatus,
    new: Option<&Set>,
    old: &[Set],
    limits: &Limits,
    now: Timestamp,
) -> DeploymentStatus {
    let all = || old.iter().chain(new);
    let sum = |f: &dyn Fn(&Set) -> i32| Some(all().map(f).sum::<i32>());
    let available: i32 = all().map(Set::available).sum();
    let ready = |s: &Set| s.set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    let ending = |s: &Set| s.set.status.as_ref().and_then(|s| s.terminating_replicas).unwrap_or(0);
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: sum(&Set::actual),
        updated_replicas: Some(new.map_or(0, Set::actual)),
        ready_replicas: sum(&ready),
        available_replicas: Some(available),
        unavailable_replicas: Some((total(all()) - available).max(0)),
        terminating_replicas: sum(&ending),
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    let (word, reason, message) = if available >= limits.replicas - limits.unavailable {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, word, reason, message.into(), now));
    status
}

/// Everything asked for is there, of the new template, and available.
pub fn complete(d: &Deployment, status: &DeploymentStatus, limits: &Limits) -> bool {
    let wanted = Some(limits.replicas);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= d.metadata.generation
}

fn progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.available_replicas) > n(old.available_replicas)
        || n(new.ready_replicas) > n(old.ready_replicas)
}

fn timed_out(spec: &DeploymentSpec, status: &DeploymentStatus, now: Timestamp) -> bool {
    let (Some(limit), Some(current)) = (deadline(spec), get(status, PROGRESSING)) else { return false };
    match current.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => {
            let from = current.last_update_time.as_ref().map_or(now, |t| t.0);
            from + SignedDuration::from_secs(limit) < now
        }
    }
}

/// The status of a rollout under way: counts, progress, failures.
pub fn rollout(
    d: &Deployment,
    base: &DeploymentStatus,
    new: Option<&Set>,
    old: &[Set],
    limits: &Limits,
    now: Timestamp,
) -> DeploymentStatus {
    let spec = d.spec.clone().unwrap_or_default();
    let mut status = count(d, base, new, old, limits, now);
    let before = d.status.clone().unwrap_or_default();
    let current = get(base, PROGRESSING).cloned();
    let settled = status.replicas == status.updated_replicas && has_reason(base, PROGRESSING, COMPLETE);
    if deadline(&spec).is_none() {
        remove(&mut status, PROGRESSING);
    } else if !settled {
        let subject = match new {
            Some(set) => format!("ReplicaSet {:?}", set.name()),
            None => format!("Deployment {:?}", name(&d.metadata)),
        };
        if complete(d, &status, limits) {
            let message = format!("{subject} has successfully progressed.");
            set(&mut status, condition(PROGRESSING, "True", COMPLETE, message, now));
        } else if progressing(&before, &status) {
            let mut fresh = condition(
                PROGRESSING,
                "True",
                "ReplicaSetUpdated",
                format!("{subject} is progressing."),
                now,
            );
            if let Some(current) = current.filter(|c| c.status == "True") {
                fresh.last_transition_time = current.last_transition_time;
            }
            remove(&mut status, PROGRESSING);
            set(&mut status, fresh);
        } else if timed_out(&spec, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(&mut status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    failure(&mut status, new, old);
    status
}

/// Carries a ReplicaSet's failure over: the new one's, else the first found.
fn failure(status: &mut DeploymentStatus, new: Option<&Set>, old: &[Set]) {
    let found = new.into_iter().chain(old).find_map(|s| {
        let conditions = s.set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_ == FAILURE).cloned()
    });
    match found {
        None => remove(status, FAILURE),
        Some(c) => set(
            status,
            DeploymentCondition {
                type_: c.type_,
                status: c.status,
                reason: c.reason,
                message: c.message,
                last_update_time: c.last_transition_time.clone(),
                last_transition_time: c.last_transition_time,
            },
        ),
    }
}

/// When a rollout without progress must be looked at again to be declared stuck.
pub fn stuck_check(
    d: &Deployment,
    status: &DeploymentStatus,
    limits: &Limits,
    now: Timestamp,
) -> Option<Duration> {
    let limit = deadline(d.spec.as_ref()?)?;
    let current = get(status, PROGRESSING)?;
    if complete(d, status, limits) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let from = current.last_update_time.as_ref()?.0;
    Some(until(from + SignedDuration::from_secs(limit), now) + Duration::from_secs(1))
}

/// Notes that the new ReplicaSet could not be made.
pub fn note_create_error(d: &mut Deployment, message: String, now: Timestamp) {
    if d.spec.as_ref().and_then(deadline).is_none() {
        return;
    }
    let status = d.status.get_or_insert_default();
    set(status, condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now));
}
