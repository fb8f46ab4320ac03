//! End-to-end scenarios as text: what a user types, and what must be seen.
//!
//! A scenario is a file of steps. A step is a command line and what its output must look like:
//!
//! ```text
//! # a comment
//! $ kubectl get nodes -o name           run by bash; must exit 0
//! node/control-plane                    a line that must be in the output, spaces at its ends aside
//! ~ ^node/worker-\d$                    a regular expression some line must match
//! - NotReady                            text that must not be anywhere in the output
//! $! kubectl get pod nobody             must exit with another code than 0
//! $30 kubectl get pod x                 tried again until all of it holds, for 30 seconds at most
//! > text                                a line of standard input, after the command
//! ```

pub mod verbs;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// How long a step that is not tried again may take.
const STEP_LIMIT: u32 = 120;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(150);

/// One expectation of a step.
#[derive(Debug)]
enum Want {
    Line(String),
    Match(Regex),
    Absent(String),
}

/// One step of a scenario.
#[derive(Debug)]
pub struct Step {
    line: usize,
    command: String,
    input: String,
    fails: bool,
    limit: Option<Duration>,
    wants: Vec<Want>,
}

/// Reads a scenario.
///
/// # Errors
/// Names the line that can't be read.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if let Some(rest) = line.strip_prefix('$') {
            steps.push(parse_command(number, rest)?);
            continue;
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let step =
            steps.last_mut().with_context(|| format!("line {number}: an expectation before any command"))?;
        parse_expectation(step, line).with_context(|| format!("line {number}"))?;
    }
    Ok(steps)
}

fn parse_command(line: usize, rest: &str) -> Result<Step> {
    let (mark, command) = rest.split_once(' ').with_context(|| format!("line {line}: no command"))?;
    let (fails, seconds) = match mark.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, mark),
    };
    let limit = match seconds {
        "" => None,
        n => Some(Duration::from_secs(
            n.parse().with_context(|| format!("line {line}: {n:?} is no number of seconds"))?,
        )),
    };
    Ok(Step { line, command: command.into(), input: String::new(), fails, limit, wants: vec![] })
}

fn parse_expectation(step: &mut Step, line: &str) -> Result<()> {
    if let Some(input) = line.strip_prefix("> ").or_else(|| line.strip_prefix('>')) {
        step.input.push_str(input);
        step.input.push('\n');
        return Ok(());
    }
    step.wants.push(match line.split_once(' ') {
        Some(("~", pattern)) => Want::Match(Regex::new(&format!("(?m){pattern}"))?),
        Some(("-", text)) => Want::Absent(text.into()),
        _ => Want::Line(line.trim().into()),
    });
    Ok(())
}

/// Runs the steps in order and prints each.
///
/// # Errors
/// Of the first step that does not hold: its line, what was wanted and what was seen.
pub fn run(steps: &[Step]) -> Result<()> {
    for step in steps {
        let begin = Instant::now();
        run_step(step).with_context(|| format!("line {}: $ {}", step.line, step.command))?;
        println!("{:6.2} s  $ {}", begin.elapsed().as_secs_f64(), step.command);
    }
    Ok(())
}

fn run_step(step: &Step) -> Result<()> {
    let end = step.limit.map(|l| Instant::now() + l);
    loop {
        let result = execute(step).and_then(|output| check(step, &output));
        match (result, end) {
            (Err(_), Some(end)) if Instant::now() < end => std::thread::sleep(PAUSE),
            (result, _) => return result,
        }
    }
}

fn execute(step: &Step) -> Result<Output> {
    use std::io::Write;
    let mut child = Command::new("timeout")
        .args([
            "--kill-after=5",
            &STEP_LIMIT.to_string(),
            "bash",
            "-c",
            &format!("set -o pipefail; {} 2>&1", braces(&step.command)),
        ])
        .env("PATH", path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running bash")?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(step.input.as_bytes());
    }
    Ok(child.wait_with_output()?)
}

/// Helpers of the scenarios, and the programs that are tested, come first.
fn path() -> String {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/bin");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    format!("{own}:{}:{}", var("COXSWAIN_BIN"), var("PATH"))
}

fn braces(command: &str) -> String {
    format!("{{ {command}\n}}")
}

fn check(step: &Step, output: &Output) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() != step.fails, "ended with {}:\n{text}", output.status);
    for want in &step.wants {
        match want {
            Want::Line(line) if !text.lines().any(|l| l.trim() == line) => {
                bail!("no line {line:?} in:\n{text}")
            }
            Want::Match(pattern) if !pattern.is_match(&text) => {
                bail!("nothing matches {pattern} in:\n{text}")
            }
            Want::Absent(absent) if text.contains(absent.as_str()) => {
                bail!("there must be no {absent:?} in:\n{text}")
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Result<()> {
        run(&parse(text)?)
    }

    #[test]
    fn steps_hold_or_say_why_not() {
        assert!(outcome("$ echo a b\na b\n~ ^a\n- c\n$! false\n$ cat\n> typed\ntyped\n").is_ok());
        for (bad, why) in [
            ("$ echo a\nb\n", "no line \"b\""),
            ("$ echo a\n~ ^b\n", "nothing matches"),
            ("$ echo a\n- a\n", "there must be no"),
            ("$ false\n", "ended with"),
            ("$! true\n", "ended with"),
            ("a\n", "before any command"),
        ] {
            let error = format!("{:#}", outcome(bad).unwrap_err());
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_step_with_a_limit_is_tried_again() {
        let file = std::env::temp_dir().join(format!("scenario-{}", std::process::id()));
        let path = file.display();
        assert!(outcome(&format!("$10 echo x >> {path}; wc -l < {path}\n3\n$ rm {path}\n")).is_ok());
    }
}
