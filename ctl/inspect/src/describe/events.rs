//! The table of events at the end of a description.

use super::page::Page;
use crate::dig;
use crate::put;
use jiff::Timestamp;
use serde_json::Value;

/// Writes events, the oldest first. Nothing is written when they were not asked for.
pub fn table(events: Option<&[Value]>, now: Timestamp, page: &mut Page) {
    let Some(events) = events else { return };
    if events.is_empty() {
        return put!(page, 0, "Events:\t<none>\n");
    }
    let mut events: Vec<&Value> = events.iter().collect();
    events.sort_by_key(|event| dig::moment(event, "lastTimestamp"));
    page.put(0, "Events:\n  Type\tReason\tAge\tFrom\tMessage\n");
    page.put(1, "----\t------\t----\t----\t-------\n");
    for event in events {
        row(event, now, page);
    }
}

fn row(event: &Value, now: Timestamp, page: &mut Page) {
    let source = match dig::text(event, "source.component") {
        "" => dig::text(event, "reportingComponent"),
        component => component,
    };
    let said = dig::text(event, "message").trim();
    let message = match dig::text(event, "involvedObject.fieldPath") {
        "" => said.to_string(),
        path => format!("{path}: {said}"),
    };
    let (kind, reason) = (dig::text(event, "type"), dig::text(event, "reason"));
    put!(page, 1, "{kind}\t{reason}\t{}\t{source}\t{message}\n", age(event, now));
}

/// When it was last seen and, if it was seen more often, how often since when.
fn age(event: &Value, now: Timestamp) -> String {
    let first = if dig::has(event, "eventTime") { "eventTime" } else { "firstTimestamp" };
    let first = dig::since(event, first, now);
    if dig::has(event, "series") {
        let last = dig::since(event, "series.lastObservedTime", now);
        return format!("{last} (x{} over {first})", dig::int(event, "series.count"));
    }
    match dig::int(event, "count") {
        count if count > 1 => format!("{} (x{count} over {first})", dig::since(event, "lastTimestamp", now)),
        _ => first,
    }
}
