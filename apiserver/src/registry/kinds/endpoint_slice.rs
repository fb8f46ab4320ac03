//! Endpoint slices.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::val::{drop_key, get, items_mut, list, s, same_at, strs};
use crate::registry::validate::net;
use machinery::names;
use serde_json::Value;

/// Endpoint slices.
pub const KIND: Kind = Kind {
    generation: Generation::AllButMetadataOrLabels,
    prepare_create: drop_topology,
    prepare_update: |new, old| {
        if !same_at(new, old, "endpoints") {
            drop_topology(new);
        }
    },
    validate: |new, old, errs| {
        if old.is_none_or(|old| !same_at(new, old, "endpoints") || !same_at(new, old, "addressType")) {
            endpoints(new, errs);
        }
        ports(new, errs);
    },
    fixed: &["addressType"],
    warnings: |new, old, out| {
        if old.is_none() && s(new, "addressType") == "FQDN" {
            out.push("addressType: FQDN endpoints are deprecated".into());
        }
    },
    ..Kind::of("discovery.k8s.io", "endpointslices")
};

fn drop_topology(slice: &mut Value) {
    items_mut(slice, "endpoints").iter_mut().for_each(|e| drop_key(e, "deprecatedTopology"));
}

fn endpoints(new: &Value, errs: &mut Errs) {
    let family = s(new, "addressType");
    errs.required_one_of(&At::ROOT.f("addressType"), family, &["FQDN", "IPv4", "IPv6"]);
    let endpoints = list(new, "endpoints");
    let base = At::ROOT.f("endpoints");
    if endpoints.len() > 1000 {
        return errs.too_many(&base, endpoints.len(), 1000);
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        self::endpoint(endpoint, family, &base.i(index), errs);
    }
}

fn endpoint(endpoint: &Value, family: &str, at: &At<'_>, errs: &mut Errs) {
    let count = list(endpoint, "addresses").len();
    let addresses = at.f("addresses");
    if count == 0 {
        errs.required(&addresses, "must contain at least 1 address");
    } else if count > 100 {
        errs.too_many(&addresses, count, 100);
    }
    for (index, text) in strs(endpoint, "addresses").enumerate() {
        address(text, family, &addresses.i(index), errs);
    }
    if let Some(node) = get(endpoint, "nodeName").and_then(Value::as_str) {
        errs.invalid_each(&at.f("nodeName"), node, names::is_dns1123_subdomain(node));
    }
    if let Some(host) = get(endpoint, "hostname").and_then(Value::as_str) {
        errs.invalid_each(&at.f("hostname"), host, names::is_dns1123_label(host));
    }
    if let Some(hints) = get(endpoint, "hints") {
        let at = at.f("hints");
        hints_in(hints, "forZones", names::is_label_value, &at, errs);
        hints_in(hints, "forNodes", names::is_dns1123_subdomain, &at, errs);
    }
}

fn address(text: &str, family: &str, at: &At<'_>, errs: &mut Errs) {
    if family == "FQDN" {
        let wrong = names::is_fully_qualified_name(text);
        return errs.invalid_each(at, text, wrong);
    }
    if !matches!(family, "IPv4" | "IPv6") {
        return;
    }
    match net::parse_ip(text) {
        Some(ip) if net::family(&ip) == family && text.parse::<std::net::IpAddr>().is_ok() => {
            net::special(&ip, text, at, errs)
        }
        _ if family == "IPv4" => errs.invalid(at, text, "must be a valid IPv4 address"),
        _ => errs.invalid(at, text, "must be a valid IPv6 address"),
    }
}

fn hints_in(hints: &Value, key: &str, form: fn(&str) -> Vec<String>, at: &At<'_>, errs: &mut Errs) {
    let entries = list(hints, key);
    let at = at.f(key);
    if entries.len() > 8 {
        return errs.too_many(&at, entries.len(), 8);
    }
    for (index, entry) in entries.iter().enumerate() {
        let (name, item) = (s(entry, "name"), at.i(index));
        if entries.iter().take(index).any(|e| s(e, "name") == name) {
            errs.duplicate(&item.f("name"), name);
        } else {
            errs.invalid_each(&item.f("name"), name, form(name));
        }
    }
}

fn ports(new: &Value, errs: &mut Errs) {
    let ports = list(new, "ports");
    let base = At::ROOT.f("ports");
    if ports.len() > 20000 {
        return errs.too_many(&base, ports.len(), 20000);
    }
    for (index, port) in ports.iter().enumerate() {
        let (name, at) = (s(port, "name"), base.i(index));
        if ports.iter().take(index).any(|p| s(p, "name") == name) {
            errs.duplicate(&at.f("name"), name);
        }
        if !name.is_empty() {
            errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name));
        }
        errs.required_one_of(&at.f("protocol"), s(port, "protocol"), &["SCTP", "TCP", "UDP"]);
        if !s(port, "appProtocol").is_empty() {
            errs.invalid_each(
                &at.f("appProtocol"),
                s(port, "appProtocol"),
                names::is_qualified_name(s(port, "appProtocol")),
            );
        }
    }
}
