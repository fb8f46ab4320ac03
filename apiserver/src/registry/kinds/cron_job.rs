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
    if let Err(why) = machinery::cron::Schedule::parse(bare) {
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
