//! One supervised daemon: its order, its process, when it is due.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::State;
use super::order::{Act, Order};
use crate::{files, paths, words};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A daemon that lived this long starts again with the first pause.
const STEADY: Duration = Duration::from_secs(10);
/// Time for a daemon to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a held daemon, or one that waits for another, is looked at.
const GLANCE: Duration = Duration::from_millis(200);
/// Others are waited for this long, not for ever: order is a kindness, not a condition.
const TURN: Duration = Duration::from_secs(5);
/// A log longer than this is moved aside.
const LOG_LIMIT: u64 = 64 << 20;
/// Where programs are found when the supervisor was started with no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Slot {
    pub state: State,
    name: String,
    order: Option<Order>,
    started: Instant,
    asked: Instant,
    pause: Duration,
    due: Option<Instant>,
    /// It was told to end, and is killed at this time.
    ending: Option<Instant>,
}

impl Slot {
    pub fn new(name: &str) -> Self {
        let now = Instant::now();
        let state = State { stopped: true, ..State::default() };
        Self {
            state,
            name: name.into(),
            order: None,
            started: now,
            asked: now,
            pause: FIRST_PAUSE,
            due: None,
            ending: None,
        }
    }

    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Whether it shall be up.
    pub fn wanted(&self) -> bool {
        self.order.as_ref().is_some_and(|o| !o.stopped)
    }

    /// Whether it can be forgotten.
    pub fn gone(&self) -> bool {
        self.order.is_none() && self.state.pid == 0 && self.state.last_exit.is_empty()
    }

    /// When it is to be looked at next.
    pub fn due(&self) -> Option<Instant> {
        self.ending.or(self.due)
    }

    /// Takes an order; none means that it was taken away.
    pub fn obey(&mut self, act: Act, order: Option<Order>) {
        self.state.stopped = order.as_ref().is_none_or(|o| o.stopped);
        if order.is_none() {
            self.state.last_exit.clear();
        }
        self.order = order;
        match act {
            Act::Keep => {}
            Act::Start => self.begin(),
            Act::Restart => {
                self.end();
                self.begin();
            }
            Act::Stop => {
                self.due = None;
                self.end();
            }
        }
    }

    /// Started on purpose: what went wrong before does not count.
    fn begin(&mut self) {
        self.state.restarts = 0;
        self.pause = FIRST_PAUSE;
        self.asked = Instant::now();
        self.due = Some(self.asked);
    }

    fn end(&mut self) {
        if self.state.pid > 0 && self.ending.is_none() {
            self.signal(Signal::SIGTERM);
            self.ending = Some(Instant::now() + PATIENCE);
        }
    }

    pub fn signal(&self, signal: Signal) {
        if self.state.pid > 0 {
            let _ = kill(Pid::from_raw(self.state.pid), signal);
        }
    }

    /// Its process ended.
    pub fn ended(&mut self, how: String) {
        let asked = self.ending.take().is_some();
        self.state.pid = 0;
        if asked || !self.wanted() {
            self.state.order = self.order.as_ref().and_then(|o| o.order).unwrap_or_default();
            return;
        }
        eprintln!("{}: {how}", self.name);
        self.pause = next_pause(self.pause, self.started.elapsed());
        self.state.restarts += 1;
        self.state.last_exit = how;
        self.due = Some(Instant::now() + self.pause);
    }

    /// Does what is due: kills it, starts it, or waits for those that come before.
    pub fn step(&mut self, logs: &Path, hold: &Path, ready: impl Fn(&String) -> bool) {
        let now = Instant::now();
        if self.ending.is_some_and(|d| d <= now) {
            self.signal(Signal::SIGKILL);
            self.ending = Some(now + PATIENCE);
        }
        if self.state.pid > 0 || self.due.is_none_or(|d| d > now) {
            if self.state.stopped && self.state.pid == 0 {
                self.state.order = self.order.as_ref().and_then(|o| o.order).unwrap_or_default();
            }
            return;
        }
        let first = self.order.as_ref().map(|o| o.daemon.after.clone()).unwrap_or_default();
        let waits = self.asked.elapsed() < TURN && !first.iter().all(ready);
        if waits || hold.join(&self.name).exists() {
            self.due = Some(now + GLANCE);
            return;
        }
        self.start(logs);
    }

