//! Volumes, claims and classes, as far as they decide where pods run.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use k8s_openapi::api::core::v1::{
    NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm,
};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery::quantity::Quantity as Parsed;

use super::labels::{Labels, Selector};

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub deleting: bool,
    pub lost: bool,
    /// The uid of the pod it was made for.
    pub owner: Option<String>,
    /// The volume it names; empty if none.
    pub volume: String,
    /// Binding is complete.
    pub bound: bool,
    /// Bytes asked for.
    pub size: i64,
    pub class: Option<String>,
    pub modes: Vec<String>,
    pub block: bool,
    pub selector: Option<Selector>,
    /// The node chosen for it earlier.
    pub selected_node: Option<String>,
}

impl Claim {
    /// Derives it from the API's object.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let meta = &claim.metadata;
        let spec = claim.spec.clone().unwrap_or_default();
        let note = |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key)).cloned();
        let volume = spec.volume_name.unwrap_or_default();
        let owner = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true));
        let requests = spec.resources.and_then(|r| r.requests);
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            lost: claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost"),
            owner: owner.map(|o| o.uid.clone()),
            bound: !volume.is_empty() && note(BIND_COMPLETED).is_some(),
            volume,
            size: requests.and_then(|r| r.get("storage").map(bytes)).unwrap_or(0),
            class: note(BETA_CLASS).or(spec.storage_class_name),
            modes: spec.access_modes.unwrap_or_default(),
            block: spec.volume_mode.as_deref() == Some("Block"),
            selector: spec.selector.as_ref().map(|s| Selector::of(Some(s))),
            selected_node: note(SELECTED_NODE),
        }
    }
}

/// A PersistentVolume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Volume {
    pub name: String,
    /// Its resource version; a write must not undo another's.
    pub version: Option<String>,
    pub labels: Labels,
    pub deleting: bool,
    pub available: bool,
    pub size: i64,
    pub class: String,
    pub modes: Vec<String>,
    pub block: bool,
    /// Which nodes reach it; `None` for all.
    pub affinity: Option<Vec<NodeSelectorTerm>>,
    /// The claim it is set aside for: namespace, name, uid.
    pub claim: Option<(String, String, String)>,
    /// CSI driver and handle.
    pub csi: Option<(String, String)>,
}

impl Volume {
    /// Derives it from the API's object.
    pub fn of(volume: &PersistentVolume) -> Self {
        let meta = &volume.metadata;
        let spec = volume.spec.clone().unwrap_or_default();
        let affinity = spec.node_affinity.and_then(|a| a.required);
        let text = |s: Option<String>| s.unwrap_or_default();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            version: meta.resource_version.clone(),
            labels: meta.labels.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            available: volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available"),
            size: spec.capacity.and_then(|c| c.get("storage").map(bytes)).unwrap_or(0),
            class: text(spec.storage_class_name),
            modes: spec.access_modes.unwrap_or_default(),
            block: spec.volume_mode.as_deref() == Some("Block"),
            affinity: affinity.map(|a| a.node_selector_terms),
            claim: spec.claim_ref.map(|c| (text(c.namespace), text(c.name), text(c.uid))),
            csi: spec.csi.map(|c| (c.driver, c.volume_handle)),
        }
    }
}

/// A StorageClass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Class {
    pub provisioner: String,
    /// Binding waits for the first pod.
    pub waits: bool,
    pub topologies: Vec<TopologySelectorTerm>,
}

impl Class {
    /// Derives it from the API's object.
    pub fn of(class: &StorageClass) -> Self {
        Self {
            provisioner: class.provisioner.clone(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: class.allowed_topologies.clone().unwrap_or_default(),
        }
    }
}

/// What a driver has left in a part of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capacity {
    pub class: String,
    pub nodes: Selector,
    pub bytes: Option<i64>,
    pub largest: Option<i64>,
}

impl Capacity {
    /// Derives it from the API's object.
    pub fn of(capacity: &CSIStorageCapacity) -> Self {
        Self {
            class: capacity.storage_class_name.clone(),
            nodes: Selector::of(capacity.node_topology.as_ref()),
            bytes: capacity.capacity.as_ref().map(bytes),
            largest: capacity.maximum_volume_size.as_ref().map(bytes),
        }
    }
}

/// How many volumes of each driver a node takes.
pub fn limits(node: &CSINode) -> BTreeMap<String, i64> {
    let count = |d: &k8s_openapi::api::storage::v1::CSINodeDriver| {
        Some((d.name.clone(), i64::from(d.allocatable.as_ref()?.count?)))
    };
    node.spec.drivers.iter().filter_map(count).collect()
}

