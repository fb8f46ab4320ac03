//! Replica sets.

use super::pod_warnings;
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{get, i};
use crate::registry::validate::{labels, template};
use serde_json::Value;

/// Replica sets.
pub const KIND: Kind = Kind {
    status: true,
    generation: Generation::Members(&["spec"]),
    rules: &[("spec.replicas", Rule::NonNegative), ("spec.minReadySeconds", Rule::NonNegative)],
    validate: |new, _, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        let at = At::ROOT.f("spec");
        labels::workload_selector(spec, &at, "empty selector is invalid for deployment", errs);
        labels::template_matches(spec, &at, errs);
        template::long_running(spec, "ReplicaSet", &[], &at, errs);
    },
    fixed: &["spec.selector"],
    validate_status: |new, _, errs| counts(new, errs),
    warnings: |new, old, out| {
        if old.is_none() {
            pod_warnings::name(name_of(new), out);
        }
        pod_warnings::template(new, old, out);
    },
    ..Kind::of("apps", "replicasets")
};

const COUNTS: [&str; 6] = [
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
];

/// The numbers of a replica set's status fit together.
pub fn counts(object: &Value, errs: &mut Errs) {
    let status = get(object, "status").unwrap_or(&Value::Null);
    let at = At::ROOT.f("status");
    for key in COUNTS {
        errs.non_negative(&at.f(key), i(status, key));
    }
    at_most(
        status,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "replicas",
        "status.replicas",
        &at,
        errs,
    );
    at_most(status, &["availableReplicas"], "readyReplicas", "readyReplicas", &at, errs);
}

/// Some counts cannot exceed another.
pub fn at_most(status: &Value, keys: &[&str], than: &str, shown: &str, at: &At<'_>, errs: &mut Errs) {
    let bound = i(status, than).unwrap_or(0);
    for key in keys {
        if let Some(n) = i(status, key).filter(|n| *n > bound) {
            errs.invalid(&at.f(key), n, format!("cannot be greater than {shown}"));
        }
    }
}

/// A count of hash collisions only grows.
pub fn collisions(new: &Value, old: &Value, errs: &mut Errs) {
    let count = |v: &Value| get(v, "status").and_then(|s| i(s, "collisionCount"));
    if let (now, Some(before)) = (count(new).unwrap_or(0), count(old))
        && now < before
    {
        errs.invalid(&At::ROOT.f("status.collisionCount"), now, "cannot be decremented");
    }
}
