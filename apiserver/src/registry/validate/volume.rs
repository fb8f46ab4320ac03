//! A pod's volumes, and the mounts of its containers.

use super::volume_sources;
use crate::registry::defaults::VOLUME_SOURCES;
use crate::registry::errs::{At, Errs};
use crate::registry::val::{b, get, list, s, set};
use machinery::names;
use serde_json::Value;

/// Volumes by name; pods have few, so a list does.
pub struct Volumes<'a>(Vec<(&'a str, &'a Value)>);

impl<'a> Volumes<'a> {
    /// The volume of a name.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    /// Adds a volume that does not stand in the spec (a claim template of a stateful set).
    pub fn add(&mut self, name: &'a str, volume: &'a Value) {
        self.0.push((name, volume));
    }
}

/// The volumes of a pod spec.
pub fn volumes<'a>(
    spec: &'a Value,
    pod_name: &str,
    template: bool,
    at: &At<'_>,
    errs: &mut Errs,
) -> Volumes<'a> {
    let at = at.f("volumes");
    let mut known = Volumes(Vec::new());
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = at.i(index);
        let name = s(volume, "name");
        source(volume, template, &at, errs);
        if name.is_empty() {
            errs.required(&at.f("name"), "");
            continue;
        }
        errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name));
        if known.get(name).is_some() {
            errs.duplicate(&at.f("name"), name);
        }
        if set(volume, "ephemeral") && !pod_name.is_empty() {
            let claim = format!("{pod_name}-{name}");
            errs.invalid_each(&at.f("name"), &claim, names::is_dns1123_subdomain(&claim));
        }
        known.add(name, volume);
    }
    known
}

fn source(volume: &Value, template: bool, at: &At<'_>, errs: &mut Errs) {
    let mut found = 0;
    for kind in VOLUME_SOURCES {
        let Some(source) = get(volume, kind) else { continue };
        found += 1;
        if found > 1 {
            errs.forbidden(&at.f(kind), "may not specify more than 1 volume type");
        } else {
            volume_sources::pod_source(kind, source, template, &at.f(kind), errs);
        }
    }
    if found == 0 {
        errs.required(at, "must specify a volume type");
    }
}

/// A path that stays below where it starts.
pub fn local_path(path: &str, at: &At<'_>, errs: &mut Errs) {
    if path.starts_with('/') {
        errs.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, errs);
}

/// A path without `..` elements.
pub fn no_backsteps(path: &str, at: &At<'_>, errs: &mut Errs) {
    if path.split('/').any(|part| part == "..") {
        errs.invalid(at, path, "must not contain '..'");
    }
}

/// A local path whose first element does not start with two dots.
pub fn local_non_reserved(path: &str, at: &At<'_>, errs: &mut Errs) {
    local_path(path, at, errs);
    if path.starts_with("..") && !path.starts_with("../") {
        errs.invalid(at, path, "must not start with '..'");
    }
}

/// The mounts and block devices of a container.
pub fn mounts(container: &Value, volumes: &Volumes<'_>, at: &At<'_>, errs: &mut Errs) {
    let (mounts, devices) = (list(container, "volumeMounts"), list(container, "volumeDevices"));
    let base = at.f("volumeMounts");
    for (index, mount) in mounts.iter().enumerate() {
        let at = base.i(index);
        mount_name(mount, devices, volumes, &at, errs);
        mount_path(mount, mounts.get(..index).unwrap_or_default(), devices, &at, errs);
        sub_paths(mount, &base, errs);
        propagation(mount, container, &at, errs);
    }
    let base = at.f("volumeDevices");
    for (index, device) in devices.iter().enumerate() {
        self::device(device, index, devices, mounts, volumes, &base.i(index), errs);
    }
}

