//! Probes and lifecycle hooks.

use super::net;
use crate::registry::errs::{At, Errs};
use crate::registry::val::{get, i, list, s, set};
use machinery::names;
use serde_json::Value;

/// The probes and hooks of a container that runs on its own.
pub fn probes(container: &Value, grace: Option<i64>, at: &At<'_>, errs: &mut Errs) {
    if let Some(lifecycle) = get(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = get(lifecycle, hook) {
                let base = at.f("lifecycle");
                self::handler(handler, HOOKS, grace, &base.f(hook), errs);
            }
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = get(container, kind) {
            self::probe(probe, kind, grace, &at.f(kind), errs);
        }
    }
}

const PROBES: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOKS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

fn probe(probe: &Value, kind: &str, grace: Option<i64>, at: &At<'_>, errs: &mut Errs) {
    handler(probe, PROBES, grace, at, errs);
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        errs.non_negative(&at.f(key), i(probe, key));
    }
    if let Some(n) = i(probe, "terminationGracePeriodSeconds").filter(|n| *n <= 0) {
        errs.invalid(&at.f("terminationGracePeriodSeconds"), n, "must be greater than 0");
    }
    match (kind, i(probe, "successThreshold"), i(probe, "terminationGracePeriodSeconds")) {
        ("readinessProbe", _, Some(n)) => {
            errs.invalid(&at.f("terminationGracePeriodSeconds"), n, "must not be set for readinessProbes");
        }
        ("livenessProbe" | "startupProbe", Some(n), _) if n != 1 => {
            errs.invalid(&at.f("successThreshold"), n, "must be 1");
        }
        _ => {}
    }
}

fn handler(handler: &Value, kinds: &[&str], grace: Option<i64>, at: &At<'_>, errs: &mut Errs) {
    let mut count = 0;
    for kind in kinds {
        let Some(action) = get(handler, kind) else { continue };
        count += 1;
        let at = at.f(kind);
        if count > 1 {
            errs.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => exec(action, &at, errs),
            "httpGet" => http_get(action, &at, errs),
            "tcpSocket" => port(action, &at, errs),
            "grpc" => net::port_number(i(action, "port").unwrap_or(0), &at.f("port"), errs),
            _ => sleep(action, grace, &at, errs),
        }
    }
    if count == 0 {
        errs.required(at, "must specify a handler type");
    }
}

fn exec(action: &Value, at: &At<'_>, errs: &mut Errs) {
    if list(action, "command").is_empty() {
        errs.required(&at.f("command"), "");
    }
}

fn port(action: &Value, at: &At<'_>, errs: &mut Errs) {
    let none = Value::from(0);
    net::port_number_or_name(action.get("port").unwrap_or(&none), &at.f("port"), errs);
}

fn http_get(action: &Value, at: &At<'_>, errs: &mut Errs) {
    if s(action, "path").is_empty() {
        errs.required(&at.f("path"), "");
    }
    port(action, at, errs);
    errs.one_of(&at.f("scheme"), s(action, "scheme"), &["HTTP", "HTTPS"]);
    for header in list(action, "httpHeaders") {
        let name = s(header, "name");
        errs.invalid_each(&at.f("httpHeaders"), name, header_name(name));
    }
}

fn header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let why = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![names::regex_error(why, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

fn sleep(action: &Value, grace: Option<i64>, at: &At<'_>, errs: &mut Errs) {
    let seconds = i(action, "seconds").unwrap_or(0);
    let grace = grace.unwrap_or(0);
    if seconds < 0 || seconds > grace {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace}).");
        errs.invalid(at, seconds, why);
    }
}

/// What an init container that runs to its end cannot have.
pub fn none_allowed(container: &Value, at: &At<'_>, errs: &mut Errs) {
    let each = [
        ("lifecycle", "may not be set for init containers without restartPolicy=Always"),
        ("livenessProbe", "may not be set for init containers without restartPolicy=Always"),
        ("readinessProbe", "may not be set for init containers without restartPolicy=Always"),
        ("startupProbe", "may not be set for init containers without restartPolicy=Always"),
    ];
    for (key, why) in each {
        if set(container, key) {
            errs.forbidden(&at.f(key), why);
        }
    }
}
