//! Wakes, observes and applies for StatefulSets.

use std::collections::HashSet;
use std::sync::Arc;

use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Event, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::budgets::Budgets;
use super::identity::{ordinal, revision};
use super::plan::{Act, Observed, What, plan};
use super::{claims, plan::Plan};
use crate::kit::batch::slow_start;
use crate::kit::counts::Skips;
use crate::kit::doubt::Doubts;
use crate::kit::history::{self, Choice, Made};
use crate::kit::meta::{controller, is_empty_selector, name, namespace, selects, uid};
use crate::kit::seen::Seen;
use crate::kit::write::{Answer, Failure};
use crate::kit::{Context, Write, adopt, pods};

/// How long to wait for a cache that is behind the room's own writes before looking whether it has given up.
const BEHIND: std::time::Duration = std::time::Duration::from_secs(2);

struct Room {
    context: Context,
    sets: Cache<StatefulSet>,
    pods: Cache<Pod>,
    claims: Cache<PersistentVolumeClaim>,
    revisions: Cache<ControllerRevision>,
    /// Own writes of pods, and of sets' statuses, that the caches may not show yet.
    seen_pods: Seen<Key>,
    seen_sets: Seen<Key>,
    doubts: Doubts<Key>,
    skips: Skips,
    budgets: Budgets,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        sets: context.caches.of(),
        pods: context.pods(),
        claims: context.caches.of(),
        revisions: adopt::owned_cache(&context),
        seen_pods: Seen::default(),
        seen_sets: Seen::default(),
        doubts: Doubts::default(),
        skips: Skips::register(&context.metrics, "statefulset_controller"),
        budgets: Budgets::register(&context.metrics),
        context: context.clone(),
    });
    let queue = Queue::new();
    wake(&room, &queue);
    let workers = context.config.workers("statefulset", 5);
    context.run(Options::new("statefulset-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn wake(room: &Arc<Room>, queue: &Queue<Key>) {
    let q = queue.clone();
    room.sets.handle(move |event| q.add(event.key.clone()));
    let (q, sets) = (queue.clone(), room.sets.clone());
    room.pods.handle(move |event| changed(event, |p| &p.metadata, &sets, &q));
    let (q, sets) = (queue.clone(), room.sets.clone());
    room.revisions.handle(move |event| changed(event, |r| &r.metadata, &sets, &q));
    // A pod may wait for a claim to be gone.
    let (q, sets) = (queue.clone(), room.sets.clone());
    room.claims.handle(move |event| {
        if event.new.is_none() {
            let waiting = sets.by_namespace(&event.key.namespace);
            waiting
                .iter()
                .filter(|set| claims::is_claim_of(set, &event.key.name))
                .for_each(|set| q.add(Key::of(&**set)));
        }
    });
}

/// Wakes the sets that own, owned or may adopt what changed.
fn changed<T>(event: &Event<T>, meta: fn(&T) -> &ObjectMeta, sets: &Cache<StatefulSet>, queue: &Queue<Key>) {
    for object in event.old.iter().chain(&event.new) {
        let meta = meta(object);
        match controller(meta) {
            Some(owner) if owner.kind == "StatefulSet" => queue.add(Key::new(namespace(meta), &owner.name)),
            Some(_) => {}
            None => wanted_by(sets, meta).into_iter().for_each(|key| queue.add(key)),
        }
    }
}

fn wanted_by(sets: &Cache<StatefulSet>, meta: &ObjectMeta) -> Vec<Key> {
    let wants = |set: &&Arc<StatefulSet>| {
        set.spec
            .as_ref()
            .is_some_and(|s| !is_empty_selector(&s.selector) && selects(&s.selector, meta.labels.as_ref()))
    };
    sets.by_namespace(namespace(meta)).iter().filter(wants).map(|s| Key::of(&**s)).collect()
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        // What the caches have seen is asked before they are read, never after.
        let pods = self.seen_pods.behind(&key, self.pods.resource_version());
        let behind = self.skips.note(pods, "", "pods")
            || self.skips.note(
                self.seen_sets.behind(&key, self.sets.resource_version()),
                "apps",
                "statefulsets",
            );
        if behind || !self.doubts.settled(&self.context, &self.pods, &key.namespace, &key, None).await? {
            return Ok(Some(BEHIND));
        }
        let Some(set) = self.sets.get_key(&key) else {
            self.budgets.show(&key, None);
            return Ok(None);
        };
        let Some(spec) = set.spec.as_ref().filter(|s| !is_empty_selector(&s.selector)) else {
            return Ok(None);
        };
        let pods = match self.claim(&set, spec).await? {
            Some(pods) => pods,
            None => return Ok(None),
        };
        let (mut revisions, _) = adopt::owned_and_orphans(&self.revisions, &set.metadata);
        history::sort(&mut revisions);
        let Some(update) = self.choose(&key, &set, spec, &revisions).await? else { return Ok(None) };
        let named = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
        let current = revisions.iter().find(|r| Some(name(&r.metadata)) == named).unwrap_or(&update);
        let plan = self.plan(&set, spec, &pods, [current, &update]);
        let policy = spec.pod_management_policy.as_deref().unwrap_or("OrderedReady");
        self.budgets.show(&key, plan.budget.map(|numbers| (policy, numbers)));
        let outcome = self.apply(&key, &set, &plan).await;
        self.forget(spec, &revisions, [current, &update], &pods).await?;
        outcome
    }

    fn plan(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        pods: &[Arc<Pod>],
        [current, update]: [&ControllerRevision; 2],
    ) -> Plan {
        let find = |claim: &str| self.claims.get(namespace(&set.metadata), claim);
        let pods = pods.iter().map(|p| &**p).collect();
        plan(&Observed { set, spec, pods, current, update, find: &find }, Timestamp::now())
    }

    /// The set's pods, or nothing if it first takes some in or lets some go.
    async fn claim(
        &self,
        set: &Arc<StatefulSet>,
        spec: &StatefulSetSpec,
    ) -> anyhow::Result<Option<Vec<Arc<Pod>>>> {
        let (owned, orphans) = pods::owned_and_orphans(&self.pods, &set.metadata);
        let member = |pod: &Pod| {
            ordinal(name(&set.metadata), name(&pod.metadata)).is_some()
                && selects(&spec.selector, pod.metadata.labels.as_ref())
        };
        let mut claim = adopt::claim_where(&**set, &owned, &orphans, member);
        let (kept, strays) = adopt::owned_and_orphans(&self.revisions, &set.metadata);
        let revisions = adopt::claim(&**set, &spec.selector, &kept, &strays);
        claim.adopt.extend(revisions.adopt);
        if claim.is_empty() {
            return Ok(Some(owned));
        }
        claim.apply::<StatefulSet>(&self.context, set).await?;
        Ok(None)
    }

    /// The revision the pods are to have, or nothing if it has to be made first.
    async fn choose(
        &self,
        key: &Key,
        set: &Arc<StatefulSet>,
        spec: &StatefulSetSpec,
        revisions: &[Arc<ControllerRevision>],
    ) -> anyhow::Result<Option<Arc<ControllerRevision>>> {
        let data = history::data(&spec.template);
        let number = match history::choose(revisions, &data) {
            Choice::Use(at) => return Ok(revisions.get(at).cloned()),
            _ if set.metadata.deletion_timestamp.is_some() => return Ok(revisions.last().cloned()),
            Choice::Renumber(at, number) => {
                if let Some(old) = revisions.get(at) {
                    self.context.writer.send(&history::renumbered(old, number)).await?;
                }
                return Ok(None);
            }
            Choice::Make(number) => number,
        };
        let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let hash = history::hash(&data, Some(collisions));
        let mut labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        labels.insert(history::HASH.into(), hash.clone());
        let called = history::revision_name(name(&set.metadata), &hash);
        let revision = history::revision(&**set, labels, called, number, data);
        if history::make(&self.context, &set.metadata, &revision).await? == Made::Collision {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(collisions + 1);
            self.write_status(key, set, status).await?;
        }
        Ok(None)
    }

    async fn apply(&self, key: &Key, set: &Arc<StatefulSet>, plan: &Plan) -> Outcome {
        let ordered =
            set.spec.as_ref().is_some_and(|s| s.pod_management_policy.as_deref() != Some("Parallel"));
        let mut failed = None;
        tracing::debug!(set = %key, why = plan.why, stages = plan.stages.len(), "plan");
        for stage in &plan.stages {
            failed = match ordered {
                true => self.one_by_one(key, set, stage).await,
                false => slow_start(stage.len(), |at| self.act(key, set, &stage[at])).await.1,
            };
            if failed.is_some() {
                break;
            }
        }
        let status = if failed.is_none() { plan.status_after() } else { plan.status.clone() };
        if set.status.as_ref() != Some(&status) {
            self.write_status(key, set, status).await?;
        }
        match failed {
            Some(failure) if !failure.namespace_terminating() => Err(failure.into()),
            _ => Ok(plan.again),
        }
    }

    async fn one_by_one(&self, key: &Key, set: &StatefulSet, stage: &[Act]) -> Option<Failure> {
        for act in stage {
            if let Err(failure) = self.act(key, set, act).await {
                return Some(failure);
            }
        }
        None
    }

    async fn act(&self, key: &Key, set: &StatefulSet, act: &Act) -> Result<(), Failure> {
        let outcome = self.steps(key, set, act).await;
        let verb = match act.what {
            What::Create => ("create", "SuccessfulCreate", "FailedCreate"),
            What::Update => ("update", "SuccessfulUpdate", "FailedUpdate"),
            What::Delete => ("delete", "SuccessfulDelete", "FailedDelete"),
            What::Claims => return outcome,
        };
        let (about, recorder) = (reference(set), &self.context.recorder);
        let what = format!("{} Pod {} in StatefulSet {}", verb.0, act.pod, name(&set.metadata));
        match &outcome {
            Ok(()) => recorder.normal(&about, verb.1, format!("{what} successful")),
            // Made by an earlier look that this one could not see yet, or not to be made at all.
            Err(failure) if failure.already_exists() || failure.namespace_terminating() => {}
            Err(failure) => {
                recorder.warning(&about, verb.2, format!("{what} failed error: {}", failure.message));
            }
        }
        outcome
    }

    async fn steps(&self, key: &Key, set: &StatefulSet, act: &Act) -> Result<(), Failure> {
        for claim in &act.claims {
            self.make_claim(set, &act.pod, claim).await?;
        }
        if let Some(write) = &act.write {
            match self.context.writer.send(write).await {
                Ok(answer) => self.wrote(key, &answer),
                Err(failure) if failure.not_found() && act.what == What::Delete => {}
                Err(failure) => {
                    self.doubts.failed(key, &act.pod, &failure);
                    return Err(failure);
                }
            }
        }
        for claim in &act.owners {
            match self.context.writer.send(claim).await {
                Err(failure) if !failure.not_found() => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    fn wrote(&self, key: &Key, answer: &Answer) {
        self.seen_pods.wrote(key.clone(), answer);
    }

    async fn make_claim(&self, set: &StatefulSet, pod: &str, claim: &Write) -> Result<(), Failure> {
        let (about, recorder) = (reference(set), &self.context.recorder);
        let what = |for_pod: &str| {
            format!("create Claim {} {for_pod}Pod {pod} in StatefulSet {}", claim.name, name(&set.metadata))
        };
        match self.context.writer.send(claim).await {
            Ok(_) => recorder.normal(&about, "SuccessfulCreate", format!("{} success", what(""))),
            Err(failure) if failure.already_exists() => {}
            Err(failure) if failure.namespace_terminating() => return Err(failure),
            Err(failure) => {
                let message = format!("{} failed error: {}", what("for "), failure.message);
                recorder.warning(&about, "FailedCreate", message);
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        key: &Key,
        set: &StatefulSet,
        status: StatefulSetStatus,
    ) -> anyhow::Result<()> {
        let mut set = set.clone();
        set.status = Some(status);
        match self.context.writer.send(&Write::update_status(&set)).await {
            Ok(answer) => self.seen_sets.wrote(key.clone(), &answer),
            Err(failure) if failure.not_found() => {}
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }

    /// Drops revisions beyond the limit that no pod is of.
    async fn forget(
        &self,
        spec: &StatefulSetSpec,
        revisions: &[Arc<ControllerRevision>],
        named: [&Arc<ControllerRevision>; 2],
        pods: &[Arc<Pod>],
    ) -> anyhow::Result<()> {
        let mut live: HashSet<&str> = pods.iter().map(|p| revision(p)).collect();
        live.extend(named.iter().map(|r| name(&r.metadata)));
        // A negative limit keeps them all.
        let Ok(limit) = usize::try_from(spec.revision_history_limit.unwrap_or(10)) else { return Ok(()) };
        for revision in history::surplus(revisions, &live, limit) {
            tracing::debug!(
                revision = name(&revision.metadata),
                uid = uid(&revision.metadata),
                "beyond the limit"
            );
            match self.context.writer.send(&Write::delete(revision)).await {
                Err(failure) if failure.not_found() => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
