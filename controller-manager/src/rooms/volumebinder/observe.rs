//! Wakes, observes and applies.

use std::fmt;
use std::sync::Arc;

use control::runner::{Options, Outcome};
use control::{Cache, Event, Key, Queue};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Api;

use super::counts::Retroactive;
use super::{claim, volume};
use crate::kit::meta::{annotation, name, namespace, uid};
use crate::kit::pods::node;
use crate::kit::seen::Seen;
use crate::kit::storage::{
    self, BIND_COMPLETED, BY_CLAIM, claim_class, claim_ref, claims_of, volume_class, volume_name,
};
use crate::kit::{Context, Plan, Step};

/// Index of volumes by the claim they are set aside for, as `namespace/name`.
const BY_REFERENCE: &str = "claim";
/// Index of free volumes by class.
const FREE: &str = "free";
/// Index of claims without a volume by class; those that leave the class open are under [`OPEN`].
const WANTING: &str = "wanting";
/// Index of claims by the volume they name.
const NAMING: &str = "volume";
const OPEN: &str = "<open>";
/// How long to wait for a cache that is behind the room's own writes before looking whether it has given up.
const BEHIND: std::time::Duration = std::time::Duration::from_secs(2);

/// What is looked at.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Item {
    Claim(Key),
    Volume(Arc<str>),
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Claim(key) => write!(f, "claim {key}"),
            Item::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

struct Room {
    context: Context,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    pods: Cache<Pod>,
    /// Own writes that the caches may not show yet.
    seen: Seen<Item>,
    retroactive: Retroactive,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        claims: context.caches.of(),
        volumes: context.caches.of(),
        classes: context.caches.of(),
        pods: context.pods(),
        seen: Seen::default(),
        retroactive: Retroactive::register(&context.metrics),
        context: context.clone(),
    });
    index(&room);
    super::counts::start(&context.metrics, &room.volumes, &room.claims);
    let queue = Queue::new();
    wake(&room, &queue);
    // One worker: two claims that look at once would choose the same volume, and one of them in vain.
    context.run(Options::new("persistentvolume-binder-controller", 1), queue, move |item| {
        let room = room.clone();
        async move { room.sync(item).await }
    });
}

fn path(reference: &ObjectReference) -> String {
    let part = |p: &Option<String>| p.clone().unwrap_or_default();
    format!("{}/{}", part(&reference.namespace), part(&reference.name))
}

/// Whether a volume may be had; only then it is news for the claims that want one.
fn is_free(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    claim_ref(volume).is_none() && phase == Some("Available")
}

fn index(room: &Room) {
    storage::index_pods(&room.pods);
    room.volumes.add_index(BY_REFERENCE, |v: &PersistentVolume| claim_ref(v).map(path).into_iter().collect());
    room.volumes.add_index(FREE, |v: &PersistentVolume| match claim_ref(v) {
        Some(_) => Vec::new(),
        None => vec![volume_class(v).to_string()],
    });
    room.claims.add_index(WANTING, |c: &PersistentVolumeClaim| {
        let done = annotation(&c.metadata, BIND_COMPLETED).is_some() || !volume_name(c).is_empty();
        if done { Vec::new() } else { vec![claim_class(c).unwrap_or(OPEN).to_string()] }
    });
    room.claims.add_index(NAMING, |c: &PersistentVolumeClaim| vec![volume_name(c).to_string()]);
}

fn wake(room: &Arc<Room>, queue: &Queue<Item>) {
    let (q, r) = (queue.clone(), Arc::downgrade(room));
    room.claims.handle(move |event| {
        q.add(Item::Claim(event.key.clone()));
        let Some(room) = r.upgrade() else { return };
        let key = &event.key;
        let named = event.old.iter().chain(&event.new).map(|c| volume_name(c)).filter(|n| !n.is_empty());
        named.for_each(|n| q.add(Item::Volume(n.into())));
        // A change of the status alone concerns no volume; that a claim is gone, or another, does.
        let same = |e: &Event<PersistentVolumeClaim>| {
            let uid =
                |c: &Option<Arc<PersistentVolumeClaim>>| c.as_ref().and_then(|c| c.metadata.uid.clone());
            uid(&e.old) == uid(&e.new)
        };
        if !same(event) {
            let volumes = room.volumes.by_index(BY_REFERENCE, &format!("{}/{}", key.namespace, key.name));
            volumes.iter().for_each(|v| q.add(Item::Volume(name(&v.metadata).into())));
        }
    });
    let (q, r) = (queue.clone(), Arc::downgrade(room));
    room.volumes.handle(move |event| {
        if let Some(room) = r.upgrade() {
            room.volume_changed(event, &q);
        }
    });
    let (q, r) = (queue.clone(), Arc::downgrade(room));
    room.classes.handle(move |event| {
        let Some(room) = r.upgrade() else { return };
        room.wanting(&event.key.name, &q);
        room.wanting(OPEN, &q);
    });
    let q = queue.clone();
    room.pods.handle(move |event| {
        let Some(pod) = event.new.as_ref().filter(|p| event.old.is_none() && node(p).is_none()) else {
            return;
        };
        for used in claims_of(pod) {
            q.add(Item::Claim(Key::new(&event.key.namespace, &used.name)));
        }
    });
}

