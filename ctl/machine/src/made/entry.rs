//! What a manifest records.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One thing that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Entry {
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// A copy of what was there before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<PathBuf>,
    },
    /// A directory, removed when empty.
    Dir {
        /// Where it is.
        path: PathBuf,
    },
    /// A directory whose contents are ours.
    Contents {
        /// Where it is.
        path: PathBuf,
        /// It was there before, so it stays.
        #[serde(default)]
        existed: bool,
        /// Its mode then, which it gets back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        /// Names that were in it before, so they stay.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keep: Vec<String>,
    },
    /// A symbolic link.
    Link {
        /// Where it is.
        path: PathBuf,
        /// Where somebody else's link of this name pointed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<PathBuf>,
    },
    /// A daemon under the service manager.
    Unit {
        /// Its name.
        name: String,
    },
    /// A kernel setting.
    Sysctl {
        /// As `net/ipv4/ip_forward`.
        name: String,
        /// What it was.
        old: String,
        /// What it was set to; empty when a daemon of ours sets it.
        new: String,
    },
}

impl Entry {
    /// The path it is about, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. }
            | Self::Dir { path }
            | Self::Contents { path, .. }
            | Self::Link { path, .. } => Some(path),
            Self::Unit { .. } | Self::Sysctl { .. } => None,
        }
    }

    /// Whether it makes `path` ours.
    pub fn covers(&self, path: &Path) -> bool {
        match self {
            Self::Contents { path: dir, existed, keep, .. } => match path.strip_prefix(dir) {
                Ok(rest) => rest
                    .components()
                    .next()
                    .map_or(!existed, |first| !keep.iter().any(|k| first.as_os_str() == k.as_str())),
                Err(_) => false,
            },
            other => other.path() == Some(path),
        }
    }
}

/// Which command made it, and whether it came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// `init` or `join`.
    pub command: String,
    /// What distinguishes one configuration from another: a digest, or the endpoint joined.
    pub fingerprint: String,
    /// Whether the command finished.
    pub finished: bool,
}
