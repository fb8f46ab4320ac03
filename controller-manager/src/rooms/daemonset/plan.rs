//! Which nodes get a pod, which pods go, and what the status says. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use control::events::Kind as EventKind;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};

use super::fit::{self, Fit};
use super::rolling;
use crate::kit::history::POD_HASH;
use crate::kit::meta::{created, label, name, namespace, scaled};
use crate::kit::pods::{available, finished, node as bound, phase, ready};

/// What there is. `pods` are the set's own, whatever their state.
pub struct Observed<'a> {
    pub set: &'a DaemonSet,
    pub spec: &'a DaemonSetSpec,
    pub nodes: Vec<&'a Node>,
    pub pods: Vec<&'a Pod>,
    /// The hash of the template in force.
    pub hash: &'a str,
    /// All earlier creations and deletions have been seen.
    pub settled: bool,
    /// Nodes that are left alone for so long, because pods failed there.
    pub waits: HashMap<String, Duration>,
}

/// What a look leads to.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Pods that go, by name.
    pub delete: Vec<String>,
    /// Nodes of failed pods among those.
    pub failed: Vec<String>,
    pub events: Vec<(EventKind, &'static str, String)>,
    pub status: DaemonSetStatus,
    pub again: Option<Duration>,
    pub why: String,
}

/// A node's share: whether pods fit, and those that are there or meant for it, oldest first.
pub struct Place<'a> {
    pub fit: Fit,
    pub pods: Vec<&'a Pod>,
}

/// Everything a decision looks at.
pub struct Look<'a> {
    pub o: &'a Observed<'a>,
    pub now: Timestamp,
    pub min_ready: i32,
    /// Nodes that are there, and those that pods are on or meant for, by name.
    pub places: BTreeMap<&'a str, Place<'a>>,
    /// How many nodes should have a pod.
    pub desired: i32,
    pub max_unavailable: i32,
    pub max_surge: i32,
}

/// Decides everything but the history. `pod_spec` is that of [`fit::spec`].
pub fn plan(o: &Observed<'_>, pod_spec: &PodSpec, now: Timestamp) -> Plan {
    let look = Look::new(o, pod_spec, now);
    let mut plan = Plan { status: look.status(), ..Plan::default() };
    plan.again = look.again(&plan.status);
    if !o.settled {
        plan.why = "earlier writes are still to be seen".into();
        return plan;
    }
    look.manage(&mut plan);
    let rolls = o.spec.update_strategy.as_ref().is_none_or(|s| s.type_.as_deref() != Some("OnDelete"));
    if plan.create.is_empty() && plan.delete.is_empty() && rolls {
        rolling::roll(&look, &mut plan);
    }
    if plan.why.is_empty() {
        plan.why = "every node has what it should".into();
    }
    plan
}

/// Scheduled ones first, then the oldest.
fn by_age(pods: &mut [&Pod]) {
    pods.sort_by_cached_key(|p| (bound(p).is_none(), created(&p.metadata), name(&p.metadata).to_string()));
}

impl<'a> Look<'a> {
    fn new(o: &'a Observed<'a>, pod_spec: &PodSpec, now: Timestamp) -> Self {
        let mut places: BTreeMap<&str, Place<'_>> = o
            .nodes
            .iter()
            .map(|node| (name(&node.metadata), Place { fit: fit::fit(pod_spec, node), pods: Vec::new() }))
            .collect();
        // A finished pod that is being deleted is as good as gone.
        let counts = |p: &&&Pod| !(finished(p) && p.metadata.deletion_timestamp.is_some());
        for pod in o.pods.iter().filter(counts) {
            let Some(node) = fit::target(pod) else { continue };
            let nowhere = || Place { fit: Fit { run: false, stay: false }, pods: Vec::new() };
            places.entry(node).or_insert_with(nowhere).pods.push(pod);
        }
        places.values_mut().for_each(|place| by_age(&mut place.pods));
        let desired = places.values().filter(|p| p.fit.run).count() as i32;
        let (max_unavailable, max_surge) = limits(o.spec, desired);
        let min_ready = o.spec.min_ready_seconds.unwrap_or(0);
        Self { o, now, min_ready, places, desired, max_unavailable, max_surge }
    }

    /// Whether a pod counts as available.
    pub fn available(&self, pod: &Pod) -> bool {
        available(pod, self.min_ready, self.now)
    }

    /// Whether a pod is of the template in force.
    pub fn is_new(&self, pod: &Pod) -> bool {
        let by_hash = !self.o.hash.is_empty() && label(&pod.metadata, POD_HASH) == Some(self.o.hash);
        let generation = fit::generation(self.o.set).map(|g| g.to_string());
        by_hash
            || generation.is_some() && label(&pod.metadata, fit::GENERATION_LABEL) == generation.as_deref()
    }

    /// Pods where there should be some, none where there should not, and one of several.
    fn manage(&self, plan: &mut Plan) {
        let exists = |node: &str| self.o.nodes.iter().any(|n| name(&n.metadata) == node);
        for (node, place) in &self.places {
            match place {
                Place { fit: Fit { run: true, .. }, pods } if pods.is_empty() => {
                    plan.create.push(node.to_string());
                }
                Place { fit: Fit { stay: true, .. }, pods } => self.tidy(node, pods, plan),
                // Pods bound to a node that is gone are the pod collector's; the unbound would wait for ever.
                Place { pods, .. } => {
                    let there = !pods.is_empty() && exists(node);
                    let goes = |p: &&&Pod| alive(p) && (there || bound(p).is_none());
                    plan.delete.extend(pods.iter().filter(goes).map(|p| name(&p.metadata).to_string()));
                }
            }
        }
        if !plan.create.is_empty() {
            plan.why = format!("{} nodes have no pod", plan.create.len());
        } else if !plan.delete.is_empty() {
            plan.why =
                format!("{} pods are finished, too many, or where they should not be", plan.delete.len());
        }
    }

