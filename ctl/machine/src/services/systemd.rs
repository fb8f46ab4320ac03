//! Daemons as systemd units.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Changed, Daemon, Services, State, dropin, find};
use crate::{files, paths, process, words};

/// Time for systemctl to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Time for a daemon to stop: more than any unit's TimeoutStopSec.
const STOP: Duration = Duration::from_secs(120);
const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,ExecMainStartTimestampMonotonic,ExecMainCode,\
    ExecMainStatus,Result,NRestarts,Job,StatusText";

/// Unit files by daemon.
pub const UNITS: [(&str, &str); 10] = [
    ("coxswain-etcd", include_str!("../../../../deploy/systemd/coxswain-etcd.service")),
    ("kube-apiserver", include_str!("../../../../deploy/systemd/kube-apiserver.service")),
    ("kube-controller-manager", include_str!("../../../../deploy/systemd/kube-controller-manager.service")),
    ("kube-scheduler", include_str!("../../../../deploy/systemd/kube-scheduler.service")),
    ("cloud-controller-manager", include_str!("../../../../deploy/systemd/cloud-controller-manager.service")),
    ("kubelet", include_str!("../../../../deploy/systemd/kubelet.service")),
    ("kube-proxy", include_str!("../../../../deploy/systemd/kube-proxy.service")),
    ("coxswain-network", include_str!("../../../../deploy/systemd/coxswain-network.service")),
    ("coxswain-balancer", include_str!("../../../../deploy/systemd/coxswain-balancer.service")),
    ("coxswain-certs", include_str!("../../../../deploy/systemd/coxswain-certs.service")),
];

/// systemd as a service manager.
#[derive(Debug, Clone)]
pub struct Systemd {
    units: PathBuf,
    environment: PathBuf,
    systemctl: PathBuf,
    journalctl: PathBuf,
    bin_dir: Option<PathBuf>,
    /// Where packages put units and their drop-ins.
    packaged: Vec<PathBuf>,
}

