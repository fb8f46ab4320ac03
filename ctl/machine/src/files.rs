//! Files that are there whole or not at all, also after a power cut.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Changed;

/// Replaces a file in one step. The directory must be there. The unfinished file has one fixed name, so that a second try
/// after a crash leaves nothing behind.
///
/// # Errors
/// When it can't be written; the old file is then untouched.
pub fn replace(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    let partial = partial(path);
    if let Err(error) = write_all(&partial, data, mode) {
        let _ = fs::remove_file(&partial);
        return Err(error).with_context(|| format!("writing {}", path.display()));
    }
    fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// As [`replace`], unless content and mode are so already.
///
/// # Errors
/// As [`replace`].
pub fn ensure(path: &Path, data: &[u8], mode: u32) -> Result<Changed> {
    let same_mode = fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o7777 == mode);
    if same_mode && fs::read(path).is_ok_and(|old| old == data) {
        return Ok(Changed::No);
    }
    replace(path, data, mode)?;
    Ok(Changed::Yes)
}

/// Name of the unfinished file beside `path`.
pub fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

fn write_all(path: &Path, data: &[u8], mode: u32) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(data)?;
    file.sync_all()
}

/// Makes names in a directory durable.
///
/// # Errors
/// When the directory can't be opened or flushed.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let flush = || File::open(dir)?.sync_all();
    flush().with_context(|| format!("flushing {}", dir.display()))
}

/// Removes a file or link; false when it was not there.
///
/// # Errors
/// When it can't be removed.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

/// Whether anything has this name, a dangling link too.
pub fn there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Names in a directory, sorted; none when it isn't there.
///
/// # Errors
/// When it can't be read.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
    };
    let mut names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    Ok(names)
}

/// The last `lines` lines of a file's last 64 KiB; empty when it can't be read.
pub fn tail(path: &Path, lines: usize) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
        let mut data = Vec::new();
        file.take(64 << 10).read_to_end(&mut data)?;
        Ok(data)
    };
    let data = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&data);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Permission bits of a file or directory.
///
/// # Errors
/// When it isn't there.
pub fn mode(path: &Path) -> Result<u32> {
    let meta = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(meta.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_keeps_mode_and_leaves_no_debris() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a");
        fs::write(partial(&path), "half of a longer text that a crash left")?;
        assert_eq!(ensure(&path, b"one", 0o600)?, Changed::Yes);
        assert_eq!(ensure(&path, b"one", 0o600)?, Changed::No);
        assert_eq!(ensure(&path, b"one", 0o644)?, Changed::Yes);
        assert_eq!(fs::read_to_string(&path)?, "one");
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o644);
        assert_eq!(names(dir.path())?, ["a"]);
        Ok(())
    }

    #[test]
    fn tails() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("log");
        fs::write(&path, "1\n2\n3\n")?;
        assert_eq!(tail(&path, 2), "2\n3");
        assert_eq!(tail(&path, 9), "1\n2\n3");
        assert_eq!(tail(&dir.path().join("none"), 2), "");
        Ok(())
    }
}
