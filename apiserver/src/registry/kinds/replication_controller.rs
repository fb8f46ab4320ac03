//! Replication controllers.

use super::{pod_warnings, replica_set};
use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{at, entries, get, has, set};
use crate::registry::validate::template;
use crate::strategy::GcPolicy;
use serde_json::Value;

/// Replication controllers.
pub const KIND: Kind = Kind {
    status: true,
    generation: Generation::Members(&["spec"]),
    gc: GcPolicy::Orphan,
    rules: &[("spec.replicas", Rule::NonNegative), ("spec.minReadySeconds", Rule::NonNegative)],
    validate,
    validate_status: |new, _, errs| replica_set::counts(new, errs),
    warnings: |new, old, out| {
        if old.is_none() {
            pod_warnings::name(name_of(new), out);
        }
        pod_warnings::template(new, old, out);
    },
    ..Kind::core("replicationcontrollers")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    if !has(spec, "selector") {
        errs.required(&path.f("selector"), "");
    }
    if !set(spec, "replicas") {
        errs.required(&path.f("replicas"), "");
    }
    let labels = at(spec, &["template", "metadata", "labels"]).unwrap_or(&Value::Null);
    if set(spec, "template") && entries(spec, "selector").any(|(k, v)| labels.get(k) != Some(v)) {
        errs.invalid(
            &path.f("template.metadata.labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    template::long_running(spec, "ReplicationController", &[], &path, errs);
}
