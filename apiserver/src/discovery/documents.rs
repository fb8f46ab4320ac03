//! The classic discovery documents.

use std::sync::Arc;

use base64::Engine;
use machinery::kinds::{Resource, Subresource, api_version};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::aggregator::discovery::Elsewhere;
use crate::aggregator::local;

/// A group with its served versions, the preferred one first.
pub(super) struct Group {
    pub name: String,
    pub versions: Vec<String>,
}

/// A group version with its priorities: the group's, its own.
struct Ranked<'a> {
    group: &'a str,
    version: &'a str,
    priority: (i64, i64),
}

fn ranked<'a>(resources: &'a [Arc<Resource>], elsewhere: &'a [Elsewhere]) -> Vec<Ranked<'a>> {
    let mut all: Vec<Ranked<'a>> = elsewhere
        .iter()
        .map(|e| Ranked {
            group: &e.group,
            version: &e.version,
            priority: (e.group_priority, e.version_priority),
        })
        .collect();
    for resource in resources {
        let (group, version) = (resource.group.as_str(), resource.version.as_str());
        if !all.iter().any(|r| r.group == group && r.version == version) {
            all.push(Ranked { group, version, priority: local::priority(group, version) });
        }
    }
    all
}

/// Groups and versions in discovery order: the core group, then by the highest priority of a group's versions and by name;
/// in a group by priority and then newest first.
pub(super) fn group_versions(resources: &[Arc<Resource>], elsewhere: &[Elsewhere]) -> Vec<Group> {
    let mut all = ranked(resources, elsewhere);
    all.sort_by(|a, b| {
        b.priority.1.cmp(&a.priority.1).then_with(|| stability(b.version).cmp(&stability(a.version)))
    });
    let mut out: Vec<(i64, Group)> = Vec::new();
    for Ranked { group, version, priority } in all {
        match out.iter_mut().find(|(_, g)| g.name == group) {
            Some((highest, found)) => {
                *highest = priority.0.max(*highest);
                found.versions.push(version.to_owned());
            }
            None => {
                out.push((priority.0, Group { name: group.to_owned(), versions: vec![version.to_owned()] }))
            }
        }
    }
    let named = |g: &Group| !g.name.is_empty();
    out.sort_by(|(a, g), (b, h)| named(g).cmp(&named(h)).then(b.cmp(a)).then_with(|| g.name.cmp(&h.name)));
    out.into_iter().map(|(_, group)| group).collect()
}

/// Sort key of a version: stable before beta before alpha, higher numbers first, other names last.
fn stability(version: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let name = std::cmp::Reverse(version.to_string());
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0, name) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, tail) = rest.split_at(end);
    let Ok(major) = major.parse() else { return (0, 0, 0, name) };
    let minor = |word: &str| tail.strip_prefix(word).and_then(|n| n.parse().ok());
    match (tail, minor("beta"), minor("alpha")) {
        ("", ..) => (3, major, 0, name),
        (_, Some(beta), _) => (2, major, beta, name),
        (_, _, Some(alpha)) => (1, major, alpha, name),
        _ => (0, 0, 0, name),
    }
}

/// `/api`: `address` is where the client reached the server.
pub fn api_versions(resources: &[Arc<Resource>], elsewhere: &[Elsewhere], address: &str) -> Value {
    let core = group_versions(resources, elsewhere).into_iter().find(|g| g.name.is_empty());
    json!({
        "kind": "APIVersions",
        "versions": core.map(|g| g.versions).unwrap_or_default(),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`.
pub fn api_groups(resources: &[Arc<Resource>], elsewhere: &[Elsewhere]) -> Value {
    let groups: Vec<Value> =
        group_versions(resources, elsewhere).iter().filter(|g| !g.name.is_empty()).map(group_value).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_value(group: &Group) -> Value {
    let versions: Vec<Value> = group.versions.iter().map(|v| version_value(&group.name, v)).collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

fn version_value(group: &str, version: &str) -> Value {
    json!({"groupVersion": api_version(group, version), "version": version})
}

/// `/apis/GROUP`; `None` when nothing of the group is served.
pub fn group(resources: &[Arc<Resource>], elsewhere: &[Elsewhere], name: &str) -> Option<Value> {
    let found =
        group_versions(resources, elsewhere).into_iter().find(|g| !name.is_empty() && g.name == name)?;
    let mut value = group_value(&found);
    if let Some(map) = value.as_object_mut() {
        map.insert("kind".into(), "APIGroup".into());
        map.insert("apiVersion".into(), "v1".into());
    }
    Some(value)
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` when nothing of it is served.
pub fn resource_list(resources: &[Arc<Resource>], group: &str, version: &str) -> Option<Value> {
    let mut served: Vec<&Arc<Resource>> =
        resources.iter().filter(|r| r.group == group && r.version == version).collect();
    if served.is_empty() {
        return None;
    }
    served.sort_by(|a, b| a.plural.cmp(&b.plural));
    let listed: Vec<Value> = served.iter().flat_map(|r| entries(r)).collect();
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": listed}),
    )
}

/// A resource and its subresources.
fn entries(resource: &Resource) -> Vec<Value> {
    let mut list = vec![resource_entry(resource)];
    list.extend(resource.subresources.iter().map(|s| subresource_entry(resource, s)));
    list
}

fn resource_entry(resource: &Resource) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), resource.plural.clone().into());
    entry.insert("singularName".into(), resource.singular.clone().into());
    entry.insert("namespaced".into(), resource.namespaced.into());
    entry.insert("kind".into(), resource.kind.clone().into());
    entry.insert("verbs".into(), resource.verbs.clone().into());
    if !resource.short_names.is_empty() {
        entry.insert("shortNames".into(), resource.short_names.clone().into());
    }
    if !resource.categories.is_empty() {
        entry.insert("categories".into(), resource.categories.clone().into());
    }
    if let Some(hash) = storage_version_hash(resource) {
        entry.insert("storageVersionHash".into(), hash.into());
    }
    Value::Object(entry)
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), format!("{}/{}", resource.plural, sub.name).into());
    entry.insert("singularName".into(), "".into());
    entry.insert("namespaced".into(), resource.namespaced.into());
    // The kind's group version is only told where it differs from the list's.
    if sub.gvk.group != resource.group || sub.gvk.version != resource.version {
        entry.insert("group".into(), sub.gvk.group.clone().into());
        entry.insert("version".into(), sub.gvk.version.clone().into());
    }
    entry.insert("kind".into(), sub.gvk.kind.clone().into());
    entry.insert("verbs".into(), sub.verbs.clone().into());
    Value::Object(entry)
}

/// First eight bytes of the SHA-256 of the stored kind, in base64.
fn storage_version_hash(resource: &Resource) -> Option<String> {
    let gvk = resource.storage_version.as_ref()?;
    let text = format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind);
    let digest = Sha256::digest(text.as_bytes());
    digest.get(..8).map(|head| base64::engine::general_purpose::STANDARD.encode(head))
}
