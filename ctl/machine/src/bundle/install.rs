//! Programs of a bundle on the machine: one directory per version, and a link to the one in use.

use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Bundle, INDEX, Index, Member, check, is_version, walk};
use crate::{Made, files, paths};

/// Unpacks the programs into their version's directory, whole or not at all, and returns it. Does not switch to it.
///
/// # Errors
/// When it can't be unpacked.
pub fn install(bundle: &Bundle, made: &mut Made) -> Result<PathBuf> {
    install_in(Path::new(paths::VERSIONS), bundle, made)
}

pub(super) fn install_in(versions: &Path, bundle: &Bundle, made: &mut Made) -> Result<PathBuf> {
    made.contents(versions)?;
    let place = versions.join(&bundle.index.version);
    if is_complete(&place, &bundle.index) {
        return Ok(place);
    }
    let partial = versions.join(format!(".{}.partial", bundle.index.version));
    clear(&partial)?;
    if let Err(error) = unpack(bundle, &partial) {
        let _ = clear(&partial);
        return Err(error.context(format!("unpacking {}", bundle.file.display())));
    }
    // A damaged directory of the same version is moved out of the way; what runs from it goes on.
    let old = versions.join(format!(".{}.old", bundle.index.version));
    clear(&old)?;
    if files::there(&place) {
        fs::rename(&place, &old).with_context(|| format!("moving {} away", place.display()))?;
    }
    fs::rename(&partial, &place).with_context(|| format!("installing {}", place.display()))?;
    files::sync_dir(versions)?;
    clear(&old)?;
    Ok(place)
}

fn clear(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn unpack(bundle: &Bundle, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut left = bundle.index.files.iter().filter(|m| m.path.starts_with("bin/")).count();
    walk(&bundle.file, |member, data| {
        let Some(name) = member.path.strip_prefix("bin/") else { return Ok(ControlFlow::Continue(())) };
        let path = dir.join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(member.mode & 0o755).open(&path)?;
        check(member, data, &mut file)?;
        file.sync_all().with_context(|| format!("flushing {}", path.display()))?;
        left -= 1;
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    ensure!(left == 0, "{left} programs are missing in it");
    // Last, so that a directory with it is complete.
    files::replace(&dir.join(INDEX), &serde_json::to_vec_pretty(&bundle.index)?, 0o644)
}

fn is_complete(place: &Path, index: &Index) -> bool {
    let there: Option<Index> = fs::read(place.join(INDEX)).ok().and_then(|t| serde_json::from_slice(&t).ok());
    let programs = index.files.iter().filter_map(|m| Some((m.path.strip_prefix("bin/")?, m)));
    there.as_ref() == Some(index) && programs.into_iter().all(|(name, m)| is_right(&place.join(name), m))
}

fn is_right(path: &Path, member: &Member) -> bool {
    let Ok(file) = File::open(path) else { return false };
    check(member, &mut BufReader::new(file), &mut std::io::sink()).is_ok()
}

/// Makes `version` the one in use, in one step; returns the one that was.
///
/// # Errors
/// When it isn't installed or the link can't be turned.
pub fn switch(version: &str, made: &mut Made) -> Result<Option<String>> {
    let before = switch_in(Path::new(paths::CURRENT), version, made)?;
    let coxctl = Path::new(paths::CURRENT).join("coxctl");
    if coxctl.exists() {
        made.link(Path::new(paths::COXCTL), &coxctl)?;
    }
    Ok(before)
}

pub(super) fn switch_in(current: &Path, version: &str, made: &mut Made) -> Result<Option<String>> {
    ensure!(is_version(version), "{version:?} is not a version");
    let target = Path::new("versions").join(version);
    let place = current.parent().unwrap_or(Path::new("/")).join(&target);
    ensure!(place.join(INDEX).exists(), "version {version} is not installed in {}", place.display());
    let before = version_of(current);
    made.link(current, &target)?;
    Ok(before)
}

fn version_of(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// The version in use, by the link.
pub fn current() -> Option<String> {
    version_of(Path::new(paths::CURRENT))
}

/// Versions that are installed, sorted by name.
pub fn versions() -> Vec<String> {
    let names = files::names(Path::new(paths::VERSIONS)).unwrap_or_default();
    names.into_iter().filter(|n| Path::new(paths::VERSIONS).join(n).join(INDEX).exists()).collect()
}
