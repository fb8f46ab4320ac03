//! How containers end, and what that means.

use coxctl_kit::dig;
use jiff::Timestamp;
use serde_json::Value;

use super::{Status, probes};
use crate::amount;
use crate::case::Case;
use crate::finding::Reason;
use crate::words;

/// Restarts older than this don't matter any more to a pod that is ready.
const RECENT: i64 = 3600;

/// What an exit code means, in words.
pub fn meaning(code: i64) -> &'static str {
    match code {
        0 => "it ended as if its work was done",
        1 => "an error of its own",
        2 => "an error of its own, often in its arguments",
        126 => "its command is not executable",
        127 => "its command was not found",
        128 => "it could not be started",
        130 => "it was interrupted (SIGINT)",
        134 => "it aborted itself (SIGABRT)",
        135 => "it misread memory (SIGBUS)",
        137 => "it was killed (SIGKILL)",
        139 => "it crashed on bad memory (SIGSEGV)",
        143 => "it was asked to stop (SIGTERM)",
        129..=192 => "it was ended by a signal",
        255 => "an error of its own",
        _ => "an error of its own",
    }
}

/// `exit code 137: OOMKilled, its memory limit is 16Mi`.
pub fn exited(status: &Status<'_>, ended: &Value) -> String {
    let code = dig::int(ended, "exitCode");
    match dig::text(ended, "reason") {
        "OOMKilled" => format!("exit code {code}: OOMKilled, {}", limit(status)),
        "ContainerCannotRun" | "StartError" => {
            format!("exit code {code}: {}", words::message(dig::text(ended, "message")))
        }
        "DeadlineExceeded" => format!("exit code {code}: its deadline had passed"),
        _ => format!("exit code {code}: {}", meaning(code)),
    }
}

fn limit(status: &Status<'_>) -> String {
    match dig::at(status.spec, "resources.limits.memory") {
        Value::Null => "it has no memory limit, so its node or pod ran out of memory".into(),
        limit => format!("its memory limit is {}", amount::bare("memory", &dig::quantity(limit))),
    }
}

/// The last words of a container: its termination message, or the last lines it wrote.
fn last_words(case: &Case<'_>, status: &Status<'_>, ended: &Value) -> Option<String> {
    let message = dig::text(ended, "message");
    let start = matches!(dig::text(ended, "reason"), "ContainerCannotRun" | "StartError");
    let text = if message.is_empty() || start { case.facts.log(case.object, status.name)? } else { message };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(2)..)?.join(" / ");
    (!tail.is_empty()).then(|| words::cut(&tail, 200))
}

fn help(case: &Case<'_>, status: &Status<'_>, ended: &Value, previous: bool) -> String {
    let flag = if previous { " --previous" } else { "" };
    let logs = format!("coxctl logs {} -n {} -c {}{flag}", case.name(), case.namespace(), status.name);
    match (dig::text(ended, "reason"), dig::int(ended, "exitCode")) {
        ("OOMKilled", _) if dig::has(status.spec, "resources.limits.memory") => {
            "raise resources.limits.memory, or make the program use less".into()
        }
        ("OOMKilled", _) => "give it a memory request, or use a larger node".into(),
        (_, 126..=128) => "correct spec.containers.command, or use an image that has the program".into(),
        (_, 0) => {
            "a container of a pod with restartPolicy Always must go on running; use a Job for work that ends"
                .into()
        }
        _ => format!("read what it wrote: `{logs}`"),
    }
}

/// The reason of a container that has ended: in words, with its last ones.
fn told(case: &Case<'_>, status: &Status<'_>, ended: &Value, lead: &str, previous: bool) -> Reason {
    let what = if status.init { "init container" } else { "container" };
    let spoken =
        last_words(case, status, ended).map(|text| format!("; it last wrote: {text}")).unwrap_or_default();
    let field = if previous { "lastState" } else { "state" };
    let sentence = format!("{what} {} {lead} {}{spoken}", status.name, exited(status, ended));
    Reason::new("exit", sentence)
        .seen(
            "Pod",
            case.name(),
            &format!("status.containerStatuses.{}.{field}.terminated.exitCode", status.name),
            dig::int(ended, "exitCode"),
        )
        .seen(
            "Pod",
            case.name(),
            &format!("status.containerStatuses.{}.{field}.terminated.reason", status.name),
            dig::text(ended, "reason"),
        )
        .help(help(case, status, ended, previous))
}

/// A container that has ended and is not running now.
pub fn ended(case: &Case<'_>, status: &Status<'_>) -> Vec<Reason> {
    let ended = dig::at(status.status, "state.terminated");
    if dig::int(ended, "exitCode") == 0 && case.text("spec.restartPolicy") != "Always" {
        return Vec::new();
    }
    let ago = case.ago(dig::moment(ended, "finishedAt"));
    vec![told(case, status, ended, &format!("ended {ago} ago with"), false)]
}

/// A container that waits for its next start.
pub fn crash_loop(case: &Case<'_>, status: &Status<'_>) -> Vec<Reason> {
    let ended = dig::at(status.status, "lastState.terminated");
    let restarts = dig::int(status.status, "restartCount");
    let finished = dig::moment(ended, "finishedAt");
    let wait = words::between(dig::text(status.status, "state.waiting.message"), "back-off ", " restarting")
        .and_then(machinery::time::parse_go_duration)
        .map(|nanos| nanos / 1_000_000_000);
    let next = next_start(case.now, finished, wait);
    let times = match restarts {
        0 | 1 => "has ended once".to_string(),
        n => format!("has been restarted {n} times"),
    };
    let lead = format!("{times}{next}; it last ended {} ago with", case.ago(finished));
    let mut reason = told(case, status, ended, &lead, true);
    let killed = probes::killed_by(case, status);
    reason.rule = if killed.is_some() { "liveness" } else { "crash-loop" };
    if let Some(probe) = killed {
        reason.sentence = format!("{}; before that {probe}", reason.sentence);
    }
    vec![reason]
}

/// When a container in back-off is started again.
fn next_start(now: Timestamp, finished: Option<Timestamp>, wait: Option<i64>) -> String {
    let Some(wait) = wait else { return String::new() };
    let left = finished.map(|at| at.as_second() + wait - now.as_second()).filter(|left| *left > 0);
    match left {
        Some(left) => {
            format!(" (the next start is in {}, the back-off is {})", words::span(left), words::span(wait))
        }
        None => format!(" (the back-off is {})", words::span(wait)),
    }
}

/// How a container that runs now ended before, if that was lately.
pub fn earlier(case: &Case<'_>, status: &Status<'_>) -> Option<Reason> {
    let ended = dig::at(status.status, "lastState.terminated");
    let finished = dig::moment(ended, "finishedAt")?;
    if status.init || case.now.as_second() - finished.as_second() > RECENT {
        return None;
    }
    let restarts = dig::int(status.status, "restartCount");
    let lead =
        format!("was restarted ({} so far); it last ended {} ago with", restarts, case.ago(Some(finished)));
    let mut reason = told(case, status, ended, &lead, true);
    if let Some(probe) = probes::killed_by(case, status) {
        reason.sentence = format!("{}; before that {probe}", reason.sentence);
    }
    Some(reason)
}
