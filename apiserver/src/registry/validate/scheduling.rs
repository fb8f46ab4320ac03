//! Where a pod may run: affinity, tolerations, topology spread, node selectors.

use super::labels;
use crate::registry::errs::{At, Errs};
use crate::registry::val::{entries, get, i, list, s, set, strs};
use machinery::names;
use serde_json::Value;

/// Everything in a pod spec that says where it may run.
pub fn pod_spec(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    labels::labels(spec, "nodeSelector", &at.f("nodeSelector"), errs);
    if let Some(affinity) = get(spec, "affinity") {
        self::affinity(affinity, &at.f("affinity"), errs);
    }
    tolerations(spec, &at.f("tolerations"), errs);
    spread(spec, &at.f("topologySpreadConstraints"), errs);
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn affinity(affinity: &Value, at: &At<'_>, errs: &mut Errs) {
    if let Some(node) = get(affinity, "nodeAffinity") {
        node_affinity(node, &at.f("nodeAffinity"), errs);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = get(affinity, kind) {
            pod_affinity(pods, &at.f(kind), errs);
        }
    }
}

fn node_affinity(affinity: &Value, at: &At<'_>, errs: &mut Errs) {
    if let Some(required) = get(affinity, REQUIRED) {
        node_selector(required, &at.f(REQUIRED), errs);
    }
    let preferred = at.f(PREFERRED);
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let at = preferred.i(index);
        weight(term, &at.f("weight"), errs);
        if let Some(preference) = get(term, "preference") {
            node_term(preference, false, &at.f("preference"), errs);
        }
    }
}

fn weight(term: &Value, at: &At<'_>, errs: &mut Errs) {
    let weight = i(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errs.invalid(at, weight, "must be in the range 1-100");
    }
}

/// A node selector: at least one term, each well formed.
pub fn node_selector(selector: &Value, at: &At<'_>, errs: &mut Errs) {
    let terms = list(selector, "nodeSelectorTerms");
    let at = at.f("nodeSelectorTerms");
    if terms.is_empty() {
        errs.required(&at, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, true, &at.i(index), errs);
    }
}

fn node_term(term: &Value, check_values: bool, at: &At<'_>, errs: &mut Errs) {
    let expressions = at.f("matchExpressions");
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        node_requirement(requirement, check_values, &expressions.i(index), errs);
    }
    let fields = at.f("matchFields");
    for (index, requirement) in list(term, "matchFields").iter().enumerate() {
        node_field(requirement, &fields.i(index), errs);
    }
}

