//! Ingresses.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind};
use crate::registry::rules::Rule;
use crate::registry::val::{at, get, i, list, s, strs};
use crate::registry::validate::net;
use machinery::names;
use serde_json::Value;

const CLASS: &str = "kubernetes.io/ingress.class";

/// Ingresses.
pub const KIND: Kind = Kind {
    status: true,
    generation: Generation::Members(&["spec"]),
    rules: &[("spec.ingressClassName", Rule::Form(names::is_dns1123_subdomain))],
    validate: |new, old, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        let class = at(new, &["metadata", "annotations", CLASS]).and_then(Value::as_str);
        if let (None, Some(class), Some(name)) =
            (old, class, get(spec, "ingressClassName").and_then(Value::as_str))
            && class != name
        {
            errs.invalid(
                &At::ROOT.f("annotations").f(CLASS),
                class,
                "must match `ingressClassName` when both are specified",
            );
        }
        self::spec(spec, &At::ROOT.f("spec"), errs);
    },
    validate_status: |new, _, errs| load_balancer(new, errs),
    warnings: |new, old, out| {
        let named = at(new, &["spec", "ingressClassName"]).is_some();
        if old.is_none() && !named && at(new, &["metadata", "annotations", CLASS]).is_some() {
            out.push(format!(
                "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
    },
    ..Kind::of("networking.k8s.io", "ingresses")
};

fn spec(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let rules = list(spec, "rules");
    match get(spec, "defaultBackend") {
        Some(default) => backend(default, &at.f("defaultBackend"), errs),
        None if rules.is_empty() => {
            errs.invalid(at, spec.clone(), "either `defaultBackend` or `rules` must be specified")
        }
        None => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, &at.f("rules").i(index), errs);
    }
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let base = at.f("tls");
        let at = base.i(index);
        for (host_index, host) in strs(tls, "hosts").enumerate() {
            errs.invalid_each(&at.f("hosts").i(host_index), host, host_name(host));
        }
        let secret = s(tls, "secretName");
        if !secret.is_empty() {
            errs.invalid_each(&at.f("secretName"), secret, names::is_dns1123_subdomain(secret));
        }
    }
}

/// A host, or every host of a domain.
fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::is_wildcard_dns1123_subdomain(host)
    } else {
        names::is_dns1123_subdomain(host)
    }
}

fn rule(rule: &Value, at: &At<'_>, errs: &mut Errs) {
    let host = s(rule, "host");
    if !host.is_empty() {
        if host.parse::<std::net::IpAddr>().is_ok() {
            errs.invalid(&at.f("host"), host, "must be a DNS name, not an IP address");
        }
        errs.invalid_each(&at.f("host"), host, host_name(host));
    }
    let Some(http) = get(rule, "http") else { return };
    let base = at.f("http.paths");
    let paths = list(http, "paths");
    if paths.is_empty() {
        errs.required(&base, "");
    }
    for (index, path) in paths.iter().enumerate() {
        let at = base.i(index);
        self::path(path, &at, errs);
        backend(get(path, "backend").unwrap_or(&Value::Null), &at.f("backend"), errs);
    }
}

fn path(path: &Value, at: &At<'_>, errs: &mut Errs) {
    let text = s(path, "path");
    let place = at.f("path");
    let absolute = |errs: &mut Errs| {
        if !text.starts_with('/') {
            errs.invalid(&place, text, "must be an absolute path");
        }
    };
    match get(path, "pathType").and_then(Value::as_str) {
        None => errs.required(&at.f("pathType"), "pathType must be specified"),
        Some("Exact" | "Prefix") => {
            absolute(errs);
            for bad in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|b| text.contains(**b)) {
                errs.invalid(&place, text, format!("must not contain '{bad}'"));
            }
            for bad in ["/..", "/."].iter().filter(|b| text.ends_with(**b)) {
                errs.invalid(&place, text, format!("cannot end with '{bad}'"));
            }
        }
        Some("ImplementationSpecific") if text.is_empty() => {}
        Some("ImplementationSpecific") => absolute(errs),
        Some(other) => {
            errs.not_supported(&at.f("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"])
        }
    }
}

fn backend(backend: &Value, at: &At<'_>, errs: &mut Errs) {
    match (get(backend, "resource"), get(backend, "service")) {
        (Some(_), Some(_)) => errs.invalid(at, "", "cannot set both resource and service backends"),
        (None, None) => errs.invalid(at, "", "cannot have neither resource nor service backend"),
        (Some(resource), None) => {
            for key in ["kind", "name"].into_iter().filter(|k| s(resource, k).is_empty()) {
                errs.required(&at.f("resource").f(key), "");
            }
        }
        (None, Some(service)) => self::service(service, at, errs),
    }
}

fn service(service: &Value, at: &At<'_>, errs: &mut Errs) {
    let at = at.f("service");
    match s(service, "name") {
        "" => errs.required(&at.f("name"), ""),
        name => errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name)),
    }
    let port = get(service, "port").unwrap_or(&Value::Null);
    let (name, number) = (s(port, "name"), i(port, "number").unwrap_or(0));
    match (name, number) {
        ("", 0) => errs.required(&at, "port name or number is required"),
        ("", n) => net::port_number(n, &at.f("port.number"), errs),
        (name, 0) => errs.invalid_each(&at.f("port.name"), name, names::is_port_name(name)),
        _ => errs.invalid(&at, "", "cannot set both port name & port number"),
    }
}

/// Addresses in a status.
pub fn load_balancer(object: &Value, errs: &mut Errs) {
    let entries = at(object, &["status", "loadBalancer", "ingress"]).and_then(Value::as_array);
    let base = At::ROOT.f("status.loadBalancer.ingress");
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let at = base.i(index);
        if !s(entry, "ip").is_empty() {
            net::ip(s(entry, "ip"), &[], &at.f("ip"), errs);
        }
        let host = s(entry, "hostname");
        if !host.is_empty() {
            errs.invalid_each(&at.f("hostname"), host, names::is_dns1123_subdomain(host));
            if host.parse::<std::net::IpAddr>().is_ok() {
                errs.invalid(&at.f("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}
