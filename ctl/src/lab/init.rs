//! The first process of a node: mounts what makes it a machine of its own, then supervises its daemons.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use coxctl_machine::{paths, supervisor};

/// What `node-init` needs to know, written by `lab up` as `node.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeFile {
    /// Host name.
    pub name: String,
    /// Absolute directories that this node has for itself.
    pub own: Vec<String>,
}

/// Runs as process 1 of the node in `dir`; does not return while the node lives.
///
/// # Errors
/// When a mount fails, in words that name it.
pub fn run(dir: &Path) -> Result<()> {
    let text = fs::read(dir.join("node.json")).context("reading node.json")?;
    let node: NodeFile = serde_json::from_slice(&text).context("node.json is damaged")?;
    nix::unistd::sethostname(&node.name).context("setting the host name")?;
    mounts(dir, &node)?;
    fs::create_dir_all("/run/coxswain")?;
    fs::write("/run/coxswain/started", "")?;
    supervisor::run_dir(Path::new(paths::DAEMONS), Path::new(paths::LOGS))
}

fn mounts(dir: &Path, node: &NodeFile) -> Result<()> {
    let hierarchies = v1_hierarchies();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    // Shared, as systemd makes it, or mount propagation into and out of containers cannot work.
    at("/", mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>))?;
    bind(&dir.join("machine-id"), Path::new("/etc/machine-id"))?;
    // a lab made by an earlier version has none
    if dir.join("hosts").exists() {
        bind(&dir.join("hosts"), Path::new("/etc/hosts"))?;
    }
    bind(&dir.join("run"), Path::new("/run"))?;
    bind(&dir.join("logs"), Path::new(paths::LOGS))?;
    // One of them covers the lab's own directory, so they are found before any is mounted.
    let own =
        node.own.iter().map(|own| Ok((own, File::open(dir.join("disk").join(own.trim_start_matches('/')))?)));
    for (own, place) in own.collect::<std::io::Result<Vec<_>>>().context("opening the node's directories")? {
        bind(&PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd())), Path::new(own))?;
    }
    for sub in ["/run/lock", "/run/netns"] {
        fs::create_dir_all(sub)?;
    }
    fresh("proc", "/proc", None)?;
    fresh("sysfs", "/sys", None)?;
    if unified {
        return fresh("cgroup2", "/sys/fs/cgroup", None);
    }
    fresh("tmpfs", "/sys/fs/cgroup", Some("mode=755"))?;
    for (name, options) in hierarchies {
        let place = PathBuf::from("/sys/fs/cgroup").join(&name);
        fs::create_dir_all(&place)?;
        fresh("cgroup", &place.display().to_string(), Some(&options))?;
    }
    Ok(())
}

/// Name and mount options of each v1 hierarchy, read before /sys is covered.
fn v1_hierarchies() -> Vec<(String, String)> {
    parse_hierarchies(&fs::read_to_string("/proc/mounts").unwrap_or_default())
}

fn parse_hierarchies(mounts: &str) -> Vec<(String, String)> {
    let one = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let (place, kind, options) = (fields.get(1)?, fields.get(2)?, fields.get(3)?);
        let name = place.strip_prefix("/sys/fs/cgroup/").filter(|_| *kind == "cgroup")?;
        let named = options.split(',').find(|o| o.starts_with("name="));
        Some((name.to_string(), named.map_or_else(|| name.to_string(), |n| format!("none,{n}"))))
    };
    mounts.lines().filter_map(one).collect()
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    at(&to.display().to_string(), mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>))
}

fn fresh(kind: &str, place: &str, options: Option<&str>) -> Result<()> {
    at(place, mount(Some(kind), place, Some(kind), MsFlags::empty(), options))
}

fn at(place: &str, result: nix::Result<()>) -> Result<()> {
    result.with_context(|| format!("mounting {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_with_and_without_controllers() {
        let text = "proc /proc proc rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let want = [("cpu,cpuacct", "cpu,cpuacct"), ("systemd", "none,name=systemd")];
        assert_eq!(parse_hierarchies(text), want.map(|(a, b)| (a.to_string(), b.to_string())));
    }
}
