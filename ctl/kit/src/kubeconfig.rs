//! Which kubeconfig files count, and how several become one.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;

use crate::{Error, Globals, Result};

/// The files to load, in order of precedence: `--kubeconfig`, else the KUBECONFIG list, else `~/.kube/config`.
/// Only a file named by the flag must exist.
pub fn files(globals: &Globals) -> Vec<PathBuf> {
    if let Some(path) = globals.kubeconfig.as_ref().filter(|path| !path.is_empty()) {
        return vec![PathBuf::from(path)];
    }
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|list| std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if listed.is_empty() { home_file().into_iter().collect() } else { listed }
}

/// `~/.kube/config`.
pub fn home_file() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube").join("config"))
}

/// All files as one: the first that names a thing wins, relative paths are relative to their file.
pub fn merged(globals: &Globals) -> Result<Kubeconfig> {
    let explicit = globals.kubeconfig.as_ref().is_some_and(|path| !path.is_empty());
    let mut all = Kubeconfig::default();
    for file in files(globals) {
        if !file.exists() {
            if explicit {
                return Err(Error::message(format!("stat {}: no such file or directory", file.display())));
            }
            continue;
        }
        all = all.merge(read(&file)?).map_err(|cause| Error::message(cause.to_string()))?;
    }
    Ok(all)
}

fn read(file: &Path) -> Result<Kubeconfig> {
    let mut config = Kubeconfig::read_from(file).map_err(|cause| {
        Error::message(format!("error loading config file \"{}\": {}", file.display(), chain(&cause)))
    })?;
    // An empty current-context names nothing and must not hide a later file's.
    config.current_context = config.current_context.filter(|name| !name.is_empty());
    Ok(config)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
