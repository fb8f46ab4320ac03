//! Endpoints.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{get, i, list, s, same_at};
use crate::registry::validate::net;
use machinery::names;
use serde_json::Value;

/// Endpoints.
pub const KIND: Kind = Kind {
    create_on_update: true,
    validate: |new, old, errs| {
        if old.is_none_or(|old| !same_at(new, old, "subsets")) {
            subsets(new, errs);
        }
    },
    ..Kind::core("endpoints")
};

fn subsets(new: &Value, errs: &mut Errs) {
    let base = At::ROOT.f("subsets");
    for (index, subset) in list(new, "subsets").iter().enumerate() {
        let at = base.i(index);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            errs.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (i, address) in list(subset, key).iter().enumerate() {
                self::address(address, &at.f(key).i(i), errs);
            }
        }
        let ports = list(subset, "ports");
        for (i, port) in ports.iter().enumerate() {
            self::port(port, ports.len() > 1, &at.f("ports").i(i), errs);
        }
    }
}

fn address(address: &Value, at: &At<'_>, errs: &mut Errs) {
    let text = s(address, "ip");
    if let Some(ip) = net::ip(text, &[], &at.f("ip"), errs) {
        net::special(&ip, text, &at.f("ip"), errs);
    }
    if !s(address, "hostname").is_empty() {
        errs.invalid_each(
            &at.f("hostname"),
            s(address, "hostname"),
            names::is_dns1123_label(s(address, "hostname")),
        );
    }
    if let Some(node) = get(address, "nodeName").and_then(Value::as_str) {
        errs.invalid_each(&at.f("nodeName"), node, names::is_dns1123_subdomain(node));
    }
}

fn port(port: &Value, named: bool, at: &At<'_>, errs: &mut Errs) {
    match s(port, "name") {
        "" if named => errs.required(&at.f("name"), ""),
        "" => {}
        name => errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name)),
    }
    net::port_number(i(port, "port").unwrap_or(0), &at.f("port"), errs);
    errs.required_one_of(&at.f("protocol"), s(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    if !s(port, "appProtocol").is_empty() {
        errs.invalid_each(
            &at.f("appProtocol"),
            s(port, "appProtocol"),
            names::is_qualified_name(s(port, "appProtocol")),
        );
    }
}
