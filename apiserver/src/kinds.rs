//! The resources that are served: the built-in ones that are on, and later custom ones.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use machinery::kinds::Resource;

type Key = (String, String, String);

#[derive(Default)]
struct Index {
    all: Vec<Arc<Resource>>,
    by_plural: AHashMap<Key, Arc<Resource>>,
    by_kind: AHashMap<Key, Arc<Resource>>,
}

/// A table of resources that may change while the server runs; reading it takes no lock.
pub struct Kinds {
    index: ArcSwap<Index>,
}

impl Kinds {
    /// The built-in resources that are on by default, as `--runtime-config` changes it: `api/all`, `api/beta`, `api/alpha`,
    /// `group/version` and `group/version/resource`, each `=true` or `=false`.
    pub fn builtin(runtime_config: &[String]) -> Self {
        let on = machinery::kinds::builtin().iter().filter(|r| enabled(r, runtime_config));
        Self::from_resources(on.cloned().collect())
    }

    /// A table of these resources.
    pub fn from_resources(all: Vec<Arc<Resource>>) -> Self {
        let mut index = Index::default();
        for resource in &all {
            let (g, v) = (resource.group.clone(), resource.version.clone());
            index.by_plural.insert((g.clone(), v.clone(), resource.plural.clone()), resource.clone());
            index.by_kind.insert((g, v, resource.kind.clone()), resource.clone());
        }
        index.all = all;
        Self { index: ArcSwap::from_pointee(index) }
    }

    /// All resources, in the order of the table.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.index.load().all.clone()
    }

    /// A resource by its place in a URL.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.index.load().by_plural.get(&key).cloned()
    }

    /// A resource by group, version and kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned(), kind.to_owned());
        self.index.load().by_kind.get(&key).cloned()
    }

    /// Whether anything is served in this group version.
    pub fn has_group_version(&self, group: &str, version: &str) -> bool {
        self.index.load().all.iter().any(|r| r.group == group && r.version == version)
    }
}

fn enabled(resource: &Resource, runtime_config: &[String]) -> bool {
    let group_version = match resource.group.as_str() {
        "" => resource.version.clone(),
        group => format!("{group}/{}", resource.version),
    };
    let mut on = resource.default_enabled;
    for (rank, setting) in settings_by_rank(runtime_config) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, "true"));
        let hit = match rank {
            0 => name == "api/all",
            1 => {
                (name == "api/alpha" && resource.version.contains("alpha"))
                    || (name == "api/beta" && resource.version.contains("beta"))
            }
            _ => name == group_version || name == format!("{group_version}/{}", resource.plural),
        };
        if hit {
            on = value == "true";
        }
    }
    on
}

/// General settings come before special ones, whatever their order on the command line.
fn settings_by_rank(runtime_config: &[String]) -> Vec<(u8, &str)> {
    let rank = |s: &str| match s.split('=').next() {
        Some("api/all") => 0,
        Some("api/alpha" | "api/beta" | "api/ga") => 1,
        _ => 2,
    };
    let mut ranked: Vec<_> = runtime_config.iter().map(|s| (rank(s), s.as_str())).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked
}
