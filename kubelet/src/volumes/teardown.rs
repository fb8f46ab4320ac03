//! Taking a pod's directory down: first every mount below it, deepest first, then the files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Unmounts everything below `dir`. An error means something is still mounted.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    for point in mounts_below(&fs::read_to_string("/proc/self/mountinfo")?, dir) {
        let busy = nix::mount::umount2(&point, nix::mount::MntFlags::UMOUNT_NOFOLLOW);
        if busy.is_err() {
            nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH)
                .map_err(|e| io::Error::other(format!("unmounting {}: {e}", point.display())))?;
        }
    }
    Ok(())
}

/// Mount points below `dir`, deepest first, out of mountinfo's text.
pub fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|p| PathBuf::from(unescape(p)))
        .filter(|p| p.starts_with(dir) && p != dir)
        .collect();
    found.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    found
}

/// mountinfo writes blanks and the like as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Unmounts and removes a pod's directory. Never descends into something still mounted.
pub fn remove_pod_dir(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    unmount_below(dir)?;
    let left = mounts_below(&fs::read_to_string("/proc/self/mountinfo")?, dir);
    if let Some(point) = left.first() {
        return Err(io::Error::other(format!("{} is still mounted", point.display())));
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deepest_first_and_only_below() {
        let text = "1 0 0:1 / /p/u rw - x x x\n2 0 0:1 / /p/u/a rw - x x x\n3 0 0:1 / /p/u/a/b\\040c rw - x x x\n4 0 0:1 / /p/uv rw - x x x\n";
        assert_eq!(
            mounts_below(text, Path::new("/p/u")),
            [PathBuf::from("/p/u/a/b c"), PathBuf::from("/p/u/a")]
        );
    }

    #[test]
    fn removal_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("u");
        fs::create_dir_all(pod.join("volumes/x")).unwrap();
        remove_pod_dir(&pod).unwrap();
        remove_pod_dir(&pod).unwrap();
        assert!(!pod.exists());
    }
}
