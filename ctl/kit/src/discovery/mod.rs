//! What kinds a server has: asked once with the aggregated form, kept on disk for a while, asked anew when a name is
//! unknown.

mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Call, Cluster, Error, Kind, Result};
use read::{aggregated, list, plain, strings, text};

/// How long a kept answer is believed.
const FRESH: Duration = Duration::from_secs(6 * 60 * 60);
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Every group of a server, in the server's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    pub groups: Vec<Group>,
}

/// A group and its versions, the preferred one first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    pub versions: Vec<Version>,
}

/// One version of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub name: String,
    pub kinds: Vec<Kind>,
    /// The server could not reach who serves it.
    pub stale: bool,
}

impl Discovery {
    /// All kinds of all versions, in the server's order.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.kinds)
    }

    /// Each kind once, in the version its group prefers among those that have it.
    pub fn preferred(&self) -> Vec<&Kind> {
        let mut out: Vec<&Kind> = Vec::new();
        for group in &self.groups {
            let mut seen: Vec<&str> = Vec::new();
            for kind in group.versions.iter().flat_map(|version| &version.kinds) {
                if !seen.contains(&kind.plural.as_str()) {
                    seen.push(&kind.plural);
                    out.push(kind);
                }
            }
        }
        out
    }

    /// The kind an object's `apiVersion` and `kind` mean.
    pub fn of(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.kinds().find(|known| known.is_of(api_version, kind))
    }

    /// The kind a word on the command line means: `po`, `pods`, `Pod`, `deploy.apps`, `deployments.v1.apps`.
    pub fn resolve(&self, word: &str) -> Option<&Kind> {
        let word = word.to_lowercase();
        let (name, rest) = word.split_once('.').map_or((word.as_str(), ""), |(name, rest)| (name, rest));
        if rest.is_empty() {
            return self.best(name, "", None);
        }
        if let Some((version, group)) = rest.split_once('.')
            && let Some(kind) = self.best(name, group, Some(version))
        {
            return Some(kind);
        }
        // `pods.v1.` names version and the core group.
        self.best(name, rest, None).or_else(|| self.best(name, "", Some(rest.trim_end_matches('.'))))
    }

    /// Names first, then short names; the exact group before groups that only begin so.
    fn best(&self, name: &str, group: &str, version: Option<&str>) -> Option<&Kind> {
        let fits = |kind: &&Kind| version.is_none_or(|version| kind.version == version);
        let named = |kind: &&Kind| kind.is_called(name);
        let short = |kind: &&Kind| kind.short_names.iter().any(|short| short == name);
        let exact = |kind: &&Kind| group.is_empty() && version.is_none() || kind.group == group;
        let prefix = |kind: &&Kind| kind.group.starts_with(group);
        self.kinds()
            .find(|kind| exact(kind) && fits(kind) && named(kind))
            .or_else(|| self.kinds().find(|kind| exact(kind) && fits(kind) && short(kind)))
            .or_else(|| self.kinds().find(|kind| prefix(kind) && fits(kind) && named(kind)))
            .or_else(|| self.kinds().find(|kind| prefix(kind) && fits(kind) && short(kind)))
    }

    /// The kinds of a category (`all`), each once, in the server's order.
    pub fn category(&self, name: &str) -> Vec<&Kind> {
        self.preferred()
            .into_iter()
            .filter(|kind| kind.categories.iter().any(|category| category == name))
            .collect()
    }

    /// The groups that could not be asked, as one failure.
    pub fn stale(&self) -> Option<Error> {
        let named = |group: &Group, version: &Version| format!("{}/{}", group.name, version.name);
        let stale: BTreeMap<String, String> = self
            .groups
            .iter()
            .flat_map(|group| group.versions.iter().map(move |version| (group, version)))
            .filter(|(_, version)| version.stale)
            .map(|(group, version)| {
                (named(group, version), format!("stale GroupVersion discovery: {}", named(group, version)))
            })
            .collect();
        let list: Vec<String> = stale.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        (!list.is_empty()).then(|| {
            Error::message(format!(
                "unable to retrieve the complete list of server APIs: {}",
                list.join(", ")
            ))
        })
    }
}

impl Cluster {
    /// What the server has, from memory, else from disk, else from the server.
    pub async fn discovery(&self) -> Result<Arc<Discovery>> {
        let mut known = self.discovered.lock().await;
        if let Some(discovery) = known.as_ref() {
            return Ok(discovery.clone());
        }
        let discovery = match self.cached() {
            Some(kept) => Arc::new(kept),
            None => Arc::new(self.discover().await?),
        };
        *known = Some(discovery.clone());
        Ok(discovery)
    }

