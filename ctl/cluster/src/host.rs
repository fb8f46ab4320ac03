//! The machine a command works on: its daemons, the manifest of what is made, and the pretence of a dry run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use coxctl_machine::{Changed, Daemon, Made, Options, Services, State, made::Run};
use parking_lot::{Mutex, MutexGuard};

use crate::say;

/// The machine at hand.
pub struct Host {
    services: Box<dyn Services>,
    made: Mutex<Made>,
    dry: Option<PathBuf>,
}

impl Host {
    /// This machine, its manifest held.
    ///
    /// # Errors
    /// When another coxctl holds it, or there is no service manager.
    pub fn open(bin_dir: Option<&Path>) -> Result<Self> {
        let options = Options { bin_dir: bin_dir.map(Path::to_path_buf), ..Options::default() };
        let made = Made::open()?;
        Ok(Self { services: coxctl_machine::services(&options)?, made: Mutex::new(made), dry: None })
    }

    /// A pretence of this machine: what would be written goes below a directory of its own, nothing is started. The
    /// directory is that named by `variable`, else a new one in /etc/kubernetes/tmp.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn dry(command: &str, bin_dir: Option<&Path>) -> Result<Self> {
        let variable = format!("KUBEADM_{}_DRYRUN_DIR", command.to_uppercase());
        let named = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
        let stamp = jiff::Zoned::now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
        let dir = named.unwrap_or_else(|| {
            Path::new(crate::paths::TMP).join(format!("kubeadm-{command}-dryrun-{stamp}"))
        });
        anyhow::ensure!(!dir.is_file(), "{} is a file", dir.display());
        let services = Box::new(Pretended { bin_dir: bin_dir.map(Path::to_path_buf) });
        Ok(Self { services, made: Mutex::new(Made::dry()), dry: Some(dir) })
    }

    /// Is it a dry run?
    pub fn is_dry(&self) -> bool {
        self.dry.is_some()
    }

    /// Where a dry run writes.
    pub fn dry_dir(&self) -> Option<&Path> {
        self.dry.as_deref()
    }

    /// Where a path of the machine really lies.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.dry {
            Some(dir) => dir.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_path_buf(),
        }
    }

    /// Shows a dry run what is there of a file or directory: copies it to where the run's own files go.
    ///
    /// # Errors
    /// When it can't be copied.
    pub fn mirror(&self, path: &str) -> Result<()> {
        let (from, to) = (Path::new(path), self.path(path));
        if !self.is_dry() || !from.exists() {
            return Ok(());
        }
        if from.is_dir() {
            let entries = std::fs::read_dir(from).with_context(|| format!("reading {path}"))?;
            return entries.flatten().try_for_each(|e| self.mirror(&e.path().display().to_string()));
        }
        let data = std::fs::read(from).with_context(|| format!("reading {path}"))?;
        coxctl_pki::authority::write_file(&to, &data, 0o600)
    }

    /// Says where the files of a dry run are.
    pub fn tell_dry(&self) {
        if let Some(dir) = self.dry.as_ref().filter(|d| d.exists()) {
            say::line(
                "dryrun",
                format_args!(
                    "Finished dry-running. The files that would be written are in {}",
                    dir.display()
                ),
            );
        }
    }

    /// The manifest.
    pub fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock()
    }

    /// Records a path that is about to be made.
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn record(&self, path: &Path) -> Result<()> {
        if self.is_dry() { Ok(()) } else { self.made().file(path) }
    }

    /// Records and makes a directory whose contents will be ours.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn contents(&self, path: &str) -> Result<()> {
        match self.is_dry() {
            true => Ok(std::fs::create_dir_all(self.path(path))?),
            false => self.made().contents(Path::new(path)),
        }
    }

    /// Writes a file, recorded first.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &str, data: &[u8], mode: u32) -> Result<Changed> {
        if self.is_dry() {
            let place = self.path(path);
            say::line("dryrun", format_args!("Wrote {path} as {}", place.display()));
            coxctl_pki::authority::write_file(&place, data, mode)?;
            return Ok(Changed::Yes);
        }
        self.made().write_file(Path::new(path), data, mode)
    }

    /// Writes a document as YAML.
    ///
    /// # Errors
    /// As [`Host::write`].
    pub fn write_yaml(&self, path: &str, value: &serde_json::Value, mode: u32) -> Result<Changed> {
        self.write(path, serde_yaml::to_string(value)?.as_bytes(), mode)
    }

    /// Is the key of the cluster's authority on this machine?
    pub fn signs(&self, certificates_dir: &str) -> bool {
        let key = format!("{certificates_dir}/ca.key");
        self.path(&key).exists() || Path::new(&key).exists()
    }

    /// Reads a text; a dry run's own first.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&self, path: &str) -> Result<String> {
        let place = self.path(path);
        let place = if place.exists() { place } else { path.into() };
        std::fs::read_to_string(&place).with_context(|| format!("reading {path}"))
    }

    /// The service manager.
    pub fn services(&self) -> &dyn Services {
        self.services.as_ref()
    }

    /// Installs a daemon without starting it.
    ///
    /// # Errors
    /// As the service manager.
    pub fn install(&self, daemon: &Daemon) -> Result<Changed> {
        let mut made = self.made();
        coxctl_machine::install(self.services(), &mut made, daemon)
            .with_context(|| format!("installing {}", daemon.name))
    }

    /// Installs a daemon and starts it; one that runs is restarted when it was changed.
    ///
    /// # Errors
    /// As the service manager.
    pub fn run(&self, daemon: &Daemon) -> Result<()> {
        self.run_with(daemon, false)
    }

    /// As [`Host::run`], for a daemon whose files, if `changed`, are new to it.
    ///
    /// # Errors
    /// As the service manager.
    pub fn run_with(&self, daemon: &Daemon, changed: bool) -> Result<()> {
        let installed = self.install(daemon)?;
        self.go(&daemon.name, changed || installed.yes())
    }

    /// Starts an installed daemon; one that runs is restarted if that is wanted.
    ///
    /// # Errors
    /// As the service manager.
    pub fn go(&self, name: &str, again: bool) -> Result<()> {
        let runs = matches!(self.services.state(name)?, State::Running { .. } | State::Starting);
        match again && runs {
            true => self.services.restart(name),
            false => self.services.start(name),
        }
        .with_context(|| format!("starting {name}"))
    }

    /// Waits for a daemon to be well; see [`coxctl_machine::healthy`].
    ///
    /// # Errors
    /// When it isn't, with its last words.
    pub async fn healthy(
        &self,
        name: &str,
        check: impl AsyncFn() -> Result<()>,
        limit: Duration,
    ) -> Result<()> {
        match self.is_dry() {
            true => Ok(()),
            false => coxctl_machine::healthy(self.services(), name, check, limit).await,
        }
    }

    /// Stops and removes the daemons; see [`Made::undo_units`].
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn undo_units(&self) -> Result<coxctl_machine::made::Report> {
        self.made().undo_units(self.services())
    }

    /// Takes back all else; see [`Made::undo`].
    ///
    /// # Errors
    /// When the manifest can't be written.
    pub fn undo(&self) -> Result<coxctl_machine::made::Report> {
        self.made().undo(self.services())
    }

    /// Whether the same command with the same configuration began here and did not come to its end.
    pub fn unfinished(&self, command: &str) -> bool {
        matches!(self.made().run(), Some(Run { command: c, finished: false, .. }) if c == command)
    }
}

