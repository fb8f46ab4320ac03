//! Processes remembered by id and start time, so that a reused id is never mistaken for ours.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The start time of a living process in clock ticks; `None` for the dead and for zombies.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if rest.first() == Some(&"Z") {
        return None;
    }
    rest.get(19)?.parse().ok()
}

/// Writes `pid` and its start time to `path`.
pub fn remember(path: &Path, pid: i32) {
    if let Some(start) = start_time(pid) {
        let _ = crate::pki::write_file(path, format!("{pid} {start}\n").as_bytes(), 0o644);
    }
}

/// The process remembered in `path`, if it still lives.
pub fn recall(path: &Path) -> Option<i32> {
    let text = fs::read_to_string(path).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    (start_time(pid)? == start.parse::<u64>().ok()?).then_some(pid)
}

/// The first child of `pid`.
pub fn first_child(pid: i32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Sends SIGKILL and waits until the process is gone, for five seconds at most; says whether it is.
pub fn kill_and_wait(pid: i32) -> bool {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    wait_gone(pid, Duration::from_secs(5))
}

/// Waits until the process is gone; says whether it is.
pub fn wait_gone(pid: i32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while start_time(pid).is_some() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        remember(&file, pid);
        assert_eq!(recall(&file), Some(pid));
        assert!(kill_and_wait(pid));
        assert_eq!(recall(&file), None);
        let _ = child.wait();
    }
}
