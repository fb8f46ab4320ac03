//! What may change in a pod, through each of its endpoints.

use super::pod;
use crate::registry::errs::{At, Errs};
use crate::registry::resources::qos_class;
use crate::registry::val::{at, entries, get, i, items_mut, keep, list, members, obj_mut, s, same, same_at};
use serde_json::Value;

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

const NULL: Value = Value::Null;

fn spec_of(pod: &Value) -> &Value {
    get(pod, "spec").unwrap_or(&NULL)
}

/// A change through the pod itself.
pub fn update(new: &Value, old: &Value, errs: &mut Errs) {
    pod::whole(new, errs);
    fixed_annotations(new, old, errs);
    let (new_spec, old_spec) = (spec_of(new), spec_of(old));
    let at = At::ROOT.f("spec");
    for (kind, what) in [("containers", "containers"), ("initContainers", "initContainers")] {
        if list(new_spec, kind).len() != list(old_spec, kind).len() {
            return errs.forbidden(&at.f(what), "pod updates may not add or remove containers");
        }
    }
    deadline(new_spec, old_spec, &at.f("activeDeadlineSeconds"), errs);
    tolerations(new_spec, old_spec, &at.f("tolerations"), errs);
    gates(new_spec, old_spec, &at.f("schedulingGates"), errs);
    rest_of_spec(new_spec, old_spec, &at, errs);
}

fn fixed_annotations(new: &Value, old: &Value, errs: &mut Errs) {
    let fixed = |k: &str| {
        k == "kubernetes.io/config.mirror" || k.starts_with("container.apparmor.security.beta.kubernetes.io/")
    };
    let (a, b) = (get(new, "metadata").unwrap_or(&NULL), get(old, "metadata").unwrap_or(&NULL));
    let base = At::ROOT.f("metadata.annotations");
    for (key, value) in entries(a, "annotations").filter(|(k, _)| fixed(k)) {
        if at(b, &["annotations", key]) != Some(value) {
            errs.forbidden(&base.k(key), "may not add or update this annotation");
        }
    }
    for (key, _) in entries(b, "annotations").filter(|(k, _)| fixed(k)) {
        if at(a, &["annotations", key]).is_none() {
            errs.forbidden(&base.k(key), "may not remove this annotation");
        }
    }
}

fn deadline(new: &Value, old: &Value, at: &At<'_>, errs: &mut Errs) {
    match (i(new, "activeDeadlineSeconds"), i(old, "activeDeadlineSeconds")) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            errs.in_range(at, n, 0, i64::from(i32::MAX))
        }
        (Some(n), Some(o)) if n > o => errs.invalid(at, n, "must be less than or equal to previous value"),
        (None, Some(_)) => errs.invalid(at, NULL, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

/// Old tolerations stay, apart from their seconds; new ones may be added.
fn tolerations(new: &Value, old: &Value, at: &At<'_>, errs: &mut Errs) {
    let alike =
        |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|k| s(a, k) == s(b, k));
    for kept in list(old, "tolerations") {
        if !list(new, "tolerations").iter().any(|t| alike(t, kept)) {
            return errs
                .forbidden(at, "existing toleration can not be modified except its tolerationSeconds");
        }
    }
}

fn gates(new: &Value, old: &Value, at: &At<'_>, errs: &mut Errs) {
    for (index, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = s(gate, "name");
        if !list(old, "schedulingGates").iter().any(|g| s(g, "name") == name) {
            errs.forbidden(
                &at.i(index).f("name"),
                "only deletion is allowed, but found new scheduling gate '".to_owned() + name + "'",
            );
        }
    }
}

