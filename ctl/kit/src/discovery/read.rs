//! Discovery documents, in both their forms.

use serde_json::Value;

use super::{Group, Version};
use crate::Kind;

pub(super) fn aggregated(document: &Value) -> Vec<Group> {
    document["items"].as_array().into_iter().flatten().map(group).collect()
}

fn group(item: &Value) -> Group {
    let name = text(&item["metadata"], "name");
    let version = |version: &Value| {
        let root = Kind { group: name.clone(), version: text(version, "version"), ..Kind::default() };
        let kinds = version["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|found| resource(found, &root))
            .collect();
        Version { name: root.version.clone(), kinds, stale: version["freshness"] == "Stale" }
    };
    Group { versions: item["versions"].as_array().into_iter().flatten().map(version).collect(), name }
}

fn resource(found: &Value, root: &Kind) -> Option<Kind> {
    let kind = found["responseKind"]["kind"].as_str()?.to_string();
    Some(Kind {
        group: root.group.clone(),
        version: root.version.clone(),
        kind,
        plural: text(found, "resource"),
        singular: text(found, "singularResource"),
        short_names: strings(&found["shortNames"]),
        namespaced: found["scope"] == "Namespaced",
        verbs: strings(&found["verbs"]),
        categories: strings(&found["categories"]),
        subresources: list(&found["subresources"], "subresource"),
    })
}

/// An APIResourceList; subresources are entries of their own there, after their resource or before.
pub(super) fn plain(document: &Value, root: &Kind) -> Vec<Kind> {
    let entries: Vec<&Value> = document["resources"].as_array().into_iter().flatten().collect();
    let subresources = |plural: &str| {
        let prefix = format!("{plural}/");
        entries
            .iter()
            .filter_map(|entry| entry["name"].as_str()?.strip_prefix(&prefix).map(str::to_string))
            .collect()
    };
    let kind = |entry: &&&Value| Kind {
        group: root.group.clone(),
        version: root.version.clone(),
        kind: text(entry, "kind"),
        plural: text(entry, "name"),
        singular: text(entry, "singularName"),
        short_names: strings(&entry["shortNames"]),
        namespaced: entry["namespaced"] == true,
        verbs: strings(&entry["verbs"]),
        categories: strings(&entry["categories"]),
        subresources: subresources(&text(entry, "name")),
    };
    entries.iter().filter(|entry| !text(entry, "name").contains('/')).map(|entry| kind(&entry)).collect()
}

pub(super) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_string()
}

pub(super) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

pub(super) fn list(value: &Value, key: &str) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|entry| text(entry, key)).collect()
}
