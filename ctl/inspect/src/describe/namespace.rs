//! Namespaces, resource quotas and limit ranges.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use machinery::quantity::Quantity;
use serde_json::Value;

const LIMITS_HEAD: &str =
    "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio\n";
const LIMITS_RULE: &str =
    "----\t--------\t---\t---\t---------------\t-------------\t-----------------------\n";

/// Writes a namespace.
pub fn page(subject: &Subject, page: &mut Page) {
    let namespace = &subject.object;
    page.name(namespace);
    page.labels_and_annotations(namespace);
    page.field(0, "Status", dig::text(namespace, "status.phase"));
    conditions(dig::items(namespace, "status.conditions"), page);
    if let Some(quotas) = &subject.quotas {
        page.put(0, "\n");
        all_quotas(quotas, page);
    }
    if let Some(ranges) = &subject.limit_ranges {
        page.put(0, "\n");
        all_ranges(ranges, page);
    }
}

/// Conditions with the moment of the last change.
pub fn conditions(conditions: &[Value], page: &mut Page) {
    if conditions.is_empty() {
        return;
    }
    page.put(0, "Conditions:\n");
    page.put(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage\n");
    page.put(1, "----\t------\t------------------\t------\t-------\n");
    for condition in conditions {
        let text = |field| dig::text(condition, field);
        let changed = dig::date(condition, "lastTransitionTime");
        put!(
            page,
            1,
            "{}\t{}\t{changed}\t{}\t{}\n",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        );
    }
}

fn all_quotas(quotas: &[Value], page: &mut Page) {
    if quotas.is_empty() {
        return page.put(0, "No resource quota.\n");
    }
    let mut quotas: Vec<_> = quotas.iter().collect();
    quotas.sort_by_key(|quota| dig::text(quota, "metadata.name"));
    page.put(0, "Resource Quotas\n");
    for quota in quotas {
        page.field(1, "Name", dig::text(quota, "metadata.name"));
        scopes(quota, 1, "* ", page);
        page.put(1, "Resource\tUsed\tHard\n");
        page.put(1, "--------\t---\t---\n");
        for (name, used, hard) in rows(quota) {
            put!(page, 1, "{name}\t{used}\t{hard}\n");
        }
    }
}

fn rows(quota: &Value) -> Vec<(&str, Quantity, Quantity)> {
    let used = |name: &str| dig::quantity(&quota["status"]["used"][name]);
    dig::entries(quota, "status.hard")
        .into_iter()
        .map(|(name, hard)| (name, used(name), dig::quantity(hard)))
        .collect()
}

fn scopes(quota: &Value, level: usize, bullet: &str, page: &mut Page) {
    let mut scopes = dig::texts(quota, "spec.scopes");
    if scopes.is_empty() {
        return;
    }
    scopes.sort_unstable();
    page.field(level, "Scopes", scopes.join(", "));
    for help in scopes.into_iter().filter_map(scope_help) {
        put!(page, level, "{bullet}{help}\n");
    }
}

fn scope_help(scope: &str) -> Option<&'static str> {
    match scope {
        "Terminating" => Some(
            "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system.",
        ),
        "NotTerminating" => Some(
            "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate.",
        ),
        "BestEffort" => Some(
            "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service.",
        ),
        "NotBestEffort" => Some(
            "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.",
        ),
        _ => None,
    }
}

/// Writes a resource quota.
pub fn quota_page(subject: &Subject, page: &mut Page) {
    let quota = &subject.object;
    page.name(quota);
    page.namespace(quota);
    scopes(quota, 0, " * ", page);
    page.put(0, "Resource\tUsed\tHard\n");
    page.put(0, "--------\t----\t----\n");
    for (name, used, hard) in rows(quota) {
        let used =
            if used.format() == hard.format() { used } else { Quantity::new(used.value(), hard.format()) };
        put!(page, 0, "{name}\t{used}\t{hard}\n");
    }
}

fn all_ranges(ranges: &[Value], page: &mut Page) {
    if ranges.is_empty() {
        return page.put(0, "No LimitRange resource.\n");
    }
    put!(page, 0, "Resource Limits\n {LIMITS_HEAD}");
    put!(page, 0, " {LIMITS_RULE}");
    ranges.iter().for_each(|range| limits(range, " ", page));
}

fn limits(range: &Value, before: &str, page: &mut Page) {
    const FIELDS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for limit in dig::items(range, "spec.limits") {
        let mut names: Vec<_> =
            FIELDS.iter().flat_map(|field| dig::entries(limit, field)).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let cell = |field: &str| match &limit[field][name] {
                Value::Null => "-".to_string(),
                amount => dig::quantity(amount).to_string(),
            };
            let cells = FIELDS.map(cell).join("\t");
            put!(page, 0, "{before}{}\t{name}\t{cells}\n", dig::text(limit, "type"));
        }
    }
}

/// Writes a limit range.
pub fn range_page(subject: &Subject, page: &mut Page) {
    page.name(&subject.object);
    page.namespace(&subject.object);
    page.put(0, LIMITS_HEAD);
    page.put(0, LIMITS_RULE);
    limits(&subject.object, "", page);
}
