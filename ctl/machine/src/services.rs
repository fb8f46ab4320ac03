//! The daemons of a machine: installed, started, stopped and asked for their state, under systemd or our own supervisor.

mod dropin;
mod supervised;
mod systemd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Made, clean, paths};
pub use supervised::Supervised;
pub use systemd::{Systemd, UNITS};

/// One daemon to keep running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name: that of its unit, its log, its files.
    pub name: String,
    /// Absolute path, or a name that is looked for in the bundle's programs and then on the PATH.
    pub program: PathBuf,
    /// Arguments, one by one.
    #[serde(default)]
    pub args: Vec<String>,
    /// Further environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Daemons that start before this one.
    #[serde(default)]
    pub after: Vec<String>,
}

/// What is known of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not installed.
    Absent,
    /// Begun, not ready yet.
    Starting,
    /// Runs.
    Running {
        /// Process id, as the service manager sees it.
        pid: u32,
        /// When it started.
        since: Timestamp,
    },
    /// Ended without being asked to; it may be waiting for its next start.
    Failed {
        /// How it last ended.
        how: String,
        /// How often it was started again.
        restarts: u32,
    },
    /// Stopped on purpose, or never started.
    Stopped,
}

/// Whether something had to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Something was written.
    Yes,
    /// All was as wanted.
    No,
}

impl Changed {
    /// True for `Yes`.
    pub fn yes(self) -> bool {
        self == Self::Yes
    }
}

/// A service manager. Calls block for at most some seconds; none waits for a daemon to be ready (see [`crate::healthy`]).
pub trait Services: Send + Sync {
    /// `systemd` or `supervisor`.
    fn kind(&self) -> &'static str;
    /// Writes what the daemon is run with and enables it at boot; does not start or restart it. Callers that keep a
    /// manifest use [`install`].
    ///
    /// # Errors
    /// When a program isn't found or a file can't be written.
    fn install(&self, daemon: &Daemon) -> Result<Changed>;
    /// Starts it unless it runs.
    ///
    /// # Errors
    /// When it isn't installed or the manager refuses.
    fn start(&self, name: &str) -> Result<()>;
    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Services::start`].
    fn restart(&self, name: &str) -> Result<()>;
    /// Stops it and waits for its end; fine when it does not run or isn't installed.
    ///
    /// # Errors
    /// When the manager refuses or the daemon does not end.
    fn stop(&self, name: &str) -> Result<()>;
    /// Stops it and removes all that [`Services::install`] wrote; fine when it isn't there.
    ///
    /// # Errors
    /// As [`Services::stop`], and when a file can't be removed.
    fn remove(&self, name: &str) -> Result<()>;
    /// Removes several, which may be quicker than one by one; a result for each.
    fn remove_all(&self, names: &[&str]) -> Vec<Result<()>> {
        names.iter().map(|name| self.remove(name)).collect()
    }
    /// What it does now.
    ///
    /// # Errors
    /// When the manager can't be asked.
    fn state(&self, name: &str) -> Result<State>;
    /// The last lines it wrote, for people; empty when there are none.
    fn last_words(&self, name: &str, lines: usize) -> String;
    /// What it was last installed with, its program resolved; nothing when it isn't installed.
    ///
    /// # Errors
    /// When what was written can't be read.
    fn installed(&self, _name: &str) -> Result<Option<Daemon>> {
        Ok(None)
    }
    /// Where a program lies: `program` of a [`Daemon`], resolved.
    ///
    /// # Errors
    /// When it is nowhere, naming the places.
    fn program(&self, program: &Path) -> Result<PathBuf>;
    /// How often it ended by itself since it was last started on purpose.
    fn endings(&self, name: &str) -> u32 {
        match self.state(name) {
            Ok(State::Failed { restarts, .. }) => restarts,
            _ => 0,
        }
    }
}

/// How services are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Programs are taken from here in place of the bundle's.
    pub bin_dir: Option<PathBuf>,
    /// The program that is the supervisor (`PROGRAM supervise`), by default this one.
    pub coxctl: Option<PathBuf>,
}

/// systemd where it is the machine's first process, else the supervisor, which is started with the first daemon if it does
/// not run.
///
/// # Errors
/// When this program can't be found, which may have to be the supervisor.
pub fn services(options: &Options) -> Result<Box<dyn Services>> {
    if Path::new("/run/systemd/system").exists() {
        return Ok(Box::new(Systemd::new(options.bin_dir.clone())));
    }
    let coxctl = match &options.coxctl {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("finding this program")?,
    };
    Ok(Box::new(Supervised::new(Default::default(), coxctl, options.bin_dir.clone())))
}

/// Installs a daemon, after recording it and what it will make by itself.
///
/// # Errors
/// As [`Services::install`] and the manifest's.
pub fn install(services: &dyn Services, made: &mut Made, daemon: &Daemon) -> Result<Changed> {
    made.contents(Path::new(paths::DAEMONS))?;
    if services.kind() == "supervisor" {
        made.contents(Path::new(paths::LOGS))?;
    }
    clean::expect(made, daemon)?;
    made.unit(&daemon.name)?;
    services.install(daemon)
}

/// A program by its path, or by its name from `bin_dir`, the version in use, or the PATH.
fn find(program: &Path, bin_dir: Option<&Path>) -> Result<PathBuf> {
    let absolute = program.is_absolute();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let mut places: Vec<PathBuf> = bin_dir.into_iter().map(Path::to_path_buf).collect();
    places.push(paths::CURRENT.into());
    places.extend(std::env::split_paths(&path));
    let tried =
        if absolute { vec![program.to_path_buf()] } else { places.iter().map(|p| p.join(program)).collect() };
    match tried.into_iter().find(|p| runs(p)) {
        Some(found) => Ok(found),
        None if absolute => bail!("there is no program {}", program.display()),
        None => bail!(
            "there is no program {} in {} or on the PATH",
            program.display(),
            bin_dir.unwrap_or(Path::new(paths::CURRENT)).display()
        ),
    }
}

fn runs(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