/// Compares the specs once everything that may change is made the same.
fn rest_of_spec(new: &Value, old: &Value, at: &At<'_>, errs: &mut Errs) {
    if new == old {
        return;
    }
    let gated = !list(old, "schedulingGates").is_empty();
    let mut munged = new.clone();
    for kind in ["containers", "initContainers"] {
        for (index, container) in items_mut(&mut munged, kind).iter_mut().enumerate() {
            if let Some(before) = list(old, kind).get(index) {
                keep(container, before, "image");
            }
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(&mut munged, old, key);
    }
    if i(old, "terminationGracePeriodSeconds").is_some_and(|n| n < 0)
        && i(new, "terminationGracePeriodSeconds") == Some(1)
    {
        keep(&mut munged, old, "terminationGracePeriodSeconds");
    }
    if gated {
        gated_changes(new, old, &mut munged, at, errs);
    }
    if !same(Some(&munged), Some(old)) {
        errs.forbidden(at, format!("{MUTABLE}\n{}", difference(&munged, old)));
    }
}

/// While gates hold a pod back, where it may run can still be narrowed.
fn gated_changes(new: &Value, old: &Value, munged: &mut Value, at: &At<'_>, errs: &mut Errs) {
    let kept =
        entries(old, "nodeSelector").all(|(k, v)| get(new, "nodeSelector").and_then(|n| n.get(k)) == Some(v));
    if !kept {
        let value = new.get("nodeSelector").cloned().unwrap_or_default();
        errs.invalid(&at.f("nodeSelector"), value, "only additions are allowed (no mutations or deletions)");
    }
    keep(munged, old, "nodeSelector");
    node_affinity(new, old, munged, at, errs);
}

const TERMS: [&str; 4] =
    ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];

fn node_affinity(new: &Value, old: &Value, munged: &mut Value, path: &At<'_>, errs: &mut Errs) {
    if same(at(new, &TERMS[..2]), at(old, &TERMS[..2])) {
        return;
    }
    let terms = |v| at(v, &TERMS).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (a, b) = (terms(new), terms(old));
    let path =
        path.f("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if !b.is_empty() && a.len() != b.len() {
        let value = Value::Array(a.to_vec());
        errs.invalid(&path, value, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    } else {
        for (index, (x, y)) in a.iter().zip(b).enumerate() {
            if !narrower(x, y) {
                errs.invalid(
                    &path.i(index),
                    x.clone(),
                    "only additions are allowed (no mutations or deletions)",
                );
            }
        }
    }
    let affinity = members(munged).entry("affinity").or_insert_with(|| Value::Object(Default::default()));
    keep(affinity, at(old, &["affinity"]).unwrap_or(&NULL), "nodeAffinity");
}

/// The old requirements are still there, in front.
fn narrower(new: &Value, old: &Value) -> bool {
    let empty = |t: &Value| list(t, "matchExpressions").is_empty() && list(t, "matchFields").is_empty();
    if empty(old) {
        return empty(new);
    }
    ["matchExpressions", "matchFields"].iter().all(|k| list(new, k).starts_with(list(old, k)))
}

/// The members that differ, for the message.
fn difference(new: &Value, old: &Value) -> String {
    let mut lines = Vec::new();
    let empty = serde_json::Map::new();
    let (a, b) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
        if !same(a.get(key), b.get(key)) {
            let show = |v: Option<&Value>| v.map_or_else(|| "nil".to_owned(), Value::to_string);
            lines.push(format!("- {key}: {}\n+ {key}: {}", show(b.get(key)), show(a.get(key))));
        }
    }
    lines.join("\n")
}

/// A change through `status`.
pub fn status(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (get(new, "status").unwrap_or(&NULL), get(old, "status").unwrap_or(&NULL));
    let at = At::ROOT.f("status");
    status_lists(a, &at, errs);
    if !s(a, "nominatedNodeName").is_empty() && !same_at(a, b, "nominatedNodeName") {
        let name = s(a, "nominatedNodeName");
        errs.invalid_each(&at.f("nominatedNodeName"), name, machinery::names::is_dns1123_subdomain(name));
    }
    if !s(b, "qosClass").is_empty() && s(a, "qosClass") != s(b, "qosClass") {
        errs.invalid(&at.f("qosClass"), s(a, "qosClass"), crate::registry::errs::IMMUTABLE);
    }
    let policy = s(spec_of(new), "restartPolicy");
    if policy != "Always" {
        no_revival(a, b, policy, &at, errs);
    }
}

fn status_lists(status: &Value, at: &At<'_>, errs: &mut Errs) {
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        let kind = s(condition, "type");
        errs.invalid_each(
            &at.f("conditions").i(index).f("type"),
            kind,
            machinery::names::is_qualified_name(kind),
        );
    }
    for key in ["podIPs", "hostIPs"] {
        let ips = list(status, key);
        let base = at.f(key);
        let mut families = Vec::new();
        for (index, entry) in ips.iter().enumerate() {
            if let Some(ip) = super::net::ip(s(entry, "ip"), &[], &base.i(index).f("ip"), errs) {
                families.push(ip.is_ipv4());
            }
        }
        if ips.len() > 2 || families.len() == 2 && families[0] == families[1] {
            errs.invalid(
                &base,
                Value::Array(ips.to_vec()),
                "may specify no more than one IP for each IP family",
            );
        }
    }
}

