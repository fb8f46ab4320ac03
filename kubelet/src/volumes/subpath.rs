//! subPath mounts: a path inside a volume, pinned by a bind mount so that the container cannot swap it for another.

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

/// Relative and without `..`?
pub fn validate(sub: &str) -> Result<(), String> {
    let path = Path::new(sub);
    if path.is_absolute() {
        return Err(format!("subPath \"{sub}\" must not be an absolute path"));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(format!("subPath \"{sub}\" must not contain \"..\""));
    }
    Ok(())
}

/// Makes `sub` in `volume` if it is missing and binds it to `target`; the answer is the path to give to the runtime.
pub fn bind(volume: &Path, sub: &str, target: &Path, read_only: bool) -> Result<PathBuf, String> {
    validate(sub)?;
    let base = fs::canonicalize(volume).map_err(|e| format!("volume {}: {e}", volume.display()))?;
    let wanted = base.join(sub);
    if !read_only && !wanted.exists() {
        create(&base, &wanted)?;
    }
    let real = fs::canonicalize(&wanted).map_err(|e| format!("failed to resolve subPath {sub}: {e}"))?;
    inside(&base, &real, sub)?;
    // Open what was checked, check what was opened: nothing can be swapped in between.
    let fd = open(&real, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| format!("failed to open subPath {sub}: {e}"))?;
    let proc_path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let opened = fs::read_link(&proc_path).map_err(|e| e.to_string())?;
    inside(&base, &opened, sub)?;
    if already_bound(target, &real) {
        return Ok(target.to_owned());
    }
    prepare(target, real.is_dir()).map_err(|e| format!("preparing {}: {e}", target.display()))?;
    mount(Some(&proc_path), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| format!("failed to bind subPath {sub}: {e}"))?;
    Ok(target.to_owned())
}

fn inside(base: &Path, path: &Path, sub: &str) -> Result<(), String> {
    match path.starts_with(base) {
        true => Ok(()),
        false => Err(format!("subPath \"{sub}\" leads out of the volume")),
    }
}

/// Makes the missing directories below the deepest one that exists, which must lie inside the volume.
fn create(base: &Path, wanted: &Path) -> Result<(), String> {
    let mut existing = wanted;
    while !existing.exists() {
        existing = existing.parent().unwrap_or(base);
    }
    let real = fs::canonicalize(existing).map_err(|e| e.to_string())?;
    inside(base, &real, &wanted.to_string_lossy())?;
    let rest = wanted.strip_prefix(existing).map_err(|e| e.to_string())?;
    let mode = fs::metadata(base).map(|m| m.permissions()).map_err(|e| e.to_string())?;
    let mut path = real;
    for part in rest.components() {
        path.push(part);
        fs::create_dir(&path).map_err(|e| format!("cannot create directory {}: {e}", path.display()))?;
        let _ = fs::set_permissions(&path, mode.clone());
    }
    Ok(())
}

fn already_bound(target: &Path, real: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    let (a, b) = (id(target), id(real));
    a.is_some() && a == b
}

fn prepare(target: &Path, dir: bool) -> std::io::Result<()> {
    let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if target.exists() && target.is_dir() != dir {
        if target.is_dir() { fs::remove_dir(target)? } else { fs::remove_file(target)? }
    }
    match dir {
        true => fs::create_dir_all(target),
        false => fs::OpenOptions::new().create(true).append(true).open(target).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_are_refused() {
        assert!(validate("a/b").is_ok());
        assert!(validate("/a").is_err());
        assert!(validate("a/../b").is_err());
        let dir = tempfile::tempdir().unwrap();
        let (volume, target) = (dir.path().join("v"), dir.path().join("t"));
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        assert!(bind(&volume, "out", &target, false).unwrap_err().contains("leads out"));
        assert!(bind(&volume, "out/sub", &target, false).unwrap_err().contains("leads out"));
    }
}
