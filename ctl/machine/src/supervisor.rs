//! Keeps a machine's daemons running where systemd does not: what is in a directory runs. Restarts those that die with a
//! growing pause, keeps their output in files, reaps orphans, and writes down which died and why.
//!
//! The directory holds one NAME.json per daemon ([`Order`]). A new file starts a daemon, a removed one stops it, a changed
//! one restarts it; files written by [`crate::Services`] carry a number and restart only when that changes.

mod order;
mod slot;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde::{Deserialize, Serialize};

use crate::{files, paths};
pub use order::Order;
use order::{Act, decide};
use slot::Slot;
pub use slot::remove_logs;

/// The file in which the supervisor tells what it sees.
pub const STATUS_FILE: &str = "/run/coxswain/supervisor.json";
/// A daemon named in this directory is kept down, for trying faults.
pub const HOLD_DIR: &str = "/run/coxswain/hold";
/// Time for daemons to end by themselves when the machine is shut down.
const DRAIN: Duration = Duration::from_secs(5);
/// Logs are looked at this often for their length.
const ROUND: Duration = Duration::from_secs(60);

/// What is known of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its process id as the supervisor sees it, 0 while it is down.
    pub pid: i32,
    /// How often it was started again since it was last started on purpose.
    pub restarts: u32,
    /// How it last ended.
    pub last_exit: String,
    /// When it was started, RFC 3339.
    #[serde(default)]
    pub since: String,
    /// The number of the order that is carried out.
    #[serde(default)]
    pub order: u64,
    /// It is down on purpose.
    #[serde(default)]
    pub stopped: bool,
}

/// Where the supervisor works.
#[derive(Debug, Clone)]
pub struct Places {
    /// Orders.
    pub daemons: PathBuf,
    /// Output of daemons.
    pub logs: PathBuf,
    /// Status, lock, and names of daemons that are held down.
    pub run: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { daemons: paths::DAEMONS.into(), logs: paths::LOGS.into(), run: paths::RUN.into() }
    }
}

impl Places {
    /// The status file.
    pub fn status(&self) -> PathBuf {
        self.run.join("supervisor.json")
    }

    fn lock(&self) -> PathBuf {
        self.run.join("supervisor.lock")
    }

    fn hold(&self) -> PathBuf {
        self.run.join("hold")
    }

