//! Containers of all three kinds.

use super::volume::Volumes;
use super::{env, probe, resources, security, volume};
use crate::registry::errs::{At, Errs};
use crate::registry::val::{get, has, i, list, s, set};
use machinery::names;
use serde_json::Value;

/// What the checks of containers need to know of their pod.
pub struct PodScope<'a> {
    /// The pod's spec.
    pub spec: &'a Value,
    /// Its volumes by name.
    pub volumes: Volumes<'a>,
    /// Names of its resource claims.
    pub claims: Vec<&'a str>,
    /// A template's image may still be padded with blanks; a pod's may not.
    pub template: bool,
}

/// All containers of a pod spec.
pub fn all(scope: &PodScope<'_>, at: &At<'_>, errs: &mut Errs) {
    let spec = scope.spec;
    let containers = list(spec, "containers");
    if containers.is_empty() {
        errs.required(&at.f("containers"), "");
    }
    let mut names: Vec<&str> = Vec::new();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        let base = at.f(kind);
        for (index, container) in list(spec, kind).iter().enumerate() {
            one(scope, kind, container, &names, &base.i(index), errs);
            names.push(s(container, "name"));
        }
    }
    let base = at.f("containers");
    host_ports_unique(containers, 0, &base, errs);
    for (index, container) in list(spec, "initContainers").iter().enumerate() {
        host_ports_unique(std::slice::from_ref(container), index, &at.f("initContainers"), errs);
    }
}

fn one(scope: &PodScope<'_>, kind: &str, container: &Value, taken: &[&str], at: &At<'_>, errs: &mut Errs) {
    let name = s(container, "name");
    common(scope, container, at, errs);
    if !name.is_empty() && taken.contains(&name) {
        errs.duplicate(&at.f("name"), name);
    }
    let grace = i(scope.spec, "terminationGracePeriodSeconds");
    match kind {
        "containers" => probe::probes(container, grace, at, errs),
        "initContainers" if s(container, "restartPolicy") == "Always" => {
            probe::probes(container, grace, at, errs)
        }
        "initContainers" => probe::none_allowed(container, at, errs),
        _ => ephemeral(scope, container, at, errs),
    }
    if kind != "ephemeralContainers" {
        restart(scope, container, at, errs);
    }
}

