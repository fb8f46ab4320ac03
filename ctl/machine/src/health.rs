//! Waits for a daemon to be well, and says at once why it isn't.

mod cause;

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

pub use cause::{Cause, likely_cause};

use crate::{Services, State};

/// The daemon and its check are looked at this often while it comes up.
const GLANCE: Duration = Duration::from_millis(100);
/// One check takes no longer.
const CHECK: Duration = Duration::from_secs(5);
/// A daemon that ended this often will not come up by itself.
const ENDINGS: u32 = 3;
/// Nor one that ended this often and said why.
const EXPLAINED: u32 = 2;
/// Lines shown of a daemon's log.
const WORDS: usize = 8;
/// Lines shown of a log from the one on that tells the cause, when that is far up.
const FOLLOWING: usize = 4;
/// Characters shown of a line.
const LONGEST: usize = 400;
/// Lines searched for a cause when those tell none.
const FAR: usize = 400;

/// Waits until `check` passes, at most `limit`. Fails within seconds when the daemon keeps ending: the error holds how it
/// ended, its last words, and the likely cause and cure recognised from them.
///
/// # Errors
/// When the daemon ends again and again, or is not well in time.
pub async fn healthy(
    services: &dyn Services,
    name: &str,
    check: impl AsyncFn() -> Result<()>,
    limit: Duration,
) -> Result<()> {
    let end = Instant::now() + limit;
    let before = services.endings(name);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let answer = tokio::time::timeout(CHECK.min(left), check()).await;
        let trouble = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_string(),
        };
        if let Some(how) = doomed(services, name, before) {
            return Err(anyhow!(explain(services, name, &how)));
        }
        if Instant::now() >= end {
            let how = format!("{}; its health check says: {trouble}", standing(services, name));
            return Err(anyhow!(explain(services, name, &format!("not well within {limit:?}: {how}"))));
        }
        tokio::time::sleep(GLANCE.min(left)).await;
    }
}

/// How the daemon keeps ending, if it will not come up by itself.
fn doomed(services: &dyn Services, name: &str, before: u32) -> Option<String> {
    let state = services.state(name).ok()?;
    match state {
        State::Absent => return Some("it is not installed".into()),
        State::Stopped => return Some("it is stopped".into()),
        _ => {}
    }
    let all = services.endings(name);
    let ended = all.saturating_sub(before);
    // One that lies on the ground and said why is not waited for, though nobody was watching when it fell.
    let lies = matches!(state, State::Failed { .. }) && all >= EXPLAINED;
    let told = (ended >= EXPLAINED || lies).then(|| likely_cause(&services.last_words(name, FAR))).flatten();
    let explained = told.is_some_and(|cause| ended >= EXPLAINED || !cause.passes());
    if ended < ENDINGS && !explained {
        return None;
    }
    let how = if let State::Failed { how, .. } = state { how } else { "it ended".into() };
    Some(format!("{how}, {} times in a row", if ended < EXPLAINED { all } else { ended }))
}

fn standing(services: &dyn Services, name: &str) -> String {
    match services.state(name) {
        Ok(State::Running { pid, .. }) => format!("it runs as process {pid}"),
        Ok(State::Starting) => "it is starting".into(),
        Ok(State::Failed { how, .. }) => how,
        Ok(State::Stopped) => "it is stopped".into(),
        Ok(State::Absent) => "it is not installed".into(),
        Err(error) => format!("{error:#}"),
    }
}

/// All that a person needs: what, how, the line that tells the cause, its last words, the likely cause and what to do.
fn explain(services: &dyn Services, name: &str, how: &str) -> String {
    let words = services.last_words(name, WORDS);
    let mut text = format!("{name}: {how}");
    if words.is_empty() {
        text.push_str("\nIt wrote nothing.");
        return text;
    }
    // Some print how they are to be used after what they have to say.
    let longer = services.last_words(name, FAR);
    let telling = cause::told(&words).or_else(|| cause::told(&longer));
    if let Some((line, _)) = telling {
        text.push_str(&format!(": {}", shortened(line)));
    }
    text.push_str("\nIts last words:");
    let seen = telling.is_none_or(|(line, _)| words.contains(line));
    let shown = if seen { words.clone() } else { after(&longer, telling.map_or("", |t| t.0)) };
    tidied(&shown).iter().for_each(|line| text.push_str(&format!("\n    {line}")));
    if let Some((_, cause)) = telling {
        text.push_str(&format!("\nLikely cause: {}.\nCure: {}.", cause.cause, cause.cure));
    }
    text
}

