//! Taking back what was made, last first. An entry is struck out when it is gone, so an interrupted undo goes on where it was.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{BEFORE, Entry, Made, NAME};
use crate::{Services, files};

/// What [`Made::undo`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was taken back, in order.
    pub removed: Vec<String>,
    /// What was left, and why.
    pub left: Vec<(String, String)>,
}

impl Report {
    /// Adds another's lines.
    pub fn extend(&mut self, other: Report) {
        self.removed.extend(other.removed);
        self.left.extend(other.left);
    }
}

/// How one entry went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken back, in these words.
    Gone(String),
    /// It was not there any more.
    Nothing,
    /// Not ours to take back any more; (what, why).
    Left(String, String),
}

impl Made {
    /// Stops and removes the daemons, last first, and keeps the rest for [`Made::undo`].
    ///
    /// # Errors
    /// When the manifest can't be written; what could not be removed is in the report.
    pub fn undo_units(&mut self, services: &dyn Services) -> Result<Report> {
        let names: Vec<String> = self
            .document
            .entries
            .iter()
            .rev()
            .filter_map(|e| if let Entry::Unit { name } = e { Some(name.clone()) } else { None })
            .collect();
        let results = services.remove_all(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut report = Report::default();
        for (name, result) in names.into_iter().zip(results) {
            let entry = Entry::Unit { name };
            match result {
                Ok(()) => {
                    report.removed.push(entry.named());
                    self.document.entries.retain(|e| *e != entry);
                }
                Err(error) => report.left.push((entry.named(), format!("{error:#}"))),
            }
        }
        self.struck_out();
        Ok(report)
    }

    /// A full disk may not take the shorter list yet: the longer one names things that are gone, which does no harm.
    fn struck_out(&self) {
        if let Err(error) = self.save() {
            tracing::debug!("{error:#}");
        }
    }

    /// Takes back what was made, last first. Can be interrupted and run again. The manifest goes last; it stays when
    /// something could not be removed, so that the same command can try again.
    ///
    /// # Errors
    /// When the manifest can't be written; what could not be removed is in the report.
    pub fn undo(&mut self, services: &dyn Services) -> Result<Report> {
        let own = self.dir.clone();
        let mut report = self.undo_some(services, |e| own.is_none() || e.path() != own.as_deref())?;
        if self.document.entries.iter().all(|e| e.path() == own.as_deref()) {
            self.end(&mut report)?;
        }
        Ok(report)
    }

    pub(super) fn undo_some(
        &mut self,
        services: &dyn Services,
        which: impl Fn(&Entry) -> bool,
    ) -> Result<Report> {
        let mut report = Report::default();
        for index in (0..self.document.entries.len()).rev() {
            let Some(entry) = self.document.entries.get(index).filter(|e| which(e)).cloned() else {
                continue;
            };
            match self.take_back(&entry, services) {
                Ok(Outcome::Gone(what)) => report.removed.push(what),
                Ok(Outcome::Nothing) => {}
                Ok(Outcome::Left(what, why)) => report.left.push((what, why)),
                Err(error) => {
                    report.left.push((entry.named(), format!("{error:#}")));
                    continue;
                }
            }
            self.document.entries.remove(index);
            self.struck_out();
        }
        Ok(report)
    }

    pub(super) fn take_back(&self, entry: &Entry, services: &dyn Services) -> Result<Outcome> {
        match entry {
            Entry::File { path, before } => file(path, before.as_deref()),
            Entry::Link { path, before } => link(path, before.as_deref()),
            Entry::Dir { path } => dir(path),
            Entry::Contents { path, existed, mode, keep } => contents(path, *existed, *mode, keep),
            Entry::Unit { name } => {
                services.remove(name)?;
                Ok(Outcome::Gone(entry.named()))
            }
            Entry::Sysctl { name, old, new } => sysctl(&self.proc_sys.join(name), entry.named(), old, new),
        }
    }

    /// Removes the manifest and its directory.
    fn end(&mut self, report: &mut Report) -> Result<()> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        let ours = !self.document.entries.is_empty();
        // Copies that a crash left before they were recorded: what they are copies of was never touched.
        let _ = fs::remove_dir_all(dir.join(BEFORE));
        files::remove(&dir.join(NAME))?;
        self.document.entries.clear();
        self.document.run = None;
        if ours && fs::remove_dir(&dir).is_ok() {
            report.removed.push(dir.display().to_string());
        }
        Ok(())
    }
}

impl Entry {
    fn named(&self) -> String {
        match self {
            Self::Unit { name } => format!("service {name}"),
            Self::Sysctl { name, .. } => format!("setting {}", name.replace('/', ".")),
            other => other.path().unwrap_or(Path::new("")).display().to_string(),
        }
    }
}