    /// Whether a supervisor works here.
    pub fn supervised(&self) -> bool {
        let Ok(file) = File::open(self.lock()) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, nix::errno::Errno::EWOULDBLOCK)))
    }

    /// What the supervisor last wrote.
    pub fn read_status(&self) -> BTreeMap<String, State> {
        let text = fs::read(self.status()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

/// Supervises what is in `daemons` until SIGTERM or SIGINT, then ends the daemons and returns.
///
/// # Errors
/// When a directory can't be made or watched, or another supervisor runs.
pub fn run_dir(daemons: &Path, logs: &Path) -> Result<()> {
    run_at(&Places { daemons: daemons.into(), logs: logs.into(), ..Places::default() }, false)
}

/// Keeps the daemons of a directory running, until told to end
#[derive(Debug, Clone, clap::Args)]
pub struct Supervise {
    /// End when the last daemon was removed
    #[arg(long)]
    pub while_needed: bool,
    /// Directory of the daemons to run
    #[arg(long, default_value = paths::DAEMONS)]
    pub daemons: PathBuf,
    /// Directory of their output
    #[arg(long, default_value = paths::LOGS)]
    pub logs: PathBuf,
    /// Directory of the status
    #[arg(long, default_value = paths::RUN)]
    pub run: PathBuf,
}

/// Runs `coxctl supervise`. To be called from the program's first thread, before others are started.
///
/// # Errors
/// As [`run_dir`].
pub fn supervise(args: Supervise) -> Result<i32> {
    let places = Places { daemons: args.daemons, logs: args.logs, run: args.run };
    run_at(&places, args.while_needed).map(|()| 0)
}

/// As [`run_dir`], in any places; with `while_needed` also returns when the last daemon was removed.
///
/// # Errors
/// As [`run_dir`].
pub fn run_at(places: &Places, while_needed: bool) -> Result<()> {
    for dir in [&places.daemons, &places.logs, &places.run] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let _lock = take_lock(places)?;
    let mut work = Work::new(places)?;
    work.run(while_needed)?;
    if while_needed && work.slots.is_empty() {
        files::remove(&places.status())?;
        files::remove(&places.lock())?;
        let _ = fs::remove_dir(&places.run);
    }
    Ok(())
}

fn take_lock(places: &Places) -> Result<Flock<File>> {
    let path = places.lock();
    let file = File::options().create(true).append(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!("a supervisor runs here already"),
        Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// Why the supervisor woke.
enum Woken {
    /// Time passed, a child ended, or an order changed.
    Work,
    /// It shall end.
    End,
}

struct Work<'a> {
    places: &'a Places,
    signals: SignalFd,
    changes: Inotify,
    slots: BTreeMap<String, Slot>,
    told: Vec<u8>,
    looked: Instant,
}

impl<'a> Work<'a> {
    fn new(places: &'a Places) -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            mask.add(signal);
        }
        mask.thread_block().context("blocking signals")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let work = Self {
            places,
            signals,
            changes,
            slots: BTreeMap::new(),
            told: Vec::new(),
            looked: Instant::now(),
        };
        work.watch()?;
        Ok(work)
    }

    fn watch(&self) -> Result<()> {
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF;
        self.changes
            .add_watch(&self.places.daemons, events | AddWatchFlags::IN_ONLYDIR)
            .with_context(|| format!("watching {}", self.places.daemons.display()))?;
        Ok(())
    }

    fn run(&mut self, while_needed: bool) -> Result<()> {
        self.read_orders();
        loop {
            self.step();
            if while_needed && self.slots.is_empty() {
                return Ok(());
            }
            if matches!(self.sleep()?, Woken::End) {
                self.shut_down();
                return Ok(());
            }
        }
    }

    /// All that is due now.
    fn step(&mut self) {
        // One that was started and fell had its turn: nobody waits for it to rise.
        let had = |s: &Slot| s.state.pid > 0 || s.state.restarts > 0;
        let up: Vec<String> = self.slots.iter().filter(|(_, s)| had(s)).map(|(n, _)| n.clone()).collect();
        let wanted: Vec<String> =
            self.slots.iter().filter(|(_, s)| s.wanted()).map(|(n, _)| n.clone()).collect();
        let ready = |name: &String| up.contains(name) || !wanted.contains(name);
        for slot in self.slots.values_mut() {
            slot.step(&self.places.logs, &self.places.hold(), ready);
        }
        self.slots.retain(|_, s| !s.gone());
        if self.looked.elapsed() >= ROUND {
            self.looked = Instant::now();
            self.slots.keys().for_each(|name| slot::shorten_log(&self.places.logs, name));
        }
        self.publish();
    }

    fn sleep(&mut self) -> Result<Woken> {
        let due = self.slots.values().filter_map(Slot::due).min();
        let wait = due.map_or(ROUND, |d| d.saturating_duration_since(Instant::now())).min(ROUND);
        let wait = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut ready = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut ready, wait);
        let mut ended = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo != Signal::SIGCHLD as u32 {
                return Ok(Woken::End);
            }
            ended = true;
        }
        if ended {
            self.reap();
        }
        self.hear()?;
        Ok(Woken::Work)
    }

    /// Reads what happened in the directory; what exactly does not matter.
    fn hear(&mut self) -> Result<()> {
        let mut changed = false;
        while let Ok(events) = self.changes.read_events() {
            changed |= !events.is_empty();
        }
        if !changed {
            return Ok(());
        }
        if !self.places.daemons.is_dir() {
            // A new one may come; what ran by orders in the old one ends.
            fs::create_dir_all(&self.places.daemons)?;
            self.watch()?;
        }
        self.read_orders();
        Ok(())
    }

    fn read_orders(&mut self) {
        let orders = order::read_all(&self.places.daemons);
        let gone: Vec<String> = self.slots.keys().filter(|n| !orders.contains_key(*n)).cloned().collect();
        for name in gone {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.obey(Act::Stop, None);
            }
        }
        for (name, order) in orders {
            let slot = self.slots.entry(name.clone()).or_insert_with(|| Slot::new(&name));
            match order {
                Ok(order) => slot.obey(decide(slot.order(), &order), Some(order)),
                Err(error) => slot.state.last_exit = format!("{error:#}"),
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exited with code {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("killed by {signal}")),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(slot) = self.slots.values_mut().find(|s| s.state.pid == pid.as_raw()) {
                slot.ended(how);
            }
        }
    }

    fn publish(&mut self) {
        let all: BTreeMap<&str, &State> = self.slots.iter().map(|(n, s)| (n.as_str(), &s.state)).collect();
        let Ok(text) = serde_json::to_vec(&all) else { return };
        if text != self.told && write_status(&self.places.status(), &text).is_ok() {
            self.told = text;
        }
    }

    fn shut_down(&mut self) {
        self.slots.values().for_each(|s| s.signal(Signal::SIGTERM));
        let end = Instant::now() + DRAIN;
        while Instant::now() < end && self.slots.values().any(|s| s.state.pid > 0) {
            let mut ready = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::from(20u8));
            while let Ok(Some(_)) = self.signals.read_signal() {}
            self.reap();
        }
        self.slots.values().for_each(|s| s.signal(Signal::SIGKILL));
    }
}

/// In one step, but not flushed: it lies in memory and is of no use after a power cut.
fn write_status(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let partial = files::partial(path);
    fs::write(&partial, text)?;
    fs::rename(&partial, path)
}
