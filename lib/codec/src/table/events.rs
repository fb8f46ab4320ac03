//! Events, of both API groups.

use super::access::{Cells, UNKNOWN, text};
use machinery::time;
use serde_json::{Value, json};

pub fn event(c: &Cells<'_>) -> Vec<Value> {
    let regarding = c.get("involvedObject").or_else(|| c.get("regarding")).cloned().unwrap_or(Value::Null);
    let (first, last) = seen(c);
    vec![
        last.into(),
        c.text("type").into(),
        c.text("reason").into(),
        object_name(&regarding).into(),
        text(&regarding, "fieldPath").into(),
        source(c).into(),
        either(c, "message", "note").trim().into(),
        first.into(),
        count(c).to_string().into(),
        c.name(),
    ]
}

/// The core group and events.k8s.io name the same members differently.
fn either<'a>(c: &Cells<'a>, core: &str, events: &str) -> &'a str {
    c.text_or(core, c.text(events))
}

fn seen(c: &Cells<'_>) -> (String, String) {
    let first = either(c, "firstTimestamp", "deprecatedFirstTimestamp");
    let last = either(c, "lastTimestamp", "deprecatedLastTimestamp");
    let event_time = c.text("eventTime");
    let age = |at: &str| if at.is_empty() { UNKNOWN.to_string() } else { time::age(Some(at), c.now) };
    let first = if first.is_empty() { event_time } else { first };
    let last = match (c.text("series.lastObservedTime"), last) {
        ("", "") => first,
        ("", last) => last,
        (series, _) => series,
    };
    (age(first), age(last))
}

fn count(c: &Cells<'_>) -> i64 {
    let single = [c.int("series.count"), c.int("count"), c.int("deprecatedCount")];
    single.into_iter().find(|n| *n != 0).unwrap_or(1)
}

fn object_name(object: &Value) -> String {
    let (kind, name) = (text(object, "kind").to_lowercase(), text(object, "name"));
    match name.is_empty() {
        true => kind,
        false => format!("{kind}/{name}"),
    }
}

fn source(c: &Cells<'_>) -> String {
    let old = c.get("source").or_else(|| c.get("deprecatedSource")).cloned().unwrap_or(json!({}));
    let component = match text(&old, "component") {
        "" => either(c, "reportingComponent", "reportingController"),
        component => component,
    };
    match text(&old, "host") {
        "" => component.to_string(),
        host => format!("{component}, {host}"),
    }
}
