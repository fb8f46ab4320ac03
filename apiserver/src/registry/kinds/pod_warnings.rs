//! What is allowed in a pod but worth a word.

use crate::registry::errs::At;
use crate::registry::val::{entries, get, i, list, s, set, strs};
use crate::registry::validate::net;
use crate::registry::validate::resources::quantity;
use crate::registry::validate::scheduling::warn_node_labels;
use serde_json::Value;

/// A name that is also a host name has to be a label.
pub fn name(name: &str, out: &mut Vec<String>) {
    for why in machinery::names::is_dns1123_label(name) {
        if !name.is_empty() {
            out.push(format!("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{why}]"));
        }
    }
}

/// Warnings about a template, when new or when something in it changed.
pub fn template(workload: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let generation = |v: &Value| get(v, "metadata").and_then(|m| i(m, "generation"));
    if old.is_some_and(|old| generation(old) == generation(workload)) {
        return;
    }
    let Some(template) = crate::registry::val::at(workload, &["spec", "template"]) else { return };
    let at = At::ROOT.f("spec.template");
    pod(
        get(template, "metadata").unwrap_or(&Value::Null),
        get(template, "spec").unwrap_or(&Value::Null),
        &at,
        out,
    );
}

/// Warnings about a pod's metadata and spec.
pub fn pod(meta: &Value, spec: &Value, at: &At<'_>, out: &mut Vec<String>) {
    annotations(meta, &at.f("metadata.annotations"), out);
    let at = at.f("spec");
    warn_node_labels(spec, "nodeSelector", &at.f("nodeSelector"), out);
    spreads(spec, &at, out);
    volumes(spec, &at, out);
    duplicates(spec, &at, out);
    for kind in ["initContainers", "containers"] {
        let base = at.f(kind);
        for (index, container) in list(spec, kind).iter().enumerate() {
            self::container(container, &base.i(index), out);
        }
    }
    whole_bytes(spec, "overhead", &at.f("overhead"), out);
    if let Some(n) = i(spec, "terminationGracePeriodSeconds").filter(|n| *n < 0) {
        let _ = n;
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at.f("terminationGracePeriodSeconds")
        ));
    }
}

fn annotations(meta: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let old = [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "seccomp.security.alpha.kubernetes.io/pod",
            "non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ),
    ];
    for (key, _) in entries(meta, "annotations") {
        if let Some((_, why)) = old.iter().find(|(k, _)| *k == key) {
            out.push(format!("{}: {why}", at.k(key)));
        } else if key.starts_with("container.seccomp.security.alpha.kubernetes.io/") {
            out.push(format!(
                "{}: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                at.k(key)
            ));
        } else if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            out.push(format!(
                "{}: deprecated since v1.30; use the \"appArmorProfile\" field instead",
                at.k(key)
            ));
        }
    }
}

fn spreads(spec: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let base = at.f("topologySpreadConstraints");
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        if !set(constraint, "labelSelector") {
            out.push(format!(
                "{}: a null labelSelector results in matching no pod",
                base.i(index).f("labelSelector")
            ));
        }
    }
}

const REMOVED: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn volumes(spec: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let base = at.f("volumes");
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        for (kind, why) in REMOVED.iter().filter(|(kind, _)| set(volume, kind)) {
            out.push(format!("{}: {why}", base.i(index).f(kind)));
        }
    }
}

fn duplicates(spec: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let aliases = list(spec, "hostAliases");
    for (index, alias) in aliases.iter().enumerate() {
        let item = at.f("hostAliases");
        net::warn_ip(&item.i(index).f("ip"), s(alias, "ip"), out);
        if aliases.iter().take(index).any(|a| s(a, "ip") == s(alias, "ip")) {
            out.push(format!("{}: duplicate ip {:?}", item.i(index).f("ip"), s(alias, "ip")));
        }
    }
    let secrets = list(spec, "imagePullSecrets");
    for (index, secret) in secrets.iter().enumerate() {
        let (name, item) = (s(secret, "name"), at.f("imagePullSecrets"));
        if name.is_empty() {
            out.push(format!("{}: invalid empty name {name:?}", item.i(index).f("name")));
        } else if secrets.iter().take(index).any(|x| s(x, "name") == name) {
            out.push(format!("{}: duplicate name {name:?}", item.i(index).f("name")));
        }
    }
    let config = get(spec, "dnsConfig").unwrap_or(&Value::Null);
    for (index, server) in strs(config, "nameservers").enumerate() {
        net::warn_ip(&at.f("dnsConfig.nameservers").i(index), server, out);
    }
}

fn container(container: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let needs = get(container, "resources").unwrap_or(&Value::Null);
    let resources = at.f("resources");
    for which in ["limits", "requests"] {
        whole_bytes(needs, which, &resources.f(which), out);
    }
    let env = list(container, "env");
    for (index, var) in env.iter().enumerate() {
        let name = s(var, "name");
        if env
            .iter()
            .skip(index + 1)
            .any(|v| s(v, "name") == name && !s(v, "value").contains(&format!("$({name})")))
        {
            out.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                at.f("env").i(index + 1)
            ));
        }
    }
    ports(container, &at.f("ports"), out);
}

fn ports(container: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let ports = list(container, "ports");
    for (index, port) in ports.iter().enumerate() {
        if !s(port, "hostIP").is_empty() && i(port, "hostPort").unwrap_or(0) == 0 {
            out.push(format!("{}: hostIP set without hostPort: {port}", at.i(index)));
        }
        let key = |p: &Value| {
            (i(p, "containerPort"), s(p, "protocol").to_owned(), i(p, "hostPort"), s(p, "hostIP").to_owned())
        };
        if ports.iter().take(index).any(|p| key(p) == key(port)) {
            out.push(format!("{}: duplicate port definition", at.i(index)));
        }
    }
}

fn whole_bytes(of: &Value, which: &str, at: &At<'_>, out: &mut Vec<String>) {
    whole(&["memory", "ephemeral-storage"], of, which, at, out);
}

/// Warnings about the sizes a claim asks for; `at` is where its resources are.
pub fn claim_sizes(spec: &Value, at: &At<'_>, out: &mut Vec<String>) {
    let resources = get(spec, "resources").unwrap_or(&Value::Null);
    for which in ["requests", "limits"] {
        whole(&["storage"], resources, which, &at.f(which), out);
    }
}

fn whole(names: &[&str], of: &Value, which: &str, at: &At<'_>, out: &mut Vec<String>) {
    for name in names {
        let value = get(of, which).and_then(|l| l.get(name)).and_then(quantity);
        if let Some(q) = value.filter(|q| q.milli_value() % 1000 != 0) {
            out.push(format!(
                "{}: fractional byte value {:?} is invalid, must be an integer",
                at.k(name),
                q.to_string()
            ));
        }
    }
}
