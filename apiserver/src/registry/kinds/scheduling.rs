//! Priority and runtime classes, and groups of pods.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::strategy::name_of;
use crate::registry::val::{at, b, entries, get, i, same_at};
use crate::registry::validate::{labels, resources, scheduling};
use machinery::names;
use serde_json::Value;

/// Priority classes.
pub const PRIORITY_CLASS: Kind = Kind {
    generation: Generation::Fixed,
    rules: &[("preemptionPolicy", Rule::OneOf(&["Never", "PreemptLowerPriority"]))],
    validate: |new, old, errs| {
        if old.is_none() {
            new_class(new, errs);
        }
    },
    fixed: &["preemptionPolicy"],
    validate_update: |new, old, errs| {
        if !same_at(new, old, "value") {
            errs.forbidden(&At::ROOT.f("value"), "may not be changed in an update.");
        }
    },
    ..Kind::of("scheduling.k8s.io", "priorityclasses")
};

/// Names that begin with `system-` belong to the system's own two classes.
fn new_class(class: &Value, errs: &mut Errs) {
    let (name, value) = (name_of(class), i(class, "value").unwrap_or(0));
    if name.starts_with("system-") {
        let known = matches!(
            (name, value),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if !known || b(class, "globalDefault") {
            let why = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            errs.forbidden(
                &At::ROOT.f("metadata.name"),
                format!("{why}{name} is not a known system priority class"),
            );
        }
    } else if value > 1_000_000_000 {
        errs.forbidden(
            &At::ROOT.f("value"),
            "maximum allowed value of a user defined priority is 1000000000",
        );
    }
}

/// Runtime classes.
pub const RUNTIME_CLASS: Kind = Kind {
    create_on_update: true,
    unconditional_update: false,
    rules: &[("handler", Rule::Required), ("handler", Rule::Form(names::is_dns1123_label))],
    validate: |new, _, errs| {
        let overhead = get(new, "overhead").unwrap_or(&Value::Null);
        for (name, value) in entries(overhead, "podFixed") {
            let base = At::ROOT.f("overhead.limits");
            let at = base.k(name);
            resources::container_resource_name(name, &at, errs);
            resources::resource_quantity(name, value, &at, errs);
        }
        if let Some(placing) = get(new, "scheduling") {
            let at = At::ROOT.f("scheduling");
            labels::labels(placing, "nodeSelector", &at.f("nodeSelector"), errs);
            scheduling::tolerations(placing, &at.f("tolerations"), errs);
        }
    },
    fixed: &["handler"],
    warnings: |new, _, out| {
        if let Some(placing) = at(new, &["scheduling"]) {
            scheduling::warn_node_labels(
                placing,
                "nodeSelector",
                &At::ROOT.f("scheduling.nodeSelector"),
                out,
            );
        }
    },
    ..Kind::of("node.k8s.io", "runtimeclasses")
};

/// Groups of pods that are placed together.
pub const POD_GROUP: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    rules: &[
        ("spec.schedulingPolicy.gang.minCount", Rule::AtLeast(1)),
        ("spec.resourceClaims", Rule::MaxItems(4)),
    ],
    status_rules: &[("status.conditions", Rule::Conditions)],
    ..Kind::of("scheduling.k8s.io", "podgroups")
};

/// Workloads made of such groups.
pub const WORKLOAD: Kind = Kind {
    rules: &[
        ("spec.podGroupTemplates", Rule::Required),
        ("spec.podGroupTemplates", Rule::MaxItems(8)),
        ("spec.podGroupTemplates", Rule::UniqueBy("name")),
        ("spec.podGroupTemplates[].name", Rule::Required),
        ("spec.podGroupTemplates[].name", Rule::Form(names::is_dns1123_label)),
        ("spec.controllerRef.kind", Rule::Required),
        ("spec.controllerRef.name", Rule::Required),
    ],
    fixed: &["spec.controllerRef", "spec.podGroupTemplates"],
    ..Kind::of("scheduling.k8s.io", "workloads")
};
