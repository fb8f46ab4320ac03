//! Horizontal pod autoscalers, of both versions.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Writes a horizontal pod autoscaler.
pub fn page(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    page.labels_and_annotations(object);
    page.field(0, "CreationTimestamp", dig::date(object, "metadata.creationTimestamp"));
    let kind = dig::text(object, "spec.scaleTargetRef.kind");
    page.field(0, "Reference", format!("{kind}/{}", dig::text(object, "spec.scaleTargetRef.name")));
    match dig::text(object, "apiVersion") {
        "autoscaling/v1" => utilization(object, page),
        _ => metrics(object, page),
    }
    limits(object, page);
    let (current, desired) =
        (dig::int(object, "status.currentReplicas"), dig::int(object, "status.desiredReplicas"));
    page.field(0, &format!("{kind} pods"), format!("{current} current / {desired} desired"));
    conditions(object, page);
    subject.events(page);
}

/// The one metric of version 1.
fn utilization(object: &Value, page: &mut Page) {
    let Some(target) = dig::at(object, "spec.targetCPUUtilizationPercentage").as_i64() else { return };
    page.field(0, "Target CPU utilization", format!("{target}%"));
    let current = dig::at(object, "status.currentCPUUtilizationPercentage").as_i64();
    let current = current.map_or("<unknown>".into(), |current| current.to_string());
    page.field(0, "Current CPU utilization", format!("{current}%"));
}

fn metrics(object: &Value, page: &mut Page) {
    page.put(0, "Metrics:\t( current / target )\n");
    let current = dig::items(object, "status.currentMetrics");
    for (number, metric) in dig::items(object, "spec.metrics").iter().enumerate() {
        let current = current.get(number).unwrap_or(&Value::Null);
        match dig::text(metric, "type") {
            "External" => external(&metric["external"], &current["external"], page),
            "Pods" => pods(&metric["pods"], &current["pods"], page),
            "Object" => of_object(&metric["object"], &current["object"], page),
            "Resource" => resource(&metric["resource"], &current["resource"], page),
            "ContainerResource" => {
                resource(&metric["containerResource"], &current["containerResource"], page)
            }
            other => put!(page, 1, "<unknown metric type {other:?}>\n"),
        }
    }
}

const UNKNOWN: &str = "<unknown>";

/// A current value: unknown while there is no status of the metric.
fn shown(current: &Value, field: &str) -> String {
    match current.is_null() {
        true => UNKNOWN.into(),
        false => dig::quantity(&current["current"][field]).to_string(),
    }
}

fn target(metric: &Value, field: &str) -> String {
    dig::quantity(&metric["target"][field]).to_string()
}

fn external(metric: &Value, current: &Value, page: &mut Page) {
    let name = dig::text(metric, "metric.name");
    if dig::has(metric, "target.averageValue") {
        let now = match dig::has(current, "current.averageValue") {
            true => shown(current, "averageValue"),
            false => UNKNOWN.into(),
        };
        return put!(
            page,
            1,
            "{name:?} (target average value):\t{now} / {}\n",
            target(metric, "averageValue")
        );
    }
    put!(page, 1, "{name:?} (target value):\t{} / {}\n", shown(current, "value"), target(metric, "value"));
}

fn pods(metric: &Value, current: &Value, page: &mut Page) {
    let name = dig::text(metric, "metric.name");
    put!(
        page,
        1,
        "{name:?} on pods:\t{} / {}\n",
        shown(current, "averageValue"),
        target(metric, "averageValue")
    );
}

fn of_object(metric: &Value, current: &Value, page: &mut Page) {
    let (name, kind) = (dig::text(metric, "metric.name"), dig::text(metric, "describedObject.kind"));
    put!(page, 1, "\"{name}\" on {kind}/{} ", dig::text(metric, "describedObject.name"));
    let (title, field) = match dig::text(metric, "target.type") {
        "AverageValue" => ("(target average value)", "averageValue"),
        _ => ("(target value)", "value"),
    };
    put!(page, 0, "{title}:\t{} / {}\n", shown(current, field), target(metric, field));
}

fn resource(metric: &Value, current: &Value, page: &mut Page) {
    let of = match dig::text(metric, "container") {
        "" => String::new(),
        container => format!(" of container \"{container}\""),
    };
    put!(page, 1, "resource {}{of} on pods", dig::text(metric, "name"));
    if dig::has(metric, "target.averageValue") {
        return put!(page, 0, ":\t{} / {}\n", shown(current, "averageValue"), target(metric, "averageValue"));
    }
    let now = match dig::at(current, "current.averageUtilization").as_i64() {
        Some(percent) => format!("{percent}% ({})", shown(current, "averageValue")),
        None => UNKNOWN.into(),
    };
    let wanted = dig::at(metric, "target.averageUtilization").as_i64();
    let wanted = wanted.map_or("<auto>".into(), |percent| format!("{percent}%"));
    put!(page, 1, "(as a percentage of request):\t{now} / {wanted}\n");
}

fn limits(object: &Value, page: &mut Page) {
    let least =
        dig::at(object, "spec.minReplicas").as_i64().map_or("<unset>".into(), |least| least.to_string());
    page.field(0, "Min replicas", least);
    page.field(0, "Max replicas", dig::int(object, "spec.maxReplicas"));
    if dig::has(object, "spec.behavior") {
        page.put(0, "Behavior:\n");
        behavior("Scale Up", dig::at(object, "spec.behavior.scaleUp"), page);
        behavior("Scale Down", dig::at(object, "spec.behavior.scaleDown"), page);
    }
}

fn behavior(title: &str, rules: &Value, page: &mut Page) {
    if rules.is_null() {
        return;
    }
    put!(page, 1, "{title}:\n");
    if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
        put!(page, 2, "Stabilization Window: {seconds} seconds\n");
    }
    let policies = dig::items(rules, "policies");
    if policies.is_empty() {
        return;
    }
    put!(page, 2, "Select Policy: {}\n", rules["selectPolicy"].as_str().unwrap_or("Max"));
    page.put(2, "Policies:\n");
    for policy in policies {
        let (kind, value, seconds) =
            (dig::text(policy, "type"), dig::int(policy, "value"), dig::int(policy, "periodSeconds"));
        put!(page, 3, "- Type: {kind}\tValue: {value}\tPeriod: {seconds} seconds\n");
    }
}

fn conditions(object: &Value, page: &mut Page) {
    let conditions = dig::items(object, "status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.put(0, "Conditions:\n");
    page.put(1, "Type\tStatus\tReason\tMessage\n");
    page.put(1, "----\t------\t------\t-------\n");
    for condition in conditions {
        let text = |field| dig::text(condition, field);
        put!(page, 1, "{}\t{}\t{}\t{}\n", text("type"), text("status"), text("reason"), text("message"));
    }
}
