//! A small client of the container runtime: what bootstrap and reset need, each call with a deadline.

use anyhow::Result;

/// Sockets at which runtimes are looked for.
pub const SOCKETS: [&str; 3] = [
    "unix:///var/run/containerd/containerd.sock",
    "unix:///var/run/crio/crio.sock",
    "unix:///var/run/cri-dockerd.sock",
];

/// What a runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As `containerd`.
    pub name: String,
    /// Its own version.
    pub version: String,
}

/// Name and version of the runtime.
///
/// # Errors
/// When it can't be reached in time.
pub async fn version(socket: &str) -> Result<Version> {
    anyhow::bail!("{socket}: not yet")
}

/// Whether the runtime is ready (its network is not asked for).
///
/// # Errors
/// When it can't be reached or isn't ready, in the runtime's words.
pub async fn ready(socket: &str) -> Result<()> {
    anyhow::bail!("{socket}: not yet")
}

/// Whether the runtime names its cgroup driver by itself (CRI RuntimeConfig); None where it does not implement the call.
///
/// # Errors
/// When it can't be reached.
pub async fn cgroup_driver(socket: &str) -> Result<Option<String>> {
    anyhow::bail!("{socket}: not yet")
}

/// Whether the image is there.
///
/// # Errors
/// When the runtime can't be reached.
pub async fn has_image(socket: &str, image: &str) -> Result<bool> {
    anyhow::bail!("{socket}: {image}: not yet")
}

/// Pulls an image, five tries.
///
/// # Errors
/// As the runtime says.
pub async fn pull(socket: &str, image: &str) -> Result<()> {
    anyhow::bail!("{socket}: {image}: not yet")
}

/// Stops and removes every pod sandbox, five tries each; returns how many went and what went wrong.
///
/// # Errors
/// When the runtime can't be reached.
pub async fn remove_all_pods(socket: &str) -> Result<(usize, Vec<String>)> {
    anyhow::bail!("{socket}: not yet")
}

/// Sockets that are there.
pub fn detect() -> Vec<String> {
    SOCKETS.iter().filter(|s| std::path::Path::new(&s[7..]).exists()).map(ToString::to_string).collect()
}
