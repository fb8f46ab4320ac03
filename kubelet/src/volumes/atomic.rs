//! Projection of files into a directory so that readers see all of a version or none of it: a hidden directory per
//! version, a `..data` link swapped by rename, and visible names that lead through it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// content
    pub data: Vec<u8>,
    /// permission bits
    pub mode: u32,
    /// owner, if not root
    pub owner: Option<u32>,
}

/// Files by relative path.
pub type Payload = BTreeMap<String, File>;

const LINK: &str = "..data";
const NEW_LINK: &str = "..data_tmp";

/// Makes `dir` show `payload`. Returns whether anything changed. `finish` may set owners on the new version's directory.
pub fn write(dir: &Path, payload: &Payload, finish: impl Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
    for path in payload.keys() {
        validate(path)?;
    }
    let current = fs::read_link(dir.join(LINK)).ok();
    if let Some(old) = &current
        && same(&dir.join(old), payload)
    {
        return Ok(false);
    }
    let version = new_version(dir)?;
    let fresh = dir.join(&version);
    for (path, file) in payload {
        write_file(&fresh.join(path), file)?;
    }
    finish(&fresh)?;
    let _ = fs::remove_file(dir.join(NEW_LINK));
    symlink(&version, dir.join(NEW_LINK))?;
    fs::rename(dir.join(NEW_LINK), dir.join(LINK))?;
    expose(dir, payload)?;
    if let Some(old) = current.filter(|o| o.starts_with("..") || o.to_string_lossy().starts_with("..")) {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(true)
}

fn validate(path: &str) -> io::Result<()> {
    let bad = path.is_empty()
        || path.len() > 4096
        || path.starts_with("..")
        || Path::new(path).components().any(|c| !matches!(c, Component::Normal(_)));
    match bad {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path:?}"))),
        false => Ok(()),
    }
}

fn same(dir: &Path, payload: &Payload) -> bool {
    let mut present = BTreeSet::new();
    list(dir, &PathBuf::new(), &mut present);
    present.len() == payload.len()
        && payload.iter().all(|(path, file)| {
            let full = dir.join(path);
            present.contains(path)
                && fs::metadata(&full).is_ok_and(|m| m.len() == file.data.len() as u64)
                && fs::read(&full).is_ok_and(|data| data == file.data)
        })
}

fn list(dir: &Path, prefix: &Path, out: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = prefix.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            list(&entry.path(), &name, out);
        } else {
            out.insert(name.to_string_lossy().into_owned());
        }
    }
}

fn new_version(dir: &Path) -> io::Result<PathBuf> {
    let now = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S");
    for _ in 0..10 {
        let name = PathBuf::from(format!("..{now}.{:09}", rand::random::<u32>() % 1_000_000_000));
        match fs::create_dir(dir.join(&name)) {
            Ok(()) => {
                fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("no free name for a new version"))
}

fn write_file(path: &Path, file: &File) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Born private: the content must not be readable before its mode is set.
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    io::Write::write_all(&mut options.open(path)?, &file.data)?;
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode & 0o777))?;
    match file.owner {
        Some(uid) => std::os::unix::fs::chown(path, Some(uid), None),
        None => Ok(()),
    }
}

fn expose(dir: &Path, payload: &Payload) -> io::Result<()> {
    let tops: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(LINK).join(top), link)?;
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = fs::read_link(entry.path()).is_ok_and(|t| t.starts_with(LINK));
        if ours && !tops.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(items: &[(&str, &str)]) -> Payload {
        let file = |d: &str| File { data: d.into(), mode: 0o640, owner: None };
        items.iter().map(|(k, v)| ((*k).to_owned(), file(v))).collect()
    }

    #[test]
    fn a_version_replaces_another_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let done = |_: &Path| Ok(());
        assert!(write(d, &payload(&[("a", "1"), ("b/c", "2")]), done).unwrap());
        assert!(!write(d, &payload(&[("a", "1"), ("b/c", "2")]), done).unwrap());
        assert_eq!(fs::read_to_string(d.join("b/c")).unwrap(), "2");
        assert_eq!(fs::metadata(d.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(d.join("a")).unwrap(), Path::new("..data/a"));
        let before = fs::read_link(d.join(LINK)).unwrap();
        assert!(write(d, &payload(&[("a", "9")]), done).unwrap());
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "9");
        assert!(!d.join("b").exists() && !d.join(before).exists());
        assert_eq!(fs::read_dir(d).unwrap().count(), 3);
    }

    #[test]
    fn an_interrupted_write_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        assert!(write(d, &payload(&[("a", "1")]), |_| Err(io::Error::other("power"))).is_err());
        assert!(!d.join("a").exists());
        symlink("..nowhere", d.join(NEW_LINK)).unwrap();
        write(d, &payload(&[("a", "1")]), |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "1");
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "", "a/../b", "..x"] {
            assert!(write(dir.path(), &payload(&[(path, "1")]), |_| Ok(())).is_err(), "{path}");
        }
    }
}
