//! Pods and pod specs.

use super::container::{self, PodScope};
use super::{labels, net, resources, scheduling, security, volume};
use crate::registry::errs::{At, Errs};
use crate::registry::val::{b, entries, get, i, list, opt_b, s, set, strs};
use machinery::names;
use serde_json::Value;

/// A pod as created.
pub fn create(pod: &Value, errs: &mut Errs) {
    whole(pod, errs);
    let spec = get(pod, "spec").unwrap_or(&Value::Null);
    let at = At::ROOT.f("spec");
    if !list(spec, "ephemeralContainers").is_empty() {
        errs.forbidden(&at.f("ephemeralContainers"), "cannot be set on create");
    }
    if !list(spec, "schedulingGates").is_empty() && !s(spec, "nodeName").is_empty() {
        errs.forbidden(&at.f("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// A pod as created or as updated.
pub fn whole(pod: &Value, errs: &mut Errs) {
    let (meta, spec) =
        (get(pod, "metadata").unwrap_or(&Value::Null), get(pod, "spec").unwrap_or(&Value::Null));
    let at = At::ROOT.f("metadata");
    annotations(meta, spec, &at.f("annotations"), errs);
    self::spec(spec, s(meta, "name"), false, &[], &At::ROOT.f("spec"), errs);
    if s(spec, "serviceAccountName").is_empty() {
        tokens_need_account(spec, errs);
    }
}

fn tokens_need_account(spec: &Value, errs: &mut Errs) {
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let Some(projected) = get(volume, "projected") else { continue };
        for (source_index, source) in list(projected, "sources").iter().enumerate() {
            if set(source, "serviceAccountToken") {
                let (volumes, sources) = (At::ROOT.f("spec.volumes"), "projected.sources");
                let item = volumes.i(index);
                let at = item.f(sources);
                errs.forbidden(
                    &at.i(source_index).f("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                );
            }
        }
    }
}

/// Annotations with a meaning for pods.
pub fn annotations(meta: &Value, spec: &Value, at: &At<'_>, errs: &mut Errs) {
    for (key, value) in entries(meta, "annotations") {
        let text = value.as_str().unwrap_or_default();
        match key {
            "kubernetes.io/config.mirror" if s(spec, "nodeName").is_empty() => {
                errs.invalid(&at.k(key), text, "must set spec.nodeName if mirror pod annotation is set");
            }
            "controller.kubernetes.io/pod-deletion-cost"
                if text.parse::<i32>().map(|n| n.to_string()) != Ok(text.to_owned()) =>
            {
                errs.invalid(&at.k(key), text, "must be a 32bit integer");
            }
            "scheduler.alpha.kubernetes.io/tolerations" if !text.is_empty() => {
                alpha_tolerations(text, at, errs)
            }
            _ => {}
        }
    }
    security::annotations(meta, spec, at, errs);
}

fn alpha_tolerations(text: &str, at: &At<'_>, errs: &mut Errs) {
    let key = at.k("scheduler.alpha.kubernetes.io/tolerations");
    match serde_json::from_str::<Value>(text) {
        Ok(list @ Value::Array(_)) => {
            scheduling::tolerations(&serde_json::json!({"tolerations": list}), &key, errs)
        }
        _ => errs.invalid(&key, text, "must be a JSON list of tolerations"),
    }
}

/// A pod spec, in a pod or in a template. `extra` are volumes that stand elsewhere (claim templates).
pub fn spec(
    spec: &Value,
    pod_name: &str,
    template: bool,
    extra: &[(&str, &Value)],
    at: &At<'_>,
    errs: &mut Errs,
) {
    if !set(spec, "terminationGracePeriodSeconds") {
        errs.required(&at.f("terminationGracePeriodSeconds"), "");
    }
    let mut volumes = volume::volumes(spec, pod_name, template, at, errs);
    extra.iter().for_each(|(name, v)| volumes.add(name, v));
    let claims = resource_claims(spec, at, errs);
    container::all(&PodScope { spec, volumes, claims, template }, at, errs);
    errs.required_one_of(&at.f("restartPolicy"), s(spec, "restartPolicy"), &["Always", "OnFailure", "Never"]);
    dns(spec, at, errs);
    scheduling::pod_spec(spec, at, errs);
    security::pod_context(spec, at, errs);
    security::operating_system(spec, at, errs);
    user_namespaces(spec, at, errs);
    identity(spec, at, errs);
    host_names(spec, at, errs);
    gates(spec, at, errs);
    resources::pod_level(spec, at, errs);
    overhead(spec, at, errs);
}

fn resource_claims<'a>(spec: &'a Value, at: &At<'_>, errs: &mut Errs) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    let at = at.f("resourceClaims");
    for (index, claim) in list(spec, "resourceClaims").iter().enumerate() {
        let at = at.i(index);
        let name = s(claim, "name");
        if name.is_empty() {
            errs.required(&at.f("name"), "");
        } else if seen.contains(&name) {
            errs.duplicate(&at.f("name"), name);
        } else {
            errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name));
        }
        seen.push(name);
        let refs = ["resourceClaimName", "resourceClaimTemplateName"];
        let given = refs.iter().filter(|k| set(claim, k)).count();
        if given != 1 {
            let why = if given == 0 {
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            } else {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            };
            errs.invalid(&at, claim.clone(), why);
        }
        for key in refs.iter().filter(|k| set(claim, k)) {
            errs.invalid_each(&at.f(key), s(claim, key), names::is_dns1123_subdomain(s(claim, key)));
        }
    }
    seen
}

fn dns(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let policy = s(spec, "dnsPolicy");
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    errs.required_one_of(&at.f("dnsPolicy"), policy, &policies);
    let config = get(spec, "dnsConfig");
    if policy == "None" {
        let servers = config.is_some_and(|c| !list(c, "nameservers").is_empty());
        if config.is_none() {
            errs.required(&at.f("dnsConfig"), "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if !servers {
            errs.required(
                &at.f("dnsConfig.nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    if let Some(config) = config {
        dns_config(config, &at.f("dnsConfig"), errs);
    }
}

fn dns_config(config: &Value, at: &At<'_>, errs: &mut Errs) {
    let servers = list(config, "nameservers");
    let servers_at = at.f("nameservers");
    if servers.len() > 3 {
        errs.invalid(&servers_at, Value::Array(servers.to_vec()), "must not have more than 3 nameservers");
    }
    for (index, server) in strs(config, "nameservers").enumerate() {
        net::ip(server, &[], &servers_at.i(index), errs);
    }
    let searches = list(config, "searches");
    let searches_at = at.f("searches");
    if searches.len() > 32 {
        errs.invalid(
            &searches_at,
            Value::Array(searches.to_vec()),
            "must not have more than 32 search paths",
        );
    }
    if strs(config, "searches").map(|d| d.len() + 1).sum::<usize>() > 2049 {
        errs.invalid(
            &searches_at,
            Value::Array(searches.to_vec()),
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (index, domain) in strs(config, "searches").enumerate() {
        search_domain(domain, &searches_at.i(index), errs);
    }
    for (index, option) in list(config, "options").iter().enumerate() {
        if s(option, "name").is_empty() {
            errs.required(&at.f("options").i(index), "must not be empty");
        }
    }
}

/// A search domain: a subdomain that may hold underscores and end in a dot; the root alone is fine.
fn search_domain(domain: &str, at: &At<'_>, errs: &mut Errs) {
    if domain == "." {
        return;
    }
    let bare = domain.strip_suffix('.').unwrap_or(domain);
    errs.invalid_each(at, domain, names::is_dns1123_subdomain(&bare.replace('_', "a")));
}

fn user_namespaces(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    if opt_b(spec, "hostUsers") != Some(false) {
        return;
    }
    for (key, shown) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC"), ("hostNetwork", "hostNetwork")] {
        if b(spec, key) {
            errs.forbidden(&at.f(shown), "when `hostUsers` is false");
        }
    }
    for (index, container) in list(spec, "containers").iter().enumerate() {
        if !list(container, "volumeDevices").is_empty() {
            errs.forbidden(&at.f("containers").i(index).f("volumeDevices"), "when `hostUsers` is false");
        }
    }
}

fn identity(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = s(spec, key);
        if !name.is_empty() {
            errs.invalid_each(&at.f(key), name, names::is_dns1123_subdomain(name));
        }
    }
    if let Some(n) = i(spec, "activeDeadlineSeconds") {
        errs.in_range(&at.f("activeDeadlineSeconds"), n, 1, i32::MAX as i64);
    }
    if set(spec, "preemptionPolicy") {
        errs.required_one_of(
            &at.f("preemptionPolicy"),
            s(spec, "preemptionPolicy"),
            &["Never", "PreemptLowerPriority"],
        );
    }
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        if entries_beyond_name(secret) {
            errs.invalid(&at.f("imagePullSecrets").i(index), secret.clone(), "only name may be set");
        }
    }
}

fn entries_beyond_name(reference: &Value) -> bool {
    reference.as_object().is_some_and(|o| o.iter().any(|(k, v)| k != "name" && !v.is_null()))
}

fn host_names(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    for key in ["hostname", "subdomain"] {
        let name = s(spec, key);
        if !name.is_empty() {
            errs.invalid_each(&at.f(key), name, names::is_dns1123_label(name));
        }
    }
    if let Some(name) = get(spec, "hostnameOverride").and_then(Value::as_str) {
        hostname_override(spec, name, &at.f("hostnameOverride"), errs);
    }
    let aliases = at.f("hostAliases");
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let at = aliases.i(index);
        net::ip(s(alias, "ip"), &[], &at.f("ip"), errs);
        for (host_index, host) in strs(alias, "hostnames").enumerate() {
            errs.invalid_each(&at.f("hostnames").i(host_index), host, names::is_dns1123_subdomain(host));
        }
    }
}

fn hostname_override(spec: &Value, name: &str, at: &At<'_>, errs: &mut Errs) {
    if b(spec, "setHostnameAsFQDN") {
        errs.forbidden(at, "may not be specified when setHostnameAsFQDN is true");
    }
    if b(spec, "hostNetwork") {
        errs.forbidden(at, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errs.too_long(at, 64);
    }
    errs.invalid_each(at, name, names::is_dns1123_subdomain(name));
}

fn gates(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        let name = s(gate, "conditionType");
        labels::label_name(name, &at.f("readinessGates").i(index).f("conditionType"), errs);
    }
    let gates = list(spec, "schedulingGates");
    for (index, gate) in gates.iter().enumerate() {
        let (name, base) = (s(gate, "name"), at.f("schedulingGates"));
        errs.invalid_each(&base.i(index), name, names::is_qualified_name(name));
        if gates.iter().take(index).any(|g| s(g, "name") == name) {
            errs.duplicate(&base.i(index).f("name"), name);
        }
    }
}

fn overhead(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let at = at.f("overhead");
    for (name, value) in entries(spec, "overhead") {
        let at = at.k(name);
        resources::container_resource_name(name, &at, errs);
        resources::resource_quantity(name, value, &at, errs);
    }
}
