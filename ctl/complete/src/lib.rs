//! What a shell offers when TAB is pressed: `coxctl __complete WORDS...`, in the protocol of cobra, which kubectl's users'
//! shells speak. A line per candidate (`value<TAB>description`), then `:N`, the sum of the directives.
//!
//! [`line`] reads the words up to the cursor against the grammar; [`flags`] and [`words`] say what may stand there; [`ask`]
//! looks it up. Whatever fails, or takes longer than [`LIMIT`], gives no candidates.

mod answer;
mod ask;
mod explain;
mod flags;
mod grammar;
mod line;
mod local;
mod objects;
mod pods;
mod words;

use std::time::Duration;

use coxctl_kit::out;

pub use answer::{Answer, Candidate, Directive};
pub use grammar::Grammar;

/// How long a person who pressed TAB is kept waiting.
const LIMIT: Duration = Duration::from_secs(3);

/// Answers the shell; the exit code. `described` says whether descriptions are wanted.
pub async fn run(grammar: &Grammar, words: &[String], described: bool) -> i32 {
    if words.is_empty() {
        out::note("Error: requires at least 1 arg(s), only received 0");
        return 1;
    }
    let answer = tokio::time::timeout(LIMIT, answer(grammar, words)).await;
    let answer = answer.unwrap_or_else(|_| Answer::nothing());
    out::put(&answer.text(described));
    out::note(&format!("Completion ended with directive: {}", answer.directive.names()));
    0
}

/// The candidates for the last of the words.
pub async fn answer(grammar: &Grammar, words: &[String]) -> Answer {
    match line::read(grammar, words) {
        Ok(line) => candidates(grammar, &line).await,
        Err(cause) => {
            out::note(&format!("[Debug] [Error] {cause}"));
            Answer::files()
        }
    }
}

async fn candidates(grammar: &Grammar, line: &line::Line) -> Answer {
    let path: Vec<&str> = line.path.iter().map(String::as_str).collect();
    let found = match &line.wanted {
        line::Wanted::Nothing => Answer::nothing(),
        line::Wanted::Flag => flags::names(grammar, line),
        line::Wanted::Value(flag) => match flags::value(grammar, &path, flag) {
            Some(source) => ask::value(line, source).await,
            None => Answer::files(),
        },
        line::Wanted::Word => word(grammar, line, &path).await,
    };
    found.beginning_with(&line.prefix)
}

/// Subcommands, where one may stand here, required flags, and what the verb is about.
async fn word(grammar: &Grammar, line: &line::Line, path: &[&str]) -> Answer {
    if let ["help", topic @ ..] = path {
        let below = grammar.subcommands(topic).filter(|_| line.words.is_empty());
        return below.map(Answer::words).unwrap_or_else(Answer::nothing);
    }
    let subcommands = grammar.subcommands(path).filter(|_| line.may_name_command());
    let mut found = match (subcommands, words::of(grammar, path, line.words.len())) {
        (Some(subcommands), None) => Answer::words(subcommands),
        (None, None) => Answer::files(),
        (subcommands, Some(subject)) => {
            let asked = ask::word(line, subject).await;
            asked.with(subcommands.unwrap_or_default())
        }
    };
    found.candidates.splice(0..0, flags::required(grammar, line));
    found
}
