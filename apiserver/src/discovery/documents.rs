//! The discovery documents, made from the resources that are served.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use machinery::kinds::{self, Resource, Subresource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `/api`.
pub fn api_versions(address: &str) -> Value {
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]);
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses})
}

/// `/apis`.
pub fn api_groups(kinds: &[Arc<Resource>]) -> Value {
    let groups: Vec<Value> = group_names(kinds).iter().filter(|g| !g.is_empty()).filter_map(|g| group_entry(kinds, g)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`; None for a group that isn't served.
pub fn group(kinds: &[Arc<Resource>], name: &str) -> Option<Value> {
    let mut entry = group_entry(kinds, name).filter(|_| !name.is_empty())?;
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

fn group_entry(kinds: &[Arc<Resource>], name: &str) -> Option<Value> {
    let versions: Vec<Value> = versions(kinds, name)
        .iter()
        .map(|v| json!({"groupVersion": kinds::api_version(name, v), "version": v}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

/// `/api/v1` and `/apis/GROUP/VERSION`; None for one that isn't served.
pub fn resource_list(kinds: &[Arc<Resource>], group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for resource in kinds.iter().filter(|r| r.group == group && r.version == version) {
        entries.push(resource_entry(resource));
        entries.extend(resource.subresources.iter().map(|s| subresource_entry(resource, s)));
    }
    if entries.is_empty() {
        return None;
    }
    let group_version = kinds::api_version(group, version);
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}))
}

fn resource_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    add_list(&mut entry, "shortNames", &resource.short_names);
    add_list(&mut entry, "categories", &resource.categories);
    if resource.is_stored() {
        entry["storageVersionHash"] = storage_hash(resource).into();
    }
    entry
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.gvk.kind,
        "verbs": sub.verbs,
    });
    if (&sub.gvk.group, &sub.gvk.version) != (&resource.group, &resource.version) {
        entry["group"] = sub.gvk.group.clone().into();
        entry["version"] = sub.gvk.version.clone().into();
    }
    entry
}

/// The aggregated form of `/api` (`core`) or `/apis`.
pub fn aggregated(kinds: &[Arc<Resource>], core: bool) -> Value {
    let groups = group_names(kinds).into_iter().filter(|g| g.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = versions(kinds, &group).iter().map(|v| aggregated_version(kinds, &group, v)).collect();
            // The core group has no name.
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_version(kinds: &[Arc<Resource>], group: &str, version: &str) -> Value {
    let of_version = kinds.iter().filter(|r| r.group == group && r.version == version);
    let resources: Vec<Value> = of_version.map(|r| aggregated_resource(r)).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    add_list(&mut entry, "shortNames", &resource.short_names);
    add_list(&mut entry, "categories", &resource.categories);
    if !resource.subresources.is_empty() {
        entry["subresources"] = resource.subresources.iter().map(aggregated_subresource).collect();
    }
    entry
}

fn aggregated_subresource(sub: &Subresource) -> Value {
    let kind = json!({"group": sub.gvk.group, "version": sub.gvk.version, "kind": sub.gvk.kind});
    json!({"subresource": sub.name, "responseKind": kind, "verbs": sub.verbs})
}

fn add_list(entry: &mut Value, name: &str, list: &[String]) {
    if !list.is_empty() {
        entry[name] = list.into();
    }
}

/// Tells clients when the stored version changes; any stable function of it will do.
fn storage_hash(resource: &Resource) -> String {
    let text = format!("{}/{}/{}", resource.group, resource.storage_api_version(), resource.kind);
    BASE64_STANDARD.encode(&Sha256::digest(text)[..8])
}

/// Groups in discovery order: the built-in ones first, then others as they come.
fn group_names(kinds: &[Arc<Resource>]) -> Vec<String> {
    let served = |g: &str| kinds.iter().any(|r| r.group == g);
    let known = kinds::groups().iter().map(|g| g.group.clone());
    let mut names: Vec<String> = Vec::new();
    for name in known.chain(kinds.iter().map(|r| r.group.clone())) {
        if served(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Versions of a group, the preferred one first.
fn versions(kinds: &[Arc<Resource>], group: &str) -> Vec<String> {
    let known = kinds::groups().iter().filter(|g| g.group == group);
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|g| !g.preferred);
    let mut names: Vec<String> = Vec::new();
    for name in known.iter().map(|g| &g.version).chain(kinds.iter().filter(|r| r.group == group).map(|r| &r.version)) {
        let served = kinds.iter().any(|r| r.group == group && r.version == *name);
        if served && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Vec<Arc<Resource>> {
        kinds::builtin().iter().filter(|r| r.default_enabled).cloned().collect()
    }

    #[test]
    fn every_group_version_lists_its_resources_and_both_forms_agree() {
        let kinds = served();
        let (core, rest) = (aggregated(&kinds, true), aggregated(&kinds, false));
        let mut count = 0;
        for item in core["items"].as_array().unwrap().iter().chain(rest["items"].as_array().unwrap()) {
            let group = item["metadata"]["name"].as_str().unwrap_or("");
            for version in item["versions"].as_array().unwrap() {
                let list = resource_list(&kinds, group, version["version"].as_str().unwrap()).unwrap();
                let plain = list["resources"].as_array().unwrap().iter().filter(|r| !r["name"].as_str().unwrap().contains('/'));
                let names: Vec<&Value> = plain.map(|r| &r["name"]).collect();
                let others: Vec<&Value> = version["resources"].as_array().unwrap().iter().map(|r| &r["resource"]).collect();
                assert_eq!(names, others);
                count += names.len();
            }
        }
        assert_eq!(count, kinds.len());
    }

    #[test]
    fn groups_have_a_preferred_version() {
        let kinds = served();
        assert_eq!(group(&kinds, "autoscaling").unwrap()["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert!(group(&kinds, "nothing").is_none());
        assert_eq!(api_groups(&kinds)["groups"][0]["name"], "apiregistration.k8s.io");
    }
}
