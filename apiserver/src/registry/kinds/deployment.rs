//! Deployments.

use super::{pod_warnings, replica_set};
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{get, i, s, set};
use crate::registry::validate::labels;
use crate::registry::validate::template::{at_most_whole, int_or_percent, is_none_at_all, long_running};
use serde_json::Value;

/// Deployments.
pub const KIND: Kind = Kind {
    status: true,
    status_meta: StatusMeta::KeepLabels,
    generation: Generation::MembersOrAnnotations(&["spec"]),
    rules: &[
        ("spec.replicas", Rule::NonNegative),
        ("spec.minReadySeconds", Rule::NonNegative),
        ("spec.revisionHistoryLimit", Rule::NonNegative),
        ("spec.progressDeadlineSeconds", Rule::NonNegative),
    ],
    validate,
    fixed: &["spec.selector"],
    validate_status,
    warnings: |new, old, out| {
        if old.is_none() {
            pod_warnings::name(name_of(new), out);
        }
        pod_warnings::template(new, old, out);
    },
    ..Kind::of("apps", "deployments")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let at = At::ROOT.f("spec");
    labels::workload_selector(spec, &at, "empty selector is invalid for deployment", errs);
    labels::template_matches(spec, &at, errs);
    long_running(spec, "ReplicaSet", &[], &at, errs);
    strategy(get(spec, "strategy").unwrap_or(&Value::Null), &at.f("strategy"), errs);
    let ready = i(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = i(spec, "progressDeadlineSeconds").filter(|d| *d <= ready) {
        errs.invalid(&at.f("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &Value, at: &At<'_>, errs: &mut Errs) {
    let rolling = get(strategy, "rollingUpdate");
    match s(strategy, "type") {
        "Recreate" if rolling.is_some() => {
            errs.forbidden(&at.f("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => match rolling {
            None => errs.required(&at.f("rollingUpdate"), "this should be defaulted and never be nil"),
            Some(rolling) => self::rolling(rolling, &at.f("rollingUpdate"), errs),
        },
        other => errs.not_supported(at, other, &["Recreate", "RollingUpdate"]),
    }
}

fn rolling(rolling: &Value, at: &At<'_>, errs: &mut Errs) {
    for key in ["maxUnavailable", "maxSurge"] {
        if let Some(value) = get(rolling, key) {
            int_or_percent(value, &at.f(key), errs);
        }
    }
    if is_none_at_all(get(rolling, "maxUnavailable")) && is_none_at_all(get(rolling, "maxSurge")) {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        errs.invalid(&at.f("maxUnavailable"), value, "may not be 0 when `maxSurge` is 0");
    }
    if set(rolling, "maxUnavailable") {
        at_most_whole(&rolling["maxUnavailable"], &at.f("maxUnavailable"), errs);
    }
}

const COUNTS: [&str; 8] = [
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
];

fn validate_status(new: &Value, old: &Value, errs: &mut Errs) {
    let status = get(new, "status").unwrap_or(&Value::Null);
    let at = At::ROOT.f("status");
    for key in COUNTS {
        errs.non_negative(&at.f(key), i(status, key));
    }
    replica_set::at_most(
        status,
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        "replicas",
        "status.replicas",
        &at,
        errs,
    );
    replica_set::at_most(status, &["availableReplicas"], "readyReplicas", "readyReplicas", &at, errs);
    replica_set::collisions(new, old, errs);
}
