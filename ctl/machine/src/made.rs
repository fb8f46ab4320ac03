//! The manifest of what was made on this machine, so that exactly that can be taken back.
//!
//! A change is recorded before it is made, so after a crash the manifest may name something that is not there, never the
//! other way round.

mod entry;
mod undo;

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{Changed, files};
pub use entry::{Entry, Run};
pub use undo::Report;
pub(crate) use undo::remove_tree;

const NAME: &str = "made.json";
/// Copies of what was replaced.
const BEFORE: &str = "before";
/// How long another coxctl is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// A file that is larger than this is not replaced: nothing of ours has such a size, and it could not be kept.
const KEEP_LIMIT: u64 = 16 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    run: Option<Run>,
    #[serde(default)]
    entries: Vec<Entry>,
}

/// What was made on this machine, in order. Every change is on the disk before the call returns, so record before making.
#[derive(Debug)]
pub struct Made {
    document: Document,
    /// None for a manifest in memory.
    dir: Option<PathBuf>,
    proc_sys: PathBuf,
    _lock: Option<Flock<File>>,
}

impl Made {
    /// Opens this machine's manifest and keeps others from changing it while this value lives.
    ///
    /// # Errors
    /// When it is damaged, can't be read, or another coxctl holds it.
    pub fn open() -> Result<Self> {
        Self::open_in(Path::new(crate::paths::STATE))
    }

    /// As [`Made::open`], in another directory.
    ///
    /// # Errors
    /// As [`Made::open`].
    pub fn open_in(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let lock = lock(dir)?;
        let mut made = Self::dry();
        made.document = load(dir)?;
        made.dir = Some(dir.to_path_buf());
        made._lock = Some(lock);
        Ok(made)
    }

    /// A manifest in memory only: for dry runs, and for callers that record nothing.
    pub fn dry() -> Self {
        let document = Document { version: 1, ..Document::default() };
        Self { document, dir: None, proc_sys: "/proc/sys".into(), _lock: None }
    }

    /// Reads this machine's manifest without holding it; empty when there is none. What is recorded in it is lost.
    ///
    /// # Errors
    /// When it is damaged or can't be read.
    pub fn read() -> Result<Self> {
        let document = load(Path::new(crate::paths::STATE))?;
        Ok(Self { document, ..Self::dry() })
    }