fn mount_name(mount: &Value, devices: &[Value], volumes: &Volumes<'_>, at: &At<'_>, errs: &mut Errs) {
    let (name, at) = (s(mount, "name"), at.f("name"));
    if name.is_empty() {
        errs.required(&at, "");
    } else if volumes.get(name).is_none() {
        errs.not_found(&at, name);
    }
    if devices.iter().any(|d| !name.is_empty() && s(d, "name") == name) {
        errs.invalid(&at, name, "must not already exist in volumeDevices");
    }
}

fn mount_path(mount: &Value, before: &[Value], devices: &[Value], at: &At<'_>, errs: &mut Errs) {
    let (path, at) = (s(mount, "mountPath"), at.f("mountPath"));
    if path.is_empty() {
        errs.required(&at, "");
    } else if before.iter().any(|m| s(m, "mountPath") == path) {
        errs.invalid(&at, path, "must be unique");
    }
    if devices.iter().any(|d| !path.is_empty() && s(d, "devicePath") == path) {
        errs.invalid(&at, path, "must not already exist as a path in volumeDevices");
    }
}

fn sub_paths(mount: &Value, at: &At<'_>, errs: &mut Errs) {
    let (sub, expr) = (s(mount, "subPath"), s(mount, "subPathExpr"));
    if !sub.is_empty() {
        local_path(sub, &at.f("subPath"), errs);
    }
    if !expr.is_empty() {
        if !sub.is_empty() {
            errs.invalid(&at.f("subPathExpr"), expr, "subPathExpr and subPath are mutually exclusive");
        }
        local_path(expr, &at.f("subPathExpr"), errs);
    }
}

fn propagation(mount: &Value, container: &Value, at: &At<'_>, errs: &mut Errs) {
    let mode = get(mount, "mountPropagation").and_then(Value::as_str);
    if let Some(mode) = mode {
        errs.one_of(&at.f("mountPropagation"), mode, &["Bidirectional", "HostToContainer", "None"]);
        let privileged = get(container, "securityContext").is_some_and(|c| b(c, "privileged"));
        if mode == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errs.forbidden(&at.f("mountPropagation"), why);
        }
    }
    let Some(recursive) = get(mount, "recursiveReadOnly").and_then(Value::as_str) else { return };
    let at = at.f("recursiveReadOnly");
    errs.one_of(&at, recursive, &["Disabled", "Enabled", "IfPossible"]);
    if matches!(recursive, "Enabled" | "IfPossible") {
        if !b(mount, "readOnly") {
            errs.forbidden(&at, "may only be specified when readOnly is true");
        }
        if !matches!(mode, None | Some("None")) {
            errs.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
        }
    }
}

fn device(
    device: &Value,
    index: usize,
    all: &[Value],
    mounts: &[Value],
    volumes: &Volumes<'_>,
    at: &At<'_>,
    errs: &mut Errs,
) {
    let (name, path) = (s(device, "name"), s(device, "devicePath"));
    let earlier = all.get(..index).unwrap_or_default();
    if name.is_empty() {
        errs.required(&at.f("name"), "");
    }
    if earlier.iter().any(|d| s(d, "name") == name) {
        errs.invalid(&at.f("name"), name, "must be unique");
    }
    match volumes.get(name) {
        None => errs.not_found(&at.f("name"), name),
        Some(v) if !set(v, "persistentVolumeClaim") && !set(v, "ephemeral") => {
            errs.invalid(
                &at.f("name"),
                name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            );
        }
        Some(_) => {}
    }
    if mounts.iter().any(|m| s(m, "name") == name) {
        errs.invalid(&at.f("name"), name, "must not already exist in volumeMounts");
    }
    if path.is_empty() {
        errs.required(&at.f("devicePath"), "");
        return;
    }
    if earlier.iter().any(|d| s(d, "devicePath") == path) {
        errs.invalid(&at.f("devicePath"), path, "must be unique");
    }
    no_backsteps(path, &at.f("devicePath"), errs);
    if mounts.iter().any(|m| s(m, "mountPath") == path) {
        errs.invalid(&at.f("devicePath"), path, "must not already exist as a path in volumeMounts");
    }
}
