//! What is to be done about a StatefulSet, and what its status says. Pure.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::claims::{self, Find};
use super::identity::{
    correct, is_available, is_created, is_healthy, is_ready, make, ordinal, range, revision,
};
use crate::kit::Write;
use crate::kit::batch::BURST;
use crate::kit::meta::{name, scaled};
use crate::kit::pods::{becomes_available, finished, phase};

/// What there is. `pods` are the set's own, whatever their state.
pub struct Observed<'a> {
    pub set: &'a StatefulSet,
    pub spec: &'a StatefulSetSpec,
    pub pods: Vec<&'a Pod>,
    pub current: &'a ControllerRevision,
    pub update: &'a ControllerRevision,
    /// Claims of the namespace by name.
    pub find: &'a Find<'a>,
}

/// What is done to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Create,
    Update,
    Delete,
    /// Nothing, only its claims are seen to.
    Claims,
}

/// One thing to do: claims that are made first, the pod's write, and claims that change their owners after.
#[derive(Clone, Debug)]
pub struct Act {
    pub what: What,
    pub pod: String,
    pub claims: Vec<Write>,
    pub write: Option<Write>,
    pub owners: Vec<Write>,
}

/// What a look leads to. A stage that fails is the last.
#[derive(Debug)]
pub struct Plan {
    pub stages: Vec<Vec<Act>>,
    /// As it reads now.
    pub status: StatefulSetStatus,
    /// How many pods of the current revision the last stage takes away for an update.
    pub rolled: i32,
    /// What an update may take and how many places are down, where the set says how many may be.
    pub budget: Option<(i32, i32)>,
    pub again: Option<Duration>,
    pub why: String,
}

impl Plan {
    /// The status once everything planned is done.
    pub fn status_after(&self) -> StatefulSetStatus {
        let mut status = self.status.clone();
        status.current_replicas = status.current_replicas.map(|n| (n - self.rolled).max(0));
        status
    }
}

/// A place in line, and the pod there if there is one.
struct Slot<'a> {
    ordinal: i64,
    pod: Option<&'a Pod>,
}

struct Look<'a> {
    o: &'a Observed<'a>,
    now: Timestamp,
    /// One after the other, each when those before are well.
    ordered: bool,
    min_ready: i32,
    partition: usize,
    replicas: Vec<Slot<'a>>,
    /// Highest place first.
    condemned: Vec<(i64, &'a Pod)>,
}

/// Decides everything but the history.
pub fn plan(o: &Observed<'_>, now: Timestamp) -> Plan {
    let look = Look::new(o, now);
    let status = look.status();
    let again = look.again(&status);
    let mut plan = Plan { stages: Vec::new(), status, rolled: 0, budget: None, again, why: String::new() };
    if o.set.metadata.deletion_timestamp.is_some() {
        plan.why = "the set is being deleted".into();
        return plan;
    }
    let waits =
        look.living(&mut plan).or_else(|| look.leaving(&mut plan)).or_else(|| look.rolling(&mut plan));
    if plan.why.is_empty() {
        plan.why = waits.unwrap_or_else(|| "all is as it should be".into());
    }
    plan.stages.retain(|stage| !stage.is_empty());
    plan
}

impl<'a> Look<'a> {
    fn new(o: &'a Observed<'a>, now: Timestamp) -> Self {
        let range = range(o.set);
        let rolling = o.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let mut replicas: Vec<_> = range.clone().map(|ordinal| Slot { ordinal, pod: None }).collect();
        let mut condemned = Vec::new();
        for pod in &o.pods {
            let Some(place) = ordinal(name(&o.set.metadata), name(&pod.metadata)) else { continue };
            match usize::try_from(place - range.start).ok().and_then(|at| replicas.get_mut(at)) {
                Some(slot) => slot.pod = Some(pod),
                None => condemned.push((place, *pod)),
            }
        }
        condemned.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        Self {
            o,
            now,
            ordered: o.spec.pod_management_policy.as_deref() != Some("Parallel"),
            min_ready: o.spec.min_ready_seconds.unwrap_or(0),
            partition: rolling.and_then(|r| r.partition).unwrap_or(0).max(0) as usize,
            replicas,
            condemned,
        }
    }

