//! Limit ranges.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{entries, get, has, list, members, s, sub};
use crate::registry::validate::resources::{container_resource_name, is_extended, is_huge_page, quantity};
use machinery::quantity::Quantity;
use serde_json::{Value, json};

/// Limit ranges. One without a name gets a random one.
pub const KIND: Kind = Kind {
    create_on_update: true,
    prepare_create: |new| {
        let meta = sub(members(new), "metadata");
        crate::registry::val::if_zero(meta, "name", json!(machinery::names::new_uid()));
    },
    validate: |new, _, errs| {
        let limits = get(new, "spec").map(|spec| list(spec, "limits")).unwrap_or_default();
        let base = At::ROOT.f("spec.limits");
        for (index, item) in limits.iter().enumerate() {
            let at = base.i(index);
            let kind = s(item, "type");
            if limits.iter().take(index).any(|l| s(l, "type") == kind) {
                errs.duplicate(&at.f("type"), kind);
            }
            self::item(item, kind, &at, errs);
        }
    },
    ..Kind::core("limitranges")
};

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn item(item: &Value, kind: &str, at: &At<'_>, errs: &mut Errs) {
    if !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") && !kind.contains('/') {
        errs.invalid(&at.f("type"), kind, "must be a standard limit type or fully qualified");
    }
    for which in LISTS {
        for (name, _) in entries(item, which) {
            if matches!(kind, "Pod" | "Container") {
                container_resource_name(name, &at.f(which).k(name), errs);
            }
        }
    }
    if kind == "Pod" {
        for which in ["default", "defaultRequest"].into_iter().filter(|w| has(item, w)) {
            errs.forbidden(&at.f(which), format!("may not be specified when `type` is '{kind}'"));
        }
    }
    if kind == "PersistentVolumeClaim" && !["min", "max"].iter().any(|w| amount(item, w, "storage").is_some())
    {
        errs.required(
            &At::ROOT.f("spec.limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    for name in
        LISTS.iter().flat_map(|w| entries(item, w)).map(|(n, _)| n).collect::<std::collections::BTreeSet<_>>()
    {
        order(item, name, at, errs);
    }
}

fn amount(item: &Value, which: &str, name: &str) -> Option<Quantity> {
    get(item, which)?.get(name).and_then(quantity)
}

/// min ≤ defaultRequest ≤ default ≤ max, as far as they are given.
fn order(item: &Value, name: &str, at: &At<'_>, errs: &mut Errs) {
    let of = |which: &str| amount(item, which, name);
    let pairs = [
        ("min", "max", "min"),
        ("min", "defaultRequest", "defaultRequest"),
        ("defaultRequest", "max", "defaultRequest"),
        ("defaultRequest", "default", "defaultRequest"),
        ("min", "default", "default"),
        ("default", "max", "default"),
    ];
    for (low, high, shown) in pairs {
        if let (Some(a), Some(b)) = (of(low), of(high))
            && a > b
        {
            let why = format!("{low} value {a} is greater than {high} value {b}");
            errs.invalid(&at.f(shown).k(name), of(shown).map(|q| q.to_string()).unwrap_or_default(), why);
        }
    }
    if let Some(ratio) = of("maxLimitRequestRatio").filter(|r| r.milli_value() < 1000) {
        errs.invalid(
            &at.f("maxLimitRequestRatio").k(name),
            ratio.to_string(),
            format!("ratio {ratio} is less than 1"),
        );
    }
    let fixed = is_extended(name) || is_huge_page(name);
    if let (true, Some(a), Some(b)) = (fixed, of("default"), of("defaultRequest"))
        && a != b
    {
        let why = format!("default value {a} must equal to defaultRequest value {b} in {name}");
        errs.invalid(&at.f("defaultRequest").k(name), b.to_string(), why);
    }
}