    /// Says which command begins; a run of the same command and fingerprint goes on.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(&mut self, command: &str, fingerprint: &str) -> Result<()> {
        self.own_directory();
        self.document.run =
            Some(Run { command: command.into(), fingerprint: fingerprint.into(), finished: false });
        self.save()
    }

    /// Says that the command came to its end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(&mut self) -> Result<()> {
        match &mut self.document.run {
            Some(run) if !run.finished => run.finished = true,
            _ => return Ok(()),
        }
        self.save()
    }

    /// The command that made things here.
    pub fn run(&self) -> Option<&Run> {
        self.document.run.as_ref()
    }

    /// Records a file that is about to be made, and makes missing directories above it. A file of somebody else's that is
    /// there is copied aside and comes back at [`Made::undo`]. A directory that is about to be made may be recorded so too.
    ///
    /// # Errors
    /// When the manifest or the copy can't be written.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        if self.contains(path) {
            return self.parents(path);
        }
        if path.is_dir() {
            return Ok(());
        }
        let before = self.set_aside(path)?;
        self.parents(path)?;
        self.push(Entry::File { path: path.into(), before })
    }

    /// Records and makes a directory and those missing above it, mode 0755.
    ///
    /// # Errors
    /// When the manifest or the directory can't be written.
    pub fn dir(&mut self, path: &Path) -> Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !files::there(p)).collect();
        for dir in missing.into_iter().rev() {
            if !self.contains(dir) {
                self.push(Entry::Dir { path: dir.into() })?;
            }
            self.make_dir(dir, 0o755)?;
        }
        Ok(())
    }

    /// Records that whatever comes into this directory is ours (but what is there already), and makes it.
    ///
    /// # Errors
    /// As [`Made::dir`].
    pub fn contents(&mut self, path: &Path) -> Result<()> {
        let recorded = |e: &Entry| matches!(e, Entry::Contents { path: p, .. } if p == path);
        if self.document.entries.iter().any(recorded) {
            return self.dir(path);
        }
        self.parents(path)?;
        // A directory that we recorded as such is ours, whatever is inside by now was recorded too.
        let existed = files::there(path) && !self.contains(path);
        let keep = if existed { files::names(path)? } else { Vec::new() };
        let mode = if existed { Some(files::mode(path)?) } else { None };
        self.push(Entry::Contents { path: path.into(), existed, mode, keep })?;
        if existed { Ok(()) } else { self.make_dir(path, 0o755) }
    }

    /// Records and makes (or turns) a symbolic link, atomically.
    ///
    /// # Errors
    /// When something else than a link is there, or it can't be written.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<Changed> {
        if fs::read_link(path).is_ok_and(|t| t == target) {
            return Ok(Changed::No);
        }
        if files::there(path) && fs::read_link(path).is_err() {
            bail!("{} is in the way: it is not a link", path.display());
        }
        self.parents(path)?;
        if !self.contains(path) {
            self.push(Entry::Link { path: path.into(), before: fs::read_link(path).ok() })?;
        }
        self.turn(path, target)?;
        Ok(Changed::Yes)
    }

    fn turn(&self, path: &Path, target: &Path) -> Result<()> {
        if self.dir.is_none() {
            return Ok(());
        }
        let partial = files::partial(path);
        files::remove(&partial)?;
        std::os::unix::fs::symlink(target, &partial)
            .with_context(|| format!("linking {}", partial.display()))?;
        fs::rename(&partial, path).with_context(|| format!("linking {}", path.display()))?;
        files::sync_dir(path.parent().unwrap_or(Path::new("/")))
    }

    /// Records a daemon that is about to be installed.
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn unit(&mut self, name: &str) -> Result<()> {
        if self.has_unit(name) { Ok(()) } else { self.push(Entry::Unit { name: name.into() }) }
    }

    /// Sets a kernel setting (`net.ipv4.ip_forward` or with slashes), recording what it was.
    ///
    /// # Errors
    /// When it can't be read or set.
    pub fn sysctl(&mut self, name: &str, value: &str) -> Result<Changed> {
        let name = if name.contains('/') { name.to_string() } else { name.replace('.', "/") };
        let file = self.proc_sys.join(&name);
        let old = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let old = old.trim().to_string();
        if old == value {
            return Ok(Changed::No);
        }
        let known = |e: &Entry| matches!(e, Entry::Sysctl { name: n, new, .. } if *n == name && new == value);
        if !self.document.entries.iter().any(known) {
            self.push(Entry::Sysctl { name: name.clone(), old, new: value.into() })?;
        }
        if self.dir.is_some() {
            fs::write(&file, value).with_context(|| format!("setting {}", file.display()))?;
        }
        Ok(Changed::Yes)
    }

    /// Records what a kernel setting is now, because a daemon of ours will change it; nothing when there is no such setting.
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn setting(&mut self, name: &str) -> Result<()> {
        let name = if name.contains('/') { name.to_string() } else { name.replace('.', "/") };
        let known = |e: &Entry| matches!(e, Entry::Sysctl { name: n, .. } if *n == name);
        let Ok(old) = fs::read_to_string(self.proc_sys.join(&name)) else { return Ok(()) };
        if self.document.entries.iter().any(known) {
            return Ok(());
        }
        self.push(Entry::Sysctl { name, old: old.trim().into(), new: String::new() })
    }

    /// Records, then writes a file of the given mode by renaming a finished one into place; nothing when it is so already.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_file(&mut self, path: &Path, data: &[u8], mode: u32) -> Result<Changed> {
        if self.contains(path) || fs::read(path).map_or(true, |old| old != data) {
            self.file(path)?;
        }
        if self.dir.is_none() { Ok(Changed::Yes) } else { files::ensure(path, data, mode) }
    }

    /// Whether we made this path: recorded itself, or inside a directory whose contents are ours.
    pub fn contains(&self, path: &Path) -> bool {
        self.document.entries.iter().any(|e| e.covers(path))
    }

    /// Whether this daemon was installed by us.
    pub fn has_unit(&self, name: &str) -> bool {
        self.document.entries.iter().any(|e| matches!(e, Entry::Unit { name: n } if n == name))
    }

    /// Strikes a path out, when it was removed for good.
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn forget(&mut self, path: &Path) -> Result<()> {
        let length = self.document.entries.len();
        self.document.entries.retain(|e| e.path() != Some(path));
        if self.document.entries.len() == length { Ok(()) } else { self.save() }
    }

    /// All that was made, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.document.entries
    }

    /// Nothing was made, and no command began.
    pub fn is_empty(&self) -> bool {
        self.document.entries.is_empty() && self.document.run.is_none()
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        self.own_directory();
        self.document.entries.push(entry);
        self.save()
    }

    /// The manifest's own directory comes first, if nobody else uses it, and so goes last.
    fn own_directory(&mut self) {
        let Some(dir) = self.dir.clone().filter(|_| self.is_empty()) else { return };
        if files::names(&dir).is_ok_and(|n| n.is_empty()) {
            self.document.entries.push(Entry::Dir { path: dir });
        }
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |p| self.dir(p))
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        if self.dir.is_none() || path.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().mode(mode).create(path).with_context(|| format!("making {}", path.display()))
    }

    /// Copies somebody else's file to where it is kept.
    fn set_aside(&self, path: &Path) -> Result<Option<PathBuf>> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(None) };
        let Some(dir) = &self.dir else { return Ok(None) };
        if !meta.is_file() || meta.len() > KEEP_LIMIT {
            bail!("{} is in the way: it is not a file that can be replaced and put back", path.display());
        }
        let keep = dir.join(BEFORE);
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&keep)
            .context("making a place for copies")?;
        let copy = keep.join(path.display().to_string().trim_start_matches('/').replace('/', "%"));
        fs::copy(path, &copy).with_context(|| format!("copying {}", path.display()))?;
        std::os::unix::fs::chown(&copy, Some(owner(&meta).0), Some(owner(&meta).1))?;
        File::open(&copy)?.sync_all()?;
        files::sync_dir(&keep)?;
        Ok(Some(copy))
    }

    fn save(&self) -> Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.document)?;
        files::replace(&dir.join(NAME), &text, 0o600)
    }
}

fn owner(meta: &fs::Metadata) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    (meta.uid(), meta.gid())
}

fn load(dir: &Path) -> Result<Document> {
    let path = dir.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Document { version: 1, ..Document::default() });
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let document: Document = serde_json::from_slice(&text).with_context(|| {
        format!("{} is damaged; it says what to take back, so mend it or move it away", path.display())
    })?;
    if document.version != 1 {
        bail!("{} was written by a newer coxctl (format {})", path.display(), document.version);
    }
    Ok(document)
}

/// Holds the directory itself, so that no lock file needs to be made or removed.
fn lock(dir: &Path) -> Result<Flock<File>> {
    let end = Instant::now() + PATIENCE;
    let mut file = File::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < end => file = back,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                bail!("another coxctl is at work on this machine; wait for it to end")
            }
            Err((_, error)) => return Err(error).with_context(|| format!("locking {}", dir.display())),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests;
