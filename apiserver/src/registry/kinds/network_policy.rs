//! Network policies.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::val::{get, i, list, s, set, strs};
use crate::registry::validate::{labels, net};
use serde_json::Value;

/// Network policies.
pub const KIND: Kind = Kind {
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.podSelector", Rule::Selector),
        ("spec.policyTypes[]", Rule::OneOf(&["Egress", "Ingress"])),
    ],
    validate,
    ..Kind::of("networking.k8s.io", "networkpolicies")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let at = At::ROOT.f("spec");
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(spec, direction).iter().enumerate() {
            let base = at.f(direction);
            let at = base.i(index);
            for (port_index, port) in list(rule, "ports").iter().enumerate() {
                self::port(port, &at.f("ports").i(port_index), errs);
            }
            for (peer_index, peer) in list(rule, peers).iter().enumerate() {
                self::peer(peer, &at.f(peers).i(peer_index), errs);
            }
        }
    }
    let types = list(spec, "policyTypes");
    if types.len() > 2 {
        errs.invalid(
            &at.f("policyTypes"),
            Value::Array(types.to_vec()),
            "may not specify more than two policyTypes",
        );
    }
}

fn port(port: &Value, at: &At<'_>, errs: &mut Errs) {
    if set(port, "protocol") {
        errs.one_of(&at.f("protocol"), s(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    }
    if let Some(number) = get(port, "port") {
        net::port_number_or_name(number, &at.f("port"), errs);
    }
    let Some(end) = i(port, "endPort") else { return };
    match i(port, "port") {
        Some(start) if end < start => {
            errs.invalid(&at.f("endPort"), end, "must be greater than or equal to `port`")
        }
        Some(_) => net::port_number(end, &at.f("endPort"), errs),
        None if set(port, "port") => {
            errs.invalid(&at.f("endPort"), end, "may not be specified when `port` is non-numeric")
        }
        None => errs.required(&at.f("port"), "must be specified when `endPort` is specified"),
    }
}

fn peer(peer: &Value, at: &At<'_>, errs: &mut Errs) {
    labels::selector_in(peer, "podSelector", at, errs);
    labels::selector_in(peer, "namespaceSelector", at, errs);
    let selectors = set(peer, "podSelector") || set(peer, "namespaceSelector");
    match get(peer, "ipBlock") {
        None if !selectors => errs.required(at, "must specify a peer"),
        Some(_) if selectors => errs.forbidden(at, "may not specify both ipBlock and another peer"),
        Some(block) => ip_block(block, &at.f("ipBlock"), errs),
        None => {}
    }
}

fn ip_block(block: &Value, at: &At<'_>, errs: &mut Errs) {
    let text = s(block, "cidr");
    if text.is_empty() {
        return errs.required(&at.f("cidr"), "");
    }
    let Some(cidr) = net::cidr(text, &[], &at.f("cidr"), errs) else { return };
    for (index, except) in strs(block, "except").enumerate() {
        let base = at.f("except");
        let at = base.i(index);
        let Some(inner) = net::cidr(except, &[], &at, errs) else { continue };
        if !cidr.contains(&inner.network()) || inner.prefix_len() <= cidr.prefix_len() {
            errs.invalid(&at, except, "must be a strict subset of `cidr`");
        }
    }
}
