//! Events, in both groups: the same objects under two shapes.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{get, has, i, is_zero, s, same_at, set};
use crate::strategy::GcPolicy;
use machinery::names;
use serde_json::Value;

/// v1 events.
pub const CORE: Kind = Kind {
    create_on_update: true,
    gc: GcPolicy::None,
    validate: |new, _, errs| common(new, &V1, errs),
    ..Kind::core("events")
};

/// events.k8s.io events.
pub const EVENTS: Kind = Kind {
    create_on_update: true,
    gc: GcPolicy::None,
    validate: |new, old, errs| {
        common(new, &EVENTS_V1, errs);
        match old {
            None => strict(new, errs),
            Some(old) => unchanged(new, old, errs),
        }
        series(new, old, errs);
    },
    ..Kind::of("events.k8s.io", "events")
};

/// Members that differ in name between the two shapes.
struct Shape {
    about: &'static str,
    controller: &'static str,
    instance: &'static str,
    message: &'static str,
}

const V1: Shape = Shape {
    about: "involvedObject",
    controller: "reportingComponent",
    instance: "reportingInstance",
    message: "message",
};
const EVENTS_V1: Shape = Shape {
    about: "regarding",
    controller: "reportingController",
    instance: "reportingInstance",
    message: "note",
};

/// An event stands in the namespace of its object; those about cluster-scoped objects stand in `default`.
fn common(event: &Value, shape: &Shape, errs: &mut Errs) {
    let namespace = get(event, "metadata").map(|m| s(m, "namespace")).unwrap_or_default();
    let about = get(event, shape.about).map(|o| s(o, "namespace")).unwrap_or_default();
    let modern = set(event, "eventTime");
    let path = At::ROOT.f("involvedObject.namespace");
    let fits = match about {
        "" if modern => matches!(namespace, "default" | "kube-system"),
        "" => matches!(namespace, "" | "default"),
        about => about == namespace,
    };
    if !fits {
        errs.invalid(&path, about, "does not match event.namespace");
    }
    if !namespace.is_empty() {
        errs.invalid_each(&At::ROOT.f("namespace"), namespace, names::is_dns1123_subdomain(namespace));
    }
    if modern {
        reported(event, shape, errs);
    }
}

fn reported(event: &Value, shape: &Shape, errs: &mut Errs) {
    let controller = s(event, shape.controller);
    if controller.is_empty() {
        errs.required(&At::ROOT.f("reportingController"), "");
    } else {
        errs.invalid_each(
            &At::ROOT.f("reportingController"),
            controller,
            names::is_qualified_name(controller),
        );
    }
    for key in [shape.instance, "action", "reason"] {
        let value = s(event, key);
        if value.is_empty() {
            errs.required(&At::ROOT.f(key), "");
        }
        if value.len() > 128 {
            errs.invalid(&At::ROOT.f(key), "", "can have at most 128 characters");
        }
    }
    if s(event, shape.message).len() > 1024 {
        errs.invalid(&At::ROOT.f("message"), "", "can have at most 1024 characters");
    }
}

/// New events of the newer group are complete and free of what the older one needed.
fn strict(event: &Value, errs: &mut Errs) {
    if !set(event, "eventTime") {
        errs.required(&At::ROOT.f("eventTime"), "");
    }
    if !matches!(s(event, "type"), "Normal" | "Warning") {
        errs.invalid(&At::ROOT.f("type"), "", "has invalid value: ".to_owned() + s(event, "type"));
    }
    let legacy = [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ];
    for (key, shown) in legacy.into_iter().filter(|(k, _)| get(event, k).is_some_and(|v| !is_zero(v))) {
        let _ = key;
        errs.invalid(&At::ROOT.f(shown), "", "needs to be unset");
    }
}

fn series(new: &Value, old: Option<&Value>, errs: &mut Errs) {
    let Some(series) = get(new, "series").filter(|_| old.is_none_or(|old| !same_at(new, old, "series")))
    else {
        return;
    };
    if i(series, "count").unwrap_or(0) < 2 {
        errs.invalid(&At::ROOT.f("series.count"), i(series, "count").unwrap_or(0), "should be at least 2");
    }
    if !has(series, "lastObservedTime") {
        errs.required(&At::ROOT.f("series.lastObservedTime"), "");
    }
}

const FIXED: [&str; 13] = [
    "regarding",
    "reason",
    "note",
    "deprecatedSource",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "deprecatedCount",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];

fn unchanged(new: &Value, old: &Value, errs: &mut Errs) {
    for key in FIXED {
        errs.immutable(&At::ROOT.f(key), new.get(key), old.get(key));
    }
}
