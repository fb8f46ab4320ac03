//! All nodes at one moment with the counts over their pods. It changes in place, between decisions only: a decision sees one moment.

use std::sync::Arc;

use ahash::AHashMap;

use super::budgets::Budgets;
use super::counts::{Counts, InPlace};
use super::labels::Labels;
use super::memo::{Ask, Memo};
use super::node::{NodeInfo, NodeSpec};
use super::owners::Owners;
use super::pod::PodInfo;
use super::storage::Storage;
use super::terms::Wanted;

static NO_LABELS: Labels = Labels::new();

/// Taints that keep pods away.
pub const HARD: &[&str] = &["NoSchedule", "NoExecute"];
/// Taints that pods would rather avoid.
pub const SOFT: &[&str] = &["PreferNoSchedule"];

/// Everything a decision looks at.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    slots: Vec<NodeInfo>,
    places: AHashMap<String, u32>,
    free: Vec<u32>,
    /// Slots of nodes that can be chosen, the zones taking turns.
    order: Vec<u32>,
    stale: bool,
    images: AHashMap<String, usize>,
    counts: Counts,
    memo: Memo,
    namespaces: AHashMap<String, Labels>,
    nominated: AHashMap<String, Vec<Arc<PodInfo>>>,
    /// How many nodes are cordoned, have hard taints, and soft ones.
    pub cordoned: usize,
    pub hard_taints: usize,
    pub soft_taints: usize,
    /// Volumes and claims.
    pub storage: Storage,
    /// Services and workloads.
    pub owners: Owners,
    /// Disruption budgets.
    pub budgets: Budgets,
}

impl Snapshot {
    /// Slots of the nodes that can be chosen, in the order in which they take turns.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The node in a slot.
    #[inline]
    pub fn node(&self, slot: u32) -> &NodeInfo {
        &self.slots[slot as usize]
    }

    /// The slot of a node whose object is there.
    pub fn slot(&self, name: &str) -> Option<u32> {
        self.places.get(name).copied().filter(|s| self.node(*s).present)
    }

    /// A node by name, if its object is there.
    pub fn get(&self, name: &str) -> Option<&NodeInfo> {
        self.slot(name).map(|s| self.node(s))
    }