impl Systemd {
    /// This machine's.
    pub fn new(bin_dir: Option<PathBuf>) -> Self {
        Self {
            units: paths::UNITS.into(),
            environment: paths::DAEMONS.into(),
            systemctl: "systemctl".into(),
            journalctl: "journalctl".into(),
            bin_dir,
            packaged: ["/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
                .map(PathBuf::from)
                .to_vec(),
        }
    }

    fn systemctl(&self, args: &[&str], limit: Duration) -> Result<String> {
        process::output(Command::new(&self.systemctl).arg("--no-ask-password").args(args), limit)
    }

    fn unit_file(&self, name: &str) -> PathBuf {
        self.units.join(format!("{name}.service"))
    }

    /// Later by name than those of packages, so that it has the last word.
    fn drop_in(&self, name: &str) -> PathBuf {
        self.units.join(format!("{name}.service.d/99-coxswain.conf"))
    }

    fn environment_file(&self, name: &str) -> PathBuf {
        self.environment.join(format!("{name}.env"))
    }

    /// The link by which the unit starts at boot.
    fn wants(&self, name: &str) -> PathBuf {
        self.units.join(format!("multi-user.target.wants/{name}.service"))
    }

    /// What `systemctl enable` does, without its reload for each unit.
    fn enable(&self, name: &str) -> Result<Changed> {
        let link = self.wants(name);
        if files::there(&link) {
            return Ok(Changed::No);
        }
        let what = || format!("enabling {name}");
        fs::create_dir_all(link.parent().unwrap_or(&self.units)).with_context(what)?;
        std::os::unix::fs::symlink(self.unit_file(name), &link).with_context(what)?;
        Ok(Changed::Yes)
    }

    /// Removes the unit's files; true when systemd must be told.
    fn remove_files(&self, name: &str) -> Result<bool> {
        files::remove(&self.environment_file(name))?;
        let drop_in = self.drop_in(name);
        let mut changed = files::remove(&drop_in)?;
        let _ = drop_in.parent().map(fs::remove_dir);
        changed |= files::remove(&self.wants(name))?;
        changed |= files::remove(&self.unit_file(name))?;
        Ok(changed)
    }

    /// Forgets units that failed; one that is unknown by now is an error of no interest.
    fn forget(&self, names: &[&str]) -> Result<()> {
        self.systemctl(&["daemon-reload"], ANSWER)?;
        let units: Vec<String> = names.iter().map(|n| format!("{n}.service")).collect();
        let args: Vec<&str> = ["reset-failed"].into_iter().chain(units.iter().map(String::as_str)).collect();
        let _ = self.systemctl(&args, ANSWER);
        Ok(())
    }

    /// Stops all that are known, at once.
    fn stop_all(&self, names: &[&str]) -> Result<()> {
        let known = names.iter().filter(|n| self.state(n).is_ok_and(|s| s != State::Absent));
        let units: Vec<String> = known.map(|n| format!("{n}.service")).collect();
        if units.is_empty() {
            return Ok(());
        }
        let args: Vec<&str> = ["stop"].into_iter().chain(units.iter().map(String::as_str)).collect();
        self.systemctl(&args, STOP).map(|_| ())
    }

    /// Whether somebody else's drop-ins change this unit.
    fn foreign_drop_ins(&self, name: &str) -> bool {
        let dirs = self.packaged.iter().chain([&self.units]);
        let ours = self.drop_in(name);
        dirs.map(|d| d.join(format!("{name}.service.d"))).any(|dir| {
            let names = files::names(&dir).unwrap_or_default();
            names.iter().any(|n| n.ends_with(".conf") && dir.join(n) != ours)
        })
    }

    fn write_drop_in(&self, daemon: &Daemon, unit: &str) -> Result<Changed> {
        let path = self.drop_in(&daemon.name);
        let program = self.program(&daemon.program)?;
        let Some(text) = dropin::render(daemon, &program, unit, self.foreign_drop_ins(&daemon.name)) else {
            let gone = files::remove(&path)?;
            return Ok(if gone { Changed::Yes } else { Changed::No });
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        files::ensure(&path, text.as_bytes(), 0o644)
    }

    /// The program its unit runs: the last one said.
    fn runs(&self, name: &str) -> PathBuf {
        let texts =
            [self.unit_file(name), self.drop_in(name)].map(|f| fs::read_to_string(f).unwrap_or_default());
        let lines = texts.iter().flat_map(|t| t.lines()).filter_map(|l| l.strip_prefix("ExecStart="));
        let said = lines.filter_map(|l| words::split(l).into_iter().next()).next_back();
        said.unwrap_or_else(|| name.into()).into()
    }

    fn show(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let unit = format!("{name}.service");
        let text = self.systemctl(&["show", &unit, "--property", PROPERTIES], ANSWER)?;
        Ok(properties(&text))
    }
}

impl Services for Systemd {
    fn kind(&self) -> &'static str {
        "systemd"
    }

    fn install(&self, daemon: &Daemon) -> Result<Changed> {
        let name = daemon.name.as_str();
        let unit = UNITS.iter().find(|u| u.0 == name).map(|u| u.1);
        let unit = unit.with_context(|| format!("there is no unit for {name}"))?;
        let environment = words::environment_file(&daemon.args, &daemon.env)?;
        for dir in [&self.environment, &self.units] {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let mut changed = files::ensure(&self.environment_file(name), environment.as_bytes(), 0o600)?.yes();
        let unit_changed = files::ensure(&self.unit_file(name), unit.as_bytes(), 0o644)?.yes()
            | self.write_drop_in(daemon, unit)?.yes();
        let enabled = self.enable(name)?.yes();
        if unit_changed || enabled {
            self.systemctl(&["daemon-reload"], ANSWER)?;
            changed = true;
        }
        Ok(if changed { Changed::Yes } else { Changed::No })
    }

    fn start(&self, name: &str) -> Result<()> {
        self.systemctl(&["--no-block", "start", &format!("{name}.service")], ANSWER).map(|_| ())
    }

    fn restart(&self, name: &str) -> Result<()> {
        self.systemctl(&["--no-block", "restart", &format!("{name}.service")], ANSWER).map(|_| ())
    }

    fn stop(&self, name: &str) -> Result<()> {
        if self.state(name)? == State::Absent {
            return Ok(());
        }
        self.systemctl(&["stop", &format!("{name}.service")], STOP).map(|_| ())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.stop(name)?;
        if self.remove_files(name)? { self.forget(&[name]) } else { Ok(()) }
    }

    fn remove_all(&self, names: &[&str]) -> Vec<Result<()>> {
        if self.stop_all(names).is_err() {
            return names.iter().map(|n| self.remove(n)).collect();
        }
        let results: Vec<Result<()>> = names.iter().map(|n| self.remove_files(n).map(|_| ())).collect();
        match self.forget(names) {
            Ok(()) => results,
            Err(error) => names.iter().map(|_| Err(anyhow::anyhow!("{error:#}"))).collect(),
        }
    }

    fn state(&self, name: &str) -> Result<State> {
        Ok(state_of(&self.show(name)?, monotonic()))
    }

    fn last_words(&self, name: &str, lines: usize) -> String {
        let unit = format!("_SYSTEMD_UNIT={name}.service");
        let mut command = Command::new(&self.journalctl);
        command.args([&unit, "--quiet", "--no-pager", "--output=cat", &format!("--lines={lines}")]);
        process::output(&mut command, ANSWER).unwrap_or_default().trim_end().to_string()
    }

    fn installed(&self, name: &str) -> Result<Option<Daemon>> {
        let file = self.environment_file(name);
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut env = words::variables(&text);
        let args = words::split(&env.remove("ARGS").unwrap_or_default());
        Ok(Some(Daemon { name: name.into(), program: self.runs(name), args, env, after: Vec::new() }))
    }

    fn program(&self, program: &Path) -> Result<PathBuf> {
        find(program, self.bin_dir.as_deref())
    }

    fn endings(&self, name: &str) -> u32 {
        self.show(name).ok().and_then(|p| p.get("NRestarts")?.parse().ok()).unwrap_or(0)
    }
}

fn properties(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.trim().into())).collect()
}

