//! The thought: one step of a rollout from what is observed. Pure.

use control::events::{Kind as EventKind, reference};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::sets::{self, DESIRED, HASH_LABEL, Limits, MAXIMUM, REVISION, ROLLBACK, Set, total};
use super::status::{self, PROGRESSING, TIMED_OUT};
use crate::kit::meta::{annotation, controller_ref, created, cut, is_empty_selector, name};
use crate::kit::{Plan, Write};

/// The Deployment, the ReplicaSets that are its own, and whether pods of old sets are still about (Recreate waits).
#[derive(Clone, Debug)]
pub struct Observed {
    pub deployment: Deployment,
    pub sets: Vec<ReplicaSet>,
    /// UIDs of sets that have pods which are not finished.
    pub running: Vec<String>,
}

/// The names of steps that a caller treats in its own way.
pub const NEW_SET: &str = "new";

/// Decides one step.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let d = &observed.deployment;
    let Some(spec) = d.spec.clone() else { return Plan::nothing("no spec") };
    if is_empty_selector(&spec.selector) {
        return selecting_all(d);
    }
    let (new, old) = sets::split(d, observed.sets.clone());
    let limits = Limits::of(&spec);
    let base = d.status.clone().unwrap_or_default();
    let revision = annotation(&d.metadata, REVISION).map(str::to_string);
    let mut work = Work { d, spec, limits, now, new, old, base, revision, plan: Plan::default() };
    work.decide(observed);
    work.plan
}

fn selecting_all(d: &Deployment) -> Plan {
    let mut plan = Plan::because("the selector selects everything");
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    plan.event(reference(d), EventKind::Warning, "SelectingAll", message);
    if d.status.as_ref().and_then(|s| s.observed_generation) < d.metadata.generation {
        let mut d = d.clone();
        d.status.get_or_insert_default().observed_generation = d.metadata.generation;
        plan.write(Write::update_status(&d));
    }
    plan
}

struct Work<'a> {
    d: &'a Deployment,
    spec: DeploymentSpec,
    limits: Limits,
    now: Timestamp,
    new: Option<Set>,
    old: Vec<Set>,
    /// Status with the conditions decided so far.
    base: DeploymentStatus,
    revision: Option<String>,
    plan: Plan,
}