/// The service manager of a dry run.
struct Pretended {
    bin_dir: Option<PathBuf>,
}

impl Services for Pretended {
    fn kind(&self) -> &'static str {
        "dry run"
    }
    fn install(&self, daemon: &Daemon) -> Result<Changed> {
        say::line(
            "dryrun",
            format_args!(
                "Would install {}: {} {}",
                daemon.name,
                daemon.program.display(),
                daemon.args.join(" ")
            ),
        );
        Ok(Changed::Yes)
    }
    fn start(&self, name: &str) -> Result<()> {
        say::line("dryrun", format_args!("Would start {name}"));
        Ok(())
    }
    fn restart(&self, name: &str) -> Result<()> {
        say::line("dryrun", format_args!("Would restart {name}"));
        Ok(())
    }
    fn stop(&self, name: &str) -> Result<()> {
        say::line("dryrun", format_args!("Would stop {name}"));
        Ok(())
    }
    fn remove(&self, name: &str) -> Result<()> {
        say::line("dryrun", format_args!("Would remove {name}"));
        Ok(())
    }
    fn state(&self, _name: &str) -> Result<State> {
        Ok(State::Absent)
    }
    fn last_words(&self, _name: &str, _lines: usize) -> String {
        String::new()
    }
    fn program(&self, program: &Path) -> Result<PathBuf> {
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let given = self.bin_dir.iter().cloned().chain([coxctl_machine::paths::CURRENT.into()]);
        let mut places = given.chain(std::env::split_paths(&on_path)).map(|d| d.join(program));
        places.find(|p| p.exists()).with_context(|| format!("no {} is installed", program.display()))
    }
}
