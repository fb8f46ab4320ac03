//! Daemons under our own supervisor: an order file each, and the supervisor's status.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Changed, Daemon, Services, State, find};
use crate::files;
use crate::supervisor::{self, Order, Places};

/// How long the supervisor may take to carry out an order; stopping a daemon takes longest.
const PATIENCE: Duration = Duration::from_secs(30);
/// The daemon that others write to while they end.
const STORE: &str = "coxswain-etcd";
/// How long it may take to come up.
const BIRTH: Duration = Duration::from_secs(5);
/// How often the status is looked at where changes are not told.
const GLANCE: Duration = Duration::from_millis(50);

/// The supervisor as a service manager.
#[derive(Debug, Clone)]
pub struct Supervised {
    places: Places,
    coxctl: PathBuf,
    bin_dir: Option<PathBuf>,
}

impl Supervised {
    /// `coxctl supervise --while-needed` is run when no supervisor works in `places`.
    pub fn new(places: Places, coxctl: PathBuf, bin_dir: Option<PathBuf>) -> Self {
        Self { places, coxctl, bin_dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.places.daemons.join(format!("{name}.json"))
    }

    fn read(&self, name: &str) -> Result<Option<Order>> {
        if !self.file(name).exists() {
            return Ok(None);
        }
        let path = self.file(name);
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        // A damaged order is as good as none: it is about to be written anew.
        Ok(serde_json::from_slice(&text).ok())
    }

    fn write(&self, order: &Order) -> Result<Changed> {
        let dir = &self.places.daemons;
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let text = serde_json::to_vec_pretty(order)?;
        files::ensure(&self.file(&order.daemon.name), &text, 0o600)
    }

    fn require(&self, name: &str) -> Result<Order> {
        self.read(name)?.with_context(|| format!("{name} is not installed"))
    }

    /// Gives the order its next number and waits until the supervisor has carried it out.
    fn give(&self, mut order: Order) -> Result<()> {
        let number = order.order.unwrap_or_default() + 1;
        order.order = Some(number);
        let (name, stopped) = (order.daemon.name.clone(), order.stopped);
        self.write(&order)?;
        self.ensure_supervised()?;
        self.wait(PATIENCE, &|state| {
            let done = state.is_some_and(|s| s.order >= number && s.stopped == stopped);
            done && (!stopped || state.is_some_and(|s| s.pid == 0))
        })
        .with_context(
            || format!("the supervisor did not {} {name}", if stopped { "stop" } else { "start" }),
            &name,
        )
    }

    /// Waits for the status file to say so.
    fn wait<'a>(
        &'a self,
        limit: Duration,
        said: &'a dyn Fn(Option<&supervisor::State>) -> bool,
    ) -> Waiting<'a> {
        Waiting { places: &self.places, limit, said }
    }

    fn ensure_supervised(&self) -> Result<()> {
        if self.places.supervised() {
            return Ok(());
        }
        let log = self.places.logs.join("supervisor.log");
        fs::create_dir_all(&self.places.logs)
            .with_context(|| format!("making {}", self.places.logs.display()))?;
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(&self.coxctl);
        command
            .args(["supervise", "--while-needed"])
            .arg(format!("--daemons={}", self.places.daemons.display()))
            .arg(format!("--logs={}", self.places.logs.display()))
            .arg(format!("--run={}", self.places.run.display()))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .current_dir("/");
        detach(&mut command);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.coxctl.display()))?;
        let end = Instant::now() + BIRTH;
        while !self.places.supervised() {
            if let Ok(Some(status)) = child.try_wait() {
                // Somebody else's supervisor may have been quicker.
                if self.places.supervised() {
                    break;
                }
                bail!("the supervisor ended with {status}: {}", files::tail(&log, 3));
            }
            if Instant::now() > end {
                bail!("the supervisor did not start within {BIRTH:?}; see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// A session of its own: the supervisor outlives the terminal and the command that started it.
#[allow(unsafe_code)] // the hook only calls setsid, which is safe between fork and exec
fn detach(command: &mut Command) {
    let hook = || nix::unistd::setsid().map(|_| ()).map_err(std::io::Error::from);
    unsafe {
        command.pre_exec(hook);
    }
}

/// A wait for the supervisor's status of one daemon.
struct Waiting<'a> {
    places: &'a Places,
    limit: Duration,
    said: &'a dyn Fn(Option<&supervisor::State>) -> bool,
}

impl Waiting<'_> {
    fn with_context(self, failure: impl FnOnce() -> String, name: &str) -> Result<()> {
        // The machine's inotify instances may all be taken; then it is looked at now and then.
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let kinds = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        let changes = changes.filter(|c| c.add_watch(&self.places.run, kinds).is_ok());
        let end = Instant::now() + self.limit;
        while !(self.said)(self.places.read_status().get(name)) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} within {:?}", failure(), self.limit);
            }
            match &changes {
                Some(changes) => woken(changes, left.min(Duration::from_millis(500)))?,
                None => std::thread::sleep(left.min(GLANCE)),
            }
        }
        Ok(())
    }
}

