//! Defaults of jobs and cron jobs.

use super::{Fill, core::template_labels};
use crate::registry::val::{Obj, if_nil, if_zero, sub};
use serde_json::Value;

/// The defaults of one type of this area.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    if group != "io.k8s.api.batch.v1" {
        return None;
    }
    Some(match kind {
        "Job" => job,
        "CronJob" => cron_job,
        "PodFailurePolicyOnPodConditionsPattern" => |m| if_zero(m, "status", "True"),
        _ => return None,
    })
}

fn job(m: &mut Obj) {
    if let Some(labels) = template_labels(m) {
        if_zero(sub(m, "metadata"), "labels", labels);
    }
    let spec = sub(m, "spec");
    let given = |spec: &Obj, key: &str| spec.get(key).is_some_and(|v: &Value| !v.is_null());
    if !given(spec, "completions") && !given(spec, "parallelism") {
        if_nil(spec, "completions", 1);
    }
    if_nil(spec, "parallelism", 1);
    let backoff = if given(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    if_nil(spec, "backoffLimit", backoff);
    if_nil(spec, "completionMode", "NonIndexed");
    if_nil(spec, "suspend", false);
    let replacement = if given(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    if_nil(spec, "podReplacementPolicy", replacement);
    if_nil(spec, "manualSelector", false);
}

fn cron_job(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_zero(spec, "concurrencyPolicy", "Allow");
    if_nil(spec, "suspend", false);
    if_nil(spec, "successfulJobsHistoryLimit", 3);
    if_nil(spec, "failedJobsHistoryLimit", 1);
}
