//! Stateful sets.

use super::{persistent_volume_claim, pod_warnings, replica_set};
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::val::{at, get, i, keep, list, s, same, set};
use crate::registry::validate::labels;
use crate::registry::validate::meta::NameRule;
use crate::registry::validate::template::{at_most_whole, int_or_percent, is_none_at_all, long_running};
use serde_json::{Value, json};

/// Stateful sets.
pub const KIND: Kind = Kind {
    name: NameRule::Label,
    status: true,
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.replicas", Rule::NonNegative),
        ("spec.minReadySeconds", Rule::NonNegative),
        ("spec.ordinals.start", Rule::NonNegative),
        ("spec.persistentVolumeClaimRetentionPolicy.whenDeleted", Rule::OneOf(&["Delete", "Retain"])),
        ("spec.persistentVolumeClaimRetentionPolicy.whenScaled", Rule::OneOf(&["Delete", "Retain"])),
    ],
    validate,
    validate_update,
    validate_status,
    warnings,
    ..Kind::of("apps", "statefulsets")
};

fn validate(new: &Value, old: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    match s(spec, "podManagementPolicy") {
        "" => errs.required(&path.f("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => errs.invalid(&path.f("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    strategy(get(spec, "updateStrategy").unwrap_or(&Value::Null), &path.f("updateStrategy"), errs);
    labels::workload_selector(spec, &path, "empty selector is invalid for statefulset", errs);
    labels::template_matches(spec, &path, errs);
    let claim_volume = json!({"persistentVolumeClaim": {"claimName": "template"}});
    let claims = list(spec, "volumeClaimTemplates");
    let extra: Vec<(&str, &Value)> =
        claims.iter().filter_map(|c| Some((s(get(c, "metadata")?, "name"), &claim_volume))).collect();
    long_running(spec, "StatefulSet", &extra, &path, errs);
    if old.is_none() {
        new_parts(spec, claims, &path, errs);
    }
}

/// What is only looked at when the set is new.
fn new_parts(spec: &Value, claims: &[Value], path: &At<'_>, errs: &mut Errs) {
    let service = s(spec, "serviceName");
    if !service.is_empty() {
        errs.invalid_each(&path.f("serviceName"), service, machinery::names::is_dns1123_label(service));
    }
    let base = path.f("volumeClaimTemplates");
    for (index, claim) in claims.iter().enumerate() {
        let spec = get(claim, "spec").unwrap_or(&Value::Null);
        persistent_volume_claim::claim_spec(spec, &base.i(index).f("spec"), errs);
    }
}

fn strategy(strategy: &Value, at: &At<'_>, errs: &mut Errs) {
    let rolling = get(strategy, "rollingUpdate");
    match s(strategy, "type") {
        "" => errs.required(at, ""),
        "OnDelete" => {
            if let Some(rolling) = rolling {
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                errs.invalid(&at.f("rollingUpdate"), rolling.clone(), why);
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = rolling else { return };
            let at = at.f("rollingUpdate");
            errs.non_negative(&at.f("partition"), i(rolling, "partition"));
            if let Some(value) = get(rolling, "maxUnavailable") {
                int_or_percent(value, &at.f("maxUnavailable"), errs);
                at_most_whole(value, &at.f("maxUnavailable"), errs);
                if is_none_at_all(Some(value)) {
                    errs.invalid(&at.f("maxUnavailable"), value.clone(), "cannot be 0");
                }
            }
        }
        other => errs.invalid(at, other, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn warnings(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    pod_warnings::template(new, old, out);
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let base = At::ROOT.f("spec.volumeClaimTemplates");
    for (index, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
        let at = base.i(index);
        pod_warnings::claim_sizes(get(claim, "spec").unwrap_or(&Value::Null), &at.f("resources"), out);
    }
    if i(spec, "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        let text = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
        out.push(text.into());
    }
}

const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let (mut new, old) =
        (get(new, "spec").cloned().unwrap_or_default(), get(old, "spec").cloned().unwrap_or_default());
    for key in MUTABLE {
        keep(&mut new, &old, key);
    }
    if !same(Some(&new), Some(&old)) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errs.forbidden(&At::ROOT.f("spec"), why);
    }
}

const COUNTS: [&str; 7] = [
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
];

fn validate_status(new: &Value, old: &Value, errs: &mut Errs) {
    let status = get(new, "status").unwrap_or(&Value::Null);
    let path = At::ROOT.f("status");
    for key in COUNTS {
        errs.non_negative(&path.f(key), i(status, key));
    }
    replica_set::at_most(status, &COUNTS[1..5], "replicas", "status.replicas", &path, errs);
    if set(status, "readyReplicas") || at(new, &["status", "availableReplicas"]).is_some() {
        replica_set::at_most(
            status,
            &["availableReplicas"],
            "readyReplicas",
            "status.readyReplicas",
            &path,
            errs,
        );
    }
    replica_set::collisions(new, old, errs);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_warned_of() {
        let claim =
            json!({"spec": {"resources": {"requests": {"storage": "1500m"}, "limits": {"storage": "1Gi"}}}});
        let set = json!({"spec": {"revisionHistoryLimit": -1, "volumeClaimTemplates": [claim]}});
        let mut out = Vec::new();
        warnings(&set, None, &mut out);
        assert_eq!(
            out,
            [
                "spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
            ]
        );
        let mut out = Vec::new();
        warnings(&json!({"spec": {"revisionHistoryLimit": 0}}), None, &mut out);
        assert!(out.is_empty(), "{out:?}");
    }
}