fn common(scope: &PodScope<'_>, container: &Value, at: &At<'_>, errs: &mut Errs) {
    match s(container, "name") {
        "" => errs.required(&at.f("name"), ""),
        name => errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name)),
    }
    match s(container, "image") {
        "" => errs.required(&at.f("image"), ""),
        image if !scope.template && image.trim() != image => {
            errs.invalid(&at.f("image"), image, "must not have leading or trailing whitespace");
        }
        _ => {}
    }
    let policy = s(container, "terminationMessagePolicy");
    errs.required_one_of(&at.f("terminationMessagePolicy"), policy, &["FallbackToLogsOnError", "File"]);
    errs.required_one_of(
        &at.f("imagePullPolicy"),
        s(container, "imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    ports(scope, container, &at.f("ports"), errs);
    env::container_env(container, at, errs);
    file_keys(scope, container, at, errs);
    volume::mounts(container, &scope.volumes, at, errs);
    if let Some(needs) = get(container, "resources") {
        resources::requirements(needs, &scope.claims, &at.f("resources"), errs);
    }
    resize_policy(scope, container, &at.f("resizePolicy"), errs);
    security::container_context(container, scope.spec, at, errs);
}

fn file_keys(scope: &PodScope<'_>, container: &Value, at: &At<'_>, errs: &mut Errs) {
    let env = at.f("env");
    for (index, var) in list(container, "env").iter().enumerate() {
        let Some(name) =
            crate::registry::val::at(var, &["valueFrom", "fileKeyRef", "volumeName"]).and_then(Value::as_str)
        else {
            continue;
        };
        let item = env.i(index);
        let path = item.f("valueFrom.fileKeyRef.volumeName");
        match scope.volumes.get(name) {
            None => errs.not_found(&path, name),
            Some(volume) if !set(volume, "emptyDir") => {
                errs.invalid(&path, name, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}

fn ports(scope: &PodScope<'_>, container: &Value, at: &At<'_>, errs: &mut Errs) {
    let host_network = crate::registry::val::b(scope.spec, "hostNetwork");
    let mut names_seen: Vec<&str> = Vec::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let at = at.i(index);
        let name = s(port, "name");
        if !name.is_empty() {
            let wrong = names::is_port_name(name);
            if wrong.is_empty() && names_seen.contains(&name) {
                errs.duplicate(&at.f("name"), name);
            }
            errs.invalid_each(&at.f("name"), name, wrong);
            names_seen.push(name);
        }
        port_numbers(port, host_network, scope.template, &at, errs);
        errs.required_one_of(&at.f("protocol"), s(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn port_numbers(port: &Value, host_network: bool, template: bool, at: &At<'_>, errs: &mut Errs) {
    let number = i(port, "containerPort").unwrap_or(0);
    let host = i(port, "hostPort").unwrap_or(0);
    if number == 0 {
        errs.required(&at.f("containerPort"), "");
    } else {
        errs.in_range(&at.f("containerPort"), number, 1, 65535);
    }
    if host != 0 {
        errs.in_range(&at.f("hostPort"), host, 1, 65535);
    }
    if host_network && host != number && (host != 0 || !template) {
        errs.invalid(&at.f("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
    }
}

fn host_ports_unique(containers: &[Value], first: usize, at: &At<'_>, errs: &mut Errs) {
    let mut taken: Vec<(&str, &str, i64)> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let item = at.i(first + index);
        for (port_index, port) in list(container, "ports").iter().enumerate() {
            let key = (s(port, "protocol"), s(port, "hostIP"), i(port, "hostPort").unwrap_or(0));
            if key.2 != 0 && taken.contains(&key) {
                let shown = format!("{}/{}/{}", key.0, key.1, key.2);
                errs.duplicate(&item.f("ports").i(port_index).f("hostPort"), shown);
            }
            taken.push(key);
        }
    }
}

fn resize_policy(scope: &PodScope<'_>, container: &Value, at: &At<'_>, errs: &mut Errs) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        let name = s(policy, "resourceName");
        if seen.contains(&name) {
            errs.duplicate(&at.i(index), name);
        }
        seen.push(name);
        errs.required_one_of(at, name, &["cpu", "memory"]);
        let restart = s(policy, "restartPolicy");
        errs.required_one_of(at, restart, &["NotRequired", "RestartContainer"]);
        if s(scope.spec, "restartPolicy") == "Never" && restart == "RestartContainer" {
            errs.invalid(at, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

fn restart(scope: &PodScope<'_>, container: &Value, at: &At<'_>, errs: &mut Errs) {
    let policy = get(container, "restartPolicy").and_then(Value::as_str);
    if let Some(policy) = policy {
        errs.one_of(&at.f("restartPolicy"), policy, &["Always", "Never", "OnFailure"]);
    }
    let rules = list(container, "restartPolicyRules");
    if policy.is_none() && !rules.is_empty() {
        errs.required(&at.f("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    let at = at.f("restartPolicyRules");
    if rules.len() > 20 {
        errs.too_many(&at, rules.len(), 20);
    }
    for (index, rule) in rules.iter().enumerate() {
        restart_rule(rule, &at.i(index), errs);
    }
    let _ = scope;
}

fn restart_rule(rule: &Value, at: &At<'_>, errs: &mut Errs) {
    errs.one_of(&at.f("action"), s(rule, "action"), &["Restart", "RestartAllContainers"]);
    let Some(codes) = get(rule, "exitCodes") else {
        return errs.required(&at.f("exitCodes"), "must be specified");
    };
    let at = at.f("exitCodes");
    errs.one_of(&at.f("operator"), s(codes, "operator"), &["In", "NotIn"]);
    let count = list(codes, "values").len();
    if count > 255 {
        errs.too_many(&at.f("values"), count, 255);
    }
}

const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
];

fn ephemeral(scope: &PodScope<'_>, container: &Value, at: &At<'_>, errs: &mut Errs) {
    let target = s(container, "targetContainerName");
    let known = |kind: &str| list(scope.spec, kind).iter().any(|c| s(c, "name") == target);
    if !target.is_empty() && !known("containers") && !known("initContainers") {
        errs.not_found(&at.f("targetContainerName"), target);
    }
    for key in NOT_EPHEMERAL.iter().filter(|k| has(container, k)) {
        errs.forbidden(&at.f(key), "cannot be set for an Ephemeral Container");
    }
    let mounts = at.f("volumeMounts");
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        for key in ["subPath", "subPathExpr"] {
            if !s(mount, key).is_empty() {
                errs.forbidden(&mounts.i(index).f(key), "cannot be set for an Ephemeral Container");
            }
        }
    }
}