    fn start(&mut self, logs: &Path) {
        self.due = None;
        self.started = Instant::now();
        let Some(order) = self.order.clone() else { return };
        self.state.order = order.order.unwrap_or_default();
        self.state.since = jiff::Timestamp::now().to_string();
        match spawn(&order, logs) {
            Ok(pid) => self.state.pid = pid,
            Err(error) => {
                let how = format!("could not be started: {error:#}");
                note(logs, &self.name, &how);
                self.ended(how);
            }
        }
    }
}

/// The pause before the next start: short after a steady life, else doubled up to a limit.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived >= STEADY { FIRST_PAUSE } else { (last * 2).min(LAST_PAUSE) }
}

fn log_file(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{name}.log"))
}

fn open_log(logs: &Path, name: &str) -> Result<File> {
    let path = log_file(logs, name);
    let log = File::options().create(true).append(true).mode(0o640).open(&path);
    log.with_context(|| format!("opening {}", path.display()))
}

/// Puts a line into the daemon's log, where its last words are looked for.
fn note(logs: &Path, name: &str, line: &str) {
    if let Ok(mut log) = open_log(logs, name) {
        let _ = writeln!(log, "{line}");
    }
}

/// Keeps the last part of a log that grew too long as NAME.log.1 and empties it; the daemon goes on writing at its end.
pub fn shorten_log(logs: &Path, name: &str) {
    let path = log_file(logs, name);
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_LIMIT) && keep_end(&path, LOG_LIMIT).is_err() {
        eprintln!("{}: can't be shortened", path.display());
    }
}

fn keep_end(path: &Path, length: u64) -> std::io::Result<()> {
    let mut log = File::options().read(true).write(true).open(path)?;
    let end = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(end.saturating_sub(length)))?;
    let mut copy = File::create(path.with_extension("log.1"))?;
    std::io::copy(&mut (&mut log).take(length), &mut copy)?;
    log.set_len(0)
}

fn spawn(order: &Order, logs: &Path) -> Result<i32> {
    let daemon = &order.daemon;
    shorten_log(logs, &daemon.name);
    let log = open_log(logs, &daemon.name)?;
    let mut command = Command::new(program(&daemon.program));
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    command
        .args(&daemon.args)
        .args(words::further(&daemon.name))
        .envs(&daemon.env)
        // Not for them: the supervisor may itself be somebody's service.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    prepare(&mut command);
    let child = command.spawn().with_context(|| format!("running {}", daemon.program.display()))?;
    Ok(i32::try_from(child.id())?)
}

/// A bare name is taken from the version in use, if it has one.
fn program(program: &Path) -> PathBuf {
    let current = Path::new(paths::CURRENT).join(program);
    if program.components().count() == 1 && current.exists() { current } else { program.to_path_buf() }
}

/// The supervisor blocks the signals it reads from a descriptor, and a child would inherit that: SIGTERM would never
/// reach a daemon. And a daemon whose supervisor was killed must end, or the next one could not start it.
#[allow(unsafe_code)] // the hook sets the signal mask and one attribute of the process, which is safe between fork and exec
fn prepare(command: &mut Command) {
    let hook = || {
        SigSet::empty().thread_set_mask().map_err(std::io::Error::from)?;
        set_pdeathsig(Signal::SIGTERM).map_err(std::io::Error::from)
    };
    unsafe {
        command.pre_exec(hook);
    }
}

/// Removes a daemon's logs.
///
/// # Errors
/// When they can't be removed.
pub fn remove_logs(logs: &Path, name: &str) -> Result<()> {
    let path = log_file(logs, name);
    files::remove(&path.with_extension("log.1"))?;
    files::remove(&path).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_forgiven() {
        let short = Duration::from_secs(1);
        let mut pause = FIRST_PAUSE;
        let seen: Vec<u128> = (0..8)
            .map(|_| {
                pause = next_pause(pause, short);
                pause.as_millis()
            })
            .collect();
        assert_eq!(seen, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(next_pause(LAST_PAUSE, STEADY), FIRST_PAUSE);
    }

    #[test]
    fn long_logs_keep_their_end() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut log = open_log(dir.path(), "a")?;
        log.write_all(b"0123456789")?;
        keep_end(&log_file(dir.path(), "a"), 4)?;
        log.write_all(b"new")?;
        assert_eq!(fs::read_to_string(dir.path().join("a.log.1"))?, "6789");
        assert_eq!(fs::read_to_string(dir.path().join("a.log"))?, "new");
        Ok(())
    }
}