/// A line and the few that follow where it was said last.
fn after(text: &str, line: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|l| l.trim() == line).unwrap_or(0);
    lines.iter().skip(at).take(FOLLOWING).copied().collect::<Vec<_>>().join("\n")
}

/// The lines once each, without the empty ones.
fn tidied(words: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in words.lines().filter(|l| !l.trim().is_empty()).map(shortened) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Changed, Daemon};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A daemon that has ended once more each time it is asked.
    struct Falling {
        ended: AtomicU32,
        each: u32,
        words: &'static str,
    }

    impl Services for Falling {
        fn kind(&self) -> &'static str {
            "fake"
        }
        fn install(&self, _: &Daemon) -> Result<Changed> {
            Ok(Changed::No)
        }
        fn start(&self, _: &str) -> Result<()> {
            Ok(())
        }
        fn restart(&self, _: &str) -> Result<()> {
            Ok(())
        }
        fn stop(&self, _: &str) -> Result<()> {
            Ok(())
        }
        fn remove(&self, _: &str) -> Result<()> {
            Ok(())
        }
        fn state(&self, _: &str) -> Result<State> {
            Ok(State::Failed { how: "exited with code 1".into(), restarts: 0 })
        }
        fn last_words(&self, _: &str, lines: usize) -> String {
            let all: Vec<&str> = self.words.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        fn program(&self, program: &Path) -> Result<PathBuf> {
            Ok(program.into())
        }
        fn endings(&self, _: &str) -> u32 {
            self.ended.fetch_add(self.each, Ordering::Relaxed)
        }
    }

    fn falling(each: u32, words: &'static str) -> Falling {
        Falling { ended: AtomicU32::new(5), each, words }
    }

    async fn fails(services: &Falling, limit: u64) -> (String, Duration) {
        let begun = Instant::now();
        let check = async || anyhow::bail!("refused");
        let error = healthy(services, "etcd", check, Duration::from_secs(limit)).await.unwrap_err();
        (error.to_string(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_endings_are_not_waited_for() {
        let (error, took) = fails(&falling(1, "strange"), 240).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(error, "etcd: exited with code 1, 3 times in a row\nIts last words:\n    strange");
        let (error, _) = fails(&falling(1, "no space left on device"), 240).await;
        assert!(
            error.starts_with("etcd: exited with code 1, 6 times in a row: no space left on device\n"),
            "{error}"
        );
        assert!(error.contains("Likely cause: the disk is full"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_may_mend_is_given_another_fall() {
        let (error, _) = fails(&falling(1, "connection refused"), 240).await;
        assert!(
            error.starts_with("etcd: exited with code 1, 2 times in a row: connection refused\n"),
            "{error}"
        );
    }

    #[test]
    fn words_are_shown_once_and_not_for_ever() {
        let long = "x".repeat(LONGEST + 9);
        let lines = tidied(&format!("a\n\n  \nb\na\n{long}"));
        assert_eq!(lines[..2], ["a", "b"]);
        assert_eq!(lines[2].chars().count(), LONGEST + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cause_above_the_usage_is_found() {
        let words = "flag provided but not defined: -bogus\n1\n2\n3\n4\n5\n6\n7\n8\n9";
        let (error, _) = fails(&falling(1, words), 240).await;
        assert!(
            error.contains("in a row: flag provided but not defined: -bogus\nIts last words:\n    flag provided but not defined: -bogus\n    1\n"),
            "{error}"
        );
        assert!(error.contains("Likely cause: the daemon does not take one of its arguments"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_waited_for_to_the_end() {
        let (error, took) = fails(&falling(0, ""), 30).await;
        assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(36), "{took:?}");
        assert!(
            error.contains("not well within 30s: exited with code 1; its health check says: refused"),
            "{error}"
        );
        assert!(error.contains("It wrote nothing."), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_never_answers_has_a_limit() {
        let begun = Instant::now();
        let check = async || std::future::pending().await;
        let services = falling(0, "");
        let error = healthy(&services, "etcd", check, Duration::from_secs(7)).await.unwrap_err().to_string();
        assert!(error.contains("no answer"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_check_ends_it_at_once() -> Result<()> {
        healthy(&falling(1, ""), "etcd", async || Ok(()), Duration::from_secs(1)).await
    }
}
