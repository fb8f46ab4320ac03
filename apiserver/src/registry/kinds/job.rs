//! Jobs.

use super::pod_warnings;
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::{self, Row, Rule};
use crate::registry::strategy::name_of;
use crate::registry::val::{
    at, b, get, i, items_mut, keep, list, members, s, s_at, same, same_at, set, strs, sub,
};
use crate::registry::validate::{indexes, labels, template};
use crate::strategy::GcPolicy;
use machinery::names;
use serde_json::{Value, json};

/// Jobs.
pub const KIND: Kind = Kind {
    status: true,
    generation: Generation::Members(&["spec"]),
    gc: GcPolicy::Orphan,
    prepare_create: generate_selector,
    validate,
    fixed: &[
        "spec.selector",
        "spec.completionMode",
        "spec.podFailurePolicy",
        "spec.backoffLimitPerIndex",
        "spec.managedBy",
        "spec.successPolicy",
    ],
    validate_update,
    validate_status,
    warnings: |new, old, out| {
        if old.is_none() {
            pod_warnings::name(name_of(new), out);
        }
        pod_warnings::template(new, old, out);
    },
    ..Kind::of("batch", "jobs")
};

/// Unless the client chose its own selector, pods are told apart by the job's uid.
fn generate_selector(job: &mut Value) {
    if at(job, &["spec", "manualSelector"]) == Some(&Value::Bool(true)) {
        return;
    }
    let (uid, name) =
        (s_at(job, &["metadata", "uid"]).to_owned(), s_at(job, &["metadata", "name"]).to_owned());
    let spec = sub(members(job), "spec");
    let labels = sub(sub(sub(spec, "template"), "metadata"), "labels");
    for prefix in ["", "batch.kubernetes.io/"] {
        labels.entry(format!("{prefix}job-name")).or_insert_with(|| json!(name));
        labels.entry(format!("{prefix}controller-uid")).or_insert_with(|| json!(uid));
    }
    let selector = sub(sub(spec, "selector"), "matchLabels");
    selector.entry("batch.kubernetes.io/controller-uid").or_insert_with(|| json!(uid));
}

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    let completions = i(spec, "completions").unwrap_or(0);
    if s(spec, "completionMode") == "Indexed" && completions > 0 {
        let host = format!("{}-{}", name_of(new), completions - 1);
        errs.invalid_each(&At::ROOT.f("metadata.name"), name_of(new), names::is_dns1123_label(&host));
    }
    if !b(spec, "manualSelector") {
        generated_labels(new, spec, &path, errs);
    }
    match get(spec, "selector") {
        None => errs.required(&path.f("selector"), ""),
        Some(selector) => labels::selector(selector, &path.f("selector"), errs),
    }
    let meta = at(spec, &["template", "metadata"]).unwrap_or(&Value::Null);
    if get(spec, "selector").is_some_and(|sel| !labels::matches(sel, meta)) {
        errs.invalid(
            &path.f("template.metadata.labels"),
            meta.get("labels").cloned().unwrap_or_default(),
            "`selector` does not match template `labels`",
        );
    }
    job_spec(spec, &path, errs);
}

fn generated_labels(job: &Value, spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let uid = s_at(job, &["metadata", "uid"]);
    if uid.is_empty() {
        errs.required(&At::ROOT.f("metadata.uid"), "");
    }
    let labels = at(spec, &["template", "metadata", "labels"]).unwrap_or(&Value::Null);
    let path = path.f("template.metadata.labels");
    for (key, want) in [("controller-uid", uid), ("job-name", name_of(job))] {
        match labels.get(key).and_then(Value::as_str) {
            None => errs.required(&path.k(key), format!("must be '{want}'")),
            Some(value) if value != want => errs.invalid(&path.k(key), value, format!("must be '{want}'")),
            Some(_) => {}
        }
    }
    let made = ["", "batch.kubernetes.io/"].into_iter().flat_map(|prefix| {
        let label = |key: &str, value: &str| (format!("{prefix}{key}"), json!(value));
        [label("controller-uid", uid), label("job-name", name_of(job))]
    });
    let made = json!({"labels": made.collect::<serde_json::Map<_, _>>()});
    if let Some(selector) = get(spec, "selector").filter(|sel| !labels::matches(sel, &made)) {
        errs.invalid(&At::ROOT.f("spec.selector"), selector.clone(), "`selector` not auto-generated");
    }
}

