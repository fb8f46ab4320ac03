//! A node's cgroups: one directory in every v1 hierarchy, or one in the unified tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The roots of all hierarchies of this machine that take processes.
pub fn hierarchies() -> Vec<PathBuf> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(ROOT)];
    }
    let mut found: Vec<PathBuf> = fs::read_dir(ROOT)
        .map(|entries| entries.flatten().filter(|e| !e.path().is_symlink()).map(|e| e.path()).collect())
        .unwrap_or_default();
    found.retain(|p| p.join("cgroup.procs").exists());
    found.sort();
    found
}

/// Moves the calling process into `path` of every hierarchy, made where missing.
///
/// # Errors
/// When a hierarchy refuses.
pub fn enter(path: &str) -> Result<()> {
    for root in hierarchies() {
        let dir = make(&root, path)?;
        fs::write(dir.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("joining {}", dir.display()))?;
    }
    Ok(())
}

fn make(root: &Path, path: &str) -> Result<PathBuf> {
    let mut dir = root.to_path_buf();
    for part in path.split('/') {
        let parent = dir.clone();
        dir.push(part);
        fs::create_dir_all(&dir).map_err(|error| told(&dir, error))?;
        inherit_cpuset(&parent, &dir);
        delegate(&parent);
    }
    Ok(dir)
}

/// The kernel numbers memory cgroups with 16 bits, and says no more than "busy" when none is left.
fn told(dir: &Path, error: std::io::Error) -> anyhow::Error {
    let full = error.raw_os_error() == Some(libc::EBUSY);
    let hint = "; the kernel has no more than 65535 memory cgroups: see /proc/cgroups, and remove what is left below /sys/fs/cgroup";
    let hint = if full { hint } else { "" };
    anyhow::Error::new(error).context(format!("making {}{hint}", dir.display()))
}

/// A new v1 cpuset is empty and refuses processes until it names processors and memory.
fn inherit_cpuset(parent: &Path, dir: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mine = fs::read_to_string(dir.join(file)).unwrap_or_default();
        if mine.trim().is_empty()
            && let Ok(theirs) = fs::read(parent.join(file))
        {
            let _ = fs::write(dir.join(file), theirs);
        }
    }
}

/// In the unified tree a parent hands its controllers down explicitly.
fn delegate(parent: &Path) {
    if let Ok(controllers) = fs::read_to_string(parent.join("cgroup.controllers")) {
        for controller in controllers.split_whitespace() {
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// Removes `path` and all below it from every hierarchy, then its parents where they are empty. Busy ones are retried
/// for about two seconds, since the kernel lets go of killed processes a moment later.
pub fn remove(path: &str) {
    for root in hierarchies() {
        for _ in 0..40 {
            if remove_tree(&root.join(path)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let mut parent = Path::new(path).parent();
        while let Some(p) = parent.filter(|p| !p.as_os_str().is_empty()) {
            let _ = fs::remove_dir(root.join(p));
            parent = p.parent();
        }
    }
}

fn remove_tree(dir: &Path) -> bool {
    if !dir.exists() {
        return true;
    }
    let children = fs::read_dir(dir)
        .map(|e| e.flatten().filter(|e| e.path().is_dir()).collect())
        .unwrap_or_else(|_| vec![]);
    for child in children {
        remove_tree(&child.path());
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

/// The processes in `path` of any hierarchy.
pub fn processes(path: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = hierarchies().iter().flat_map(|root| tree_processes(&root.join(path))).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn tree_processes(dir: &Path) -> Vec<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|l| l.parse().ok()).collect();
    for child in fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        pids.extend(tree_processes(&child.path()));
    }
    pids
}
