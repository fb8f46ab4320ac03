//! The resources the API server has, by aggregated discovery, falling back to the older form.

use anyhow::{Context as _, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::Client;

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
    let mut found = Found::default();
    let core = client.list_core_api_resources("v1").await.context("discovery of v1")?;
    add(&mut found, core, "", "v1");
    let groups: APIGroupList = client.list_api_groups().await.context("discovery of groups")?;
    for group in groups.groups {
        let version = group.preferred_version.as_ref().or(group.versions.first());
        let Some(version) = version else { continue };
        // Resources only other versions have are found there.
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
    for resource in list.resources {
        let known = |r: &Resource| r.kind.group == group && r.kind.plural == resource.name;
        if resource.name.contains('/') || found.resources.iter().any(known) {
            continue;
        }
        let kind = Kind {
            group: group.to_string().into(),
            version: version.to_string().into(),
            plural: resource.name.into(),
            kind: resource.kind.into(),
        };
        found.resources.push(Resource { kind, namespaced: resource.namespaced, verbs: resource.verbs });
    }
}
