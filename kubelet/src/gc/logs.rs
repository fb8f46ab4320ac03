//! Container logs: rotation by size, and the links in /var/log/containers.

use crate::pods::host::Host;
use crate::pods::resources;
use crate::pods::table::{ContainerState, PodView};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LINKS: &str = "/var/log/containers";

/// Name of the link of a container's log; at most 255 bytes.
pub fn link_name(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    let suffix = format!("_{container}-{id}.log");
    let mut head = format!("{pod}_{namespace}");
    head.truncate(255usize.saturating_sub(suffix.len()));
    format!("{head}{suffix}")
}

/// Links a new log for those who gather logs. Failing is not worth a word.
pub fn link(pod: &Pod, container: &str, id: &str, log: &Path) {
    let (name, ns) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
    let link = link_name(name.unwrap_or_default(), ns.unwrap_or_default(), container, id);
    if fs::create_dir_all(LINKS).is_ok() {
        let _ = std::os::unix::fs::symlink(log, Path::new(LINKS).join(link));
    }
}

/// Removes the links of a pod's containers.
pub fn remove_links(pod: &Pod, view: &PodView) {
    let (name, ns) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
    for c in &view.containers {
        let link = link_name(name.unwrap_or_default(), ns.unwrap_or_default(), &c.name, &c.id);
        let _ = fs::remove_file(Path::new(LINKS).join(link));
    }
}

/// Removes links that lead nowhere.
pub fn remove_dead_links() {
    for entry in fs::read_dir(LINKS).into_iter().flatten().flatten() {
        if fs::metadata(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Runs until the end of the process.
pub async fn run(host: Arc<Host>) {
    let config = &host.ctx.config.file;
    let limit = resources::value(&Quantity(config.container_log_max_size.clone()));
    let files = usize::try_from(config.container_log_max_files).unwrap_or(5).max(2);
    let mut tick =
        tokio::time::interval(config.container_log_monitor_interval.0.max(std::time::Duration::from_secs(3)));
    loop {
        tick.tick().await;
        for view in host.relist.views() {
            for c in view.containers.iter().filter(|c| c.state == ContainerState::Running) {
                let len = fs::metadata(&c.log_path).map_or(0, |m| i64::try_from(m.len()).unwrap_or(i64::MAX));
                if limit > 0 && len > limit {
                    rotate_one(&host, &c.id, &c.log_path, files).await;
                }
            }
        }
    }
}

async fn rotate_one(host: &Host, id: &str, log: &Path, files: usize) {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let rotated = match rotate(log, &stamp, files) {
        Ok(path) => path,
        Err(e) => {
            tracing::warn!(log = %log.display(), error = %e, "log not rotated");
            return;
        }
    };
    if let Err(e) = host.ctx.runtime.reopen_log(id).await {
        tracing::warn!(log = %log.display(), error = %e, "the runtime did not reopen the log, rotation undone");
        let _ = fs::rename(&rotated, log);
    }
}

/// Renames the log away, packs older ones, keeps `files` in all. The answer is the renamed file.
pub fn rotate(log: &Path, stamp: &str, files: usize) -> io::Result<PathBuf> {
    let dir = log.parent().unwrap_or(Path::new("."));
    let base = log.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut old: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{base}."))))
        .collect();
    for half in old.iter().filter(|p| p.extension().is_some_and(|e| e == "tmp")) {
        fs::remove_file(half)?;
    }
    old.retain(|p| p.extension().is_none_or(|e| e != "tmp"));
    old.sort();
    // the current file and the one just made count too
    while old.len() > files.saturating_sub(2) {
        fs::remove_file(old.remove(0))?;
    }
    for plain in old.iter().filter(|p| p.extension().is_none_or(|e| e != "gz")) {
        pack(plain)?;
    }
    let rotated = dir.join(format!("{base}.{stamp}"));
    fs::rename(log, &rotated)?;
    Ok(rotated)
}

fn pack(path: &Path) -> io::Result<()> {
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    let temporary = PathBuf::from(format!("{}.tmp", path.display()));
    let mut out =
        flate2::write::GzEncoder::new(fs::File::create(&temporary)?, flate2::Compression::default());
    io::copy(&mut fs::File::open(path)?, &mut out)?;
    out.finish()?;
    fs::rename(temporary, packed)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_files_in_all() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for n in 0..8 {
            fs::write(&log, format!("{n}")).unwrap();
            rotate(&log, &format!("2026010{n}-000000"), 5).unwrap();
        }
        fs::write(&log, "now").unwrap();
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "0.log",
                "0.log.20260104-000000.gz",
                "0.log.20260105-000000.gz",
                "0.log.20260106-000000.gz",
                "0.log.20260107-000000"
            ]
        );
    }

    #[test]
    fn names_fit() {
        assert_eq!(link_name("p", "n", "c", "i"), "p_n_c-i.log");
        assert_eq!(link_name(&"p".repeat(300), "n", "c", &"0".repeat(64)).len(), 255);
    }
}
