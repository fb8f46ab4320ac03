//! Gathers what a plan needs from the caches, and sees to it that changes wake the right Deployment.

use std::collections::HashSet;
use std::sync::Arc;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use super::plan::{NEW_SET, Observed, plan};
use super::sets::same_template;
use crate::kit::doubt::Doubts;
use crate::kit::meta::{controlled_by, controller, name, namespace, selects, uid};
use crate::kit::seen::Seen;
use crate::kit::write::{Failure, Verb};
use crate::kit::{Context, Plan, Step, Write, adopt, pods};

/// How long to wait for a cache that is behind the room's own writes before looking whether it has given up.
const BEHIND: std::time::Duration = std::time::Duration::from_secs(2);
/// After this many failures in a row a Deployment waits for the next change.
const MAX_RETRIES: u32 = 15;

struct Room {
    context: Context,
    deployments: Cache<Deployment>,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    /// Own writes of sets that the cache may not show yet: a plan over an older view would ask for more pods than may be.
    seen: Seen<Key>,
    doubts: Doubts<Key>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        deployments: context.caches.of(),
        sets: adopt::owned_cache(&context),
        pods: context.pods(),
        seen: Seen::default(),
        doubts: Doubts::default(),
        context: context.clone(),
    });
    let queue = Queue::new();
    wake(&room, &queue);
    let workers = context.config.workers("deployment", 5);
    let options = Options::new("deployment-controller", workers).max_retries(MAX_RETRIES);
    context.run(options, queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn wake(room: &Arc<Room>, queue: &Queue<Key>) {
    let q = queue.clone();
    room.deployments.handle(move |event| q.add(event.key.clone()));
    let (q, deployments) = (queue.clone(), room.deployments.clone());
    room.sets.handle(move |event| {
        for set in event.old.iter().chain(&event.new) {
            owners(&deployments, set).into_iter().for_each(|key| q.add(key));
        }
    });
    // Only Recreate waits for pods, and only for the last one to go.
    let (q, deployments, sets) = (queue.clone(), room.deployments.clone(), room.sets.clone());
    room.pods.handle(move |event| {
        let Some(pod) = event.object().filter(|p| event.new.is_none() || pods::finished(p)) else { return };
        let Some(owner) = controller(&pod.metadata).filter(|c| c.kind == "ReplicaSet") else { return };
        let Some(set) = sets.get(namespace(&pod.metadata), &owner.name) else { return };
        owners(&deployments, &set).into_iter().for_each(|key| q.add(key));
    });
}

/// The Deployment that controls a set, or all that would like to.
fn owners(deployments: &Cache<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    let ns = namespace(&set.metadata);
    if let Some(owner) = controller(&set.metadata) {
        return if owner.kind == "Deployment" { vec![Key::new(ns, &owner.name)] } else { Vec::new() };
    }
    let wants = |d: &&Arc<Deployment>| {
        d.spec.as_ref().is_some_and(|s| selects(&s.selector, set.metadata.labels.as_ref()))
    };
    deployments.by_namespace(ns).iter().filter(wants).map(|d| Key::of(&**d)).collect()
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        // What the cache has seen is asked before it is read, never after.
        if self.seen.behind(&key, self.sets.resource_version())
            || !self.doubts.settled(&self.context, &self.sets, &key.namespace, &key, None).await?
        {
            return Ok(Some(BEHIND));
        }
        let Some(deployment) = self.deployments.get_key(&key) else { return Ok(None) };
        let Some(spec) = &deployment.spec else { return Ok(None) };
        let (owned, orphans) = adopt::owned_and_orphans(&self.sets, &deployment.metadata);
        let claim = adopt::claim(&*deployment, &spec.selector, &owned, &orphans);
        if !claim.is_empty() {
            claim.apply::<Deployment>(&self.context, &deployment).await?;
            return Ok(None);
        }
        let observed = self.observe(&deployment, owned);
        self.apply(&key, &observed, plan(&observed, Timestamp::now())).await
    }

    fn observe(&self, deployment: &Arc<Deployment>, owned: Vec<Arc<ReplicaSet>>) -> Observed {
        let running = owned.iter().filter(|set| {
            self.pods.by_index(pods::BY_CONTROLLER, uid(&set.metadata)).iter().any(|p| !pods::finished(p))
        });
        let running = running.map(|s| uid(&s.metadata).to_string()).collect::<HashSet<_>>();
        Observed {
            deployment: (**deployment).clone(),
            sets: owned.iter().map(|s| (**s).clone()).collect(),
            running: running.into_iter().collect(),
        }
    }

    async fn apply(&self, key: &Key, observed: &Observed, mut plan: Plan) -> Outcome {
        let create = plan.steps.iter().position(|s| matches!(s, Step::Write(w) if w.note == NEW_SET));
        if let Some(position) = create
            && let Step::Write(write) = plan.steps.remove(position)
            && let Err(failure) = self.send(key, &write).await
        {
            if failure.namespace_terminating() {
                return Ok(None);
            }
            if !failure.already_exists() {
                self.creation_failed(observed, &write, &failure.message).await?;
                return Err(failure.into());
            }
            if !self.is_ours(observed, &write).await? {
                self.count_collision(observed).await?;
                anyhow::bail!("replica set {} exists with another template", write.name);
            }
            // Made by an earlier look that this one could not see yet: no event a second time.
            plan.steps.retain(|s| !matches!(s, Step::Event { reason: "ScalingReplicaSet", .. }));
        }
        self.finish(key, plan).await
    }

    /// The rest of a plan in order, as [`Plan::apply`] does it.
    async fn finish(&self, key: &Key, plan: Plan) -> Outcome {
        tracing::debug!(deployment = %key, why = plan.why, steps = plan.steps.len(), "plan");
        for step in &plan.steps {
            match step {
                Step::Write(write) => self.send(key, write).await?,
                Step::Vanishing(write) => match self.send(key, write).await {
                    Err(failure) if failure.not_found() => {}
                    other => other?,
                },
                Step::Event { object, kind, reason, message } => {
                    self.context.recorder.record(object, *kind, reason, message.clone());
                }
            }
        }
        Ok(plan.again)
    }

    /// A write; one of a set is awaited in the cache.
    async fn send(&self, key: &Key, write: &Write) -> Result<(), Failure> {
        let of_set = write.kind.plural == "replicasets";
        match self.context.writer.send(write).await {
            Ok(answer) if of_set && write.verb != Verb::Delete => self.seen.wrote(key.clone(), &answer),
            Ok(_) => {}
            Err(failure) => {
                if of_set {
                    self.doubts.failed(key, &write.name, &failure);
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Whether the set that took the name belongs to this Deployment and has its template.
    async fn is_ours(&self, observed: &Observed, write: &Write) -> anyhow::Result<bool> {
        let api: Api<ReplicaSet> = Api::namespaced(self.context.writer.client(), &write.namespace);
        let Some(set) = api.get_opt(&write.name).await? else {
            anyhow::bail!("{} came and went", write.name)
        };
        let wanted = observed.deployment.spec.as_ref().map(|s| &s.template);
        let present = set.spec.as_ref().and_then(|s| s.template.as_ref());
        let same = wanted.zip(present).is_some_and(|(a, b)| same_template(a, b));
        Ok(same && controlled_by(&set.metadata, &observed.deployment.metadata))
    }

    async fn count_collision(&self, observed: &Observed) -> anyhow::Result<()> {
        let mut d = observed.deployment.clone();
        let status = d.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.context.writer.send(&Write::update_status(&d)).await?;
        Ok(())
    }

    async fn creation_failed(&self, observed: &Observed, write: &Write, why: &str) -> anyhow::Result<()> {
        let d = &observed.deployment;
        let message = format!("Failed to create new replica set {:?}: {why}", write.name);
        self.context.recorder.warning(
            &control::events::reference(d),
            "ReplicaSetCreateError",
            message.clone(),
        );
        let mut d = d.clone();
        super::status::note_create_error(&mut d, message, Timestamp::now());
        if Some(&d) != Some(&observed.deployment) {
            tracing::debug!(deployment = name(&d.metadata), "replica set could not be made");
            self.context.writer.send(&Write::update_status(&d)).await?;
        }
        Ok(())
    }
}