/// Microseconds since the machine started, as systemd counts.
fn monotonic() -> i64 {
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    clock.map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1000)
}

fn state_of(show: &BTreeMap<String, String>, now: i64) -> State {
    let get = |name: &str| show.get(name).map_or("", String::as_str);
    let failed = || State::Failed { how: ending(&get), restarts: get("NRestarts").parse().unwrap_or(0) };
    match (get("LoadState"), get("ActiveState"), get("SubState")) {
        ("not-found" | "masked", "inactive" | "failed" | "", _) => State::Absent,
        (_, "active" | "reloading", _) => State::Running {
            pid: get("MainPID").parse().unwrap_or(0),
            since: since(get("ExecMainStartTimestampMonotonic").parse().unwrap_or(now), now),
        },
        (_, "activating", "auto-restart" | "auto-restart-queued") | (_, "failed", _) => failed(),
        (_, "activating" | "deactivating", _) => State::Starting,
        (_, "inactive", _) if !matches!(get("Job"), "" | "0") => State::Starting,
        _ => State::Stopped,
    }
}

fn since(started: i64, now: i64) -> Timestamp {
    let ago = jiff::SignedDuration::from_micros((now - started).max(0));
    Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How the main process last ended, in words.
fn ending<'a>(get: &impl Fn(&str) -> &'a str) -> String {
    let status = get("ExecMainStatus");
    let signal = status.parse().ok().and_then(|n: i32| nix::sys::signal::Signal::try_from(n).ok());
    let killed = signal.map_or_else(|| format!("killed by signal {status}"), |s| format!("killed by {s}"));
    match (get("Result"), get("ExecMainCode")) {
        ("watchdog", _) => "killed because it stopped answering its watchdog".into(),
        ("timeout", _) => "did not become ready in time".into(),
        ("oom-kill", _) => "killed because memory ran out".into(),
        ("resources", _) => "could not be started: a file or a resource it needs is missing".into(),
        ("protocol", _) => "ended before it said it was ready".into(),
        (_, "1") => format!("exited with code {status}{}", of_systemd(status)),
        (_, "2" | "3") => killed,
        (other, _) => format!("failed: {other}"),
    }
}

/// Exit codes by which systemd says that it could not run the program.
fn of_systemd(status: &str) -> &'static str {
    match status {
        "203" => " (the program can't be run)",
        "226" => " (a directory of its sandbox is missing)",
        "218" => " (its capabilities can't be set)",
        "205" => " (its limits can't be set)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