/// Waits for a change, or so long: the directory may be made anew.
fn woken(changes: &Inotify, limit: Duration) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let _ = poll(&mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)], PollTimeout::try_from(limit)?);
    while changes.read_events().is_ok_and(|e| !e.is_empty()) {}
    Ok(())
}

impl Services for Supervised {
    fn kind(&self) -> &'static str {
        "supervisor"
    }

    fn install(&self, daemon: &Daemon) -> Result<Changed> {
        let mut daemon = daemon.clone();
        daemon.program = self.program(&daemon.program)?;
        let old = self.read(&daemon.name)?;
        let order = Order {
            stopped: old.as_ref().is_none_or(|o| o.stopped),
            order: Some(old.as_ref().and_then(|o| o.order).unwrap_or_default()),
            daemon,
        };
        self.write(&order)
    }

    fn start(&self, name: &str) -> Result<()> {
        let order = self.require(name)?;
        let runs = self.places.read_status().get(name).is_some_and(|s| s.pid > 0);
        if !order.stopped && order.order.is_some() && runs && self.places.supervised() {
            return Ok(());
        }
        // One that waits for its next try is tried at once.
        self.give(Order { stopped: false, ..order })
    }

    fn restart(&self, name: &str) -> Result<()> {
        self.give(Order { stopped: false, ..self.require(name)? })
    }

    fn stop(&self, name: &str) -> Result<()> {
        match self.read(name)? {
            Some(order) if !self.places.supervised() => {
                self.write(&Order { stopped: true, ..order }).map(|_| ())
            }
            Some(order) => self.give(Order { stopped: true, ..order }),
            None => Ok(()),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        // A full disk takes no order to stop; that the file goes is an order too.
        let _ = self.stop(name);
        files::remove(&self.file(name))?;
        if self.places.supervised() {
            self.wait(PATIENCE, &|state| state.is_none())
                .with_context(|| format!("the supervisor did not forget {name}"), name)?;
        }
        supervisor::remove_logs(&self.places.logs, name)
    }

    /// All are told to stop before one is waited for; the store outlives those that write to it.
    fn remove_all(&self, names: &[&str]) -> Vec<Result<()>> {
        for name in names.iter().filter(|n| **n != STORE) {
            if let Ok(Some(order)) = self.read(name) {
                let number = order.order.unwrap_or_default() + 1;
                let _ = self.write(&Order { stopped: true, order: Some(number), ..order });
            }
        }
        let mut results: Vec<(usize, Result<()>)> = Vec::new();
        for store in [false, true] {
            let wave = names.iter().enumerate().filter(|(_, n)| (**n == STORE) == store);
            results.extend(wave.map(|(at, name)| (at, self.remove(name))));
        }
        results.sort_by_key(|r| r.0);
        results.into_iter().map(|r| r.1).collect()
    }

    fn state(&self, name: &str) -> Result<State> {
        let Some(order) = self.read(name)? else { return Ok(State::Absent) };
        if order.stopped {
            return Ok(State::Stopped);
        }
        if !self.places.supervised() {
            return Ok(State::Failed { how: "no supervisor runs".into(), restarts: 0 });
        }
        Ok(seen(self.places.read_status().get(name)))
    }

    fn last_words(&self, name: &str, lines: usize) -> String {
        files::tail(&self.places.logs.join(format!("{name}.log")), lines)
    }

    fn installed(&self, name: &str) -> Result<Option<Daemon>> {
        Ok(self.read(name)?.map(|order| order.daemon))
    }

    fn program(&self, program: &Path) -> Result<PathBuf> {
        find(program, self.bin_dir.as_deref())
    }

    fn endings(&self, name: &str) -> u32 {
        self.places.read_status().get(name).map_or(0, |s| s.restarts)
    }
}

fn seen(state: Option<&supervisor::State>) -> State {
    let Some(state) = state else { return State::Starting };
    match u32::try_from(state.pid) {
        Ok(pid) if pid > 0 => {
            State::Running { pid, since: state.since.parse().unwrap_or(Timestamp::UNIX_EPOCH) }
        }
        _ if state.restarts > 0 => State::Failed { how: state.last_exit.clone(), restarts: state.restarts },
        _ => State::Starting,
    }
}
