//! Security contexts of pods and containers.

use super::volume::local_path;
use crate::registry::errs::{At, Errs};
use crate::registry::val::{b, entries, get, i, list, opt_b, s, set, strs};
use machinery::names;
use serde_json::Value;

const MAX_ID: i64 = 2147483647;

/// The pod's security context.
pub fn pod_context(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let Some(context) = get(spec, "securityContext") else { return };
    let at = at.f("securityContext");
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &at, errs);
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        errs.in_range(&at.f("supplementalGroups").i(index), group.as_i64().unwrap_or(0), 0, MAX_ID);
    }
    let enums: [(&str, &[&str]); 3] = [
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ];
    for (key, allowed) in enums {
        if set(context, key) {
            errs.one_of(&at.f(key), s(context, key), allowed);
        }
    }
    if b(spec, "shareProcessNamespace") && b(spec, "hostPID") {
        errs.invalid(
            &at.f("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(context, spec, &at.f("sysctls"), errs);
    profiles(context, &at, errs);
}

fn ids(context: &Value, keys: &[&str], at: &At<'_>, errs: &mut Errs) {
    for key in keys {
        if let Some(id) = i(context, key) {
            errs.in_range(&at.f(key), id, 0, MAX_ID);
        }
    }
}

fn profiles(context: &Value, at: &At<'_>, errs: &mut Errs) {
    if let Some(profile) = get(context, "seccompProfile") {
        seccomp(profile, &at.f("seccompProfile"), errs);
    }
    if let Some(profile) = get(context, "appArmorProfile") {
        app_armor(profile, &at.f("appArmorProfile"), errs);
    }
    if let Some(options) = get(context, "windowsOptions") {
        windows(options, &at.f("windowsOptions"), errs);
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: &Value, at: &At<'_>, errs: &mut Errs) {
    let kind = s(profile, "type");
    if kind.is_empty() {
        errs.required(&at.f("type"), "type is required when seccompProfile is set");
    } else {
        errs.one_of(&at.f("type"), kind, &PROFILES);
    }
    let local = at.f("localhostProfile");
    match (kind, get(profile, "localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => errs.required(&local, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(path)) => local_path(path, &local, errs),
        (_, Some(path)) => errs.invalid(&local, path, "can only be set when seccomp type is Localhost"),
        _ => {}
    }
}

fn app_armor(profile: &Value, at: &At<'_>, errs: &mut Errs) {
    let kind = s(profile, "type");
    if kind.is_empty() {
        errs.required(&at.f("type"), "type is required when appArmorProfile is set");
    } else {
        errs.one_of(&at.f("type"), kind, &PROFILES);
    }
    let local = at.f("localhostProfile");
    match (kind, get(profile, "localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => errs.required(&local, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) if name.trim().is_empty() => {
            errs.required(&local, "must be set when AppArmor type is Localhost");
        }
        ("Localhost", Some(name)) if name.trim() != name => {
            errs.invalid(&local, name, "must not be padded with whitespace");
        }
        ("Localhost", Some(name)) if name.len() > 4095 => errs.too_long(&local, 4095),
        ("Localhost", Some(_)) | (_, None) => {}
        (_, Some(name)) => errs.invalid(&local, name, "can only be set when AppArmor type is Localhost"),
    }
}

fn windows(options: &Value, at: &At<'_>, errs: &mut Errs) {
    if let Some(name) = get(options, "gmsaCredentialSpecName").and_then(Value::as_str) {
        errs.invalid_each(&at.f("gmsaCredentialSpecName"), name, names::is_dns1123_subdomain(name));
    }
    if let Some(spec) = get(options, "gmsaCredentialSpec").and_then(Value::as_str) {
        let at = at.f("gmsaCredentialSpec");
        match spec.len() {
            0 => errs.invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string"),
            n if n > 64 * 1024 => errs.invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB"),
            _ => {}
        }
    }
    if let Some(user) = get(options, "runAsUserName").and_then(Value::as_str) {
        windows_user(user, &at.f("runAsUserName"), errs);
    }
}

fn windows_user(user: &str, at: &At<'_>, errs: &mut Errs) {
    if user.is_empty() {
        return errs.invalid(at, user, "runAsUserName cannot be an empty string");
    }
    if user.chars().any(char::is_control) {
        return errs.invalid(at, user, "runAsUserName cannot contain control characters");
    }
    if user.matches('\\').count() > 1 {
        return errs.invalid(at, user, "runAsUserName cannot contain more than one backslash");
    }
    let name = user.rsplit('\\').next().unwrap_or_default();
    if name.is_empty() || name.len() > 104 {
        errs.invalid(at, user, "runAsUserName's User length must be between 1 and 104");
    } else if name.chars().all(|c| c == '.' || c == ' ')
        || name.contains(['"', '/', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'])
    {
        errs.invalid(at, user, "runAsUserName's User contains invalid characters");
    }
}

fn sysctls(context: &Value, spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, entry) in list(context, "sysctls").iter().enumerate() {
        let item = at.i(index);
        let name = s(entry, "name");
        let path = item.f("name");
        if name.is_empty() {
            errs.required(&path, "");
        } else if !sysctl_name(name) {
            errs.invalid(&path, name, "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$");
        } else if seen.contains(&name) {
            errs.duplicate(&path, name);
        }
        let dotted = name.replace('/', ".");
        if b(spec, "hostNetwork") && dotted.starts_with("net.") {
            errs.invalid(&path, name, "may not be specified when 'hostNetwork' is set to true");
        }
        if b(spec, "hostIPC")
            && ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| dotted.starts_with(p))
        {
            errs.invalid(&path, name, "may not be specified when 'hostIPC' is set to true");
        }
        seen.push(name);
    }
}

fn sysctl_name(name: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|c| edge(*c))
            && bytes.last().is_some_and(|c| edge(*c))
            && bytes.iter().all(|c| edge(*c) || matches!(c, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// A container's security context.
pub fn container_context(container: &Value, spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let Some(context) = get(container, "securityContext") else { return };
    let at = at.f("securityContext");
    ids(context, &["runAsUser", "runAsGroup"], &at, errs);
    if set(context, "procMount") {
        let mount = s(context, "procMount");
        errs.one_of(&at.f("procMount"), mount, &["Default", "Unmasked"]);
        if mount == "Unmasked" && opt_b(spec, "hostUsers") != Some(false) {
            errs.invalid(&at.f("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    profiles(context, &at, errs);
    if opt_b(context, "allowPrivilegeEscalation") == Some(false) {
        no_escalation(context, &at, errs);
    }
}

fn no_escalation(context: &Value, at: &At<'_>, errs: &mut Errs) {
    if b(context, "privileged") {
        errs.invalid(
            at,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    let capabilities = get(context, "capabilities").unwrap_or(&Value::Null);
    if strs(capabilities, "add").any(|c| c == "CAP_SYS_ADMIN") {
        errs.invalid(
            at,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}

/// What a pod for one operating system cannot set because it belongs to the other.
pub fn operating_system(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let Some(os) = get(spec, "os") else { return };
    match s(os, "name") {
        "" => errs.required(&at.f("os").f("name"), "cannot be empty"),
        "linux" => linux(spec, at, errs),
        "windows" => windows_pod(spec, at, errs),
        _ => errs.not_supported(&at.f("os"), s(os, "name"), &["linux", "windows"]),
    }
}

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

fn each_context(
    spec: &Value,
    at: &At<'_>,
    errs: &mut Errs,
    mut check: impl FnMut(&Value, &At<'_>, &mut Errs),
) {
    for kind in CONTAINERS {
        for (index, container) in list(spec, kind).iter().enumerate() {
            let (base, context) = (at.f(kind), get(container, "securityContext").unwrap_or(&Value::Null));
            check(context, &base.i(index).f("securityContext"), errs);
        }
    }
}

fn linux(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let check = |context: &Value, at: &At<'_>, errs: &mut Errs| {
        if set(context, "windowsOptions") {
            errs.forbidden(&at.f("windowsOptions"), "windows options cannot be set for a linux pod");
        }
    };
    check(get(spec, "securityContext").unwrap_or(&Value::Null), &at.f("securityContext"), errs);
    each_context(spec, at, errs, check);
}

fn windows_pod(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let refuse = |of: &Value, keys: &[&str], at: &At<'_>, errs: &mut Errs| {
        for (key, value) in keys.iter().filter_map(|k| Some((*k, get(of, k)?))) {
            if value != &Value::Bool(false)
                || matches!(key, "hostUsers" | "readOnlyRootFilesystem" | "privileged")
            {
                errs.forbidden(&at.f(key), format!("{key} cannot be set for a windows pod"));
            }
        }
    };
    refuse(spec, &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"], at, errs);
    let pod = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    refuse(get(spec, "securityContext").unwrap_or(&Value::Null), &pod, &at.f("securityContext"), errs);
    let container = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    each_context(spec, at, errs, |context, at, errs| refuse(context, &container, at, errs));
}

const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Annotations that say what the security context says better.
pub fn annotations(meta: &Value, spec: &Value, at: &At<'_>, errs: &mut Errs) {
    for (key, value) in entries(meta, "annotations") {
        let text = value.as_str().unwrap_or_default();
        if let Some(container) = key.strip_prefix(APPARMOR) {
            let known = CONTAINERS.iter().any(|k| list(spec, k).iter().any(|c| s(c, "name") == container));
            if !known {
                errs.invalid(&at.k(key), container, "container not found");
            }
            if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
                errs.invalid(&at.k(key), text, format!("invalid AppArmor profile name: {text:?}"));
            }
        } else if key == "seccomp.security.alpha.kubernetes.io/pod"
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
        {
            match text.strip_prefix("localhost/") {
                Some(path) => local_path(path, &at.k(key), errs),
                None if matches!(text, "runtime/default" | "docker/default" | "unconfined") => {}
                None => errs.invalid(&at.k(key), text, "must be a valid seccomp profile"),
            }
        }
    }
}