    /// What the server has now.
    pub async fn rediscover(&self) -> Result<Arc<Discovery>> {
        let fresh = Arc::new(self.discover().await?);
        *self.discovered.lock().await = Some(fresh.clone());
        Ok(fresh)
    }

    /// The kind a word means; a word the kept answer doesn't know is looked up anew.
    pub async fn kind(&self, word: &str) -> Result<Kind> {
        if let Some(kind) = self.discovery().await?.resolve(word) {
            return Ok(kind.clone());
        }
        let fresh = self.rediscover().await?;
        fresh.resolve(word).cloned().ok_or_else(|| {
            Error::message(format!("the server doesn't have a resource type {:?}", type_of(word)))
        })
    }

    /// The kind of an object; an unknown one is an error in kubectl's words.
    pub async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Kind> {
        if let Some(kind) = self.discovery().await?.of(api_version, kind) {
            return Ok(kind.clone());
        }
        let fresh = self.rediscover().await?;
        fresh.of(api_version, kind).cloned().ok_or_else(|| {
            Error::message(format!(
                "no matches for kind {kind:?} in version {api_version:?}\nensure CRDs are installed first"
            ))
        })
    }

    async fn discover(&self) -> Result<Discovery> {
        let ask = |path: &str| self.send(Call::get(path).accept(ACCEPT));
        let (core, named) = futures::future::join(ask("/api"), ask("/apis")).await;
        let mut groups = Vec::new();
        for (answer, core) in [(core?, true), (named?, false)] {
            let document = answer.json()?;
            match document["kind"].as_str() {
                Some("APIGroupDiscoveryList") => groups.extend(aggregated(&document)),
                _ => groups.extend(self.one_by_one(&document, core).await?),
            }
        }
        let discovery = Discovery { groups };
        self.keep(&discovery);
        Ok(discovery)
    }

    /// Old servers: each version is asked on its own.
    async fn one_by_one(&self, document: &Value, core: bool) -> Result<Vec<Group>> {
        let named = |group: &Value| {
            (
                text(group, "name"),
                list(&group["versions"], "version"),
                text(&group["preferredVersion"], "version"),
            )
        };
        let asked: Vec<(String, Vec<String>, String)> = if core {
            vec![(String::new(), strings(&document["versions"]), String::new())]
        } else {
            document["groups"].as_array().into_iter().flatten().map(named).collect()
        };
        let mut groups = Vec::new();
        for (name, mut versions, preferred) in asked {
            versions.sort_by_key(|version| *version != preferred);
            let mut group = Group { name, versions: Vec::new() };
            for version in versions {
                let root = Kind { group: group.name.clone(), version: version.clone(), ..Kind::default() };
                match self.send(Call::get(root.root())).await {
                    Ok(answer) => group.versions.push(Version {
                        name: version,
                        kinds: plain(&answer.json()?, &root),
                        stale: false,
                    }),
                    Err(_) => group.versions.push(Version { name: version, kinds: Vec::new(), stale: true }),
                }
            }
            groups.push(group);
        }
        Ok(groups)
    }

    fn cache_file(&self) -> Option<PathBuf> {
        let host = self.server.split_once("://").map_or(self.server.as_str(), |(_, host)| host);
        let name: String = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
            .collect();
        Some(self.cache_dir.as_ref()?.join(name).join("discovery.json"))
    }

    fn cached(&self) -> Option<Discovery> {
        let file = self.cache_file()?;
        let age = file.metadata().ok()?.modified().ok()?.elapsed().ok()?;
        if age > FRESH {
            return None;
        }
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Keeping is a help, not a duty: a directory that can't be written costs a request the next time.
    fn keep(&self, discovery: &Discovery) {
        let Some(file) = self.cache_file() else { return };
        let Some(dir) = file.parent() else { return };
        let Ok(bytes) = serde_json::to_vec(discovery) else { return };
        let draft = dir.join(format!(".discovery-{}", std::process::id()));
        let written = std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&draft, bytes))
            .and_then(|()| std::fs::rename(&draft, &file));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
    }
}

/// How an unknown word is named: without what follows the first dot, when that isn't a version.
fn type_of(word: &str) -> &str {
    word.split('.').next().unwrap_or(word)
}

#[cfg(test)]
mod tests;
