//! How many pods to make, which to delete, and what the status says. Pure.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::kinds::{Condition, Spec, Status};
use crate::kit::pods::{self, Candidate};

/// At most so many pods are made or deleted in one go.
pub const BURST: i32 = 500;
const FAILURE: &str = "ReplicaFailure";

/// What there is. `pods` are the set's own, whatever their state.
pub struct Observed<'a> {
    pub meta: &'a ObjectMeta,
    pub spec: &'a Spec,
    pub status: Status,
    pub pods: Vec<&'a Pod>,
    /// Active pods of sets of the same owner, per node.
    pub neighbours: HashMap<String, usize>,
    /// All earlier creations and deletions have been seen.
    pub settled: bool,
}

/// What to do about the number of pods.
#[derive(Debug, PartialEq)]
pub enum Manage {
    Nothing,
    Create(usize),
    /// Names, the first to go first.
    Delete(Vec<String>),
}

/// Decides how many pods to add or take away.
pub fn manage(o: &Observed<'_>, now: Timestamp) -> Manage {
    if !o.settled || o.meta.deletion_timestamp.is_some() {
        return Manage::Nothing;
    }
    let active: Vec<&Pod> = o.pods.iter().copied().filter(|p| pods::active(p)).collect();
    let diff = active.len() as i32 - o.spec.replicas;
    match diff {
        0 => Manage::Nothing,
        ..0 => Manage::Create(diff.saturating_neg().min(BURST) as usize),
        _ => Manage::Delete(victims(o, active, diff.min(BURST) as usize, now)),
    }
}

fn victims(o: &Observed<'_>, active: Vec<&Pod>, count: usize, now: Timestamp) -> Vec<String> {
    let neighbours = |p: &Pod| pods::node(p).and_then(|n| o.neighbours.get(n)).copied().unwrap_or(0);
    let mut ranked: Vec<_> =
        active.iter().map(|pod| Candidate { pod, neighbours: neighbours(pod) }).collect();
    if count < ranked.len() {
        ranked.sort_by_cached_key(|c| pods::rank(c, now));
    }
    ranked.iter().take(count).filter_map(|c| c.pod.metadata.name.clone()).collect()
}

/// What went wrong while managing: whether it was making (or deleting) pods, and the words.
pub struct Trouble {
    pub creating: bool,
    pub message: String,
}

/// The status as it should read, given how the last step went.
pub fn status(o: &Observed<'_>, trouble: Option<&Trouble>, now: Timestamp) -> Status {
    let labels = o.spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    let active: Vec<&&Pod> = o.pods.iter().filter(|p| pods::active(p)).collect();
    let count = |f: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| f(p)).count() as i32;
    let labelled = |p: &Pod| crate::kit::meta::selects_map(&labels, p.metadata.labels.as_ref());
    let mut conditions = o.status.conditions.clone();
    note(&mut conditions, o, trouble, now);
    Status {
        replicas: active.len() as i32,
        fully_labeled: count(&labelled),
        ready: count(&pods::ready),
        available: count(&|p| pods::available(p, o.spec.min_ready, now)),
        terminating: o
            .status
            .terminating
            .map(|_| o.pods.iter().filter(|p| pods::terminating(p)).count() as i32),
        observed_generation: o.meta.generation,
        conditions,
    }
}

fn note(conditions: &mut Vec<Condition>, o: &Observed<'_>, trouble: Option<&Trouble>, now: Timestamp) {
    let present = conditions.iter().any(|c| c.kind == FAILURE);
    match trouble {
        Some(trouble) if !present => conditions.push(Condition {
            kind: FAILURE.into(),
            status: "True".into(),
            reason: Some(if trouble.creating { "FailedCreate" } else { "FailedDelete" }.into()),
            message: Some(trouble.message.clone()),
            since: Some(Time(now)),
        }),
        // Unsettled means the last step is still under way: its failure, if any, stands.
        None if o.settled => conditions.retain(|c| c.kind != FAILURE),
        _ => {}
    }
}

/// When a ready pod next becomes available.
pub fn again(o: &Observed<'_>, status: &Status, now: Timestamp) -> Option<Duration> {
    if o.spec.min_ready == 0 || status.ready == status.available {
        return None;
    }
    let waits = o.pods.iter().filter(|p| pods::active(p));
    let waits = waits.filter_map(|p| pods::becomes_available(p, o.spec.min_ready, now));
    let next = waits.filter(|w| !w.is_zero()).min();
    Some(next.unwrap_or(Duration::from_secs(o.spec.min_ready.unsigned_abs().into())))
}
