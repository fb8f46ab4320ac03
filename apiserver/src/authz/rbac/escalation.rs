//! Nobody grants what they do not hold, unless allowed to `escalate` roles or `bind` them.

use std::sync::Arc;

use machinery::status::Status;
use serde_json::Value;

use super::index::Index;
use super::rule::{Rule, missing, quoted};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::request::{RequestInfo, UserInfo};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A write to a role or binding.
pub struct Write<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// roles, clusterroles, rolebindings or clusterrolebindings.
    pub plural: &'a str,
    /// Empty at cluster scope.
    pub namespace: &'a str,
    /// The object as it is to be.
    pub object: &'a Value,
    /// The object as it was.
    pub old: Option<&'a Value>,
}

/// Refuses a write that would grant more than its writer holds.
/// Errors: Forbidden naming what is lacking; NotFound when a binding's role does not exist.
pub async fn check(write: &Write<'_>, authorizer: &dyn Authorizer, index: &Arc<Index>) -> Result<(), Status> {
    if write.user.in_group("system:masters")
        || write.old.is_some_and(|old| same_but_for_gc(old, write.object))
    {
        return Ok(());
    }
    match write.plural {
        "roles" | "clusterroles" => check_role(write, authorizer, index).await,
        _ => check_binding(write, authorizer, index).await,
    }
}

/// Garbage collection may always take away owner references and finalizers.
fn same_but_for_gc(old: &Value, new: &Value) -> bool {
    let bare = |v: &Value| {
        let mut v = v.clone();
        if let Some(meta) = v.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                meta.remove(key);
            }
        }
        v
    };
    bare(old) == bare(new)
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

async fn check_role(
    write: &Write<'_>,
    authorizer: &dyn Authorizer,
    index: &Arc<Index>,
) -> Result<(), Status> {
    let aggregated = write.object.get("aggregationRule").is_some_and(|r| !r.is_null());
    let rules = Rule::list_of(write.object);
    let unchanged = write.old.is_some_and(|old| {
        Rule::list_of(old) == rules && old.get("aggregationRule") == write.object.get("aggregationRule")
    });
    if unchanged || allowed(write, authorizer, "escalate", write.plural, name_of(write.object)).await {
        return Ok(());
    }
    if aggregated && !lacking(write, index, &everything()).is_empty() {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(Status::forbidden(GROUP, write.plural, name_of(write.object), why));
    }
    refuse_if_lacking(write, index, &rules)
}

async fn check_binding(
    write: &Write<'_>,
    authorizer: &dyn Authorizer,
    index: &Arc<Index>,
) -> Result<(), Status> {
    let text = |p: &str| write.object.pointer(p).and_then(Value::as_str).unwrap_or_default();
    let (kind, role) = (text("/roleRef/kind"), text("/roleRef/name"));
    let plural = if kind == "Role" { "roles" } else { "clusterroles" };
    if allowed(write, authorizer, "bind", plural, role).await {
        return Ok(());
    }
    let namespace = if kind == "Role" { write.namespace } else { "" };
    let rules = index
        .rules_of(namespace, role)
        .ok_or_else(|| Status::not_found(GROUP, &kind.to_lowercase(), role))?;
    refuse_if_lacking(write, index, &rules)
}

async fn allowed(
    write: &Write<'_>,
    authorizer: &dyn Authorizer,
    verb: &str,
    plural: &str,
    name: &str,
) -> bool {
    let info = RequestInfo {
        is_resource: true,
        verb: verb.into(),
        group: GROUP.into(),
        version: "*".into(),
        namespace: write.namespace.into(),
        resource: plural.into(),
        name: name.into(),
        ..RequestInfo::default()
    };
    let attributes = Attributes { user: write.user, info: &info };
    authorizer.authorize(&attributes).await.0 == Decision::Allow
}

fn everything() -> Vec<Rule> {
    let star = || vec!["*".to_owned()];
    vec![
        Rule { verbs: star(), groups: star(), resources: star(), ..Rule::default() },
        Rule { verbs: star(), urls: star(), ..Rule::default() },
    ]
}

fn lacking(write: &Write<'_>, index: &Arc<Index>, rules: &[Rule]) -> Vec<Rule> {
    let (held, _) = index.rules_for(&write.user.name, &write.user.groups, write.namespace);
    missing(&held, rules)
}