    /// Nodes that can be chosen.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.order.iter().map(|s| self.node(*s))
    }

    /// On how many nodes the image is.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// The counts over pods.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What is remembered of nodes.
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// Remembers what is found out about nodes for this request.
    pub fn remember(&mut self, ask: Ask) {
        self.memo.begin(ask, self.slots.len());
    }

    /// The labels of a namespace.
    pub fn namespace(&self, name: &str) -> &Labels {
        self.namespaces.get(name).unwrap_or(&NO_LABELS)
    }

    /// Pods for which a node is being cleared or was chosen, but that are not on it yet.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        if self.nominated.is_empty() { &[] } else { self.nominated.get(node).map_or(&[], Vec::as_slice) }
    }

    /// Whether any pod is nominated anywhere.
    pub fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    /// Notes that a pod means to go to a node.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.withdraw(&pod.uid);
        self.nominated.entry(node.into()).or_default().push(pod);
    }

    /// A pod no longer means to go anywhere; returns where it meant to go, and the pod as it was then.
    pub fn withdraw(&mut self, uid: &str) -> Option<(String, Arc<PodInfo>)> {
        let here = |pods: &Vec<Arc<PodInfo>>| pods.iter().position(|p| p.uid == uid);
        let found = self.nominated.iter_mut().find_map(|(node, pods)| here(pods).map(|at| (node, pods, at)));
        let (node, pods, at) = found?;
        let (pod, node) = (pods.remove(at), node.clone());
        if pods.is_empty() {
            self.nominated.remove(&node);
        }
        Some((node, pod))
    }

    /// A namespace came or changed (`Some`) or went.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        let changed = self.namespaces.get(name) != labels.as_ref();
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.into(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
        if changed {
            self.counts.namespace_changed();
        }
    }

    /// Puts a pod on a node, known or not.
    pub fn add_pod(&mut self, name: &str, pod: Arc<PodInfo>) {
        let slot = self.slot_of(name);
        for own in pod.affinity.iter().flat_map(|a| a.required.iter().chain(&a.anti).chain(&a.preferred)) {
            self.ensure_topology(&own.term.key);
        }
        self.count(slot, &pod, 1);
        self.place(slot).add_pod(pod);
    }

    /// Takes a pod off a node.
    pub fn remove_pod(&mut self, name: &str, uid: &str) -> Option<Arc<PodInfo>> {
        let slot = *self.places.get(name)?;
        let pod = self.place(slot).remove_pod(uid)?;
        self.count(slot, &pod, -1);
        self.drop_empty(slot);
        Some(pod)
    }

    /// A pod on a node was seen again, and counts as before.
    pub fn swap_pod(&mut self, name: &str, pod: Arc<PodInfo>) {
        let Some(slot) = self.places.get(name) else { return };
        if let Some(place) = self.slots[*slot as usize].pods.iter_mut().find(|p| p.uid == pod.uid) {
            *place = pod;
        }
    }

    /// A pod on a node was seen again, takes the same of it, and is counted anew: it has other labels since the API server bound it.
    pub fn recount_pod(&mut self, name: &str, pod: Arc<PodInfo>) {
        let Some(slot) = self.places.get(name).copied() else { return };
        let pods = &mut self.slots[slot as usize].pods;
        let Some(place) = pods.iter_mut().find(|p| p.uid == pod.uid) else { return };
        let before = std::mem::replace(place, pod.clone());
        self.count(slot, &before, -1);
        self.count(slot, &pod, 1);
    }

    /// A node that is about to change.
    fn place(&mut self, slot: u32) -> &mut NodeInfo {
        self.memo.forget(slot);
        &mut self.slots[slot as usize]
    }

    fn count(&mut self, slot: u32, pod: &PodInfo, sign: i64) {
        let namespace = self.namespaces.get(&pod.namespace).unwrap_or(&NO_LABELS);
        self.counts.pod(slot, InPlace { pod, namespace }, sign);
        for claim in pod.volumes.iter().flat_map(|v| &v.claims) {
            self.storage.used(&pod.namespace, &claim.name, sign > 0);
        }
    }

    fn slot_of(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.places.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(NodeInfo::default());
            self.slots.len() as u32 - 1
        });
        *self.place(slot) = NodeInfo::unknown(name, slot);
        self.places.insert(name.into(), slot);
        slot
    }

    fn drop_empty(&mut self, slot: u32) {
        let node = self.node(slot);
        if !node.present && node.pods.is_empty() {
            let name = node.name().to_string();
            self.places.remove(&name);
            self.free.push(slot);
        }
    }

    /// Takes over a Node object; returns what it said before, if it was there.
    pub fn set_node(&mut self, spec: Arc<NodeSpec>) -> Option<Arc<NodeSpec>> {
        let slot = self.slot_of(&spec.name);
        let node = &self.slots[slot as usize];
        let old = node.present.then(|| node.spec.clone());
        self.counts.node(slot, old.as_ref().map(|o| &o.labels), Some(&spec.labels));
        self.tell_apart(old.as_deref(), Some(&spec));
        self.stale |= old.as_ref().is_none_or(|o| o.zone() != spec.zone());
        let node = self.place(slot);
        node.set(spec);
        node.slot = slot;
        old
    }

    /// Forgets a Node object; pods still on it are remembered in case it comes back.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<NodeSpec>> {
        let slot = self.slot(name)?;
        let old = self.node(slot).spec.clone();
        self.counts.node(slot, Some(&old.labels), None);
        self.tell_apart(Some(&old), None);
        let mut left = NodeInfo::unknown(name, slot);
        std::mem::take(&mut self.slots[slot as usize].pods).into_iter().for_each(|p| left.add_pod(p));
        *self.place(slot) = left;
        self.stale = true;
        self.drop_empty(slot);
        Some(old)
    }

    fn tell_apart(&mut self, old: Option<&NodeSpec>, new: Option<&NodeSpec>) {
        let shift = |count: &mut usize, is: &dyn Fn(&NodeSpec) -> bool| {
            *count = *count + usize::from(new.is_some_and(is)) - usize::from(old.is_some_and(is));
        };
        shift(&mut self.cordoned, &|n| n.unschedulable);
        shift(&mut self.hard_taints, &|n| n.tainted(HARD));
        shift(&mut self.soft_taints, &|n| n.tainted(SOFT));
        let has =
            |node: Option<&NodeSpec>, image: &String| node.is_some_and(|n| n.images.contains_key(image));
        for image in new.iter().flat_map(|n| n.images.keys()).filter(|i| !has(old, i)) {
            *self.images.entry(image.clone()).or_insert(0) += 1;
        }
        for image in old.iter().flat_map(|n| n.images.keys()).filter(|i| !has(new, i)) {
            if let Some(count) = self.images.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(image);
                }
            }
        }
    }

    /// Brings the order of nodes up to date: one node of each zone in turn.
    pub fn refresh(&mut self) {
        if !self.stale {
            return;
        }
        self.stale = false;
        let mut zones: Vec<Vec<u32>> = Vec::new();
        let mut by_name: AHashMap<String, usize> = AHashMap::new();
        for node in self.slots.iter().filter(|n| n.present) {
            let zone = *by_name.entry(node.spec.zone()).or_insert_with(|| {
                zones.push(Vec::new());
                zones.len() - 1
            });
            zones[zone].push(node.slot);
        }
        let longest = zones.iter().map(Vec::len).max().unwrap_or(0);
        let turn = |i: usize| zones.iter().filter_map(move |z| z.get(i).copied());
        self.order = (0..longest).flat_map(turn).collect();
    }

    /// Makes sure that the nodes are divided by this label.
    pub fn ensure_topology(&mut self, key: &str) {
        if !self.counts.has_topology(key) {
            let present = self.slots.iter().filter(|n| n.present);
            self.counts.add_topology(key, present.map(|n| (n.slot, &n.spec.labels)));
        }
    }

    /// Makes sure that these pods are counted by this label.
    pub fn ensure(&mut self, wanted: &Arc<Wanted>, key: &str) {
        if self.counts.is_counted(wanted, key) {
            return;
        }
        self.ensure_topology(key);
        let namespaces = &self.namespaces;
        let pods = self.slots.iter().flat_map(|n| n.pods.iter().map(move |p| (n.slot, p)));
        let placed = pods.map(|(slot, pod)| {
            let namespace = namespaces.get(&pod.namespace).unwrap_or(&NO_LABELS);
            (slot, InPlace { pod, namespace })
        });
        self.counts.begin(wanted, key, placed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node_spec, pod};
    use serde_json::json;

    #[test]
    fn a_lost_node_keeps_its_pods() {
        let mut all = Snapshot::default();
        all.set_node(node_spec("a", json!({})));
        all.set_node(node_spec("b", json!({})));
        all.add_pod("a", pod("p", json!({})));
        all.remove_node("a");
        all.refresh();
        assert!(all.get("a").is_none());
        assert_eq!(all.nodes().map(NodeInfo::name).collect::<Vec<_>>(), ["b"]);
        assert!(all.set_node(node_spec("a", json!({}))).is_none());
        assert_eq!(all.get("a").unwrap().pods.len(), 1);
        all.remove_pod("a", "uid-p").unwrap();
        all.remove_node("a");
        all.set_node(node_spec("c", json!({})));
        assert_eq!(all.slots.len(), 2, "the place of a node that is gone is used again");
    }

    #[test]
    fn zones_take_turns() {
        let mut all = Snapshot::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")] {
            let labels = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
            all.set_node(node_spec(name, labels));
        }
        all.refresh();
        let names: Vec<&str> = all.nodes().map(NodeInfo::name).collect();
        assert_eq!(names, ["a1", "b1", "c1", "a2", "c2", "a3"]);
    }
}
