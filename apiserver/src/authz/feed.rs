//! Keeps the authorizers' indexes in step with the watch cache.

use std::sync::Arc;

use serde_json::Value;

use super::node::graph::{Graph, Vertex};
use super::rbac::{Index, Kind};
use crate::cache::{Change, Entry};
use crate::reader::Reader;

/// Feeds roles and bindings to the RBAC index.
pub fn rbac(reader: &Reader, index: &Arc<Index>) {
    for plural in ["roles", "clusterroles", "rolebindings", "clusterrolebindings"] {
        let Some(kind) = Kind::of_resource(plural) else { continue };
        let index = index.clone();
        reader.observe(&format!("{plural}.rbac.authorization.k8s.io"), move |change: &Change| {
            match (&change.new, &change.old) {
                (Some(entry), _) => index.put(kind, &entry.parse()),
                (None, Some(old)) => index.remove(kind, old.namespace(), old.name()),
                (None, None) => {}
            }
        });
    }
}

/// Feeds whatever leads from a node to other objects to the node graph.
pub fn graph(reader: &Reader, graph: &Arc<Graph>) {
    let node_at = reader.value_index("pods", "spec.nodeName");
    let watched = [
        ("pods", Vertex::Pod),
        ("persistentvolumes", Vertex::Volume),
        ("volumeattachments.storage.k8s.io", Vertex::Attachment),
        ("resourceslices.resource.k8s.io", Vertex::ResourceSlice),
    ];
    for (resource, vertex) in watched {
        let graph = graph.clone();
        reader.observe(resource, move |change: &Change| match (&change.new, &change.old) {
            (Some(entry), old) if vertex == Vertex::Pod => put_pod(&graph, node_at, entry, old.as_deref()),
            (Some(entry), _) if vertex == Vertex::Volume => graph.put_volume(&entry.parse()),
            (Some(entry), _) => graph.put_owned(vertex, &entry.parse()),
            (None, Some(old)) => graph.remove(vertex, old.namespace(), old.name()),
            (None, None) => {}
        });
    }
}

fn put_pod(graph: &Graph, node_at: Option<usize>, entry: &Entry, old: Option<&Entry>) {
    let node_of = |e| node_at.and_then(|at| Entry::value(e, at)).unwrap_or_default();
    let now = node_of(entry);
    match old.map(node_of).unwrap_or_default() {
        before if before.is_empty() && now.is_empty() => return,
        before if before == now && same_needs(entry, old) => return,
        _ => {}
    }
    match entry.parse_as() {
        Ok(pod) => graph.put_pod(&pod),
        Err(error) => {
            tracing::error!(pod = &**entry.key(), %error, "a pod can't be read: its node may read nothing for it");
            graph.remove(Vertex::Pod, entry.namespace(), entry.name());
        }
    }
}

/// The parts of a pod that change what it needs once it has a node.
#[derive(serde::Deserialize, PartialEq, Default)]
#[serde(default)]
struct Shape {
    metadata: ShapeMeta,
    spec: ShapeSpec,
    status: ShapeStatus,
}

#[derive(serde::Deserialize, PartialEq, Default)]
#[serde(default)]
struct ShapeMeta {
    uid: String,
}

#[derive(serde::Deserialize, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
struct ShapeSpec {
    ephemeral_containers: Value,
}

#[derive(serde::Deserialize, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
struct ShapeStatus {
    resource_claim_statuses: Value,
    extended_resource_claim_status: Value,
}

/// Most changes of pods are of their status and add nothing: those are told apart without building the object.
fn same_needs(entry: &Entry, old: Option<&Entry>) -> bool {
    let shape = |e: &Entry| e.parse_as::<Shape>().ok();
    old.is_some_and(|o| matches!((shape(o), shape(entry)), (Some(a), Some(b)) if a == b))
}