fn refuse_if_lacking(write: &Write<'_>, index: &Arc<Index>, rules: &[Rule]) -> Result<(), Status> {
    let gap = lacking(write, index, rules);
    if gap.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = gap.iter().map(Rule::compact).collect();
    lines.sort();
    lines.dedup();
    let (_, errors) = index.rules_for(&write.user.name, &write.user.groups, write.namespace);
    let tail = if errors.is_empty() {
        String::new()
    } else {
        format!("; resolution errors: [{}]", errors.join(", "))
    };
    let why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}{tail}",
        write.user.name,
        quoted(&write.user.groups),
        lines.join("\n"),
    );
    Err(Status::forbidden(GROUP, write.plural, name_of(write.object), why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::index::Kind;
    use super::*;
    use crate::authz::modes::Rbac;

    fn index() -> Arc<Index> {
        let index = Index::new();
        let role = |name: &str, verbs: Value, groups: Value, resources: Value| json!({"metadata": {"name": name}, "rules": [{"verbs": verbs, "apiGroups": groups, "resources": resources}]});
        index.put(Kind::ClusterRole, &role("reader", json!(["get"]), json!([""]), json!(["pods"])));
        index.put(
            Kind::ClusterRole,
            &role("binder", json!(["bind"]), json!([GROUP]), json!(["clusterroles"])),
        );
        index.put(
            Kind::ClusterRole,
            &role("escalator", json!(["escalate"]), json!([GROUP]), json!(["roles", "clusterroles"])),
        );
        index.put(Kind::ClusterRole, &role("secret", json!(["get"]), json!([""]), json!(["secrets"])));
        for (user, role) in [("reader", "reader"), ("binder", "binder"), ("escalator", "escalator")] {
            index.put(Kind::ClusterRoleBinding, &json!({"metadata": {"name": user},
                "subjects": [{"kind": "User", "name": user}], "roleRef": {"kind": "ClusterRole", "name": role}}));
        }
        Arc::new(index)
    }

    async fn run(user: &str, plural: &str, object: Value, old: Option<Value>) -> Result<(), Status> {
        let index = index();
        let groups = if user == "admin" { vec!["system:masters".to_owned()] } else { vec![] };
        let user = UserInfo { name: user.into(), groups, ..UserInfo::default() };
        let write = Write { user: &user, plural, namespace: "a", object: &object, old: old.as_ref() };
        check(&write, &Rbac(index.clone()), &index).await
    }

    fn role(verb: &str, resource: &str) -> Value {
        json!({"metadata": {"name": "r", "namespace": "a"},
            "rules": [{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]})
    }

    fn binding(role: &str) -> Value {
        json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": role}})
    }

    #[tokio::test]
    async fn roles() {
        for (user, object, good) in [
            ("reader", role("get", "pods"), true),
            ("reader", role("list", "pods"), false),
            ("reader", role("get", "secrets"), false),
            ("escalator", role("get", "secrets"), true),
            ("admin", role("get", "secrets"), true),
        ] {
            assert_eq!(run(user, "roles", object.clone(), None).await.is_ok(), good, "{user} {object}");
            assert!(
                run(user, "roles", object.clone(), Some(object.clone())).await.is_ok(),
                "unchanged is fine"
            );
        }
        let err = run("reader", "roles", role("get", "secrets"), None).await.expect_err("refused");
        assert_eq!(
            err.message,
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"reader\" (groups=[]) is \
            attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
        );
        let aggregate = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": []}});
        assert!(run("reader", "clusterroles", aggregate, None).await.is_err());
    }

    #[tokio::test]
    async fn bindings() {
        for (user, name, good) in [
            ("reader", "reader", true),
            ("reader", "secret", false),
            ("binder", "secret", true),
            ("admin", "secret", true),
            ("reader", "nothing", false),
        ] {
            assert_eq!(run(user, "rolebindings", binding(name), None).await.is_ok(), good, "{user} {name}");
        }
        let err = run("reader", "rolebindings", binding("nothing"), None).await.expect_err("refused");
        assert_eq!(err.code, 404);
    }
}