impl Work<'_> {
    fn decide(&mut self, observed: &Observed) {
        if self.d.metadata.deletion_timestamp.is_some() {
            self.plan.why = "being deleted".into();
            return self.finish_counting();
        }
        self.note_pause();
        if self.spec.paused == Some(true) {
            self.plan.why = "paused".into();
            self.adopt_revision(false);
            self.scale();
            self.clean_up();
            return self.finish_counting();
        }
        if annotation(&self.d.metadata, ROLLBACK).is_some() {
            return self.roll_back();
        }
        if self.is_scaling() {
            self.plan.why = "replicas changed".into();
            self.adopt_revision(false);
            self.scale();
            return self.finish_counting();
        }
        if self.limits.rolling { self.roll() } else { self.recreate(observed) }
    }

    /// Some set was sized for another number of replicas.
    fn is_scaling(&self) -> bool {
        let outdated = |s: &Set| s.number(DESIRED).is_some_and(|n| n != i64::from(self.limits.replicas));
        self.old.iter().chain(&self.new).any(|s| s.size() > 0 && outdated(s))
    }

    fn note_pause(&mut self) {
        if status::deadline(&self.spec).is_none() || status::has_reason(&self.base, PROGRESSING, TIMED_OUT) {
            return;
        }
        let noted = status::has_reason(&self.base, PROGRESSING, "DeploymentPaused");
        let (reason, message) = match (self.spec.paused == Some(true), noted) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let condition = status::condition(PROGRESSING, "Unknown", reason, message.into(), self.now);
        status::set(&mut self.base, condition);
    }

    /// Gives the new set its revision and annotations, making the set if that is wanted. True if it was made: then
    /// nothing else is done until it is seen.
    fn adopt_revision(&mut self, create: bool) -> bool {
        let highest = self.old.iter().map(Set::revision).max().unwrap_or(0);
        let revision = highest + 1;
        let min_ready = self.spec.min_ready_seconds;
        if let Some(new) = &mut self.new {
            new.touched |= sets::annotate_new(self.d, &mut new.set, revision);
            let spec = new.set.spec.get_or_insert_default();
            if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                spec.min_ready_seconds = min_ready;
                new.touched = true;
            }
            self.revision = annotation(&new.set.metadata, REVISION).map(str::to_string);
            let found = format!("Found new replica set {:?}", new.name());
            if status::deadline(&self.spec).is_some() && status::get(&self.base, PROGRESSING).is_none() {
                let condition = status::condition(PROGRESSING, "True", "FoundNewReplicaSet", found, self.now);
                status::set(&mut self.base, condition);
            }
            return false;
        }
        if create {
            self.create(revision);
        }
        create
    }

    fn create(&mut self, revision: i64) {
        let mut set = new_set(self.d, &self.spec, self.base.collision_count);
        let size = self.size_of_new(0);
        set.spec.get_or_insert_default().replicas = Some(size);
        sets::annotate_new(self.d, &mut set, revision);
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(DESIRED.into(), self.limits.replicas.to_string());
        annotations.insert(MAXIMUM.into(), (self.limits.replicas + self.limits.surge).to_string());
        let name = name(&set.metadata).to_string();
        self.plan.why = format!("no replica set has this template, making {name}");
        self.plan.write(Write::create(&set).note(NEW_SET));
        if size > 0 {
            self.scaled_event(&name, 0, size);
        }
        self.revision = Some(revision.to_string());
        if status::deadline(&self.spec).is_some() {
            let message = format!("Created new replica set {name:?}");
            let condition = status::condition(PROGRESSING, "True", "NewReplicaSetCreated", message, self.now);
            status::set(&mut self.base, condition);
        }
    }

    /// How large the new set may be now, given that it is `current` large.
    fn size_of_new(&self, current: i32) -> i32 {
        if !self.limits.rolling {
            return self.limits.replicas;
        }
        let all = total(self.old.iter().chain(&self.new));
        let room = self.limits.replicas + self.limits.surge - all;
        if room <= 0 { current } else { current + room.min(self.limits.replicas - current) }
    }

    fn roll(&mut self) {
        if self.adopt_revision(true) {
            return self.finish_rollout();
        }
        self.plan.why = "rolling".into();
        if self.grow_new() {
            return self.finish_rollout();
        }
        if self.shrink_old() {
            return self.finish_rollout();
        }
        self.clean_up_if_complete();
        self.finish_rollout();
    }

    fn grow_new(&mut self) -> bool {
        let Some(current) = self.new.as_ref().map(Set::size) else { return false };
        let wanted =
            if current > self.limits.replicas { self.limits.replicas } else { self.size_of_new(current) };
        if wanted == current {
            return false;
        }
        // Its count still has pods that are on their way out: grown now, it would count them as its new ones, and as
        // many old ones would go too early.
        if wanted > current
            && self.new.as_ref().is_some_and(|new| !observed(&new.set) || new.actual() > current)
        {
            self.plan.why = "the new set has not come to its size yet".into();
            return false;
        }
        let limits = self.limits;
        if let Some(new) = &mut self.new {
            new.resize(wanted, &limits);
        }
        self.plan.why = format!("new set from {current} to {wanted}");
        true
    }

    /// Takes from old sets what the budget allows: first what is not available anyway.
    fn shrink_old(&mut self) -> bool {
        if total(&self.old) == 0 {
            return false;
        }
        let minimum = self.limits.replicas - self.limits.unavailable;
        let new_missing = self.new.as_ref().map_or(0, |n| n.size() - n.staying());
        let budget = total(self.old.iter().chain(&self.new)) - minimum - new_missing;
        if budget <= 0 {
            return false;
        }
        let limits = self.limits;
        let mut left = budget;
        for set in &mut self.old {
            let take = left.min(set.size() - set.available()).max(0);
            if take > 0 {
                set.resize(set.size() - take, &limits);
                left -= take;
            }
        }
        let available: i32 = self.old.iter().chain(&self.new).map(Set::staying).sum();
        let mut spare = available - minimum;
        for set in &mut self.old {
            let take = spare.min(set.size()).max(0);
            if take > 0 {
                set.resize(set.size() - take, &limits);
                spare -= take;
            }
        }
        let changed = self.old.iter().any(|s| s.size() != s.from);
        if changed {
            self.plan.why = format!("{budget} old pods may go");
        }
        changed
    }

    fn recreate(&mut self, observed: &Observed) {
        let mut scaled = false;
        let limits = self.limits;
        for set in self.old.iter_mut().filter(|s| s.size() > 0) {
            set.resize(0, &limits);
            scaled = true;
        }
        if scaled || self.old_pods_about(observed) {
            self.adopt_revision(false);
            self.plan.why = "old pods must go first".into();
            return self.finish_rollout();
        }
        if self.adopt_revision(true) {
            return self.finish_rollout();
        }
        self.plan.why = "recreating".into();
        self.grow_new();
        self.clean_up_if_complete();
        self.finish_rollout();
    }

    fn old_pods_about(&self, observed: &Observed) -> bool {
        let new = self.new.as_ref().and_then(|n| n.set.metadata.uid.as_deref());
        self.old.iter().any(|s| s.actual() > 0)
            || observed.running.iter().any(|uid| Some(uid.as_str()) != new)
    }

    /// A change of size (or any size while paused): the only set gets it, or all in proportion.
    fn scale(&mut self) {
        let limits = self.limits;
        if let Some(only) = self.active_or_latest() {
            if only.size() != limits.replicas {
                only.resize(limits.replicas, &limits);
            } else {
                only.touched |= only.annotate(&limits);
            }
            return;
        }
        if self.saturated() {
            self.old.iter_mut().filter(|s| s.size() > 0).for_each(|s| s.resize(0, &limits));
        } else if limits.rolling {
            self.scale_in_proportion();
        }
    }

    fn active_or_latest(&mut self) -> Option<&mut Set> {
        let active = self.old.iter().chain(&self.new).filter(|s| s.size() > 0).count();
        match active {
            0 => self.new.as_mut().or(self.old.iter_mut().max_by_key(|s| created(&s.set.metadata))),
            1 => self.old.iter_mut().chain(&mut self.new).find(|s| s.size() > 0),
            _ => None,
        }
    }

    fn saturated(&self) -> bool {
        let wanted = self.limits.replicas;
        self.new.as_ref().is_some_and(|n| {
            n.size() == wanted && n.number(DESIRED) == Some(i64::from(wanted)) && n.available() == wanted
        })
    }

    fn scale_in_proportion(&mut self) {
        let limits = self.limits;
        let actual = self.base.replicas.unwrap_or(0);
        let mut sets: Vec<&mut Set> =
            self.old.iter_mut().chain(&mut self.new).filter(|s| s.size() > 0).collect();
        let allowed = if limits.replicas > 0 { limits.replicas + limits.surge } else { 0 };
        let change = allowed - sets.iter().map(|s| s.size()).sum::<i32>();
        // Larger first; of two alike the newer grows and the older shrinks first.
        sets.sort_by(|a, b| {
            let age = created(&a.set.metadata).cmp(&created(&b.set.metadata));
            b.size().cmp(&a.size()).then(if change > 0 { age.reverse() } else { age })
        });
        let mut sizes: Vec<i32> = sets.iter().map(|s| s.size()).collect();
        let mut given = 0;
        for (set, size) in sets.iter().zip(&mut sizes) {
            if change != 0 {
                let share = share(set, &limits, actual, change, given);
                *size += share;
                given += share;
            }
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + change - given).max(0);
        }
        sets.iter_mut().zip(sizes).for_each(|(set, size)| set.resize(size, &limits));
    }

    fn clean_up_if_complete(&mut self) {
        let counted = self.counted();
        if status::complete(self.d, &counted, &self.limits) {
            self.clean_up();
        }
    }

    fn counted(&self) -> DeploymentStatus {
        status::count(self.d, &self.base, self.new.as_ref(), &self.old, &self.limits, self.now)
    }

    /// Deletes the oldest revisions beyond the history limit, if nothing runs in them.
    fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|l| *l != i32::MAX) else { return };
        let mut alive: Vec<&Set> =
            self.old.iter().filter(|s| s.set.metadata.deletion_timestamp.is_none()).collect();
        let excess = alive.len().saturating_sub(limit.max(0) as usize);
        alive.sort_by_key(|s| (s.revision(), created(&s.set.metadata)));
        let deletes: Vec<Write> = alive
            .into_iter()
            .take(excess)
            .filter(|s| s.actual() == 0 && s.size() == 0 && s.from == 0 && observed(&s.set))
            .map(|s| Write::delete(&s.set).policy("Background").note("beyond the history limit"))
            .collect();
        deletes.into_iter().for_each(|w| self.plan.vanishing(w));
    }

    fn roll_back(&mut self) {
        let wanted = annotation(&self.d.metadata, ROLLBACK).and_then(|r| r.parse::<i64>().ok()).unwrap_or(0);
        let mut revisions: Vec<&Set> = self.old.iter().chain(&self.new).collect();
        revisions.sort_by_key(|s| s.revision());
        // Zero asks for the last one before the present.
        let target = match wanted {
            0 => revisions.len().checked_sub(2).and_then(|i| revisions.get(i).copied()),
            n => revisions.iter().find(|s| s.revision() == n).copied(),
        };
        let mut d = self.d.clone();
        if let Some(annotations) = &mut d.metadata.annotations {
            annotations.remove(ROLLBACK);
        }
        let (kind, reason, message) = match target {
            None => (
                EventKind::Warning,
                "DeploymentRollbackRevisionNotFound",
                "Unable to find the revision to rollback to.".to_string(),
            ),
            Some(set) => adopt_template(&mut d, set),
        };
        self.plan.why = "rollback asked for".into();
        self.plan.write(Write::update(&d));
        self.plan.event(reference(self.d), kind, reason, message);
    }

    fn finish_counting(&mut self) {
        let status = self.counted();
        self.finish(status);
    }

    fn finish_rollout(&mut self) {
        let status =
            status::rollout(self.d, &self.base, self.new.as_ref(), &self.old, &self.limits, self.now);
        self.finish(status);
    }

    /// Writes the sets that were changed, then the status if it differs.
    fn finish(&mut self, status: DeploymentStatus) {
        let touched: Vec<Set> = self.old.iter().chain(&self.new).filter(|s| s.touched).cloned().collect();
        for set in touched {
            let (from, to) = (set.from, set.size());
            self.plan.write(Write::update(&set.set).note(format!("size {from} -> {to}")));
            if from != to {
                self.scaled_event(set.name(), from, to);
            }
        }
        if let Some(wait) = status::stuck_check(self.d, &status, &self.limits, self.now) {
            self.plan.again(wait);
        }
        let same = self.d.status.as_ref() == Some(&status);
        if same && self.revision.as_deref() == annotation(&self.d.metadata, REVISION) {
            return;
        }
        let mut d = self.d.clone();
        let note = summary(&status);
        d.status = Some(status);
        if let Some(revision) = self.revision.clone() {
            d.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
        }
        self.plan.write(Write::update_status(&d).note(note));
    }

    fn scaled_event(&mut self, set: &str, from: i32, to: i32) {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.plan.event(reference(self.d), EventKind::Normal, "ScalingReplicaSet", message);
    }
}