    fn tidy(&self, node: &str, pods: &[&Pod], plan: &mut Plan) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|p| alive(p)) {
            let called = format!("{}/{}", namespace(&pod.metadata), name(&pod.metadata));
            match phase(pod) {
                "Failed" => {
                    if let Some(wait) = self.o.waits.get(node) {
                        plan.again = Some(plan.again.map_or(*wait, |a| a.min(*wait)));
                        continue;
                    }
                    let message =
                        format!("Found failed daemon pod {called} on node {node}, will try to kill it");
                    plan.events.push((EventKind::Warning, "FailedDaemonPod", message));
                    plan.failed.push(node.into());
                    plan.delete.push(name(&pod.metadata).into());
                }
                "Succeeded" => {
                    let message =
                        format!("Found succeeded daemon pod {called} on node {node}, will try to delete it");
                    plan.events.push((EventKind::Normal, "SucceededDaemonPod", message));
                    plan.delete.push(name(&pod.metadata).into());
                }
                _ => running.push(*pod),
            }
        }
        if running.len() > 1 {
            self.reduce(&running, plan);
        }
    }

    /// Of several living pods the oldest stays; where pods may surge, the oldest of each revision while the new one
    /// is on its way and the old one serves.
    fn reduce(&self, running: &[&Pod], plan: &mut Plan) {
        let (mut new, mut old) = (None, None);
        let mut go = |pod: &Pod| plan.delete.push(name(&pod.metadata).into());
        if self.max_surge == 0 {
            running.iter().skip(1).for_each(|p| go(p));
            return;
        }
        for pod in running {
            let slot = if label(&pod.metadata, POD_HASH) == Some(self.o.hash) { &mut new } else { &mut old };
            match slot {
                None => *slot = Some(*pod),
                Some(_) => go(pod),
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!ready(old) || self.available(new))
        {
            go(old);
        }
    }

    fn status(&self) -> DaemonSetStatus {
        let before = self.o.set.status.as_ref();
        let mut status = DaemonSetStatus {
            desired_number_scheduled: self.desired,
            collision_count: before.and_then(|s| s.collision_count),
            conditions: before.and_then(|s| s.conditions.clone()),
            observed_generation: match self.o.settled {
                true => self.o.set.metadata.generation,
                // This generation has not been acted on.
                false => before.and_then(|s| s.observed_generation),
            },
            ..DaemonSetStatus::default()
        };
        let (mut there, mut updated) = (0, 0);
        let exists = |place: &&Place<'_>| place.fit.run || !place.pods.is_empty();
        for place in self.places.values().filter(exists) {
            match place.pods.first() {
                Some(oldest) if place.fit.run => {
                    status.current_number_scheduled += 1;
                    status.number_ready += i32::from(ready(oldest));
                    there += i32::from(self.available(oldest));
                    updated += i32::from(self.is_new(oldest));
                }
                Some(oldest) if self.is_known(oldest) => status.number_misscheduled += 1,
                _ => {}
            }
        }
        status.number_available = Some(there);
        status.updated_number_scheduled = Some(updated);
        status.number_unavailable = Some(self.desired - there);
        status
    }

    fn is_known(&self, pod: &Pod) -> bool {
        fit::target(pod).is_some_and(|node| self.o.nodes.iter().any(|n| name(&n.metadata) == node))
    }

    /// A last line of defence against clocks that differ.
    fn again(&self, status: &DaemonSetStatus) -> Option<Duration> {
        let waits = self.min_ready > 0 && Some(status.number_ready) != status.number_available;
        waits.then(|| Duration::from_secs(self.min_ready.unsigned_abs().into()))
    }
}

/// Not being deleted.
pub fn alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

/// How many may be unavailable, and how many more than one per node there may be. Shares are of the nodes that should
/// have a pod and are rounded up; both zero would never move, so one may be unavailable then.
fn limits(spec: &DaemonSetSpec, desired: i32) -> (i32, i32) {
    let rolls = spec.update_strategy.as_ref().filter(|s| s.type_.as_deref() != Some("OnDelete"));
    let rolling = rolls.and_then(|s| s.rolling_update.as_ref());
    let resolve =
        |value: Option<&_>, default| value.and_then(|v| scaled(v, desired, true)).unwrap_or(default);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), 1);
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), 0);
    let none = desired > 0 && unavailable == 0 && surge == 0;
    (if none { 1 } else { unavailable.max(0) }, surge.max(0))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "why: {}", self.why)?;
        self.create.iter().try_for_each(|node| writeln!(f, "create on {node}"))?;
        self.delete.iter().try_for_each(|pod| writeln!(f, "delete {pod}"))?;
        for (kind, reason, message) in &self.events {
            writeln!(f, "event {} {reason}: {message}", kind.as_str())?;
        }
        let s = &self.status;
        let number = |n: Option<i32>| n.unwrap_or(0);
        writeln!(
            f,
            "status: {} desired, {} current, {} ready, {} updated, {} available, {} unavailable, {} misscheduled",
            s.desired_number_scheduled,
            s.current_number_scheduled,
            s.number_ready,
            number(s.updated_number_scheduled),
            number(s.number_available),
            number(s.number_unavailable),
            s.number_misscheduled,
        )?;
        match self.again {
            Some(wait) => writeln!(f, "again in {}s", wait.as_secs_f64()),
            None => Ok(()),
        }
    }
}