impl Room {
    fn wanting(&self, class: &str, queue: &Queue<Item>) {
        self.claims.by_index(WANTING, class).iter().for_each(|c| queue.add(Item::Claim(Key::of(&**c))));
    }

    fn volume_changed(&self, event: &Event<PersistentVolume>, queue: &Queue<Item>) {
        queue.add(Item::Volume(event.key.name.clone()));
        for volume in event.old.iter().chain(&event.new) {
            if let Some(r) = claim_ref(volume) {
                let part = |p: &Option<String>| p.clone().unwrap_or_default();
                queue.add(Item::Claim(Key::new(&part(&r.namespace), &part(&r.name))));
            }
        }
        let naming = self.claims.by_index(NAMING, &event.key.name);
        naming.iter().for_each(|c| queue.add(Item::Claim(Key::of(&**c))));
        if let Some(free) = event.new.as_ref().filter(|v| is_free(v)) {
            self.wanting(volume_class(free), queue);
            if volume_class(free).is_empty() {
                self.wanting(OPEN, queue);
            }
        }
    }

    async fn sync(&self, item: Item) -> Outcome {
        let version = match &item {
            Item::Claim(_) => self.claims.resource_version(),
            Item::Volume(_) => self.volumes.resource_version(),
        };
        if self.seen.behind(&item, version) {
            return Ok(Some(BEHIND));
        }
        let plan = match &item {
            Item::Claim(key) => self.claim(key),
            Item::Volume(name) => self.volume(name).await?,
        };
        tracing::debug!(?item, why = plan.why, steps = plan.steps.len(), "plan");
        self.apply(plan).await
    }

    fn claim(&self, key: &Key) -> Plan {
        let Some(claim) = self.claims.get_key(key) else { return Plan::nothing("it is gone") };
        let path = format!("{}/{}", key.namespace, key.name);
        let mut candidates = self.volumes.by_index(BY_REFERENCE, &path);
        candidates.extend(self.volumes.by_index(FREE, claim_class(&claim).unwrap_or_default()));
        let pods = self.pods.by_index(BY_CLAIM, &path);
        let mut pods: Vec<String> =
            pods.iter().filter(|p| node(p).is_none()).map(|p| name(&p.metadata).to_string()).collect();
        pods.sort_unstable();
        let named = self.volumes.get("", volume_name(&claim));
        let classes = self.classes.list();
        claim::plan(&claim::Observed { claim: &claim, candidates, named, classes: &classes, pods })
    }

    async fn volume(&self, name: &str) -> anyhow::Result<Plan> {
        let Some(volume) = self.volumes.get("", name) else { return Ok(Plan::nothing("it is gone")) };
        let claim = match claim_ref(&volume) {
            Some(reference) => self.owner(reference).await?,
            None => None,
        };
        Ok(volume::plan(&volume, claim.as_ref()))
    }

    /// The claim a reference leads to. That it is gone is believed only of the API server itself: data depends on it.
    async fn owner(&self, reference: &ObjectReference) -> anyhow::Result<Option<Arc<PersistentVolumeClaim>>> {
        let (ns, claim) = (reference.namespace.as_deref(), reference.name.as_deref());
        let (ns, claim) = (ns.unwrap_or_default(), claim.unwrap_or_default());
        let wanted = reference.uid.as_deref().unwrap_or_default();
        if wanted.is_empty() {
            return Ok(None);
        }
        match self.claims.get(ns, claim).filter(|c| uid(&c.metadata) == wanted) {
            Some(known) => Ok(Some(known)),
            None => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.writer.client(), ns);
                Ok(api.get_opt(claim).await?.map(Arc::new))
            }
        }
    }

    async fn apply(&self, plan: Plan) -> Outcome {
        for step in &plan.steps {
            match step {
                Step::Write(write) | Step::Vanishing(write) => {
                    let sent = self.context.writer.send(write).await;
                    if write.note.starts_with(claim::RETROACTIVE) {
                        self.retroactive.note(sent.is_ok());
                    }
                    let answer = match sent {
                        Err(failure) if failure.not_found() => return Ok(None),
                        other => other?,
                    };
                    let item = match write.kind.plural.as_ref() {
                        "persistentvolumes" => Item::Volume(write.name.as_str().into()),
                        _ => Item::Claim(Key::new(namespace(&answer.metadata), &write.name)),
                    };
                    self.seen.wrote(item, &answer);
                }
                Step::Event { object, kind, reason, message } => {
                    self.context.recorder.record(object, *kind, reason, message.clone());
                }
            }
        }
        Ok(plan.again)
    }
}
