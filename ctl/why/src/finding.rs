//! What an answer is made of.

use serde::Serialize;

/// Something that was seen in the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    pub kind: String,
    pub name: String,
    /// Path of the field, dots between its parts.
    pub field: String,
    pub value: String,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Which rule says so: a scheduler plugin's name, or a name of our own.
    pub rule: &'static str,
    pub sentence: String,
    pub evidence: Vec<Evidence>,
    /// What would help, the cheapest first.
    pub helps: Vec<String>,
}

impl Reason {
    /// A cause without evidence so far.
    pub fn new(rule: &'static str, sentence: impl Into<String>) -> Reason {
        Reason { rule, sentence: sentence.into(), evidence: Vec::new(), helps: Vec::new() }
    }

    /// Adds what was seen.
    pub fn seen(mut self, kind: &str, name: &str, field: &str, value: impl ToString) -> Reason {
        self.evidence.push(evidence(kind, name, field, value));
        self
    }

    /// Adds what would help.
    pub fn help(mut self, text: impl Into<String>) -> Reason {
        self.helps.push(text.into());
        self
    }
}

/// Something seen.
pub fn evidence(kind: &str, name: &str, field: &str, value: impl ToString) -> Evidence {
    Evidence { kind: kind.into(), name: name.into(), field: field.into(), value: value.to_string() }
}

/// How bad it is; the order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mood {
    /// All as wished.
    Well,
    /// On its way.
    Waiting,
    /// It won't get well by waiting.
    Bad,
}

/// The answer about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub mood: Mood,
    /// The end of a sentence about the object: `is Pending: no node of 2 can take it`.
    pub verdict: String,
    /// The causes, the most important first. What is worth saying about a healthy object stands here too.
    pub reasons: Vec<Reason>,
}

impl Finding {
    /// An object that is as it should be.
    pub fn well(verdict: impl Into<String>) -> Finding {
        Finding { mood: Mood::Well, verdict: verdict.into(), reasons: Vec::new() }
    }

    /// An object on its way.
    pub fn waiting(verdict: impl Into<String>, reasons: Vec<Reason>) -> Finding {
        Finding { mood: Mood::Waiting, verdict: verdict.into(), reasons }
    }

    /// An object in trouble.
    pub fn bad(verdict: impl Into<String>, reasons: Vec<Reason>) -> Finding {
        Finding { mood: Mood::Bad, verdict: verdict.into(), reasons }
    }

    /// The same with more causes.
    pub fn and(mut self, more: impl IntoIterator<Item = Reason>) -> Finding {
        self.reasons.extend(more);
        self
    }
}
