//! Candidates this machine knows by itself: the kubeconfig's names, and labs.

use std::path::Path;

use coxctl_kit::{Globals, kubeconfig};

use crate::Answer;

/// Where labs have their directories.
const LABS: &str = "/var/lib/coxswain/lab";

/// The kubeconfig's contexts.
pub fn contexts(globals: &Globals) -> Answer {
    sorted(kubeconfig::merged(globals).map(|all| all.contexts.into_iter().map(|one| one.name).collect()))
}

/// The kubeconfig's clusters.
pub fn clusters(globals: &Globals) -> Answer {
    sorted(kubeconfig::merged(globals).map(|all| all.clusters.into_iter().map(|one| one.name).collect()))
}

/// The kubeconfig's users.
pub fn users(globals: &Globals) -> Answer {
    sorted(kubeconfig::merged(globals).map(|all| all.auth_infos.into_iter().map(|one| one.name).collect()))
}

/// The labs of this machine.
pub fn labs() -> Answer {
    sorted::<()>(Ok(directories(Path::new(LABS))))
}

/// The nodes of a lab.
pub fn lab_nodes(lab: Option<&str>) -> Answer {
    let named = lab.map(str::to_string).or_else(|| std::env::var("COXSWAIN_LAB").ok());
    let lab = named.unwrap_or_else(|| "lab".into());
    // A name with a slash in it would lead elsewhere.
    if lab.contains('/') || lab.starts_with('.') {
        return Answer::nothing();
    }
    sorted::<()>(Ok(directories(&Path::new(LABS).join(lab).join("nodes"))))
}

fn directories(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let found = entries.filter(|entry| entry.path().is_dir());
    found
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

fn sorted<E>(names: Result<Vec<String>, E>) -> Answer {
    let mut names = names.unwrap_or_default();
    names.sort();
    Answer::values(names)
}