/// A container that has ended for good stays ended.
fn no_revival(new: &Value, old: &Value, policy: &str, path: &At<'_>, errs: &mut Errs) {
    let base = path.f("containerStatuses");
    for (index, before) in list(old, "containerStatuses").iter().enumerate() {
        let Some(ended) = at(before, &["state", "terminated"]) else { continue };
        if policy == "OnFailure" && i(ended, "exitCode") != Some(0) {
            continue;
        }
        let name = s(before, "name");
        let now = list(new, "containerStatuses").iter().find(|c| s(c, "name") == name);
        if now.is_some_and(|c| at(c, &["state", "terminated"]).is_none()) {
            errs.forbidden(&base.i(index).f("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// A change through `ephemeralcontainers`: only additions.
pub fn ephemeral(new: &Value, old: &Value, errs: &mut Errs) {
    pod::whole(new, errs);
    if at(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        errs.forbidden(&At::ROOT.f(""), "static pods do not support ephemeral containers");
    }
    let path = At::ROOT.f("spec.ephemeralContainers");
    let (now, before) =
        (list(spec_of(new), "ephemeralContainers"), list(spec_of(old), "ephemeralContainers"));
    for container in before {
        let name = s(container, "name");
        match now.iter().position(|c| s(c, "name") == name) {
            None => {
                errs.forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n"))
            }
            Some(index) if !same(now.get(index), Some(container)) => {
                errs.forbidden(&path, format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// A change through `resize`: cpu and memory of containers, nothing that changes the class of the pod.
pub fn resize(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (spec_of(new), spec_of(old));
    let at_spec = At::ROOT.f("spec");
    pod::whole(new, errs);
    if at(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        errs.forbidden(&At::ROOT.f(""), "static pods cannot be resized");
    }
    if at(b, &["os", "name"]).and_then(Value::as_str) == Some("windows") {
        errs.forbidden(&At::ROOT.f(""), "windows pods cannot be resized");
    }
    if qos_class(a) != qos_class(b) {
        errs.invalid(&at_spec, qos_class(a), "Pod QOS Class may not change as a result of resizing");
    }
    for kind in ["containers", "initContainers"] {
        resized(a, b, kind, &at_spec.f(kind), errs);
    }
    only_resources_changed(a, b, &at_spec, errs);
}

fn resized(new: &Value, old: &Value, kind: &str, path: &At<'_>, errs: &mut Errs) {
    let (now, before) = (list(new, kind), list(old, kind));
    if now.len() != before.len() {
        return errs.forbidden(path, "pod resize may not add or remove containers");
    }
    for (index, (a, b)) in now.iter().zip(before).enumerate() {
        let item = path.i(index);
        if s(a, "name") != s(b, "name") {
            errs.forbidden(&item.f("name"), "containers may not be renamed or reordered on resize");
        }
        for which in ["requests", "limits"] {
            let gone = |name: &str| at(a, &["resources", which, name]).is_none();
            let resources = b.get("resources").unwrap_or(&NULL);
            if entries(resources, which).any(|(name, _)| gone(name)) {
                errs.forbidden(&item.f("resources").f(which), format!("resource {which} cannot be removed"));
            }
        }
    }
}

fn only_resources_changed(new: &Value, old: &Value, path: &At<'_>, errs: &mut Errs) {
    let mut munged = new.clone();
    for kind in ["containers", "initContainers"] {
        for (index, container) in items_mut(&mut munged, kind).iter_mut().enumerate() {
            let Some(before) = list(old, kind).get(index) else { continue };
            keep(container, before, "resizePolicy");
            amounts(container, before);
        }
    }
    amounts(&mut munged, old);
    if !same(Some(&munged), Some(old)) {
        errs.forbidden(path, "only cpu and memory resources are mutable");
    }
}

/// Makes cpu and memory what they were, so that a comparison leaves them out.
fn amounts(of: &mut Value, before: &Value) {
    for which in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            let old = at(before, &["resources", which, name]).cloned();
            let Some(resources) = obj_mut(of, "resources") else { continue };
            let Some(list) = resources.get_mut(which).and_then(Value::as_object_mut) else { continue };
            match old {
                Some(old) => list.insert(name.to_owned(), old),
                None => list.remove(name),
            };
        }
    }
}