    fn available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready, self.now)
    }

    /// What is made and mended. Answers why nothing else may happen, if so.
    fn living(&self, plan: &mut Plan) -> Option<String> {
        let (mut acts, mut waits) = (Vec::new(), None);
        for (at, slot) in self.replicas.iter().enumerate() {
            let (act, wait) = match slot.pod {
                None => self.absent(at, slot),
                Some(pod) => self.present(slot, pod),
            };
            acts.extend(act);
            if self.ordered && wait.is_some() {
                waits = wait;
                break;
            }
            if plan.why.is_empty() {
                plan.why = wait.unwrap_or_default();
            }
            if acts.len() >= BURST {
                waits = Some(format!("no more than {BURST} at a time"));
                break;
            }
        }
        plan.stages.push(acts);
        waits
    }

    fn absent(&self, at: usize, slot: &Slot<'_>) -> (Option<Act>, Option<String>) {
        let (o, ordinal) = (self.o, slot.ordinal);
        if let Some(why) = claims::hindrance(o.set, o.spec, ordinal, o.find) {
            return (None, Some(why));
        }
        let of = if self.keeps_current(at) { o.current } else { o.update };
        let pod = make(o.set, o.spec, of, ordinal);
        let made = name(&pod.metadata).to_string();
        let act = Act {
            what: What::Create,
            claims: claims::missing(o.set, o.spec, ordinal, o.find),
            write: Some(Write::create(&pod).note(name(&of.metadata))),
            owners: claims::owners(o.set, o.spec, &pod, ordinal, false, o.find),
            pod: made.clone(),
        };
        (Some(act), Some(format!("{made} is missing")))
    }

    /// Whether a new pod at this place (counted from 0) is of the current revision still.
    fn keeps_current(&self, at: usize) -> bool {
        let strategy = self.o.spec.update_strategy.as_ref();
        if strategy.is_some_and(|s| s.type_.as_deref() == Some("OnDelete")) {
            return false;
        }
        match strategy.and_then(|s| s.rolling_update.as_ref()) {
            Some(_) => at < self.partition,
            None => {
                let current = self.o.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
                at < current.max(0) as usize
            }
        }
    }

    fn present(&self, slot: &Slot<'_>, pod: &Pod) -> (Option<Act>, Option<String>) {
        let (o, called) = (self.o, name(&pod.metadata));
        let deleting = pod.metadata.deletion_timestamp.is_some();
        if finished(pod) {
            let act = (!deleting).then(|| delete(pod));
            return (act, Some(format!("{called} is {}", phase(pod))));
        }
        let mut act = Act {
            what: What::Claims,
            pod: called.into(),
            claims: Vec::new(),
            write: None,
            owners: Vec::new(),
        };
        if phase(pod) == "Pending" {
            act.claims = claims::missing(o.set, o.spec, slot.ordinal, o.find);
        }
        let wait = self.unwell(pod).map(|what| format!("{called} is {what}"));
        if !self.ordered || wait.is_none() {
            act.write = correct(o.set, o.spec, pod, slot.ordinal);
            act.owners = claims::owners(o.set, o.spec, pod, slot.ordinal, false, o.find);
        }
        if act.write.is_some() || !act.owners.is_empty() {
            act.what = What::Update;
        }
        (Some(act).filter(|a| a.what == What::Update || !a.claims.is_empty()), wait)
    }

    /// What keeps a pod from being left behind in good conscience.
    fn unwell(&self, pod: &Pod) -> Option<&'static str> {
        if pod.metadata.deletion_timestamp.is_some() {
            Some("terminating")
        } else if !is_ready(pod) {
            Some("not ready")
        } else if !self.available(pod) {
            Some("not available yet")
        } else {
            None
        }
    }

    /// What goes because there are fewer places. Answers why nothing else may happen, if so.
    fn leaving(&self, plan: &mut Plan) -> Option<String> {
        let o = self.o;
        let owned = self.condemned.iter().filter_map(|(ordinal, pod)| {
            let owners = claims::owners(o.set, o.spec, pod, *ordinal, true, o.find);
            let called = name(&pod.metadata).to_string();
            let act = Act { what: What::Claims, pod: called, claims: Vec::new(), write: None, owners };
            (!act.owners.is_empty()).then_some(act)
        });
        plan.stages.push(owned.take(BURST).collect());
        let first_unwell = self.first_unwell();
        let mut acts = Vec::new();
        let mut waits = None;
        for (_, pod) in &self.condemned {
            let called = name(&pod.metadata);
            match self.unwell(pod) {
                Some("terminating") if self.ordered => waits = Some(format!("{called} is terminating")),
                Some("terminating") => continue,
                Some(what) if self.ordered && first_unwell != Some(called) => {
                    waits = Some(format!("{called} is to go, but is {what}, and so is another before it"));
                }
                _ => {
                    acts.push(delete(pod));
                    waits = self.ordered.then(|| format!("{called} is one too many"));
                }
            }
            if waits.is_some() || acts.len() >= BURST {
                break;
            }
        }
        plan.stages.push(acts);
        waits
    }

    /// The first pod that is not available, if it is one that is to go.
    fn first_unwell(&self) -> Option<&str> {
        if self.replicas.iter().any(|slot| self.is_unavailable(slot)) {
            return None;
        }
        let unwell = self.condemned.iter().rev().find(|(_, pod)| self.unwell(pod).is_some());
        unwell.map(|(_, pod)| name(&pod.metadata))
    }

    /// What goes because it is of an old revision. Answers why it ends there, if it does.
    fn rolling(&self, plan: &mut Plan) -> Option<String> {
        let strategy = self.o.spec.update_strategy.as_ref();
        if strategy.is_some_and(|s| s.type_.as_deref() == Some("OnDelete")) {
            return None;
        }
        let most = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.max_unavailable.as_ref());
        let (acts, waits) = match most {
            None => self.next_outdated(),
            Some(most) => {
                let total = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
                let most = scaled(most, total, false).unwrap_or(1).max(1);
                let down = self.replicas.iter().filter(|slot| self.is_unavailable(slot)).count() as i32;
                plan.budget = Some((most, down));
                self.outdated(most, down)
            }
        };
        let current = name(&self.o.current.metadata);
        let of_current = |act: &&Act| act.write.as_ref().is_some_and(|w| w.note == current);
        plan.rolled = acts.iter().filter(of_current).count() as i32;
        plan.stages.push(acts);
        waits
    }

    fn is_outdated(&self, pod: &Pod) -> bool {
        revision(pod) != name(&self.o.update.metadata)
            && pod.metadata.deletion_timestamp.is_none()
            && !finished(pod)
    }

    fn is_unavailable(&self, slot: &Slot<'_>) -> bool {
        !slot.pod.is_some_and(|pod| is_healthy(pod) && self.available(pod))
    }

    /// From the highest place down: the first of an old revision goes, unless one above it is not available.
    fn next_outdated(&self) -> (Vec<Act>, Option<String>) {
        for slot in self.replicas.iter().skip(self.partition).rev() {
            if let Some(pod) = slot.pod.filter(|pod| self.is_outdated(pod)) {
                let why = format!("{} is of an old revision", name(&pod.metadata));
                return (vec![roll(pod)], Some(why));
            }
            if self.is_unavailable(slot) {
                let waits = format!("the update waits for place {}", slot.ordinal);
                return (Vec::new(), Some(waits));
            }
        }
        (Vec::new(), None)
    }

    /// Several at once, as long as no more than `most` are unavailable in all.
    fn outdated(&self, most: i32, down: i32) -> (Vec<Act>, Option<String>) {
        let old = self.replicas.iter().skip(self.partition).rev().filter_map(|slot| slot.pod);
        let old: Vec<_> = old.filter(|pod| self.is_outdated(pod)).collect();
        if old.is_empty() {
            return (Vec::new(), None);
        }
        let acts: Vec<_> = old.into_iter().take((most - down).max(0) as usize).map(roll).collect();
        (acts, Some(format!("the update may take {most}, {down} are unavailable")))
    }

    fn status(&self) -> StatefulSetStatus {
        let o = self.o;
        let members =
            || o.pods.iter().filter(|p| ordinal(name(&o.set.metadata), name(&p.metadata)).is_some());
        let count = |f: &dyn Fn(&Pod) -> bool| members().filter(|p| f(p)).count() as i32;
        let of = |revision_of: &ControllerRevision| {
            count(&|p| {
                is_created(p)
                    && p.metadata.deletion_timestamp.is_none()
                    && revision(p) == name(&revision_of.metadata)
            })
        };
        let collisions = o.set.status.as_ref().and_then(|s| s.collision_count);
        let mut status = StatefulSetStatus {
            replicas: count(&is_created),
            ready_replicas: Some(count(&is_ready)),
            available_replicas: Some(count(&|p| self.available(p))),
            current_replicas: Some(of(o.current)),
            updated_replicas: Some(of(o.update)),
            current_revision: o.current.metadata.name.clone(),
            update_revision: o.update.metadata.name.clone(),
            collision_count: Some(collisions.unwrap_or(0)),
            observed_generation: o.set.metadata.generation,
            conditions: None,
        };
        self.complete(&mut status);
        status
    }

    /// A rolling update that is over makes the new revision the current one.
    fn complete(&self, status: &mut StatefulSetStatus) {
        let on_delete = |s: &k8s_openapi::api::apps::v1::StatefulSetUpdateStrategy| {
            s.type_.as_deref() == Some("OnDelete")
        };
        let wanted = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
        let all = [Some(status.replicas), status.ready_replicas, status.updated_replicas];
        if !self.o.spec.update_strategy.as_ref().is_some_and(on_delete) && all == [Some(wanted); 3] {
            status.current_replicas = status.updated_replicas;
            status.current_revision = status.update_revision.clone();
        }
    }

    /// When a ready pod next becomes available.
    fn again(&self, status: &StatefulSetStatus) -> Option<Duration> {
        if self.min_ready == 0 || status.ready_replicas == status.available_replicas {
            return None;
        }
        let waits = self.o.pods.iter().filter_map(|p| becomes_available(p, self.min_ready, self.now));
        let next = waits.filter(|w| !w.is_zero()).min();
        Some(next.unwrap_or(Duration::from_secs(self.min_ready.unsigned_abs().into())))
    }
}

