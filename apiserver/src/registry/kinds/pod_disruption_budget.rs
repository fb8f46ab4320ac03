//! Pod disruption budgets.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::val::{get, set};
use crate::registry::validate::template::{at_most_whole, int_or_percent};
use serde_json::Value;

/// Pod disruption budgets.
pub const KIND: Kind = Kind {
    status: true,
    unconditional_update: false,
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.selector", Rule::Selector),
        ("spec.unhealthyPodEvictionPolicy", Rule::OneOf(&["AlwaysAllow", "IfHealthyBudget"])),
    ],
    validate,
    status_rules: &[
        ("status.disruptionsAllowed", Rule::NonNegative),
        ("status.currentHealthy", Rule::NonNegative),
        ("status.desiredHealthy", Rule::NonNegative),
        ("status.expectedPods", Rule::NonNegative),
        ("status.conditions", Rule::Conditions),
    ],
    ..Kind::of("policy", "poddisruptionbudgets")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let at = At::ROOT.f("spec");
    if set(spec, "minAvailable") && set(spec, "maxUnavailable") {
        errs.invalid(&at, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = get(spec, key) {
            int_or_percent(value, &at.f(key), errs);
            at_most_whole(value, &at.f(key), errs);
        }
    }
}
