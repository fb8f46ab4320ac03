//! Running other programs with a deadline.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// When it can't be run, takes longer than `limit` (it is then killed), or fails: in its own words.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {shown}"))?;
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for {shown}"))? {
            break status;
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{shown}: no end within {limit:?}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if status.success() {
        return Ok(out);
    }
    let said = if err.trim().is_empty() { out.trim() } else { err.trim() };
    bail!("{shown}: {status}: {said}")
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut data = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut data);
        }
        String::from_utf8_lossy(&data).into_owned()
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_failure_and_deadline() -> Result<()> {
        let run = |script: &str, limit| output(Command::new("/bin/sh").args(["-c", script]), limit);
        let second = Duration::from_secs(5);
        assert_eq!(run("echo yes", second)?, "yes\n");
        let error = run("echo why >&2; exit 3", second).unwrap_err().to_string();
        assert!(error.contains("exit status: 3: why"), "{error}");
        let error = run("exec sleep 60", Duration::from_millis(30)).unwrap_err().to_string();
        assert!(error.contains("no end within 30ms"), "{error}");
        assert!(output(&mut Command::new("/does/not/exist"), second).is_err());
        Ok(())
    }
}
