//! Files that are whole or not there, and pairs of them that go together.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::Record;
use crate::key::Key;
use crate::x509;

/// A certificate and its key: `NAME.crt`, `NAME.key`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The certificate.
    pub crt: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pair {
    /// The pair of this name (which may have a directory in it) below `dir`.
    pub fn new(dir: &Path, base: &str) -> Self {
        Self { crt: dir.join(format!("{base}.crt")), key: dir.join(format!("{base}.key")) }
    }

    /// Puts the pair in place so that no crash leaves a new half beside an old one for good: both halves are written
    /// aside and synced, then moved. What a crash leaves is settled by [`Pair::settle`].
    ///
    /// # Errors
    /// When a file can't be written; the pair in place is unharmed then.
    pub fn write(&self, crt_pem: &str, key_pem: &str) -> Result<()> {
        let written = write_whole(&aside(&self.key), key_pem.as_bytes(), 0o600)
            .and_then(|()| write_whole(&aside(&self.crt), crt_pem.as_bytes(), 0o644));
        if let Err(error) = written {
            let _ = fs::remove_file(aside(&self.crt));
            let _ = fs::remove_file(aside(&self.key));
            return Err(error);
        }
        move_over(&aside(&self.key), &self.key)?;
        move_over(&aside(&self.crt), &self.crt)?;
        sync_dir(&self.crt);
        Ok(())
    }

    /// Ends what a crash in [`Pair::write`] left half done: forwards once the key was moved, else backwards.
    ///
    /// # Errors
    /// When a file can't be moved or removed.
    pub fn settle(&self) -> Result<()> {
        let (crt, key) = (aside(&self.crt), aside(&self.key));
        if !key.exists() && crt.exists() && belongs(&crt, &self.key) {
            return move_over(&crt, &self.crt);
        }
        for leftover in [crt, key] {
            remove(&leftover)?;
        }
        Ok(())
    }
}

/// Whether a certificate file is of a key file.
fn belongs(crt: &Path, key: &Path) -> bool {
    let spki = |path: &Path| read(path).ok().and_then(|pem| Some(Key::from_pem(&pem).ok()?.spki()));
    let seen = read(crt).ok().and_then(|pem| Some(x509::read(&pem).ok()?.spki));
    seen.is_some() && seen == spki(key)
}

/// Where the next content of a file waits.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.next"))
}

/// Moves a finished file over one that may be there, whose owner the new one gets: a daemon of another user may have to
/// read it.
fn move_over(from: &Path, to: &Path) -> Result<()> {
    if let (Ok(new), Ok(old)) = (fs::metadata(from), fs::metadata(to))
        && (new.uid(), new.gid()) != (old.uid(), old.gid())
    {
        std::os::unix::fs::chown(from, Some(old.uid()), Some(old.gid()))
            .with_context(|| format!("giving {} to its owner, user {}", to.display(), old.uid()))?;
    }
    fs::rename(from, to).with_context(|| format!("writing {}", to.display()))
}

/// Directory entries outlive a loss of power only when the directory is synced; where that can't be done, nothing is lost
/// but certainty.
fn sync_dir(path: &Path) {
    if let Some(dir) = path.parent().and_then(|d| File::open(d).ok()) {
        let _ = dir.sync_all();
    }
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// When it can't be removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Reads a text.
///
/// # Errors
/// When it can't be read; the error names it.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a file of the given mode by moving a finished one into place.
///
/// # Errors
/// When the directory can't be made or the file can't be written; what was there is unharmed then.
pub fn write_file(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!(".{name}.{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let tmp = path.with_file_name(unique);
    let written = write_whole(&tmp, data, mode).and_then(|()| move_over(&tmp, path));
    match &written {
        Ok(()) => sync_dir(path),
        Err(_) => drop(fs::remove_file(&tmp)),
    }
    written
}

/// Writes a new file of exactly this mode, whatever the process's mask, and syncs it.
fn write_whole(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    let dir = path.parent().context("a file needs a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let _ = fs::remove_file(path);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(data)?;
            file.sync_all()
        });
    written.with_context(|| format!("writing {}", path.display()))
}

/// Tells the record of a file to be made, and first of every directory on the way that is not there. Of a file that is
/// there already nothing is told: it is not ours to take away.
///
/// # Errors
/// Those of the record.
pub fn announce(path: &Path, record: Record<'_>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|p| !p.exists()).collect();
    for dir in missing.into_iter().rev().filter(|d| !d.as_os_str().is_empty()) {
        record(dir)?;
    }
    record(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Identity, Terms};

    fn issued() -> (String, String) {
        let ca = Authority::create("ca", &Terms::default()).unwrap();
        ca.issue(&Identity::client("x", &[])).unwrap()
    }

    #[test]
    fn files_have_their_mode_and_leave_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/file");
        write_file(&path, b"1", 0o600).unwrap();
        write_file(&path, b"2", 0o644).unwrap();
        assert_eq!(read(&path).unwrap(), "2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_belongs_to_the_owner_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_file(&path, b"1", 0o600).unwrap();
        let mine = fs::metadata(&path).unwrap().uid();
        // Only root can give files away; for others the owner stays as it is.
        let owner = if mine == 0 { 65534 } else { mine };
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
        write_file(&path, b"2", 0o600).unwrap();
        assert_eq!((fs::metadata(&path).unwrap().uid(), read(&path).unwrap()), (owner, "2".into()));
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_pair_or_the_new_one() {
        let ((old_crt, old_key), (new_crt, new_key)) = (issued(), issued());
        // Steps done before the crash: nothing, key aside, both aside, key moved, all.
        for step in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let pair = Pair::new(dir.path(), "x");
            pair.write(&old_crt, &old_key).unwrap();
            if step >= 1 {
                write_whole(&aside(&pair.key), new_key.as_bytes(), 0o600).unwrap();
            }
            if step >= 2 {
                write_whole(&aside(&pair.crt), new_crt.as_bytes(), 0o644).unwrap();
            }
            if step >= 3 {
                move_over(&aside(&pair.key), &pair.key).unwrap();
            }
            if step >= 4 {
                move_over(&aside(&pair.crt), &pair.crt).unwrap();
            }
            pair.settle().unwrap();
            assert!(belongs(&pair.crt, &pair.key), "step {step}");
            let is_new = read(&pair.crt).unwrap() == new_crt;
            assert_eq!(is_new, step >= 3, "step {step}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "step {step}");
        }
    }

    #[test]
    fn a_pair_that_can_not_be_written_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let pair = Pair::new(dir.path(), "x");
        pair.write("old", "old").unwrap();
        // A directory in the way of the certificate stands for a full disk.
        fs::create_dir(aside(&pair.crt)).unwrap();
        assert!(pair.write("new", "new").is_err());
        assert_eq!((read(&pair.crt).unwrap(), read(&pair.key).unwrap()), ("old".into(), "old".into()));
        assert!(!aside(&pair.key).exists());
    }

    #[test]
    fn directories_are_told_of_before_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = Vec::new();
        announce(&dir.path().join("a/b/c.crt"), &mut |p| {
            told.push(p.strip_prefix(dir.path()).unwrap().display().to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(told, ["a", "a/b", "a/b/c.crt"]);
    }
}