fn delete(pod: &Pod) -> Act {
    Act {
        what: What::Delete,
        pod: name(&pod.metadata).into(),
        claims: Vec::new(),
        write: Some(Write::delete(pod)),
        owners: Vec::new(),
    }
}

/// A deletion for an update, which notes the revision it takes away.
fn roll(pod: &Pod) -> Act {
    let mut act = delete(pod);
    act.write = act.write.map(|write| write.note(revision(pod)));
    act
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.claims.iter().try_for_each(|claim| writeln!(f, "  {claim}"))?;
        if let Some(write) = &self.write {
            writeln!(f, "  {write}")?;
        }
        self.owners.iter().try_for_each(|claim| writeln!(f, "  {claim}"))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "why: {}", self.why)?;
        for stage in &self.stages {
            writeln!(f, "stage of {}", stage.len())?;
            stage.iter().try_for_each(|act| write!(f, "{act}"))?;
        }
        let s = self.status_after();
        let number = |n: Option<i32>| n.unwrap_or(0);
        writeln!(
            f,
            "status: {} pods, {} ready, {} available, {} of {}, {} of {}",
            s.replicas,
            number(s.ready_replicas),
            number(s.available_replicas),
            number(s.current_replicas),
            s.current_revision.unwrap_or_default(),
            number(s.updated_replicas),
            s.update_revision.unwrap_or_default(),
        )?;
        match self.again {
            Some(wait) => writeln!(f, "again in {}s", wait.as_secs_f64()),
            None => Ok(()),
        }
    }
}
