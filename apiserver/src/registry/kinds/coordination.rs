//! Leases.

use crate::registry::errs::At;
use crate::registry::kind::Kind;
use crate::registry::rules::Rule;
use crate::registry::val::{get, i, set};
use crate::registry::validate::meta::NameRule;
use serde_json::Value;

/// Leases.
pub const LEASE: Kind = Kind {
    create_on_update: true,
    unconditional_update: false,
    validate: |new, _, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        let at = At::ROOT.f("spec");
        if let Some(n) = i(spec, "leaseDurationSeconds").filter(|n| *n <= 0) {
            errs.invalid(&at.f("leaseDurationSeconds"), n, "must be greater than 0");
        }
        if let Some(n) = i(spec, "leaseTransitions").filter(|n| *n < 0) {
            errs.invalid(&at.f("leaseTransitions"), n, "must be greater than or equal to 0");
        }
        if set(spec, "preferredHolder") && !set(spec, "strategy") {
            errs.forbidden(&at.f("preferredHolder"), "may only be specified if `strategy` is defined");
        }
    },
    ..Kind::of("coordination.k8s.io", "leases")
};

/// Candidates for leases.
pub const LEASE_CANDIDATE: Kind = Kind {
    name: NameRule::ConfigKey,
    create_on_update: true,
    unconditional_update: false,
    rules: &[
        ("spec.leaseName", Rule::Required),
        ("spec.binaryVersion", Rule::Required),
        ("spec.strategy", Rule::Required),
    ],
    fixed: &["spec.leaseName"],
    ..Kind::of("coordination.k8s.io", "leasecandidates")
};
