//! Nodes.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::rules::Rule;
use crate::registry::val::{entries, get, list, s, same_at, set, strs};
use crate::registry::validate::{net, resources, scheduling};
use serde_json::Value;

/// Nodes. A node may bring its status along when it is created: it knows it best.
pub const KIND: Kind = Kind {
    status: false,
    prepare_create: |new| {
        for (part, key) in [("spec", "configSource"), ("status", "config")] {
            if let Some(part) = new.get_mut(part) {
                crate::registry::val::drop_key(part, key);
            }
        }
    },
    prepare_update: |new, old| crate::registry::val::keep(new, old, "status"),
    rules: &[("spec.podCIDRs[]", Rule::Cidr)],
    validate,
    validate_update,
    validate_status: |new, _, errs| status(new, errs),
    warnings: |new, _, out| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        if set(spec, "configSource") {
            out.push("spec.configSource: the feature is removed".into());
        }
        if !s(spec, "externalID").is_empty() {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
        }
    },
    ..Kind::core("nodes")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let at = At::ROOT.f("spec");
    scheduling::taints(list(spec, "taints"), &at.f("taints"), errs);
    let ranges = list(spec, "podCIDRs");
    let families: Vec<bool> =
        strs(spec, "podCIDRs").filter_map(net::parse_cidr).map(|c| c.addr().is_ipv4()).collect();
    if ranges.len() > 2 || families.len() == 2 && families[0] == families[1] {
        errs.invalid(
            &at.f("podCIDRs"),
            Value::Array(ranges.to_vec()),
            "may specify no more than one CIDR for each IP family",
        );
    }
    status(new, errs);
}

fn status(new: &Value, errs: &mut Errs) {
    let status = get(new, "status").unwrap_or(&Value::Null);
    let at = At::ROOT.f("status");
    for which in ["capacity", "allocatable"] {
        for (name, value) in entries(status, which) {
            resources::resource_quantity(name, value, &at.f(which).k(name), errs);
        }
    }
    let addresses = list(status, "addresses");
    for (index, address) in addresses.iter().enumerate() {
        let same = |a: &Value| s(a, "type") == s(address, "type") && s(a, "address") == s(address, "address");
        if addresses.iter().take(index).any(same) {
            errs.duplicate(&at.f("addresses").i(index), address.clone());
        }
    }
}

fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (get(new, "spec").unwrap_or(&Value::Null), get(old, "spec").unwrap_or(&Value::Null));
    let at = At::ROOT.f("spec");
    if !list(b, "podCIDRs").is_empty() && !same_at(a, b, "podCIDRs") {
        errs.forbidden(&at.f("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
    }
    if !s(b, "providerID").is_empty() && !same_at(a, b, "providerID") {
        errs.forbidden(
            &at.f("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
    if !same_at(a, b, "externalID") {
        errs.forbidden(&at.f("externalID"), "may not be updated");
    }
}
