//! The daemons of a machine: installed, started, stopped and asked for their state, under systemd or our own supervisor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Made;

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
    /// What it does now.
    ///
    /// # Errors
    /// When the manager can't be asked.
    fn state(&self, name: &str) -> Result<State>;
    /// The last lines it wrote, for people; empty when there are none.
    fn last_words(&self, name: &str, lines: usize) -> String;
    /// Where the daemon's program lies: `program` of a [`Daemon`], resolved.
    ///
    /// # Errors
    /// When it is nowhere, naming the places.
    fn program(&self, program: &std::path::Path) -> Result<PathBuf>;
}

/// How services are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Programs are taken from here in place of the bundle's.
    pub bin_dir: Option<PathBuf>,
    /// The program that is the supervisor (`PROGRAM supervise`), by default this one.
    pub coxctl: Option<PathBuf>,
}

/// systemd where it is the machine's first process, else the supervisor, which is started if it does not run.
///
/// # Errors
/// When the supervisor can't be started.
pub fn services(options: &Options) -> Result<Box<dyn Services>> {
    let _ = options;
    anyhow::bail!("not yet")
}

/// Installs a daemon and records it first.
///
/// # Errors
/// As [`Services::install`] and the manifest's.
pub fn install(services: &dyn Services, made: &mut Made, daemon: &Daemon) -> Result<Changed> {
    made.unit(&daemon.name)?;
    services.install(daemon)
}
