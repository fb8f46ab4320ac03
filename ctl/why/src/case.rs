//! One question: an object, what is known, and when it is asked.

use coxctl_kit::dig;
use jiff::Timestamp;
use serde_json::Value;

use crate::facts::{self, Facts};
use crate::words;

/// An object that is asked about.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub facts: &'a Facts,
    pub object: &'a Value,
    pub now: Timestamp,
}

impl<'a> Case<'a> {
    /// The same question about another object.
    pub fn about(&self, object: &'a Value) -> Case<'a> {
        Case { object, ..*self }
    }

    pub fn name(&self) -> &'a str {
        facts::name(self.object)
    }

    pub fn namespace(&self) -> &'a str {
        facts::namespace(self.object)
    }

    pub fn kind(&self) -> &'a str {
        dig::text(self.object, "kind")
    }

    pub fn text(&self, path: &str) -> &'a str {
        dig::text(self.object, path)
    }

    pub fn int(&self, path: &str) -> i64 {
        dig::int(self.object, path)
    }

    pub fn items(&self, path: &str) -> &'a [Value] {
        dig::items(self.object, path)
    }

    /// How long ago a moment of the object was: `3m`; empty where there is none.
    pub fn since(&self, path: &str) -> String {
        self.ago(dig::moment(self.object, path))
    }

    /// How long ago a moment was.
    pub fn ago(&self, at: Option<Timestamp>) -> String {
        at.map(|at| words::span(self.now.as_second() - at.as_second())).unwrap_or_default()
    }

    /// A condition of the object.
    pub fn condition(&self, kind: &str) -> Option<&'a Value> {
        condition(self.object, kind)
    }

    /// The object's events, the latest first.
    pub fn events(&self) -> Vec<&'a Value> {
        let uid = self.text("metadata.uid");
        let mirror = dig::at(self.object, "metadata.annotations").get("kubernetes.io/config.mirror");
        let mirror = mirror.and_then(Value::as_str).unwrap_or(uid);
        let (name, kind) = (self.name(), self.kind());
        let about = |event: &&Value| {
            let object = dig::at(event, "involvedObject");
            let theirs = dig::text(object, "uid");
            dig::text(object, "name") == name
                && dig::text(object, "kind") == kind
                && (theirs.is_empty() || theirs == uid || theirs == mirror || theirs == name)
        };
        let mut events: Vec<&Value> = self.facts.all("Event").filter(about).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event_time(event)));
        events
    }

    /// The latest event with one of these reasons.
    pub fn event(&self, reasons: &[&str]) -> Option<&'a Value> {
        self.events().into_iter().find(|event| reasons.contains(&dig::text(event, "reason")))
    }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    dig::items(object, "status.conditions").iter().find(|condition| dig::text(condition, "type") == kind)
}

/// Whether a condition has this status.
pub fn is(object: &Value, kind: &str, status: &str) -> bool {
    condition(object, kind).is_some_and(|condition| dig::text(condition, "status") == status)
}

/// When an event was last seen.
pub fn event_time(event: &Value) -> Option<Timestamp> {
    let paths = ["series.lastObservedTime", "lastTimestamp", "eventTime", "firstTimestamp"];
    paths
        .iter()
        .find_map(|path| dig::moment(event, path))
        .or_else(|| dig::moment(event, "metadata.creationTimestamp"))
}

/// How often an event was seen.
pub fn event_count(event: &Value) -> i64 {
    dig::int(event, "series.count").max(dig::int(event, "count")).max(1)
}
