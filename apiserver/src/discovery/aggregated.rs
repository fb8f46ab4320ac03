//! Aggregated discovery: `apidiscovery.k8s.io/v2`.

use std::sync::Arc;

use machinery::kinds::{Gvk, Resource, Subresource};
use serde_json::{Map, Value, json};

use super::documents::{Group, group_versions};
use crate::aggregator::discovery::Elsewhere;

/// The document of `/api` (`core`) or `/apis`.
pub fn aggregated(resources: &[Arc<Resource>], elsewhere: &[Elsewhere], core: bool) -> Value {
    let groups = group_versions(resources, elsewhere);
    let items: Vec<Value> =
        groups.iter().filter(|g| g.name.is_empty() == core).map(|g| item(resources, elsewhere, g)).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn item(resources: &[Arc<Resource>], elsewhere: &[Elsewhere], group: &Group) -> Value {
    let entry = |v: &String| {
        let other = elsewhere.iter().find(|e| e.group == group.name && e.version == *v);
        other.map_or_else(|| version(resources, &group.name, v), |e| e.entry.clone())
    };
    let versions: Vec<Value> = group.versions.iter().map(entry).collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn version(resources: &[Arc<Resource>], group: &str, version: &str) -> Value {
    let mut served: Vec<&Arc<Resource>> =
        resources.iter().filter(|r| r.group == group && r.version == version).collect();
    served.sort_by(|a, b| a.plural.cmp(&b.plural));
    let listed: Vec<Value> = served.into_iter().map(|r| resource(r)).collect();
    json!({"version": version, "resources": listed, "freshness": "Current"})
}

fn kind(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn resource(resource: &Resource) -> Value {
    let mut entry = Map::new();
    entry.insert("resource".into(), resource.plural.clone().into());
    entry.insert("responseKind".into(), kind(&resource.gvk()));
    entry.insert("scope".into(), if resource.namespaced { "Namespaced" } else { "Cluster" }.into());
    entry.insert("singularResource".into(), resource.singular.clone().into());
    entry.insert("verbs".into(), resource.verbs.clone().into());
    let lists = [("shortNames", &resource.short_names), ("categories", &resource.categories)];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        entry.insert(name.into(), list.clone().into());
    }
    if !resource.subresources.is_empty() {
        entry.insert("subresources".into(), resource.subresources.iter().map(subresource).collect());
    }
    Value::Object(entry)
}

fn subresource(sub: &Subresource) -> Value {
    json!({"subresource": sub.name, "responseKind": kind(&sub.gvk), "verbs": sub.verbs})
}
