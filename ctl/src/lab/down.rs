//! `lab down`: takes back exactly what `lab up` made, also what an interrupted run left.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::spec::{LAB_ROOT, Lab, Spec};
use super::{cgroup, forward, network, node};
use crate::kubeconfig;

/// Takes the lab down. A lab that isn't there is no error; leftovers of its name are removed all the same.
///
/// # Errors
/// When a node does not die or the state can't be removed.
pub fn down(lab: &Lab) -> Result<()> {
    let lock = lab.lock()?;
    let spec = lab.load().unwrap_or_else(|error| {
        eprintln!("{error:#}; removing what carries the lab's name");
        None
    });
    forward::stop(lab);
    if let Some(spec) = &spec {
        for node in &spec.nodes {
            node::stop(lab, node)?;
        }
        kubeconfig::remove_from(&spec.kubeconfig, &spec.context())?;
    }
    leftovers(lab);
    if let Some(spec) = &spec {
        remove_mount_points(lab, spec);
    }
    if lab.dir.exists() {
        fs::remove_dir_all(&lab.dir).with_context(|| format!("removing {}", lab.dir.display()))?;
    }
    drop(lock);
    let _ = fs::remove_file(Path::new(LAB_ROOT).join(format!(".{}.lock", lab.name)));
    for dir in [LAB_ROOT, "/var/lib/coxswain"] {
        let _ = fs::remove_dir(dir);
    }
    match spec {
        Some(_) => println!("Lab {:?} is gone.", lab.name),
        None => println!("There is no lab named {:?}.", lab.name),
    }
    Ok(())
}

/// What carries the lab's name although no description of it is left.
fn leftovers(lab: &Lab) {
    let path = format!("coxswain/{}", lab.name);
    for pid in cgroup::processes(&path) {
        super::process::kill_and_wait(pid);
    }
    node::unmount_below(&lab.dir);
    for ns in network::namespaces(lab) {
        network::remove_netns(&ns);
    }
    cgroup::remove(&path);
}

/// Removes the mount points made on the host where they are still empty and no other lab may be using them.
fn remove_mount_points(lab: &Lab, spec: &Spec) {
    let others = fs::read_dir(LAB_ROOT).into_iter().flatten().flatten();
    let others: Vec<_> =
        others.filter(|e| e.path() != lab.dir && e.path().join("lab.json").exists()).collect();
    if let Some(other) = others.first() {
        hand_over(&other.path(), spec);
        return;
    }
    for path in spec.host_paths.iter().rev() {
        if path.is_dir() {
            let _ = fs::remove_dir(path);
        } else if fs::metadata(path).is_ok_and(|m| m.len() == 0) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Another lab still uses the mount points: it removes them when it goes.
fn hand_over(other: &Path, spec: &Spec) {
    let name = other.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Ok(lab) = Lab::named(name) else { return };
    if let Ok(Some(mut theirs)) = lab.load() {
        let new: Vec<_> =
            spec.host_paths.iter().filter(|p| !theirs.host_paths.contains(p)).cloned().collect();
        theirs.host_paths.extend(new);
        let _ = lab.save(&theirs);
    }
}