fn bytes(quantity: &Quantity) -> i64 {
    Parsed::parse(&quantity.0).map_or(0, |q| q.value())
}

/// Everything about storage.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    claims: AHashMap<String, Arc<Claim>>,
    volumes: BTreeMap<String, Arc<Volume>>,
    classes: AHashMap<String, Arc<Class>>,
    limits: AHashMap<String, BTreeMap<String, i64>>,
    /// Drivers that publish what they have left.
    measured: AHashMap<String, bool>,
    capacities: BTreeMap<String, Capacity>,
    /// Volumes attached to a node, by the attachment's name: node and volume.
    attached: AHashMap<String, (String, String)>,
    /// How many pods with a node use a claim.
    uses: AHashMap<String, usize>,
    /// Volumes set aside for claims here, not yet seen back: volume to claim.
    assumed: AHashMap<String, String>,
}

/// `namespace/name`.
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn put<V>(map: &mut AHashMap<String, V>, key: String, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl Storage {
    /// A claim came or changed (`Some`) or went. The same holds for all that follow.
    pub fn set_claim(&mut self, key: String, claim: Option<Claim>) {
        put(&mut self.claims, key, claim.map(Arc::new));
    }

    pub fn set_volume(&mut self, name: String, volume: Option<Volume>) {
        self.assumed.remove(&name);
        match volume {
            Some(volume) => drop(self.volumes.insert(name, Arc::new(volume))),
            None => drop(self.volumes.remove(&name)),
        }
    }

    pub fn set_class(&mut self, name: String, class: Option<Class>) {
        put(&mut self.classes, name, class.map(Arc::new));
    }

    pub fn set_limits(&mut self, node: String, limits: Option<BTreeMap<String, i64>>) {
        put(&mut self.limits, node, limits);
    }

    pub fn set_driver(&mut self, name: String, driver: Option<&CSIDriver>) {
        put(&mut self.measured, name, driver.map(|d| d.spec.storage_capacity.unwrap_or(false)));
    }

    pub fn set_capacity(&mut self, key: String, capacity: Option<Capacity>) {
        match capacity {
            Some(capacity) => drop(self.capacities.insert(key, capacity)),
            None => drop(self.capacities.remove(&key)),
        }
    }

    pub fn set_attachment(&mut self, name: String, attachment: Option<&VolumeAttachment>) {
        let of = |a: &VolumeAttachment| {
            Some((a.spec.node_name.clone(), a.spec.source.persistent_volume_name.clone()?))
        };
        put(&mut self.attached, name, attachment.and_then(of));
    }

    /// A claim by namespace and name.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<Claim>> {
        self.claims.get(&key(namespace, name))
    }

    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(name)
    }

    /// All volumes in the order of their names.
    pub fn volumes(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.volumes.values()
    }

    pub fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// The volume limits of a node by driver.
    pub fn limits(&self, node: &str) -> Option<&BTreeMap<String, i64>> {
        self.limits.get(node)
    }

    /// Whether the driver publishes what it has left.
    pub fn is_measured(&self, driver: &str) -> bool {
        self.measured.get(driver).copied().unwrap_or(false)
    }

    /// Whether a volume of this class and size has room where these labels are.
    pub fn has_room(&self, class: &str, size: i64, labels: &Labels) -> bool {
        let fits = |c: &Capacity| c.largest.or(c.bytes).is_some_and(|room| room >= size);
        self.capacities.values().any(|c| c.class == class && fits(c) && c.nodes.matches(labels))
    }

    /// Names of volumes attached to a node.
    pub fn attached<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a str> {
        self.attached.values().filter(move |(n, _)| n == node).map(|(_, volume)| volume.as_str())
    }

    /// A pod that uses the claim came to a node, or left.
    pub fn used(&mut self, namespace: &str, name: &str, comes: bool) {
        let uses = self.uses.entry(key(namespace, name)).or_default();
        *uses = if comes { *uses + 1 } else { uses.saturating_sub(1) };
        if *uses == 0 {
            self.uses.remove(&key(namespace, name));
        }
    }

    /// How many pods with a node use the claim.
    pub fn uses(&self, namespace: &str, name: &str) -> usize {
        self.uses.get(&key(namespace, name)).copied().unwrap_or(0)
    }

    /// Sets a volume aside for a claim until the API server says so, or [`Storage::release`].
    pub fn assume(&mut self, volume: &str, claim: &str) {
        self.assumed.insert(volume.into(), claim.into());
    }

    /// Takes an assumption back.
    pub fn release(&mut self, volume: &str) {
        self.assumed.remove(volume);
    }

    /// The claim a volume is set aside for here.
    pub fn assumed_for(&self, volume: &str) -> Option<&str> {
        self.assumed.get(volume).map(String::as_str)
    }
}
