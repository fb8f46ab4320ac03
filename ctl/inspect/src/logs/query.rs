//! What the flags ask of every log, and which of them don't go together.

use super::Logs;
use crate::target;
use coxctl_kit::{Error, Result, out};
use jiff::Timestamp;
use std::time::Duration;

/// Lines shown of each log when pods are chosen by a selector.
const SELECTED_TAIL: i64 = 10;
const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";

/// Checks how many words there are.
pub fn check_words(args: &Logs, selected: bool) -> Result<()> {
    match (args.target.len(), selected) {
        (0, false) | (3.., _) => Err(crate::usage("logs", USAGE)),
        (1, true) => Err(crate::usage("logs", "only a selector (-l) or a POD name is allowed")),
        _ => Ok(()),
    }
}

/// Checks the flags.
pub fn check(args: &Logs, named: bool) -> Result<()> {
    let container = args.container.as_deref().unwrap_or_default();
    let wrong = |text: &str| Err(Error::message(text));
    if args.since_time.is_some() && args.since.as_ref().is_some_and(|since| !is_zero(since)) {
        return wrong("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if args.all_containers && !container.is_empty() {
        return wrong(&format!(
            "--all-containers=true should not be specified with container name {container}"
        ));
    }
    if named && args.target.len() == 2 {
        return wrong("only one of -c or an inline [CONTAINER] arg is allowed");
    }
    if args.limit_bytes < 0 {
        return wrong("--limit-bytes must be greater than 0");
    }
    if args.since.as_ref().is_some_and(|since| since.starts_with('-')) {
        return wrong("--since must be greater than 0");
    }
    if args.tail.is_some_and(|tail| tail < -1) {
        return wrong("--tail must be greater than or equal to -1");
    }
    Ok(())
}

fn is_zero(duration: &str) -> bool {
    out::go_duration(duration).is_some_and(|duration| duration.is_zero())
}

/// What is asked of every log, the container apart.
pub fn query(args: &Logs, selected: bool) -> Result<Vec<(&'static str, String)>> {
    let mut query = Vec::new();
    let flags = [
        ("follow", args.follow),
        ("insecureSkipTLSVerifyBackend", args.insecure_skip_tls_verify_backend),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
    ];
    query.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_string())));
    if args.limit_bytes != 0 {
        query.push(("limitBytes", args.limit_bytes.to_string()));
    }
    if let Some(since) = args.since.as_deref().filter(|since| !since.starts_with('-') && !is_zero(since)) {
        query.push(("sinceSeconds", seconds(target::duration("logs", "since", since)?).to_string()));
    }
    if let Some(time) = args.since_time.as_deref().filter(|time| !time.is_empty()) {
        query.push(("sinceTime", moment(time)?));
    }
    match args.tail {
        Some(-1) => {}
        Some(tail) => query.push(("tailLines", tail.to_string())),
        None if selected => query.push(("tailLines", SELECTED_TAIL.to_string())),
        None => {}
    }
    Ok(query)
}

/// Whole seconds, rounded to the nearest.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_millis() >= 500)
}

fn moment(text: &str) -> Result<String> {
    let layout = "2006-01-02T15:04:05Z07:00";
    let read: Timestamp = text.parse().map_err(|_| {
        Error::message(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
    })?;
    Ok(machinery::time::format_seconds(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded() {
        let table = [("400ms", 0), ("1500ms", 2), ("3m", 180)];
        for (text, wanted) in table {
            assert_eq!(target::duration("logs", "since", text).map(seconds).ok(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(moment("2024-05-01T10:00:00+02:00").ok().as_deref(), Some("2024-05-01T08:00:00Z"));
        assert!(moment("yesterday").is_err());
    }
}
