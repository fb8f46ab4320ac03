//! Claims and volumes that are in use are not removed, only marked: a finalizer holds them until nobody uses them.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};

use crate::kit::meta::{controlled_by, has_finalizer, name, namespace};
use crate::kit::pods::node;
use crate::kit::storage::{self, BY_CLAIM, claims_of};
use crate::kit::{Context, Plan, Write};

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
/// Pods of a live list are read in pages of this many.
const PAGE: u32 = 500;

struct Claims {
    context: Context,
    claims: Cache<PersistentVolumeClaim>,
    pods: Cache<Pod>,
}

/// Starts the controller of claims.
pub fn start_claims(context: Context) {
    let room =
        Arc::new(Claims { claims: context.caches.of(), pods: context.pods(), context: context.clone() });
    storage::index_pods(&room.pods);
    let queue = Queue::new();
    let q = queue.clone();
    room.claims.handle(move |event| q.add(event.key.clone()));
    let (q, claims) = (queue.clone(), room.claims.clone());
    room.pods.handle(move |event| {
        // A pod that is gone, or that is done and about to go, may have been the last.
        let Some(pod) = event.old.as_ref().or(event.new.as_ref()) else { return };
        for used in claims_of(pod) {
            let claim = claims.get(&event.key.namespace, &used.name);
            if claim.is_some_and(|c| c.metadata.deletion_timestamp.is_some()) {
                q.add(Key::new(&event.key.namespace, &used.name));
            }
        }
    });
    context.run(Options::new("persistentvolumeclaim-protection-controller", 1), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

/// Whether the pod keeps the claim: from the moment it has a node until it is gone.
pub fn keeps(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if node(pod).is_none() || namespace(&pod.metadata) != namespace(&claim.metadata) {
        return false;
    }
    claims_of(pod).iter().filter(|used| used.name == name(&claim.metadata)).any(|used| {
        // The claim made for a pod goes with the pod; it may go first once the pod has stopped.
        used.ephemeral.is_none() || (controlled_by(&claim.metadata, &pod.metadata) && !shut_down(pod))
    })
}

fn shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// What is to be done about the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    Fine,
    Add,
    /// To be taken off if nobody uses the object.
    MayGo,
}

/// What an object's finalizer needs.
pub fn protection(meta: &ObjectMeta, finalizer: &str) -> Protection {
    match (meta.deletion_timestamp.is_some(), has_finalizer(meta, finalizer)) {
        (false, false) => Protection::Add,
        (true, true) => Protection::MayGo,
        _ => Protection::Fine,
    }
}

fn with(meta: &mut ObjectMeta, finalizer: &str) {
    meta.finalizers.get_or_insert_default().push(finalizer.into());
}

fn without(meta: &mut ObjectMeta, finalizer: &str) {
    if let Some(all) = &mut meta.finalizers {
        all.retain(|f| f != finalizer);
    }
}

impl Claims {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(claim) = self.claims.get_key(&key) else { return Ok(None) };
        let mut changed = (*claim).clone();
        let plan = match protection(&claim.metadata, OF_CLAIMS) {
            Protection::Fine => Plan::nothing("it is as it should be"),
            Protection::MayGo if self.used(&claim).await? => Plan::nothing("a pod uses it"),
            Protection::Add => {
                with(&mut changed.metadata, OF_CLAIMS);
                let mut plan = Plan::because("it is to be protected");
                plan.vanishing(Write::update(&changed).note("protect"));
                plan
            }
            Protection::MayGo => {
                without(&mut changed.metadata, OF_CLAIMS);
                let mut plan = Plan::because("no pod uses it");
                plan.vanishing(Write::update(&changed).note("let go"));
                plan
            }
        };
        plan.apply(&self.context).await
    }

    /// Whether a pod uses the claim: the cache can say yes, only the API server can say no.
    async fn used(&self, claim: &PersistentVolumeClaim) -> anyhow::Result<bool> {
        let ns = namespace(&claim.metadata);
        let known = self.pods.by_index(BY_CLAIM, &format!("{ns}/{}", name(&claim.metadata)));
        if known.iter().any(|pod| keeps(pod, claim)) {
            return Ok(true);
        }
        let api: Api<Pod> = Api::namespaced(self.context.writer.client(), ns);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            if page.items.iter().any(|pod| keeps(pod, claim)) {
                return Ok(true);
            }
            match page.metadata.continue_.filter(|c| !c.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(false),
            }
        }
    }
}

/// Starts the controller of volumes.
pub fn start_volumes(context: Context) {
    let volumes: Cache<PersistentVolume> = context.caches.of();
    let queue = Queue::new();
    let q = queue.clone();
    volumes.handle(move |event| q.add(event.key.clone()));
    let inner = context.clone();
    context.run(Options::new("persistentvolume-protection-controller", 1), queue, move |key: Key| {
        let (context, volume) = (inner.clone(), volumes.get_key(&key));
        async move {
            match volume {
                Some(volume) => volume_plan(&volume).apply(&context).await,
                None => Ok(None),
            }
        }
    });
}

/// Plans for a volume: it may go unless it is bound.
pub fn volume_plan(volume: &PersistentVolume) -> Plan {
    let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let mut changed = volume.clone();
    let (why, note) = match protection(&volume.metadata, OF_VOLUMES) {
        Protection::Fine => return Plan::nothing("it is as it should be"),
        Protection::MayGo if bound => return Plan::nothing("a claim has it"),
        Protection::Add => {
            with(&mut changed.metadata, OF_VOLUMES);
            ("it is to be protected", "protect")
        }
        Protection::MayGo => {
            without(&mut changed.metadata, OF_VOLUMES);
            ("no claim has it", "let go")
        }
    };
    let mut plan = Plan::because(why);
    plan.vanishing(Write::update(&changed).note(note));
    plan
}
