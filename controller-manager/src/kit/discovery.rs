//! The resources the API server has, by aggregated discovery, falling back to the older form.

use anyhow::{Context as _, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::Client;
use kube::core::discovery::v2::APIGroupDiscoveryList;

use super::write::Kind;

/// A resource with what can be done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub kind: Kind,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    /// Whether a verb is served.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// `resource.group`, as upstream's messages name it.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.kind.plural, self.kind.group)
    }
}

/// What was found, and what could not be asked.
#[derive(Debug, Default)]
pub struct Found {
    pub resources: Vec<Resource>,
    /// Group versions whose resources are unknown for now, with the reason.
    pub failed: Vec<String>,
}

/// Every resource in the preferred version of its group. Subresources are left out.
pub async fn preferred(client: &Client) -> Result<Found> {
    let core = client.list_core_api_versions_aggregated().await.context("discovery of the core group")?;
    let groups = client.list_api_groups_aggregated().await.context("discovery of groups")?;
    // A server that does not know this form answers in another, which has no such items.
    if core.items.is_empty() || groups.items.is_empty() {
        return older(client).await;
    }
    Ok(of_documents([core, groups]))
}

/// Versions come with the preferred one first; resources only others have are found there. What is stale may have
/// changed since, and is as good as unknown.
fn of_documents(documents: [APIGroupDiscoveryList; 2]) -> Found {
    let mut found = Found::default();
    for group in documents.into_iter().flat_map(|d| d.items) {
        let name = group.metadata.and_then(|m| m.name).unwrap_or_default();
        for entry in group.versions {
            let version = entry.version.unwrap_or_default();
            if entry.freshness.as_deref() == Some("Stale") {
                found
                    .failed
                    .push(format!("{name}/{version}: stale GroupVersion discovery: {name}/{version}"));
                continue;
            }
            for resource in entry.resources {
                let kind = resource.response_kind.and_then(|k| k.kind).unwrap_or_default();
                let plural = resource.resource.unwrap_or_default();
                let namespaced = resource.scope.as_deref() == Some("Namespaced");
                found.add(Kind::named(&name, &version, plural, kind), namespaced, resource.verbs);
            }
        }
    }
    found
}

/// The same by a request for each group version.
async fn older(client: &Client) -> Result<Found> {
    let mut found = Found::default();
    let core = client.list_core_api_resources("v1").await.context("discovery of v1")?;
    add(&mut found, core, "", "v1");
    let groups: APIGroupList = client.list_api_groups().await.context("discovery of groups")?;
    for group in groups.groups {
        let version = group.preferred_version.as_ref().or(group.versions.first());
        let Some(version) = version else { continue };
        let others = group.versions.iter().filter(|v| v.version != version.version);
        for version in std::iter::once(version).chain(others) {
            match client.list_api_group_resources(&version.group_version).await {
                Ok(list) => add(&mut found, list, &group.name, &version.version),
                Err(error) => found.failed.push(format!("{}: {error}", version.group_version)),
            }
        }
    }
    Ok(found)
}

fn add(found: &mut Found, list: APIResourceList, group: &str, version: &str) {
    for resource in list.resources.into_iter().filter(|r| !r.name.contains('/')) {
        let kind = Kind::named(group, version, resource.name, resource.kind);
        found.add(kind, resource.namespaced, resource.verbs);
    }
}

impl Found {
    fn add(&mut self, kind: Kind, namespaced: bool, verbs: Vec<String>) {
        let known = |r: &Resource| r.kind.group == kind.group && r.kind.plural == kind.plural;
        if !self.resources.iter().any(known) {
            self.resources.push(Resource { kind, namespaced, verbs });
        }
    }

    /// What could not be asked, in upstream's words.
    pub fn failure(&self) -> Option<String> {
        let what = self.failed.join(", ");
        (!self.failed.is_empty())
            .then(|| format!("unable to retrieve the complete list of server APIs: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_version_and_what_is_stale() {
        let document = |text: &str| serde_json::from_str::<APIGroupDiscoveryList>(text).expect("document");
        let core = r#"{"items": [{"metadata": {}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
            {"resource": "pods", "scope": "Namespaced", "responseKind": {"kind": "Pod"}, "verbs": ["list"], "subresources": [{"subresource": "log"}]}]}]}]}"#;
        let groups = r#"{"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v2", "freshness": "Current", "resources": [{"resource": "a", "scope": "Cluster", "responseKind": {"kind": "A"}}]},
            {"version": "v1", "freshness": "Current", "resources": [{"resource": "a"}, {"resource": "b", "responseKind": {"kind": "B"}}]}]},
            {"metadata": {"name": "h"}, "versions": [{"version": "v1", "freshness": "Stale", "resources": [{"resource": "c"}]}]}]}"#;
        let found = of_documents([document(core), document(groups)]);
        let all: Vec<String> = found
            .resources
            .iter()
            .map(|r| format!("{} {} {}", r.kind.api_version(), r.kind.kind, r.namespaced))
            .collect();
        assert_eq!(all, ["v1 Pod true", "g/v2 A false", "g/v1 B false"]);
        assert!(found.resources[0].can("list"));
        let failure =
            "unable to retrieve the complete list of server APIs: h/v1: stale GroupVersion discovery: h/v1";
        assert_eq!(found.failure().as_deref(), Some(failure));
        assert_eq!(Found::default().failure(), None);
    }
}
