//! All nodes at one moment. Cloning shares everything; a change copies a few tree nodes and the one node that changed.

use std::collections::HashMap;
use std::sync::Arc;

use imbl::{HashMap as SharedMap, Vector};

use super::node::NodeInfo;

/// An immutable view; the state makes the next one by changing its own copy.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Vector<Arc<NodeInfo>>,
    /// How many nodes have an image, by name; for spreading scores.
    image_nodes: SharedMap<String, usize>,
}

impl Snapshot {
    /// The nodes in the order they came.
    pub fn nodes(&self) -> &Vector<Arc<NodeInfo>> {
        &self.nodes
    }

    /// On how many nodes the image is.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }
}

/// The snapshot being kept, with places by name.
#[derive(Debug, Default)]
pub struct Nodes {
    current: Snapshot,
    places: HashMap<String, usize>,
    /// Nodes known only from pods on them: not to be chosen.
    unknown: HashMap<String, NodeInfo>,
}

impl Nodes {
    /// The view of now.
    pub fn snapshot(&self) -> Snapshot {
        self.current.clone()
    }

    /// One node, if its object is there.
    pub fn get(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.current.nodes.get(*self.places.get(name)?)
    }

    /// Changes a node's pods or makes the node known by name.
    pub fn change_pods(&mut self, name: &str, change: impl FnOnce(&mut NodeInfo)) {
        match self.places.get(name).and_then(|i| self.current.nodes.get_mut(*i)) {
            Some(node) => change(Arc::make_mut(node)),
            None => {
                let node = self.unknown.entry(name.into()).or_insert_with(|| NodeInfo::unknown(name));
                change(node);
                if node.pods.is_empty() {
                    self.unknown.remove(name);
                }
            }
        }
    }

    /// Takes over a Node object; returns whether a refused pod may now fit.
    pub fn update(&mut self, object: &k8s_openapi::api::core::v1::Node) -> bool {
        let name = object.metadata.name.clone().unwrap_or_default();
        let old = self.get(&name).cloned();
        let before = old
            .as_deref()
            .cloned()
            .or_else(|| self.unknown.remove(&name))
            .unwrap_or_else(|| NodeInfo::unknown(&name));
        let mut node = before.clone();
        node.update(object);
        self.count_images(&before, &node);
        let opens = node.opens(&before);
        match self.places.get(&name) {
            Some(place) => drop(self.current.nodes.set(*place, Arc::new(node))),
            None => {
                self.places.insert(name, self.current.nodes.len());
                self.current.nodes.push_back(Arc::new(node));
            }
        }
        opens
    }

    /// Forgets a Node object; pods still on it are remembered in case it comes back.
    pub fn remove(&mut self, name: &str) {
        let Some(place) = self.places.remove(name) else { return };
        let last = self.current.nodes.len() - 1;
        self.current.nodes.swap(place, last);
        let Some(node) = self.current.nodes.pop_back() else { return };
        if let Some(moved) = self.current.nodes.get(place) {
            self.places.insert(moved.name.clone(), place);
        }
        self.count_images(&node, &NodeInfo::default());
        if !node.pods.is_empty() {
            let mut left = NodeInfo::unknown(name);
            node.pods.values().for_each(|p| left.add_pod(p.clone()));
            self.unknown.insert(name.into(), left);
        }
    }

    fn count_images(&mut self, old: &NodeInfo, new: &NodeInfo) {
        for image in new.images.keys().filter(|i| !old.images.contains_key(*i)) {
            *self.current.image_nodes.entry(image.clone()).or_insert(0) += 1;
        }
        for image in old.images.keys().filter(|i| !new.images.contains_key(*i)) {
            match self.nodes_left(image) {
                0 => drop(self.current.image_nodes.remove(image)),
                n => drop(self.current.image_nodes.insert(image.clone(), n)),
            }
        }
    }

    fn nodes_left(&self, image: &str) -> usize {
        self.current.nodes_with_image(image).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    #[test]
    fn a_snapshot_does_not_change_and_a_lost_node_keeps_its_pods() {
        let mut nodes = Nodes::default();
        nodes.update(&node("a", json!({})));
        nodes.update(&node("b", json!({})));
        let before = nodes.snapshot();
        nodes.change_pods("a", |n| n.add_pod(pod("p", json!({}))));
        assert_eq!(before.nodes()[0].pods.len(), 0);
        assert_eq!(nodes.get("a").unwrap().pods.len(), 1);
        nodes.remove("a");
        assert!(nodes.get("a").is_none());
        assert_eq!(nodes.get("b").unwrap().name, "b");
        assert!(nodes.update(&node("a", json!({}))));
        assert_eq!(nodes.get("a").unwrap().pods.len(), 1);
    }
}
