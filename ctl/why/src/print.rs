//! Answers as text and as JSON.

use coxctl_kit::out;
use serde::Serialize;

use crate::finding::{Mood, Reason};
use crate::verb::{Answer, Judged};
use crate::words;

/// Prints the answers about named objects.
pub fn each(answers: &[Answer], as_json: bool, single: bool) {
    match (as_json, answers) {
        (true, [one]) if single => document(&written(one)),
        (true, all) => document(&all.iter().map(written).collect::<Vec<_>>()),
        (false, all) => out::put(&all.iter().map(text).collect::<Vec<_>>().join("\n")),
    }
}

/// Prints what is not well, a line each.
pub fn survey(judged: &Judged, namespace: &str, as_json: bool, unread: &[Reason]) {
    if as_json {
        return document(&judged.unwell.iter().map(written).collect::<Vec<_>>());
    }
    out::put(&lines(judged, namespace, unread));
}

fn document(value: &impl Serialize) {
    out::line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// An answer as it is written as JSON.
#[derive(Serialize)]
struct Written<'a> {
    object: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    verdict: &'a str,
    well: bool,
    reasons: &'a [Reason],
}

fn written(answer: &Answer) -> Written<'_> {
    Written {
        object: &answer.object,
        namespace: &answer.namespace,
        verdict: &answer.finding.verdict,
        well: answer.finding.mood == Mood::Well,
        reasons: &answer.finding.reasons,
    }
}

/// The verdict, then a paragraph for each cause.
pub fn text(answer: &Answer) -> String {
    let mut text = format!("{} {}.\n", answer.object, answer.finding.verdict);
    for reason in &answer.finding.reasons {
        text.push_str(&format!("- {}.\n", reason.sentence));
        for help in &reason.helps {
            text.push_str(&format!("  Helps: {help}.\n"));
        }
    }
    text
}

pub fn lines(judged: &Judged, namespace: &str, unread: &[Reason]) -> String {
    let mut text = String::new();
    for answer in &judged.unwell {
        let place = if namespace.is_empty() && !answer.namespace.is_empty() {
            format!("{} ", answer.namespace)
        } else {
            String::new()
        };
        let cause =
            answer.finding.reasons.first().map(|reason| format!(": {}", reason.sentence)).unwrap_or_default();
        text.push_str(&format!("{place}{} {}{cause}.\n", answer.object, answer.finding.verdict));
    }
    if judged.unwell.is_empty() {
        let counts: Vec<String> = judged
            .counts
            .iter()
            .map(|(kind, n)| words::count(i64::try_from(*n).unwrap_or_default(), &kind.to_lowercase()))
            .collect();
        let place =
            if namespace.is_empty() { "the cluster".to_string() } else { format!("namespace {namespace}") };
        let seen = if counts.is_empty() { "there is nothing".to_string() } else { words::list(&counts, 20) };
        text.push_str(&format!("All is well in {place}: {seen}.\n"));
    }
    for reason in unread {
        text.push_str(&format!("({}.)\n", reason.sentence));
    }
    text
}
