//! Cron jobs.

use super::{job, pod_warnings};
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{at, b, get, s, s_at, set};
use serde_json::{Value, json};

/// Cron jobs.
pub const KIND: Kind = Kind {
    status: true,
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.startingDeadlineSeconds", Rule::NonNegative),
        ("spec.successfulJobsHistoryLimit", Rule::NonNegative),
        ("spec.failedJobsHistoryLimit", Rule::NonNegative),
        ("spec.concurrencyPolicy", Rule::RequiredOneOf(&["Allow", "Forbid", "Replace"])),
    ],
    validate,
    warnings: |new, old, out| {
        if old.is_none() {
            pod_warnings::name(name_of(new), out);
        }
        let wrapped = |v: &Value| json!({"metadata": v.get("metadata"), "spec": at(v, &["spec", "jobTemplate", "spec"])});
        pod_warnings::template(&wrapped(new), old.map(wrapped).as_ref(), out);
        if old.is_some() && s_at(new, &["spec", "schedule"]).contains("TZ") {
            out.push("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
        }
    },
    ..Kind::of("batch", "cronjobs")
};

fn validate(new: &Value, old: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    if old.is_none() && name_of(new).len() > 52 {
        errs.invalid(&At::ROOT.f("metadata.name"), name_of(new), "must be no more than 52 characters");
    }
    schedule(spec, old, &path, errs);
    let zone = s(spec, "timeZone");
    if set(spec, "timeZone") && old.map(|o| s_at(o, &["spec", "timeZone"])) != Some(zone) {
        time_zone(zone, &path.f("timeZone"), errs);
    }
    let template = at(spec, &["jobTemplate", "spec"]).unwrap_or(&Value::Null);
    let path = path.f("jobTemplate.spec");
    if set(template, "selector") {
        errs.invalid(
            &path.f("selector"),
            template.get("selector").cloned().unwrap_or_default(),
            "`selector` will be auto-generated",
        );
    }
    if b(template, "manualSelector") {
        errs.not_supported(&path.f("manualSelector"), true, &["nil", "false"]);
    }
    job::job_spec(template, &path, errs);
}

fn schedule(spec: &Value, old: Option<&Value>, path: &At<'_>, errs: &mut Errs) {
    let text = s(spec, "schedule");
    let path = path.f("schedule");
    if text.is_empty() {
        return errs.required(&path, "");
    }
    if text.contains("TZ") {
        let before = old.is_some_and(|o| s_at(o, &["spec", "schedule"]).contains("TZ"));
        if !before {
            errs.invalid(&path, text, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if set(spec, "timeZone") {
            errs.invalid(&path, text, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
    }
    let bare = text.split_once(' ').filter(|(head, _)| head.contains("TZ=")).map_or(text, |(_, rest)| rest);
    if let Err(why) = parse_schedule(bare) {
        errs.invalid(&path, text, why);
    }
}

fn time_zone(zone: &str, path: &At<'_>, errs: &mut Errs) {
    if zone.is_empty() {
        return errs.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    let part_ok = |p: &str| {
        (1..=14).contains(&p.len())
            && !p.starts_with('-')
            && p.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_+".contains(&c))
    };
    if zone.eq_ignore_ascii_case("Local") {
        errs.invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if !zone.split('/').all(part_ok) || jiff::tz::TimeZone::get(zone).is_err() {
        errs.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

/// Whether a text is a schedule: five fields, or a descriptor such as `@hourly` or `@every 1h`.
fn parse_schedule(text: &str) -> Result<(), String> {
    if let Some(word) = text.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        let every =
            word.strip_prefix("every ").is_some_and(|d| machinery::time::parse_go_duration(d).is_some());
        return if known.contains(&word) || every {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {text}"))
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let bounds: [(i64, i64, &[&str]); 5] =
        [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];
    for (field, (low, high, words)) in fields.iter().zip(bounds) {
        field.split(',').try_for_each(|part| range(part, low, high, words))?;
    }
    Ok(())
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One part of a field: `*`, `a`, `a-b`, each with an optional `/step`.
fn range(part: &str, low: i64, high: i64, words: &[&str]) -> Result<(), String> {
    let (span, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
    let number = |text: &str| -> Result<i64, String> {
        let word = words
            .iter()
            .position(|w| w.eq_ignore_ascii_case(text))
            .map(|i| i as i64 + if low == 1 { 1 } else { 0 });
        word.or_else(|| text.parse().ok()).ok_or_else(|| {
            format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
        })
    };
    let (from, to) = match span {
        "*" | "?" => (low, high),
        _ => match span.split_once('-') {
            Some((a, b)) => (number(a)?, number(b)?),
            None => {
                let n = number(span)?;
                (n, if step.is_some() { high } else { n })
            }
        },
    };
    if from < low {
        return Err(format!("beginning of range ({from}) below minimum ({low}): {part}"));
    }
    if to > high {
        return Err(format!("end of range ({to}) above maximum ({high}): {part}"));
    }
    if from > to {
        return Err(format!("beginning of range ({from}) beyond end of range ({to}): {part}"));
    }
    match step.map(number) {
        Some(Ok(n)) if n <= 0 => Err(format!("step of range should be a positive number: {part}")),
        Some(Err(why)) => Err(why),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_schedule;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-3 1,15 jan-mar mon", "@hourly", "@every 1h30m", "0 0 * * 0"] {
            assert_eq!(parse_schedule(good), Ok(()), "{good}");
        }
        for bad in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "@never", "*/0 * * * *", "a * * * *"]
        {
            assert!(parse_schedule(bad).is_err(), "{bad}");
        }
    }
}
