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
    let watched = [
        ("pods", Vertex::Pod),
        ("persistentvolumes", Vertex::Volume),
        ("volumeattachments.storage.k8s.io", Vertex::Attachment),
        ("resourceslices.resource.k8s.io", Vertex::ResourceSlice),
    ];
    for (resource, vertex) in watched {
        let graph = graph.clone();
        reader.observe(resource, move |change: &Change| match (&change.new, &change.old) {
            (Some(entry), old) => put(&graph, vertex, entry, old.as_deref()),
            (None, Some(old)) => graph.remove(vertex, old.namespace(), old.name()),
            (None, None) => {}
        });
    }
}

fn put(graph: &Graph, vertex: Vertex, entry: &Entry, old: Option<&Entry>) {
    match vertex {
        Vertex::Pod if same_needs(entry, old) => {}
        Vertex::Pod => graph.put_pod(&entry.parse()),
        Vertex::Volume => graph.put_volume(&entry.parse()),
        v => graph.put_owned(v, &entry.parse()),
    }
}

/// The parts of a pod that change what it needs once it has a node.
#[derive(serde::Deserialize, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
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
    node_name: String,
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
