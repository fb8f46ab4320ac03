//! The directory of volumes. Names come from [`crate::plan`]; here again each must be a single component, and no link is
//! ever followed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Anyone may write: a pod's user is not known here, and may be any.
const MODE: u32 = 0o777;

fn fault(text: String) -> io::Error {
    io::Error::other(text)
}

/// Makes the root.
///
/// # Errors
/// It can't be made, or is no directory.
pub fn prepare(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    match fs::symlink_metadata(root)?.is_dir() {
        true => Ok(()),
        false => Err(fault(format!("{} is not a directory", root.display()))),
    }
}

/// A path below the root by a name that is one plain component.
fn below(root: &Path, name: &str) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == OsStr::new(name) => Ok(root.join(part)),
        _ => Err(fault(format!("{name:?} is not a name of a directory"))),
    }
}

/// What is there: nothing, or a directory. Anything else, a link above all, is an error.
fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(true),
        Ok(_) => Err(fault(format!("{} is not a directory", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes a volume's directory; one that is there already stays as it is.
///
/// # Errors
/// It can't be made, or something else is in its place.
pub fn make(root: &Path, name: &str) -> io::Result<()> {
    let path = below(root, name)?;
    if is_there(&path)? {
        return Ok(());
    }
    fs::create_dir(&path)?;
    // Not by the mode of the call, which the umask would cut.
    fs::set_permissions(&path, fs::Permissions::from_mode(MODE))?;
    fs::File::open(root)?.sync_all()
}

/// Deletes a volume's directory and all in it; that it is gone already is fine.
///
/// # Errors
/// It is no directory, something is mounted in it, or it can't be deleted; it may be half deleted then.
pub fn remove(root: &Path, name: &str) -> io::Result<()> {
    let path = below(root, name)?;
    if !is_there(&path)? {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    if let Some(point) = mounted(&mounts, &path) {
        return Err(fault(format!("{point} is mounted there")));
    }
    if fs::symlink_metadata(&path)?.dev() != fs::symlink_metadata(root)?.dev() {
        return Err(fault(format!("{} is on a file system of its own", path.display())));
    }
    // Goes down by open directories and follows no link, so nothing can be put in its way.
    fs::remove_dir_all(&path)?;
    fs::File::open(root)?.sync_all()
}

/// A mount point at or below a path.
fn mounted<'a>(mountinfo: &'a str, path: &Path) -> Option<&'a str> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.into_iter().find(|p| Path::new(&p.replace("\\040", " ")).starts_with(path))
}

/// Directories that hold nothing and whose claims nobody knows: made by an instance that was stopped before it could make
/// their volumes. `known` says whether a UID is still of interest. Only empty ones are removed.
///
/// # Errors
/// The root can't be read.
pub fn sweep(root: &Path, known: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(root)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A UID is 36 characters, after a dash.
        let Some(uid) = name.len().checked_sub(36).and_then(|at| name.get(at..)) else { continue };
        if !name.strip_suffix(uid).is_some_and(|n| n.ends_with('-')) || known(uid) {
            continue;
        }
        // Refused by the kernel unless it is an empty directory.
        if fs::remove_dir(entry.path()).is_ok() {
            gone.push(name);
        }
    }
    Ok(gone)
}

/// Bytes free for users on the root's file system.
///
/// # Errors
/// It can't be asked.
pub fn free(root: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(root)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_filled_and_removed_again_and_again() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            make(root.path(), "a").unwrap();
            make(root.path(), "a").unwrap();
            assert_eq!(fs::metadata(root.path().join("a")).unwrap().permissions().mode() & 0o777, 0o777);
            fs::create_dir(root.path().join("a/sub")).unwrap();
            fs::write(root.path().join("a/sub/f"), "x").unwrap();
            remove(root.path(), "a").unwrap();
            remove(root.path(), "a").unwrap();
            assert!(!root.path().join("a").exists());
        }
    }

    #[test]
    fn nothing_outside_is_touched() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        prepare(&root).unwrap();
        let other = outer.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        for name in ["", ".", "..", "../other", "/", "a/b", "./a", "a/"] {
            assert!(make(&root, name).is_err(), "{name}");
            assert!(remove(&root, name).is_err(), "{name}");
        }
        // A link in place of a directory is no directory; a link within one goes, what it leads to stays.
        std::os::unix::fs::symlink(&other, root.join("link")).unwrap();
        assert!(make(&root, "link").is_err() && remove(&root, "link").is_err());
        make(&root, "a").unwrap();
        std::os::unix::fs::symlink(&other, root.join("a/out")).unwrap();
        remove(&root, "a").unwrap();
        assert!(other.join("kept").exists() && !root.join("a").exists());
    }

    #[test]
    fn what_is_mounted_stays() {
        let table = "1 0 0:1 / / rw - x x x\n2 1 0:2 / /r/a/b\\040c rw - x x x\n3 1 0:2 / /r/ab rw - x x x\n";
        assert_eq!(mounted(table, Path::new("/r/a")), Some("/r/a/b\\040c"));
        assert_eq!(mounted(table, Path::new("/r/ab")), Some("/r/ab"));
        assert_eq!(mounted(table, Path::new("/r/abc")), None);
    }

    #[test]
    fn only_empty_leftovers_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let uid = |n: u8| format!("00000000-0000-4000-8000-00000000000{n}");
        let names =
            [format!("a-{}", uid(1)), format!("b-{}", uid(2)), format!("c-{}", uid(3)), "d".to_string()];
        names.iter().for_each(|n| fs::create_dir(root.path().join(n)).unwrap());
        fs::write(root.path().join(&names[2]).join("f"), "x").unwrap();
        let known = uid(2);
        assert_eq!(sweep(root.path(), |u| u == known).unwrap(), [names[0].clone()]);
        assert!(names[1..].iter().all(|n| root.path().join(n).exists()));
    }

    #[test]
    fn there_is_room() {
        assert!(free(Path::new("/")).unwrap() > 0);
    }
}
