//! The supervisor for real: this program is the supervisor when called with `supervise`, else it runs the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use coxctl_machine::services::Supervised;
use coxctl_machine::supervisor::{Places, Supervise, supervise};
use coxctl_machine::{Daemon, Services, State};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Parser)]
enum Cli {
    Supervise(Supervise),
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("supervise") {
        let Cli::Supervise(args) = Cli::parse();
        supervise(args)?;
        return Ok(());
    }
    let tests: [(&str, fn(&Bench) -> Result<()>); 8] = [
        ("life of a daemon", life),
        ("crash loops are told and survived", crash_loop),
        ("files of people", plain_files),
        ("those that do not end", stubborn),
        ("many end together", many),
        ("order and holding", order_and_hold),
        ("a killed supervisor leaves no second daemon", killed_supervisor),
        ("health", health),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name.replace(' ', "_"), move || {
            run(test).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let mut args = Arguments::from_args();
    // One after the other, in this thread.
    args.test_threads = Some(1);
    libtest_mimic::run(&args, trials.into()).exit()
}

fn run(test: fn(&Bench) -> Result<()>) -> Result<()> {
    let bench = Bench::new()?;
    test(&bench)?;
    bench.end()
}

struct Bench {
    root: tempfile::TempDir,
    places: Places,
    services: Supervised,
}

impl Bench {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        let at = |name: &str| root.path().join(name);
        let places = Places { daemons: at("daemons"), logs: at("logs"), run: at("run") };
        let services = Supervised::new(places.clone(), std::env::current_exe()?, None);
        Ok(Self { root, places, services })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn shell(&self, name: &str, script: &str) -> Daemon {
        let script = script.replace("ROOT", &self.root.path().display().to_string());
        Daemon {
            name: name.into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script],
            ..Daemon::default()
        }
    }

    fn up(&self, name: &str, script: &str) -> Result<u32> {
        self.services.install(&self.shell(name, script))?;
        self.services.start(name)?;
        self.pid(name)
    }

    fn pid(&self, name: &str) -> Result<u32> {
        match self.services.state(name)? {
            State::Running { pid, .. } => Ok(pid),
            other => bail!("{name} is {other:?}"),
        }
    }

    /// Removes every daemon; the supervisor must go by itself and leave nothing.
    fn end(&self) -> Result<()> {
        let names: Vec<String> = self.places.read_status().keys().cloned().collect();
        for name in names {
            self.services.remove(&name)?;
        }
        until("the supervisor ends", || Ok(!self.places.supervised() && !self.places.run.exists()))?;
        ensure!(fs::read_dir(&self.places.daemons)?.next().is_none(), "orders are left");
        Ok(())
    }
}

fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while !so()? {
        ensure!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
    Ok(())
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn life(bench: &Bench) -> Result<()> {
    let services = &bench.services;
    ensure!(services.state("a")? == State::Absent);
    ensure!(services.install(&bench.shell("a", "echo one; exec sleep 1000"))?.yes());
    ensure!(services.state("a")? == State::Stopped, "installed, not started");
    services.start("a")?;
    let first = bench.pid("a")?;
    services.start("a")?;
    ensure!(bench.pid("a")? == first, "starting again does nothing");
    ensure!(!services.install(&bench.shell("a", "echo one; exec sleep 1000"))?.yes());
    ensure!(services.install(&bench.shell("a", "echo two; exec sleep 1000"))?.yes());
    ensure!(bench.pid("a")? == first, "installing does not restart");
    services.restart("a")?;
    ensure!(bench.pid("a")? != first && !alive(first));
    until("words", || Ok(services.last_words("a", 2) == "one\ntwo"))?;
    services.stop("a")?;
    ensure!(services.state("a")? == State::Stopped && services.endings("a") == 0);
    services.stop("a")?;
    services.start("a")?;
    let last = bench.pid("a")?;
    services.remove("a")?;
    ensure!(services.state("a")? == State::Absent && !alive(last));
    ensure!(!bench.places.logs.join("a.log").exists(), "logs go with it");
    services.remove("a")
}

fn crash_loop(bench: &Bench) -> Result<()> {
    bench.services.install(&bench.shell("b", "echo broken; exit 3"))?;
    bench.services.start("b")?;
    until("three endings", || Ok(bench.services.endings("b") >= 3))?;
    until("it is told", || {
        Ok(
            matches!(bench.services.state("b")?, State::Failed { how, restarts } if how == "exited with code 3" && restarts >= 3),
        )
    })?;
    bench.services.install(&bench.shell("b", "exec sleep 1000"))?;
    bench.services.restart("b")?;
    let pid = bench.pid("b")?;
    ensure!(bench.services.endings("b") == 0, "a start on purpose forgives");
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    until("it comes again", || {
        Ok(bench.services.endings("b") == 1 && bench.pid("b").is_ok_and(|p| p != pid))
    })?;
    let program = Daemon { name: "c".into(), program: bench.at("none"), ..Daemon::default() };
    ensure!(bench.services.install(&program).is_err(), "a missing program is refused");
    Ok(())
}

fn plain_files(bench: &Bench) -> Result<()> {
    bench.up("keeper", "exec sleep 1000")?;
    let file = bench.places.daemons.join("p.json");
    let write = |args: &str| -> Result<()> {
        fs::write(&file, format!(r#"{{"name":"p","program":"/bin/sleep","args":["{args}"]}}"#))?;
        Ok(())
    };
    write("1000")?;
    until("a new file starts", || Ok(bench.pid("p").is_ok()))?;
    let first = bench.pid("p")?;
    write("1001")?;
    until("a changed one restarts", || Ok(bench.pid("p").is_ok_and(|p| p != first)))?;
    let second = bench.pid("p")?;
    fs::write(&file, "{")?;
    until("damage is told", || Ok(bench.places.read_status()["p"].last_exit.contains("damaged")))?;
    ensure!(alive(second), "and what runs goes on");
    fs::remove_file(&file)?;
    until("a removed one stops", || Ok(!alive(second) && !bench.places.read_status().contains_key("p")))?;
    Ok(())
}

fn stubborn(bench: &Bench) -> Result<()> {
    let gone = bench.at("drained");
    let pid = bench.up("s", "trap 'echo bye > ROOT/drained; exit 0' TERM; while :; do sleep 0.05; done")?;
    bench.services.stop("s")?;
    ensure!(!alive(pid) && read(&gone) == "bye\n", "it may end in its own way");
    Ok(())
}

fn many(bench: &Bench) -> Result<()> {
    let slow = "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.02; done";
    let names = ["x1", "coxswain-etcd", "x2", "x3"];
    for name in names {
        bench.up(name, slow)?;
    }
    let begun = Instant::now();
    let results = bench.services.remove_all(&names);
    ensure!(results.len() == 4 && results.iter().all(Result::is_ok), "{results:?}");
    ensure!(begun.elapsed() < Duration::from_millis(3500), "took {:?}", begun.elapsed());
    ensure!(names.iter().all(|n| bench.services.state(n).is_ok_and(|s| s == State::Absent)));
    Ok(())
}

fn order_and_hold(bench: &Bench) -> Result<()> {
    let mut second = bench.shell("second", "exec sleep 1000");
    second.after = vec!["first".into(), "unknown".into()];
    bench.services.install(&second)?;
    bench.services.start("second")?;
    ensure!(bench.pid("second").is_ok(), "what is not there is not waited for");
    let hold = bench.places.run.join("hold");
    fs::create_dir_all(&hold)?;
    fs::write(hold.join("second"), "")?;
    let pid = bench.pid("second")?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    until("it is down", || Ok(bench.places.read_status()["second"].pid == 0))?;
    fs::remove_dir_all(&hold)?;
    until("it comes when let go", || Ok(bench.pid("second").is_ok()))
}

fn killed_supervisor(bench: &Bench) -> Result<()> {
    let pid = bench.up("k", "exec sleep 1000")?;
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    let parent: i32 =
        stat.rsplit(") ").next().and_then(|s| s.split(' ').nth(1)).context("no parent")?.parse()?;
    kill(Pid::from_raw(parent), Signal::SIGKILL)?;
    until("its daemon ends", || Ok(!alive(pid)))?;
    until("the lock is free", || Ok(!bench.places.supervised()))?;
    ensure!(matches!(bench.services.state("k")?, State::Failed { .. }));
    bench.services.start("k")?;
    until("a new supervisor starts it", || Ok(bench.pid("k").is_ok_and(|p| p != pid)))
}

fn health(bench: &Bench) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limit = Duration::from_secs(20);
    bench.up("h", "sleep 0.2; echo > ROOT/well; exec sleep 1000")?;
    let well = bench.at("well");
    let check = async || if well.exists() { Ok(()) } else { bail!("not well yet") };
    runtime.block_on(coxctl_machine::healthy(&bench.services, "h", check, limit))?;
    bench.services.install(
        &bench.shell("bad", "echo 'listen tcp 0.0.0.0:6443: bind: address already in use'; exit 1"),
    )?;
    bench.services.start("bad")?;
    let begun = Instant::now();
    let never = async || bail!("connection refused");
    let error = runtime
        .block_on(coxctl_machine::healthy(&bench.services, "bad", never, limit))
        .map_err(|e| format!("{e:#}"));
    let error = error.err().context("it can't be well")?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    for part in ["bad", "exited with code 1", "address already in use", "6443", "holds"] {
        ensure!(error.contains(part), "{part} is not in: {error}");
    }
    Ok(())
}
