//! What group versions serve, remembered for a short while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::Client;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::write::Kind;

/// What is served is asked again after this long.
const FRESH: Duration = Duration::from_secs(30);

/// What group versions serve, remembered for a short while.
pub struct Served {
    client: Client,
    lists: Mutex<HashMap<String, (Arc<APIResourceList>, Instant)>>,
    groups: Mutex<Option<(Arc<APIGroupList>, Instant)>>,
}

impl Served {
    /// Nothing known yet.
    pub fn new(client: Client) -> Self {
        Self { client, lists: Mutex::default(), groups: Mutex::default() }
    }

    /// The resources of a group version, subresources included.
    pub async fn resources(&self, version: &str) -> Result<Arc<APIResourceList>> {
        let known = self.lists.lock().get(version).filter(|(_, at)| at.elapsed() < FRESH).cloned();
        if let Some((list, _)) = known {
            return Ok(list);
        }
        let list = match version.contains('/') {
            true => self.client.list_api_group_resources(version).await,
            false => self.client.list_core_api_resources(version).await,
        };
        let list = Arc::new(list.with_context(|| format!("discovery of {version}"))?);
        self.lists.lock().insert(version.to_string(), (list.clone(), Instant::now()));
        Ok(list)
    }

    /// The versions of a group, the preferred one first; none if there is no such group.
    pub async fn versions(&self, group: &str) -> Result<Vec<String>> {
        if group.is_empty() {
            return Ok(vec!["v1".into()]);
        }
        let known = self.groups.lock().clone().filter(|(_, at)| at.elapsed() < FRESH);
        let groups = match known {
            Some((groups, _)) => groups,
            None => {
                let groups = Arc::new(self.client.list_api_groups().await.context("discovery of groups")?);
                *self.groups.lock() = Some((groups.clone(), Instant::now()));
                groups
            }
        };
        let Some(found) = groups.groups.iter().find(|g| g.name == group) else { return Ok(Vec::new()) };
        let preferred = found.preferred_version.iter().map(|v| v.version.clone());
        let mut versions: Vec<String> =
            preferred.chain(found.versions.iter().map(|v| v.version.clone())).collect();
        let mut seen = std::collections::HashSet::new();
        versions.retain(|v| seen.insert(v.clone()));
        Ok(versions)
    }

    /// The resource of a kind: in the version named if it is served there, else in another of the group.
    pub async fn find(&self, api_version: &str, kind: &str) -> Result<Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if !version.is_empty()
            && let Ok(list) = self.resources(api_version).await
            && let Some(found) = pick(&list, group, version, kind)
        {
            return Ok(found);
        }
        for version in self.versions(group).await? {
            let name = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
            if let Some(found) = pick(&*self.resources(&name).await?, group, &version, kind) {
                return Ok(found);
            }
        }
        bail!("no matches for kind {kind:?} in group {group:?}")
    }
}

fn pick(list: &APIResourceList, group: &str, version: &str, kind: &str) -> Option<Kind> {
    let found = list.resources.iter().find(|r| r.kind == kind && !r.name.contains('/'))?;
    Some(Kind::named(group, version, found.name.clone(), kind.to_owned()))
}
