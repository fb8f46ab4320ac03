//! Keeps a node's daemons running: restarts those that die with a growing pause, keeps their output in files, reaps orphans,
//! and writes down which died and why.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The file in which the supervisor tells `lab status` what it sees.
pub const STATUS_FILE: &str = "/run/coxswain/supervisor.json";
/// A daemon named in this directory is kept down, for trying faults.
pub const HOLD_DIR: &str = "/run/coxswain/hold";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A daemon that lived this long starts again with the first pause.
const STEADY: Duration = Duration::from_secs(10);
/// Time for daemons to end by themselves when the node is shut down.
const DRAIN: Duration = Duration::from_secs(5);
/// A log longer than this is moved aside when its daemon starts.
const LOG_LIMIT: u64 = 64 << 20;

/// One daemon to keep running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name, also that of its log.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Further environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// What is known of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its process id inside the node, 0 while it is down.
    pub pid: i32,
    /// How often it was started again.
    pub restarts: u32,
    /// How it last ended.
    pub last_exit: String,
}

struct Slot<'a> {
    daemon: &'a Daemon,
    state: State,
    started: Instant,
    pause: Duration,
    due: Option<Instant>,
}

/// Supervises until SIGTERM or SIGINT, then ends the daemons and returns.
///
/// # Errors
/// When signals can't be received.
pub fn run(daemons: &[Daemon], logs: &Path) -> Result<()> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        mask.add(signal);
    }
    mask.thread_block().context("blocking signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let mut slots: Vec<Slot<'_>> = daemons.iter().map(Slot::new).collect();
    loop {
        start_due(&mut slots, logs);
        publish(&slots);
        let wait = next_due(&slots).map_or(PollTimeout::NONE, |d| {
            PollTimeout::try_from(d + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], wait);
        while let Ok(Some(info)) = signals.read_signal() {
            if info.ssi_signo != Signal::SIGCHLD as u32 {
                return shut_down(&mut slots);
            }
        }
        reap(&mut slots);
    }
}

impl<'a> Slot<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        let now = Instant::now();
        Self { daemon, state: State::default(), started: now, pause: FIRST_PAUSE, due: Some(now) }
    }

    fn ended(&mut self, how: String) {
        eprintln!("{}: {how}", self.daemon.name);
        self.pause = next_pause(self.pause, self.started.elapsed());
        self.state.pid = 0;
        self.state.restarts += 1;
        self.state.last_exit = how;
        self.due = Some(Instant::now() + self.pause);
    }
}

/// The pause before the next start: short after a steady life, else doubled up to a limit.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived >= STEADY { FIRST_PAUSE } else { (last * 2).min(LAST_PAUSE) }
}

fn start_due(slots: &mut [Slot<'_>], logs: &Path) {
    let now = Instant::now();
    for slot in slots.iter_mut().filter(|s| s.due.is_some_and(|d| d <= now)) {
        if Path::new(HOLD_DIR).join(&slot.daemon.name).exists() {
            slot.due = Some(now + Duration::from_millis(200));
            continue;
        }
        slot.due = None;
        slot.started = now;
        match spawn(slot.daemon, logs) {
            Ok(pid) => slot.state.pid = pid,
            Err(error) => slot.ended(format!("could not be started: {error:#}")),
        }
    }
}

fn spawn(daemon: &Daemon, logs: &Path) -> Result<i32> {
    let path = logs.join(format!("{}.log", daemon.name));
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_LIMIT) {
        let _ = fs::rename(&path, path.with_extension("log.1"));
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let (program, args) = daemon.command.split_first().context("no program is named")?;
    // The standard library clears the signal mask in the child, so the supervisor's own does not reach the daemon.
    let mut command = Command::new(program);
    command
        .args(args)
        .envs(&daemon.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    unblock_signals(&mut command);
    Ok(command.spawn().with_context(|| format!("running {program}"))?.id() as i32)
}

/// The supervisor blocks the signals it reads from a descriptor, and a child would inherit that: SIGTERM would never
/// reach a daemon.
#[allow(unsafe_code)] // the hook only sets the signal mask, which is safe between fork and exec
fn unblock_signals(command: &mut Command) {
    let clear = || SigSet::empty().thread_set_mask().map_err(std::io::Error::from);
    unsafe {
        command.pre_exec(clear);
    }
}

fn next_due(slots: &[Slot<'_>]) -> Option<Duration> {
    slots.iter().filter_map(|s| s.due).min().map(|d| d.saturating_duration_since(Instant::now()))
}

fn reap(slots: &mut [Slot<'_>]) {
    loop {
        let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exited with code {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("killed by {signal}")),
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => continue,
        };
        if let Some(slot) = slots.iter_mut().find(|s| s.state.pid == pid.as_raw()) {
            slot.ended(how);
        }
    }
}

fn publish(slots: &[Slot<'_>]) {
    let all: BTreeMap<&str, &State> = slots.iter().map(|s| (s.daemon.name.as_str(), &s.state)).collect();
    if let Ok(text) = serde_json::to_vec(&all) {
        let _ = coxctl_pki::authority::write_file(Path::new(STATUS_FILE), &text, 0o644);
    }
}

fn shut_down(slots: &mut [Slot<'_>]) -> Result<()> {
    let signal = |slots: &[Slot<'_>], s| {
        for slot in slots.iter().filter(|x| x.state.pid > 0) {
            let _ = kill(Pid::from_raw(slot.state.pid), s);
        }
    };
    signal(slots, Signal::SIGTERM);
    let end = Instant::now() + DRAIN;
    while Instant::now() < end && slots.iter().any(|s| s.state.pid > 0) {
        reap(slots);
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(slots, Signal::SIGKILL);
    Ok(())
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
}