fn summary(status: &DeploymentStatus) -> String {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let conditions = status.conditions.iter().flatten();
    let conditions: Vec<String> = conditions
        .map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or("")))
        .collect();
    format!(
        "{} pods, {} updated, {} ready, {} available; {}",
        n(status.replicas),
        n(status.updated_replicas),
        n(status.ready_replicas),
        n(status.available_replicas),
        conditions.join(", ")
    )
}

fn observed(set: &ReplicaSet) -> bool {
    set.status.as_ref().and_then(|s| s.observed_generation) >= set.metadata.generation
}

/// A set's part of a change in proportion to its size, never beyond what is left of the change.
fn share(set: &Set, limits: &Limits, actual: i32, change: i32, given: i32) -> i32 {
    let fraction = if limits.replicas == 0 {
        -set.size()
    } else {
        let before = set.number(MAXIMUM).filter(|n| *n > 0).unwrap_or(i64::from(actual)).max(1);
        let wanted = f64::from(set.size()) * f64::from(limits.replicas + limits.surge) / before as f64;
        wanted.round() as i32 - set.size()
    };
    let left = change - given;
    if change > 0 { fraction.clamp(0, left.max(0)) } else { fraction.clamp(left.min(0), 0) }
}

fn adopt_template(d: &mut Deployment, set: &Set) -> (EventKind, &'static str, String) {
    let template = set.set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
    let Some(spec) = &mut d.spec else {
        return (EventKind::Warning, "DeploymentRollbackTemplateUnchanged", String::new());
    };
    if sets::same_template(&spec.template, &template) {
        let message = format!(
            "The rollback revision contains the same template as current deployment {:?}",
            name(&d.metadata)
        );
        return (EventKind::Warning, "DeploymentRollbackTemplateUnchanged", message);
    }
    spec.template = template;
    if let Some(labels) = spec.template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    let annotations = d.metadata.annotations.get_or_insert_default();
    annotations.retain(|k, _| sets::OWN.contains(&k.as_str()));
    for (key, value) in set.set.metadata.annotations.iter().flatten() {
        if !sets::OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let message = format!("Rolled back deployment {:?} to revision {}", name(&d.metadata), set.revision());
    (EventKind::Normal, "DeploymentRollback", message)
}

/// The ReplicaSet of the Deployment's present template, without a size.
fn new_set(d: &Deployment, spec: &DeploymentSpec, collisions: Option<i32>) -> ReplicaSet {
    let hash = sets::template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let base = cut(name(&d.metadata), 253 - hash.len() - 1);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{hash}")),
            namespace: d.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_ref(d)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Whether the status says the rollout is over; used by tests.
#[cfg(test)]
pub fn is_complete(status: &DeploymentStatus) -> bool {
    status::has_reason(status, PROGRESSING, status::COMPLETE)
}
