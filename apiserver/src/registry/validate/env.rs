//! Environment variables and the references they can hold.

use super::resources::{is_huge_page, quantity};
use crate::registry::errs::{At, Errs};
use crate::registry::val::{get, list, s};
use machinery::names;
use serde_json::Value;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// The `env` and `envFrom` of a container.
pub fn container_env(container: &Value, at: &At<'_>, errs: &mut Errs) {
    let env = at.f("env");
    for (index, var) in list(container, "env").iter().enumerate() {
        variable(var, &env.i(index), errs);
    }
    let from = at.f("envFrom");
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        env_from(source, &from.i(index), errs);
    }
}

fn variable(var: &Value, at: &At<'_>, errs: &mut Errs) {
    let name = s(var, "name");
    if name.is_empty() {
        errs.required(&at.f("name"), "");
    } else {
        errs.invalid_each(&at.f("name"), name, names::is_env_var_name(name));
    }
    if let Some(source) = get(var, "valueFrom") {
        value_from(source, !s(var, "value").is_empty(), &at.f("valueFrom"), errs);
    }
}

fn value_from(source: &Value, has_value: bool, at: &At<'_>, errs: &mut Errs) {
    let mut sources = 0;
    type Check = fn(&Value, &At<'_>, &mut Errs);
    let kinds: [(&str, Check); 5] = [
        ("fieldRef", |v, at, errs| field_ref(v, &ENV_FIELDS, at, errs)),
        ("resourceFieldRef", |v, at, errs| resource_field_ref(v, false, at, errs)),
        ("configMapKeyRef", key_ref),
        ("secretKeyRef", key_ref),
        ("fileKeyRef", file_key_ref),
    ];
    for (key, check) in kinds {
        if let Some(value) = get(source, key) {
            sources += 1;
            check(value, &at.f(key), errs);
        }
    }
    let one_of = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
    if sources == 0 {
        errs.invalid(at, "", one_of);
    } else if has_value {
        errs.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errs.invalid(at, "", "may not have more than one field specified at a time");
    }
}

/// A reference to a field of the pod, for volumes.
pub fn volume_field_ref(value: &Value, at: &At<'_>, errs: &mut Errs) {
    field_ref(value, &VOLUME_FIELDS, at, errs);
}

fn field_ref(value: &Value, allowed: &[&str], at: &At<'_>, errs: &mut Errs) {
    let path = s(value, "fieldPath");
    if s(value, "apiVersion").is_empty() {
        return errs.required(&at.f("apiVersion"), "");
    }
    if path.is_empty() {
        return errs.required(&at.f("fieldPath"), "");
    }
    let at = at.f("fieldPath");
    if let Some((field, key)) = path.strip_suffix(']').and_then(|p| p.split_once('[')) {
        let key = key.trim_matches('\'');
        match field {
            "metadata.annotations" => {
                errs.invalid_each(&at, key, names::is_qualified_name(&key.to_lowercase()))
            }
            "metadata.labels" => errs.invalid_each(&at, key, names::is_qualified_name(key)),
            _ => errs.invalid(&at, path, "does not support subscript"),
        }
    } else if !known_field(path) {
        errs.invalid(&at, path, format!("error converting fieldPath: field label not supported: {path}"));
    } else if !allowed.contains(&path) {
        errs.not_supported(&at, path, allowed);
    }
}

/// Labels under which a pod's fields can be named at all.
fn known_field(path: &str) -> bool {
    ENV_FIELDS.contains(&path)
        || VOLUME_FIELDS.contains(&path)
        || matches!(
            path,
            "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.nominatedNodeName"
        )
}

/// A reference to what a container asks for.
pub fn resource_field_ref(value: &Value, in_volume: bool, at: &At<'_>, errs: &mut Errs) {
    if in_volume && s(value, "containerName").is_empty() {
        return errs.required(&at.f("containerName"), "");
    }
    let resource = s(value, "resource");
    let known = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let huge =
        resource.strip_prefix("limits.").or(resource.strip_prefix("requests.")).is_some_and(is_huge_page);
    if resource.is_empty() {
        errs.required(&at.f("resource"), "");
    } else if !known.contains(&resource) && !huge {
        errs.not_supported(&at.f("resource"), resource, &known);
    }
    divisor(value, resource, &at.f("divisor"), errs);
}

fn divisor(value: &Value, resource: &str, at: &At<'_>, errs: &mut Errs) {
    let Some(q) = get(value, "divisor").and_then(quantity) else { return };
    let text = q.to_string();
    if text == "0" {
        return;
    }
    let what = resource.split_once('.').map_or("", |(_, r)| r);
    let (allowed, why): (&[&str], _) = match what {
        "cpu" => (&["1m", "1"], "only divisor's values 1m and 1 are supported with the cpu resource"),
        _ => (
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with this resource",
        ),
    };
    if !allowed.contains(&text.as_str()) {
        errs.invalid(at, what, why);
    }
}

fn key_ref(value: &Value, at: &At<'_>, errs: &mut Errs) {
    let name = s(value, "name");
    errs.invalid_each(&at.f("name"), name, names::is_dns1123_subdomain(name));
    match s(value, "key") {
        "" => errs.required(&at.f("key"), ""),
        key => errs.invalid_each(&at.f("key"), key, names::is_config_key(key)),
    }
}

fn file_key_ref(value: &Value, at: &At<'_>, errs: &mut Errs) {
    match s(value, "key") {
        "" => errs.required(&at.f("key"), ""),
        key => errs.invalid_each(&at.f("key"), key, names::is_env_var_name(key)),
    }
    match s(value, "volumeName") {
        "" => errs.required(&at.f("volumeName"), ""),
        name => errs.invalid_each(&at.f("volumeName"), name, names::is_dns1123_label(name)),
    }
    match s(value, "path") {
        "" => errs.required(&at.f("path"), ""),
        path => super::volume::no_backsteps(path, &at.f("path"), errs),
    }
}

fn env_from(source: &Value, at: &At<'_>, errs: &mut Errs) {
    let prefix = s(source, "prefix");
    if !prefix.is_empty() {
        errs.invalid_each(&at.f("prefix"), prefix, names::is_env_var_name(prefix));
    }
    let mut sources = 0;
    for key in ["configMapRef", "secretRef"] {
        let Some(value) = get(source, key) else { continue };
        sources += 1;
        let at = at.f(key);
        match s(value, "name") {
            "" => errs.required(&at.f("name"), ""),
            // A dash at the end is let through: the name may be a prefix.
            name => errs.invalid_each(
                &at.f("name"),
                name,
                names::is_dns1123_subdomain(name.strip_suffix('-').unwrap_or(name)),
            ),
        }
    }
    match sources {
        0 => errs.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => errs.invalid(at, "", "may not have more than one field specified at a time"),
    }
}
