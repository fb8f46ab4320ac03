//! Control groups of pods, in every hierarchy and by either driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::made::Report;
use crate::{files, process};

/// The kubelet's groups at the top of a hierarchy.
const TOPS: [&str; 2] = ["kubepods", "kubepods.slice"];

/// Removes the pods' groups below `root`; those with processes stay.
pub fn remove(root: &Path) -> Report {
    let tops = tops(root);
    if tops.iter().any(|t| t.ends_with("kubepods.slice")) && Path::new("/run/systemd/system").exists() {
        let _ = process::output(Command::new("systemctl").args(["stop", "kubepods.slice"]), super::ANSWER);
    }
    let mut report = Report::default();
    let mut gone = 0;
    for top in &tops {
        match remove_group(top) {
            Ok(count) => gone += count,
            Err(why) => report.left.push((top.display().to_string(), why)),
        }
    }
    if gone > 0 {
        report.removed.push(format!("{gone} control groups of pods"));
    }
    report
}

/// The groups that are there: below the root (v2) and below each hierarchy (v1).
fn tops(root: &Path) -> Vec<PathBuf> {
    let hierarchies = files::names(root).unwrap_or_default().into_iter().map(|n| root.join(n));
    let real = hierarchies.filter(|p| fs::symlink_metadata(p).is_ok_and(|m| m.is_dir()));
    let places = std::iter::once(root.to_path_buf()).chain(real);
    places.flat_map(|p| TOPS.map(|t| p.join(t))).filter(|p| p.is_dir()).collect()
}

/// Removes a group and those below it; the kernel takes their files away with them.
fn remove_group(dir: &Path) -> Result<usize, String> {
    let mut gone = 0;
    for name in files::names(dir).map_err(|e| format!("{e:#}"))? {
        let child = dir.join(name);
        if fs::symlink_metadata(&child).is_ok_and(|m| m.is_dir()) {
            gone += remove_group(&child)?;
        }
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(gone + 1),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(gone),
        Err(error) => Err(why(dir, &error)),
    }
}

fn why(dir: &Path, error: &std::io::Error) -> String {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<&str> = procs.lines().collect();
    if pids.is_empty() {
        error.to_string()
    } else {
        format!("processes live in {}: {}", dir.display(), pids.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_and_driver() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let groups = [
            "memory/kubepods/besteffort/podabc/x",
            "cpu,cpuacct/kubepods",
            "memory/system.slice",
            "kubepods.slice/kubepods-burstable.slice",
        ];
        for group in groups {
            fs::create_dir_all(root.path().join(group))?;
        }
        std::os::unix::fs::symlink("cpu,cpuacct", root.path().join("cpu"))?;
        let report = remove(root.path());
        assert_eq!(report.removed, ["7 control groups of pods"]);
        assert_eq!(report.left, []);
        assert_eq!(files::names(&root.path().join("memory"))?, ["system.slice"]);
        assert_eq!(remove(root.path()), Report::default());
        Ok(())
    }

    #[test]
    fn groups_with_processes_stay() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("kubepods/podx"))?;
        // A file stands for a process: the directory can't be removed.
        fs::write(root.path().join("kubepods/podx/cgroup.procs"), "77\n")?;
        let report = remove(root.path());
        assert!(report.left.iter().any(|(_, why)| why.contains("77")), "{report:?}");
        Ok(())
    }
}