const COUNTS: &[Row] = &[
    ("parallelism", Rule::NonNegative),
    ("completions", Rule::NonNegative),
    ("activeDeadlineSeconds", Rule::NonNegative),
    ("backoffLimit", Rule::NonNegative),
    ("ttlSecondsAfterFinished", Rule::NonNegative),
    ("backoffLimitPerIndex", Rule::NonNegative),
    ("maxFailedIndexes", Rule::NonNegative),
    ("managedBy", Rule::MaxLen(63)),
    ("completionMode", Rule::OneOf(&["Indexed", "NonIndexed"])),
];

/// The spec of a job, on its own or in a cron job.
pub fn job_spec(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    rules::check_at(spec, COUNTS, path, errs);
    indexed(spec, path, errs);
    template::template(get(spec, "template").unwrap_or(&Value::Null), &[], &path.f("template"), errs);
    let policy = s_at(spec, &["template", "spec", "restartPolicy"]);
    let restart = path.f("template.spec.restartPolicy");
    if policy.is_empty() || policy == "Always" {
        errs.required(&restart, "valid values: \"OnFailure\", \"Never\"");
    } else if !matches!(policy, "OnFailure" | "Never") {
        errs.not_supported(&restart, policy, &["OnFailure", "Never"]);
    } else if set(spec, "podFailurePolicy") && policy != "Never" {
        errs.invalid(&restart, policy, "only \"Never\" is supported when podFailurePolicy is specified");
    }
    if set(spec, "podReplacementPolicy") {
        let allowed: &[&str] =
            if set(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        errs.one_of(&path.f("podReplacementPolicy"), s(spec, "podReplacementPolicy"), allowed);
    }
    if let Some(policy) = get(spec, "podFailurePolicy") {
        failure_policy(policy, spec, &path.f("podFailurePolicy"), errs);
    }
    if let Some(policy) = get(spec, "successPolicy") {
        success_policy(policy, spec, &path.f("successPolicy"), errs);
    }
}

fn indexed(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let is_indexed = s(spec, "completionMode") == "Indexed";
    if is_indexed {
        if !set(spec, "completions") {
            errs.required(&path.f("completions"), "when completion mode is Indexed");
        }
        if let Some(n) = i(spec, "parallelism").filter(|n| *n > 100_000) {
            errs.invalid(
                &path.f("parallelism"),
                n,
                "must be less than or equal to 100000 when completion mode is Indexed",
            );
        }
        let completions = i(spec, "completions").unwrap_or(0);
        if let Some(n) = i(spec, "maxFailedIndexes").filter(|n| *n > completions) {
            errs.invalid(&path.f("maxFailedIndexes"), n, "must be less than or equal to completions");
        }
    }
    for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let (false, Some(n)) = (is_indexed, i(spec, key)) {
            errs.invalid(&path.f(key), n, "requires indexed completion mode");
        }
    }
    if set(spec, "maxFailedIndexes") && !set(spec, "backoffLimitPerIndex") {
        errs.required(&path.f("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
}

fn failure_policy(policy: &Value, spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let rules = list(policy, "rules");
    let path = path.f("rules");
    if rules.len() > 20 {
        return errs.too_many(&path, rules.len(), 20);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = path.i(index);
        let action = s(rule, "action");
        errs.required_one_of(&at.f("action"), action, &["Count", "FailIndex", "FailJob", "Ignore"]);
        if action == "FailIndex" && !set(spec, "backoffLimitPerIndex") {
            errs.invalid(&at.f("action"), action, "requires the backoffLimitPerIndex to be set");
        }
        match (get(rule, "onExitCodes"), list(rule, "onPodConditions").is_empty()) {
            (Some(_), false) => errs.invalid(
                &at,
                rule.clone(),
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (None, true) => errs.invalid(
                &at,
                rule.clone(),
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            (Some(codes), true) => exit_codes(codes, spec, &at.f("onExitCodes"), errs),
            (None, false) => conditions(rule, &at.f("onPodConditions"), errs),
        }
    }
}

fn exit_codes(codes: &Value, spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let operator = s(codes, "operator");
    errs.required_one_of(&path.f("operator"), operator, &["In", "NotIn"]);
    let name = s(codes, "containerName");
    let pod = at(spec, &["template", "spec"]).unwrap_or(&Value::Null);
    let known =
        ["containers", "initContainers"].iter().any(|k| list(pod, k).iter().any(|c| s(c, "name") == name));
    if !name.is_empty() && !known {
        errs.invalid(
            &path.f("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Value::as_i64).collect();
    let path = path.f("values");
    if values.is_empty() {
        errs.invalid(&path, json!([]), "at least one value is required");
    } else if values.len() > 255 {
        errs.too_many(&path, values.len(), 255);
    }
    for (index, value) in values.iter().enumerate() {
        if *value == 0 && operator == "In" {
            errs.invalid(&path.i(index), 0, "must not be 0 for the In operator");
        }
        if values.iter().take(index).any(|v| v == value) {
            errs.duplicate(&path.i(index), *value);
        }
    }
    if !values.is_sorted() {
        errs.invalid(&path, json!(values), "must be ordered");
    }
}

fn conditions(rule: &Value, path: &At<'_>, errs: &mut Errs) {
    let patterns = list(rule, "onPodConditions");
    if patterns.len() > 20 {
        errs.too_many(path, patterns.len(), 20);
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let at = path.i(index);
        errs.invalid_each(&at.f("type"), s(pattern, "type"), names::is_qualified_name(s(pattern, "type")));
        errs.required_one_of(&at.f("status"), s(pattern, "status"), &["False", "True", "Unknown"]);
    }
}

fn success_policy(policy: &Value, spec: &Value, path: &At<'_>, errs: &mut Errs) {
    if s(spec, "completionMode") != "Indexed" {
        errs.invalid(path, policy.clone(), "requires indexed completion mode");
    }
    let rules = list(policy, "rules");
    let path = path.f("rules");
    match rules.len() {
        0 => errs.required(&path, "at least one rules must be specified when the successPolicy is specified"),
        n if n > 20 => errs.too_many(&path, n, 20),
        _ => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = path.i(index);
        if !set(rule, "succeededCount") && !set(rule, "succeededIndexes") {
            errs.required(&at, "at least one of succeededCount or succeededIndexes must be specified");
        }
        errs.non_negative(&at.f("succeededCount"), i(rule, "succeededCount"));
        succeeded_indexes(rule, i(spec, "completions").unwrap_or(0), &at, errs);
    }
}

fn succeeded_indexes(rule: &Value, completions: i64, at: &At<'_>, errs: &mut Errs) {
    let (text, count) = (s(rule, "succeededIndexes"), i(rule, "succeededCount"));
    let mut most = completions;
    if text.len() > 65536 {
        errs.too_long(&at.f("succeededIndexes"), 65536);
    } else if set(rule, "succeededIndexes") {
        match indexes::parse(text, completions) {
            Ok(runs) => most = indexes::total(&runs),
            Err(why) => {
                errs.invalid(
                    &at.f("succeededIndexes"),
                    text,
                    format!("error parsing succeededIndexes: {why}"),
                );
                return;
            }
        }
    }
    if let Some(count) = count.filter(|c| *c > most) {
        let of = if set(rule, "succeededIndexes") {
            format!(
                "must be less than or equal to {most} (the number of indexes in the specified succeededIndexes field)"
            )
        } else {
            format!("must be less than or equal to {most} (the number of specified completions)")
        };
        errs.invalid(&at.f("succeededCount"), count, of);
    }
}

fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (get(new, "spec").unwrap_or(&Value::Null), get(old, "spec").unwrap_or(&Value::Null));
    let path = At::ROOT.f("spec");
    if !same_at(a, b, "completions") {
        let elastic = s(b, "completionMode") == "Indexed"
            && i(a, "completions") == i(a, "parallelism")
            && i(b, "completions") == i(b, "parallelism");
        if !elastic {
            let why = if s(b, "completionMode") == "Indexed" {
                "can only be modified in tandem with parallelism"
            } else {
                crate::registry::errs::IMMUTABLE
            };
            errs.invalid(&path.f("completions"), a.get("completions").cloned().unwrap_or_default(), why);
        }
    }
    let mut munged = a.get("template").cloned().unwrap_or_default();
    let before = b.get("template").cloned().unwrap_or_default();
    if held_back(old) {
        steering_as_before(&mut munged, &before);
    }
    if !same(Some(&munged), Some(&before)) {
        errs.invalid(
            &path.f("template"),
            a.get("template").cloned().unwrap_or_default(),
            crate::registry::errs::IMMUTABLE,
        );
    }
}

/// Suspended, and nothing of it runs.
fn held_back(job: &Value) -> bool {
    let status = get(job, "status").unwrap_or(&Value::Null);
    let suspended =
        list(status, "conditions").iter().any(|c| s(c, "type") == "Suspended" && s(c, "status") == "True");
    let started = set(status, "startTime");
    at(job, &["spec", "suspend"]) == Some(&Value::Bool(true))
        && (!started || suspended)
        && i(status, "active").unwrap_or(0) == 0
}

/// Where pods run and what they get may change while a job is held back.
fn steering_as_before(template: &mut Value, old: &Value) {
    let old_meta = old.get("metadata").cloned().unwrap_or_default();
    let meta = members(template).entry("metadata").or_insert_with(|| json!({}));
    ["labels", "annotations"].iter().for_each(|k| keep(meta, &old_meta, k));
    let old_spec = old.get("spec").cloned().unwrap_or_default();
    let Some(spec) = template.get_mut("spec") else { return };
    ["nodeSelector", "tolerations", "schedulingGates"].iter().for_each(|k| keep(spec, &old_spec, k));
    if let Some(affinity) = spec.get_mut("affinity") {
        keep(affinity, old_spec.get("affinity").unwrap_or(&Value::Null), "nodeAffinity");
    } else {
        keep(spec, &old_spec, "affinity");
    }
    for kind in ["containers", "initContainers"] {
        for (container, before) in items_mut(spec, kind).iter_mut().zip(list(&old_spec, kind)) {
            keep(container, before, "resources");
        }
    }
}

const STATUS: &[Row] = &[
    ("status.active", Rule::NonNegative),
    ("status.succeeded", Rule::NonNegative),
    ("status.failed", Rule::NonNegative),
    ("status.ready", Rule::NonNegative),
    ("status.terminating", Rule::NonNegative),
];

fn validate_status(new: &Value, old: &Value, errs: &mut Errs) {
    rules::check(new, STATUS, errs);
    let (a, b) = (get(new, "status").unwrap_or(&Value::Null), get(old, "status").unwrap_or(&Value::Null));
    let path = At::ROOT.f("status");
    let holds = |v: &Value, kind: &str| {
        list(v, "conditions").iter().any(|c| s(c, "type") == kind && s(c, "status") == "True")
    };
    for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        if holds(b, kind) && !holds(a, kind) {
            errs.invalid(
                &path.f("conditions"),
                a.get("conditions").cloned().unwrap_or_default(),
                format!("cannot disable {kind}=True condition"),
            );
        }
    }
    if !same_at(a, b, "conditions") {
        contradictions(a, &|kind| holds(a, kind), &path, errs);
    }
    let over = holds(a, "Complete") || holds(a, "Failed");
    let idle = i(get(new, "spec").unwrap_or(&Value::Null), "completions") == Some(0);
    if over && !set(a, "startTime") && !(idle && at(new, &["spec", "suspend"]) == Some(&Value::Bool(true))) {
        errs.required(&path.f("startTime"), "startTime is required for finished job");
    }
    if holds(a, "Complete") && !set(a, "completionTime") {
        errs.required(&path.f("completionTime"), "completionTime is required for Complete jobs");
    }
    counts(a, b, over, &path, errs);
    if set(b, "completionTime") && !same_at(a, b, "completionTime") {
        errs.immutable(&path.f("completionTime"), a.get("completionTime"), b.get("completionTime"));
    }
    if set(a, "completionTime") && !set(b, "completionTime") && !holds(a, "Complete") {
        errs.invalid(
            &path.f("completionTime"),
            a.get("completionTime").cloned().unwrap_or_default(),
            "completionTime cannot be set when there is no Complete=True condition",
        );
    }
    uncounted(a, &path.f("uncountedTerminatedPods"), errs);
    times(new, a, b, &path, errs);
    index_texts(new, a, b, &path, errs);
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let elastic = s(spec, "completionMode") == "Indexed" && i(spec, "completions") == i(spec, "parallelism");
    if !elastic && i(a, "succeeded").unwrap_or(0) < i(b, "succeeded").unwrap_or(0) {
        errs.invalid(&path.f("succeeded"), i(a, "succeeded").unwrap_or(0), "cannot be decreased");
    }
    if i(a, "failed").unwrap_or(0) < i(b, "failed").unwrap_or(0) {
        errs.invalid(&path.f("failed"), i(a, "failed").unwrap_or(0), "cannot be decreased");
    }
}

/// A job that runs on began when it began, and ends no sooner.
fn times(new: &Value, a: &Value, b: &Value, path: &At<'_>, errs: &mut Errs) {
    let suspended = at(new, &["spec", "suspend"]) == Some(&Value::Bool(true));
    let held = |v: &Value| {
        list(v, "conditions").iter().any(|c| s(c, "type") == "Suspended" && s(c, "status") == "True")
    };
    if set(b, "startTime") && !suspended && !held(b) && !same_at(a, b, "startTime") {
        let value = a.get("startTime").cloned().unwrap_or_default();
        errs.invalid(&path.f("startTime"), value, "cannot be updated for unsuspended job");
    }
    let time = |key: &str| s(a, key).parse::<jiff::Timestamp>().ok();
    if let (Some(start), Some(end)) = (time("startTime"), time("completionTime"))
        && end < start
    {
        let value = s(a, "completionTime");
        errs.invalid(&path.f("completionTime"), value, "completionTime cannot be set before startTime");
    }
}

/// Indexes as they are to be written, where there are such at all.
fn index_texts(new: &Value, a: &Value, b: &Value, path: &At<'_>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let completions = i(spec, "completions").unwrap_or(0);
    let indexed = s(spec, "completionMode") == "Indexed";
    let mut sets = Vec::new();
    for (key, known, why) in [
        (
            "completedIndexes",
            indexed,
            "cannot set non-empty completedIndexes when non-indexed completion mode",
        ),
        (
            "failedIndexes",
            indexed && set(spec, "backoffLimitPerIndex"),
            "cannot set non-empty failedIndexes when backoffLimitPerIndex is null",
        ),
    ] {
        let text = s(a, key);
        let parsed = indexes::parse(text, completions);
        let trouble = match &parsed {
            _ if text.is_empty() || same_at(a, b, key) => None,
            _ if !known => Some(why.to_owned()),
            Err(error) => Some(format!("error parsing {key}: {error}")),
            Ok(_) => None,
        };
        if let Some(trouble) = trouble {
            errs.invalid(&path.f(key), text, trouble);
        }
        sets.push(parsed.unwrap_or_default());
    }
    if let [done, lost] = &sets[..]
        && !(same_at(a, b, "completedIndexes") && same_at(a, b, "failedIndexes"))
        && let Some(both) = indexes::common(done, lost)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {both}");
        errs.invalid(&path.f("failedIndexes"), s(a, "failedIndexes"), why);
    }
}

/// Ends that exclude each other, and ends that were not headed for.
fn contradictions(status: &Value, holds: &dyn Fn(&str) -> bool, path: &At<'_>, errs: &mut Errs) {
    let mut refuse = |why: &str| {
        errs.invalid(
            &path.f("conditions"),
            status.get("conditions").cloned().unwrap_or_default(),
            why.to_owned(),
        );
    };
    for (one, other) in [
        ("Complete", "Failed"),
        ("Complete", "FailureTarget"),
        ("SuccessCriteriaMet", "FailureTarget"),
        ("SuccessCriteriaMet", "Failed"),
    ] {
        if holds(one) && holds(other) {
            refuse(&format!("cannot set {one}=True and {other}=True conditions"));
        }
    }
    for (end, before) in [("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")] {
        if holds(end) && !holds(before) {
            refuse(&format!("cannot set {end}=True condition without the {before}=true condition"));
        }
    }
}

/// Counts that fit each other, and what must be over when the job is.
fn counts(a: &Value, b: &Value, over: bool, path: &At<'_>, errs: &mut Errs) {
    let number = |v: &Value, key: &str| i(v, key).unwrap_or(0);
    let changed = |key: &str| number(a, key) != number(b, key);
    if (changed("ready") || changed("active")) && number(a, "ready") > number(a, "active") {
        errs.invalid(&path.f("ready"), number(a, "ready"), "cannot set more ready pods than active");
    }
    if !over {
        return;
    }
    for (key, why) in [
        ("active", "active>0 is invalid for finished job"),
        ("terminating", "terminating>0 is invalid for finished job"),
    ] {
        if number(a, key) > 0 && changed(key) {
            errs.invalid(&path.f(key), number(a, key), why);
        }
    }
    let left = get(a, "uncountedTerminatedPods")
        .is_some_and(|u| ["succeeded", "failed"].iter().any(|k| strs(u, k).next().is_some()));
    if left && !same_at(a, b, "uncountedTerminatedPods") {
        let value = a.get("uncountedTerminatedPods").cloned().unwrap_or_default();
        errs.invalid(
            &path.f("uncountedTerminatedPods"),
            value,
            "uncountedTerminatedPods needs to be empty for finished job",
        );
    }
}

fn uncounted(status: &Value, path: &At<'_>, errs: &mut Errs) {
    let Some(uncounted) = get(status, "uncountedTerminatedPods") else { return };
    let mut seen: Vec<&str> = Vec::new();
    for which in ["succeeded", "failed"] {
        for (index, uid) in strs(uncounted, which).enumerate() {
            let base = path.f(which);
            if uid.is_empty() {
                errs.invalid(&base.i(index), uid, "must not be empty");
            } else if seen.contains(&uid) {
                errs.duplicate(&base.i(index), uid);
            }
            seen.push(uid);
        }
    }
}
