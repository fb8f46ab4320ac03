//! Feeds the state from the watch caches: one watch per kind, each object as light as its readers allow.

use std::sync::Arc;

use control::cache::{Cache, Caches, Event, Options};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::framework::{Happening, Kind};
use crate::model::budgets::Budget;
use crate::model::labels::Selector;
use crate::model::storage::{self, Capacity, Claim, Class, Volume};
use crate::schedule::Scheduler;
use crate::seen::{SeenNode, SeenPod};
use crate::state::State;

/// Whole pods and nodes, for extenders; they are kept only if there are any.
pub struct Whole {
    pub pods: Cache<Pod>,
    pub nodes: Cache<Node>,
}

/// Follows everything the plugins look at. A standby follows too, so that it can take over at once.
pub fn follow(scheduler: &Arc<Scheduler>, caches: &Caches) -> Option<Whole> {
    let whole = scheduler.has_extenders().then(|| Whole {
        pods: caches.with::<Pod>(Options::default),
        nodes: caches.with::<Node>(Options::default),
    });
    listen::<SeenNode>(
        scheduler,
        caches,
        |_| {},
        |state, event, now| {
            state.node_changed(&event.key.name, event.new.as_ref().map(|n| n.info.clone()), now);
        },
    );
    listen::<SeenPod>(
        scheduler,
        caches,
        |_| {},
        |state, event, now| {
            let (old, new) = (event.old.as_ref().map(|p| &p.info), event.new.as_ref().map(|p| &p.info));
            state.pod_changed(old, new, now);
        },
    );
    follow_storage(scheduler, caches);
    follow_owners(scheduler, caches);
    listen::<Namespace>(scheduler, caches, drop_notes, |state, event, _| {
        let labels = event.new.as_ref().map(|n| n.metadata.labels.clone().unwrap_or_default());
        state.all().set_namespace(&event.key.name, labels);
    });
    listen::<PodDisruptionBudget>(scheduler, caches, drop_notes, |state, event, _| {
        let budget = event.new.as_deref().map(Budget::of);
        state.all().budgets.set(&event.key.namespace, &event.key.name, budget);
    });
    whole
}

/// Calls `take` under the lock for every change of a kind, then rings for the loop.
fn listen<T>(
    scheduler: &Arc<Scheduler>,
    caches: &Caches,
    trim: impl Fn(&mut T) + Send + Sync + 'static,
    take: impl Fn(&mut State, &Event<T>, Instant) + Send + Sync + 'static,
) -> Cache<T>
where
    T: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let me = scheduler.clone();
    let cache = caches.with::<T>(|| Options::default().trim(trim));
    cache.handle(move |event| {
        take(&mut me.state.lock(), event, Instant::now());
        me.wake.notify_one();
    });
    cache
}

fn follow_storage(scheduler: &Arc<Scheduler>, caches: &Caches) {
    let rings = scheduler.clone();
    listen::<PersistentVolumeClaim>(
        scheduler,
        caches,
        |_| {},
        move |state, event, now| {
            let (namespace, name) = (event.key.namespace.to_string(), event.key.name.to_string());
            let key = storage::key(&namespace, &name);
            state.all().storage.set_claim(key, event.new.as_deref().map(Claim::of));
            state.happened(&Happening::Claim { namespace, name }, now);
            rings.storage.notify_waiters();
        },
    );
    let other = |kind, name: &str| Happening::Other { kind, name: name.into() };
    listen::<PersistentVolume>(scheduler, caches, drop_notes, move |state, event, now| {
        state.all().storage.set_volume(event.key.name.to_string(), event.new.as_deref().map(Volume::of));
        state.happened(&other(Kind::VolumeChanged, &event.key.name), now);
    });
    listen::<StorageClass>(scheduler, caches, drop_notes, move |state, event, now| {
        state.all().storage.set_class(event.key.name.to_string(), event.new.as_deref().map(Class::of));
        state.happened(&other(Kind::ClassChanged, &event.key.name), now);
    });
    listen::<CSINode>(scheduler, caches, drop_notes, move |state, event, now| {
        state.all().storage.set_limits(event.key.name.to_string(), event.new.as_deref().map(storage::limits));
        state.happened(&other(Kind::CsiNodeChanged, &event.key.name), now);
    });
    listen::<CSIDriver>(scheduler, caches, drop_notes, move |state, event, now| {
        state.all().storage.set_driver(event.key.name.to_string(), event.new.as_deref());
        state.happened(&other(Kind::DriverChanged, &event.key.name), now);
    });
    listen::<CSIStorageCapacity>(scheduler, caches, drop_notes, move |state, event, now| {
        state.all().storage.set_capacity(event.key.to_string(), event.new.as_deref().map(Capacity::of));
        state.happened(&other(Kind::CapacityChanged, &event.key.name), now);
    });
    listen::<VolumeAttachment>(scheduler, caches, drop_notes, move |state, event, now| {
        state.all().storage.set_attachment(event.key.name.to_string(), event.new.as_deref());
        if event.new.is_none() {
            state.happened(&other(Kind::AttachmentGone, &event.key.name), now);
        }
    });
}

fn follow_owners(scheduler: &Arc<Scheduler>, caches: &Caches) {
    listen::<Service>(scheduler, caches, drop_notes, |state, event, _| {
        let selector = event.new.as_ref().and_then(|s| s.spec.as_ref()?.selector.clone());
        state.all().owners.service(&event.key.namespace, &event.key.name, selector);
    });
    let workload = |state: &mut State, kind: &str, key: &control::cache::Key, selector| {
        state.all().owners.workload(kind, &key.namespace, &key.name, selector);
    };
    let trim = |rc: &mut ReplicationController| {
        drop_notes(rc);
        rc.spec.iter_mut().for_each(|s| s.template = None);
    };
    listen::<ReplicationController>(scheduler, caches, trim, move |state, event, _| {
        let labels = event.new.as_ref().and_then(|o| o.spec.as_ref()?.selector.clone());
        workload(state, "ReplicationController", &event.key, labels.as_ref().map(Selector::exactly));
    });
    let trim = |rs: &mut ReplicaSet| {
        drop_notes(rs);
        rs.spec.iter_mut().for_each(|s| s.template = None);
    };
    listen::<ReplicaSet>(scheduler, caches, trim, move |state, event, _| {
        let selector =
            event.new.as_ref().and_then(|o| o.spec.as_ref()).map(|s| Selector::of(Some(&s.selector)));
        workload(state, "ReplicaSet", &event.key, selector);
    });
    let trim = |set: &mut StatefulSet| {
        drop_notes(set);
        set.spec.iter_mut().for_each(|s| (s.template, s.volume_claim_templates) = Default::default());
    };
    listen::<StatefulSet>(scheduler, caches, trim, move |state, event, _| {
        let selector =
            event.new.as_ref().and_then(|o| o.spec.as_ref()).map(|s| Selector::of(Some(&s.selector)));
        workload(state, "StatefulSet", &event.key, selector);
    });
}

/// Annotations, which no plugin reads.
fn drop_notes<T: kube::Resource>(object: &mut T) {
    object.meta_mut().annotations = None;
}
