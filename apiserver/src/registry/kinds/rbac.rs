//! Roles and who has them.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{get, list, s, same_at};
use crate::registry::validate::labels;
use crate::registry::validate::meta::{NameRule, path_segment};
use machinery::names;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles of a namespace.
pub const ROLE: Kind = Kind {
    name: NameRule::Path,
    create_on_update: true,
    validate: |new, _, errs| policy_rules(new, true, errs),
    ..Kind::of(GROUP, "roles")
};

/// Roles of the whole cluster.
pub const CLUSTER_ROLE: Kind = Kind {
    name: NameRule::Path,
    create_on_update: true,
    validate: |new, _, errs| {
        policy_rules(new, false, errs);
        let Some(aggregation) = get(new, "aggregationRule") else { return };
        let selectors = list(aggregation, "clusterRoleSelectors");
        let base = At::ROOT.f("aggregationRule.clusterRoleSelectors");
        if selectors.is_empty() {
            errs.required(&base, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (index, selector) in selectors.iter().enumerate() {
            labels::selector(selector, &base.i(index), errs);
        }
    },
    ..Kind::of(GROUP, "clusterroles")
};

/// Bindings in a namespace.
pub const ROLE_BINDING: Kind = Kind {
    name: NameRule::Path,
    create_on_update: true,
    validate: |new, _, errs| binding(new, true, errs),
    validate_update: role_kept,
    ..Kind::of(GROUP, "rolebindings")
};

/// Bindings for the whole cluster.
pub const CLUSTER_ROLE_BINDING: Kind = Kind {
    name: NameRule::Path,
    create_on_update: true,
    validate: |new, _, errs| binding(new, false, errs),
    validate_update: role_kept,
    ..Kind::of(GROUP, "clusterrolebindings")
};

fn policy_rules(role: &Value, namespaced: bool, errs: &mut Errs) {
    let base = At::ROOT.f("rules");
    for (index, rule) in list(role, "rules").iter().enumerate() {
        policy_rule(rule, namespaced, &base.i(index), errs);
    }
}

fn policy_rule(rule: &Value, namespaced: bool, at: &At<'_>, errs: &mut Errs) {
    if list(rule, "verbs").is_empty() {
        errs.required(&at.f("verbs"), "verbs must contain at least one value");
    }
    let urls = list(rule, "nonResourceURLs");
    let of_resources = ["apiGroups", "resources", "resourceNames"].iter().any(|k| !list(rule, k).is_empty());
    if !urls.is_empty() {
        let value = Value::Array(urls.to_vec());
        if namespaced {
            errs.invalid(
                &at.f("nonResourceURLs"),
                value.clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if of_resources {
            errs.invalid(
                &at.f("nonResourceURLs"),
                value,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if list(rule, "apiGroups").is_empty() {
        errs.required(&at.f("apiGroups"), "resource rules must supply at least one api group");
    }
    if list(rule, "resources").is_empty() {
        errs.required(&at.f("resources"), "resource rules must supply at least one resource");
    }
}

fn binding(binding: &Value, namespaced: bool, errs: &mut Errs) {
    let role = get(binding, "roleRef").unwrap_or(&Value::Null);
    let at = At::ROOT.f("roleRef");
    if s(role, "apiGroup") != GROUP {
        errs.not_supported(&at.f("apiGroup"), s(role, "apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    errs.one_of(&at.f("kind"), s(role, "kind"), kinds);
    match s(role, "name") {
        "" => errs.required(&at.f("name"), ""),
        name => errs.invalid_each(&at.f("name"), name, path_segment(name)),
    }
    let base = At::ROOT.f("subjects");
    for (index, subject) in list(binding, "subjects").iter().enumerate() {
        self::subject(subject, namespaced, &base.i(index), errs);
    }
}

fn subject(subject: &Value, namespaced: bool, at: &At<'_>, errs: &mut Errs) {
    let (name, group) = (s(subject, "name"), s(subject, "apiGroup"));
    if name.is_empty() {
        errs.required(&at.f("name"), "");
    }
    match s(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errs.invalid_each(&at.f("name"), name, names::is_dns1123_subdomain(name));
            }
            if !group.is_empty() {
                errs.not_supported(&at.f("apiGroup"), group, &[""]);
            }
            if !namespaced && s(subject, "namespace").is_empty() {
                errs.required(&at.f("namespace"), "");
            }
        }
        "User" | "Group" => errs.one_of(&at.f("apiGroup"), group, &[GROUP]),
        other => errs.not_supported(&at.f("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

fn role_kept(new: &Value, old: &Value, errs: &mut Errs) {
    if !same_at(new, old, "roleRef") {
        errs.invalid(
            &At::ROOT.f("roleRef"),
            new.get("roleRef").cloned().unwrap_or_default(),
            "cannot change roleRef",
        );
    }
}