fn node_requirement(requirement: &Value, check_values: bool, at: &At<'_>, errs: &mut Errs) {
    let values = list(requirement, "values");
    match s(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errs.required(&at.f("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errs.forbidden(
                &at.f("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errs.required(&at.f("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errs.invalid(&at.f("operator"), other, "not a valid selector operator"),
    }
    labels::label_name(s(requirement, "key"), &at.f("key"), errs);
    for (index, value) in strs(requirement, "values").enumerate().filter(|_| check_values) {
        errs.invalid_each(&at.f("values").i(index), value, names::is_label_value(value));
    }
}

fn node_field(requirement: &Value, at: &At<'_>, errs: &mut Errs) {
    let values = list(requirement, "values");
    match s(requirement, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            errs.required(
                &at.f("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        "In" | "NotIn" => {}
        other => errs.invalid(&at.f("operator"), other, "not a valid selector operator"),
    }
    let key = s(requirement, "key");
    if key != "metadata.name" {
        return errs.invalid(&at.f("key"), key, "not a valid field selector key");
    }
    for (index, value) in strs(requirement, "values").enumerate() {
        errs.invalid_each(&at.f("values").i(index), value, names::is_dns1123_subdomain(value));
    }
}

fn pod_affinity(affinity: &Value, at: &At<'_>, errs: &mut Errs) {
    let required = at.f(REQUIRED);
    for (index, term) in list(affinity, REQUIRED).iter().enumerate() {
        pod_term(term, &required.i(index), errs);
    }
    let preferred = at.f(PREFERRED);
    for (index, weighted) in list(affinity, PREFERRED).iter().enumerate() {
        let at = preferred.i(index);
        weight(weighted, &at.f("weight"), errs);
        pod_term(get(weighted, "podAffinityTerm").unwrap_or(&Value::Null), &at.f("podAffinityTerm"), errs);
    }
}

fn pod_term(term: &Value, at: &At<'_>, errs: &mut Errs) {
    labels::selector_in(term, "labelSelector", at, errs);
    labels::selector_in(term, "namespaceSelector", at, errs);
    for key in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, key, at, errs);
    }
    for (index, key) in strs(term, "matchLabelKeys").enumerate() {
        if strs(term, "mismatchLabelKeys").any(|k| k == key) {
            errs.invalid(
                &at.f("matchLabelKeys").i(index),
                key,
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
    for ns in strs(term, "namespaces") {
        errs.invalid_each(&at.f("namespace"), ns, names::is_dns1123_label(ns));
    }
    match s(term, "topologyKey") {
        "" => errs.required(&at.f("topologyKey"), "can not be empty"),
        key => labels::label_name(key, &at.f("topologyKey"), errs),
    }
}

/// Keys whose values come from the pod's own labels; they mean something only with a selector.
fn label_keys(of: &Value, key: &str, at: &At<'_>, errs: &mut Errs) {
    if list(of, key).is_empty() {
        return;
    }
    let at = at.f(key);
    if !set(of, "labelSelector") {
        errs.forbidden(&at, "must not be specified when labelSelector is not set");
    }
    for (index, name) in strs(of, key).enumerate() {
        labels::label_name(name, &at.i(index), errs);
    }
}

/// A list of tolerations.
pub fn tolerations(of: &Value, at: &At<'_>, errs: &mut Errs) {
    for (index, toleration) in list(of, "tolerations").iter().enumerate() {
        self::toleration(toleration, &at.i(index), errs);
    }
}

fn toleration(toleration: &Value, at: &At<'_>, errs: &mut Errs) {
    let (key, operator, value, effect) =
        (s(toleration, "key"), s(toleration, "operator"), s(toleration, "value"), s(toleration, "effect"));
    if !key.is_empty() {
        labels::label_name(key, &at.f("key"), errs);
    } else if operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errs.invalid(&at.f("operator"), operator, why);
    }
    if set(toleration, "tolerationSeconds") && effect != "NoExecute" {
        errs.invalid(&at.f("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    match operator {
        "Equal" | "" => errs.invalid_each(&at.f("operator"), value, names::is_label_value(value)),
        "Exists" if !value.is_empty() => {
            errs.invalid(
                &at.f("operator"),
                toleration.clone(),
                "value must be empty when `operator` is 'Exists'",
            );
        }
        "Exists" => {}
        other => errs.not_supported(&at.f("operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        taint_effect(effect, &at.f("effect"), errs);
    }
}

/// What a taint does to pods that do not tolerate it.
pub fn taint_effect(effect: &str, at: &At<'_>, errs: &mut Errs) {
    errs.one_of(at, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

fn spread(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let constraints = list(spec, "topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.i(index);
        spread_constraint(constraint, &at, errs);
        let same = |c: &Value| {
            s(c, "topologyKey") == s(constraint, "topologyKey")
                && s(c, "whenUnsatisfiable") == s(constraint, "whenUnsatisfiable")
        };
        if constraints.iter().skip(index + 1).any(same) {
            let pair =
                format!("{{{}, {}}}", s(constraint, "topologyKey"), s(constraint, "whenUnsatisfiable"));
            errs.duplicate(&at.f("{topologyKey, whenUnsatisfiable}"), pair);
        }
    }
}

fn spread_constraint(constraint: &Value, at: &At<'_>, errs: &mut Errs) {
    let skew = i(constraint, "maxSkew").unwrap_or(0);
    if skew <= 0 {
        errs.invalid(&at.f("maxSkew"), skew, "must be greater than zero");
    }
    match s(constraint, "topologyKey") {
        "" => errs.required(&at.f("topologyKey"), "can not be empty"),
        key => labels::label_name(key, &at.f("topologyKey"), errs),
    }
    let when = s(constraint, "whenUnsatisfiable");
    errs.one_of(&at.f("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
    if let Some(min) = i(constraint, "minDomains") {
        if min <= 0 {
            errs.invalid(&at.f("minDomains"), min, "must be greater than zero");
        }
        if when != "DoNotSchedule" {
            let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
            errs.invalid(&at.f("minDomains"), min, why);
        }
    }
    for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        if set(constraint, key) {
            errs.one_of(&at.f(key), s(constraint, key), &["Honor", "Ignore"]);
        }
    }
    label_keys(constraint, "matchLabelKeys", at, errs);
    labels::selector_in(constraint, "labelSelector", at, errs);
}

/// A node's taints.
pub fn taints(taints: &[Value], at: &At<'_>, errs: &mut Errs) {
    for (index, taint) in taints.iter().enumerate() {
        let at = at.i(index);
        labels::label_name(s(taint, "key"), &at.f("key"), errs);
        errs.invalid_each(&at.f("value"), s(taint, "value"), names::is_label_value(s(taint, "value")));
        match s(taint, "effect") {
            "" => errs.required(&at.f("effect"), ""),
            effect => taint_effect(effect, &at.f("effect"), errs),
        }
        let same = |t: &Value| s(t, "key") == s(taint, "key") && s(t, "effect") == s(taint, "effect");
        if taints.iter().take(index).any(same) {
            errs.duplicate(&at, taint.clone());
        }
    }
}

/// Label keys of nodes that have a newer name, for warnings.
pub const DEPRECATED_NODE_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
];

/// Warns of old node label keys among the keys of a map.
pub fn warn_node_labels(of: &Value, key: &str, at: &At<'_>, warnings: &mut Vec<String>) {
    for (label, _) in entries(of, key) {
        if let Some((_, why)) = DEPRECATED_NODE_LABELS.iter().find(|(l, _)| *l == label) {
            warnings.push(format!("{}: {why}", at.k(label)));
        }
    }
}