fn file(path: &Path, before: Option<&Path>) -> Result<Outcome> {
    let shown = path.display().to_string();
    if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
        return dir(path);
    }
    debris(path)?;
    match before {
        Some(copy) if copy.exists() => {
            put_back(copy, path)?;
            Ok(Outcome::Gone(format!("{shown} (what was there before is back)")))
        }
        // The copy went back, and then the power went.
        Some(_) => Ok(Outcome::Nothing),
        None if files::remove(path)? => Ok(Outcome::Gone(shown)),
        None => Ok(Outcome::Nothing),
    }
}

/// Unfinished files that a crash left beside a file of ours.
fn debris(path: &Path) -> Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let start = format!(".{}.", name.to_string_lossy());
    for other in files::names(dir).unwrap_or_default() {
        let rest = other.strip_prefix(&start).unwrap_or("none");
        if rest == "partial" || (!rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())) {
            files::remove(&dir.join(&other))?;
        }
    }
    Ok(())
}

/// The copy may lie on another disk, so it is written anew beside its place.
fn put_back(copy: &Path, path: &Path) -> Result<()> {
    let partial = files::partial(path);
    let back = || -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(copy)?;
        fs::copy(copy, &partial)?;
        std::os::unix::fs::chown(&partial, Some(meta.uid()), Some(meta.gid()))?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, path)?;
        files::sync_dir(path.parent().unwrap_or(Path::new("/")))?;
        Ok(fs::remove_file(copy)?)
    };
    back().with_context(|| format!("putting back what was at {}", path.display()))
}

fn link(path: &Path, before: Option<&Path>) -> Result<Outcome> {
    let shown = path.display().to_string();
    files::remove(&files::partial(path))?;
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(Outcome::Nothing) };
    if !meta.is_symlink() {
        return Ok(Outcome::Left(shown, "somebody put something else in place of our link".into()));
    }
    files::remove(path)?;
    if let Some(target) = before {
        std::os::unix::fs::symlink(target, path).with_context(|| format!("linking {shown}"))?;
    }
    Ok(Outcome::Gone(shown))
}

fn dir(path: &Path) -> Result<Outcome> {
    let shown = path.display().to_string();
    match fs::remove_dir(path) {
        Ok(()) => Ok(Outcome::Gone(shown)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Outcome::Nothing),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            let names = files::names(path)?;
            Ok(Outcome::Left(shown, format!("holds what others made: {}", some_of(&names))))
        }
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            Ok(Outcome::Left(shown, "something is mounted there".into()))
        }
        Err(error) => Err(error).with_context(|| format!("removing {shown}")),
    }
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

fn contents(path: &Path, existed: bool, mode: Option<u32>, keep: &[String]) -> Result<Outcome> {
    let shown = path.display().to_string();
    if !files::there(path) {
        return Ok(Outcome::Nothing);
    }
    let ours: Vec<String> = files::names(path)?.into_iter().filter(|n| !keep.contains(n)).collect();
    for name in &ours {
        remove_tree(&path.join(name))?;
    }
    if !existed {
        return dir(path);
    }
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("giving {shown} its mode back"))?;
    }
    Ok(if ours.is_empty() { Outcome::Nothing } else { Outcome::Gone(format!("contents of {shown}")) })
}

/// Removes a tree, but never what is mounted in it: a volume that could not be unmounted holds somebody's data.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let within = path.parent().and_then(|p| fs::symlink_metadata(p).ok()).map(|m| m.dev());
    walk(path, &meta, within.unwrap_or(meta.dev()))
}

fn walk(path: &Path, meta: &fs::Metadata, device: u64) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    if !meta.is_dir() {
        return files::remove(path).map(|_| ());
    }
    if meta.dev() != device {
        anyhow::bail!("{} is mounted; unmount it and run the command again", path.display());
    }
    for name in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let name = name?;
        walk(&name.path(), &name.metadata()?, device)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sysctl(path: &Path, shown: String, old: &str, new: &str) -> Result<Outcome> {
    let Ok(now) = fs::read_to_string(path) else { return Ok(Outcome::Nothing) };
    let now = now.trim();
    if now == old {
        return Ok(Outcome::Nothing);
    }
    if now != new && !new.is_empty() {
        return Ok(Outcome::Left(shown, format!("somebody set it to {now} since")));
    }
    fs::write(path, old).with_context(|| format!("setting {}", path.display()))?;
    Ok(Outcome::Gone(format!("{shown} (back to {old})")))
}
