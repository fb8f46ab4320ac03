//! Who holds which roles: fed with role and binding objects one by one, asked for every request.
//!
//! A user's roles are gathered once and kept until any RBAC object changes, so that the common
//! question costs a lookup by user and a walk over the few rules that name the resource.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::rule::{Rule, Want};

/// Users whose gathered roles are kept; past it all are dropped and gathered anew.
const MAX_USERS: usize = 4096;

/// The four RBAC kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rules in one namespace.
    Role,
    /// Rules anywhere.
    ClusterRole,
    /// A role given in one namespace.
    RoleBinding,
    /// A cluster role given everywhere.
    ClusterRoleBinding,
}

impl Kind {
    /// The kind behind a resource name of rbac.authorization.k8s.io.
    pub fn of_resource(plural: &str) -> Option<Kind> {
        Some(match plural {
            "roles" => Kind::Role,
            "clusterroles" => Kind::ClusterRole,
            "rolebindings" => Kind::RoleBinding,
            "clusterrolebindings" => Kind::ClusterRoleBinding,
            _ => return None,
        })
    }
}

/// Namespace (empty at cluster scope) and name.
type Key = (String, String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Group(String),
}

#[derive(Debug)]
struct Role {
    rules: Vec<Rule>,
    /// Rules by the resource they name, the part before a slash.
    by_resource: HashMap<String, Vec<usize>>,
    /// Rules that name `*` or `*/sub`.
    wild: Vec<usize>,
}

impl Role {
    fn new(rules: Vec<Rule>) -> Role {
        let mut role = Role { rules: vec![], by_resource: HashMap::new(), wild: vec![] };
        for (i, rule) in rules.iter().enumerate() {
            let bases: BTreeSet<&str> =
                rule.resources.iter().map(|r| r.split_once('/').map_or(r.as_str(), |x| x.0)).collect();
            for base in bases {
                match base {
                    "*" => role.wild.push(i),
                    b => role.by_resource.entry(b.to_owned()).or_default().push(i),
                }
            }
        }
        role.rules = rules;
        role
    }

    fn allows(&self, want: &Want<'_>) -> bool {
        let named = self.by_resource.get(want.resource).into_iter().flatten();
        self.wild.iter().chain(named).filter_map(|i| self.rules.get(*i)).any(|r| r.allows(want))
    }
}

#[derive(Debug)]
struct Binding {
    namespace: String,
    name: String,
    role: Key,
    role_kind: String,
    /// Subjects with the words a permission's reason names them by.
    subjects: Vec<(Who, String)>,
}

/// A role somebody holds, and by which binding.
#[derive(Clone, Debug)]
struct Grant {
    role: Arc<Role>,
    reason: Arc<str>,
}

/// Everything one user holds.
#[derive(Debug, Default)]
struct Grants {
    everywhere: Vec<Grant>,
    by_namespace: HashMap<String, Vec<Grant>>,
    /// Bindings whose role does not exist: namespace and complaint.
    dangling: Vec<(String, String)>,
}

#[derive(Debug)]
struct Known {
    user: String,
    groups: Vec<String>,
    grants: Arc<Grants>,
}

#[derive(Debug, Default)]
struct State {
    roles: HashMap<Key, Arc<Role>>,
    bindings: HashMap<Key, Binding>,
    by_who: HashMap<Who, BTreeSet<Key>>,
}

/// The answer of RBAC, which only ever allows or has no opinion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, by the named binding.
    Allow(Arc<str>),
    /// Nothing allows it; the text names roles that bindings miss, usually empty.
    NoOpinion(String),
}

/// The index of roles and bindings.
#[derive(Debug, Default)]
pub struct Index {
    state: RwLock<State>,
    known: RwLock<HashMap<u64, Known>>,
    hasher: ahash::RandomState,
}

impl Index {
    /// An empty index, which allows nothing.
    pub fn new() -> Index {
        Index::default()
    }

    /// Takes in a created or changed object.
    pub fn put(&self, kind: Kind, object: &Value) {
        let key = key_of(object);
        {
            let mut state = self.state.write();
            match kind {
                Kind::Role | Kind::ClusterRole => {
                    state.roles.insert(key, Arc::new(Role::new(Rule::list_of(object))));
                }
                Kind::RoleBinding | Kind::ClusterRoleBinding => state.bind(key, binding(object)),
            }
        }
        self.known.write().clear();
    }

    /// Forgets a deleted object.
    pub fn remove(&self, kind: Kind, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        {
            let mut state = self.state.write();
            match kind {
                Kind::Role | Kind::ClusterRole => {
                    state.roles.remove(&key);
                }
                Kind::RoleBinding | Kind::ClusterRoleBinding => state.unbind(&key),
            }
        }
        self.known.write().clear();
    }

    /// Decides a request on a resource; `namespace` is empty at cluster scope.
    pub fn decide(&self, user: &str, groups: &[String], namespace: &str, want: &Want<'_>) -> Verdict {
        let grants = self.grants(user, groups);
        let local = grants.by_namespace.get(namespace).into_iter().flatten();
        let found = grants.everywhere.iter().chain(local).find(|g| g.role.allows(want));
        found.map_or_else(|| grants.refusal(namespace), |g| Verdict::Allow(g.reason.clone()))
    }

    /// Decides a request on a path outside the API.
    pub fn decide_path(&self, user: &str, groups: &[String], verb: &str, path: &str) -> Verdict {
        let grants = self.grants(user, groups);
        let allows = |g: &&Grant| g.role.rules.iter().any(|r| r.allows_path(verb, path));
        let found = grants.everywhere.iter().find(allows);
        found.map_or_else(|| grants.refusal(""), |g| Verdict::Allow(g.reason.clone()))
    }

    /// All rules a user holds in a namespace (empty: those held everywhere), and what was missing.
    pub fn rules_for(&self, user: &str, groups: &[String], namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let grants = self.grants(user, groups);
        let local = grants.by_namespace.get(namespace).into_iter().flatten();
        let rules =
            grants.everywhere.iter().chain(local).flat_map(|g| g.role.rules.iter().cloned()).collect();
        (rules, grants.complaints(namespace))
    }

    /// The rules of a role a binding refers to; `None` when there is no such role.
    pub fn rules_of(&self, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.state.read().roles.get(&key).map(|r| r.rules.clone())
    }

    fn grants(&self, user: &str, groups: &[String]) -> Arc<Grants> {
        let hash = self.hash(user, groups);
        if let Some(k) = self.known.read().get(&hash).filter(|k| k.user == user && k.groups == groups) {
            return k.grants.clone();
        }
        // The state stays locked until the answer is kept, so that a change cannot slip in between
        // and be forgotten: whoever changes the state clears the kept answers afterwards.
        let state = self.state.read();
        let grants = Arc::new(state.gather(user, groups));
        let mut known = self.known.write();
        if known.len() >= MAX_USERS {
            known.clear();
        }
        known.insert(hash, Known { user: user.to_owned(), groups: groups.to_vec(), grants: grants.clone() });
        grants
    }

    fn hash(&self, user: &str, groups: &[String]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        user.hash(&mut hasher);
        groups.hash(&mut hasher);
        hasher.finish()
    }
}

impl State {
    fn bind(&mut self, key: Key, binding: Binding) {
        self.unbind(&key);
        for (who, _) in &binding.subjects {
            self.by_who.entry(who.clone()).or_default().insert(key.clone());
        }
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, key: &Key) {
        let Some(old) = self.bindings.remove(key) else { return };
        for (who, _) in &old.subjects {
            if let Some(keys) = self.by_who.get_mut(who) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_who.remove(who);
                }
            }
        }
    }

    fn gather(&self, user: &str, groups: &[String]) -> Grants {
        let mut grants = Grants::default();
        let whos = std::iter::once(Who::User(user.to_owned())).chain(groups.iter().cloned().map(Who::Group));
        for who in whos {
            for key in self.by_who.get(&who).into_iter().flatten() {
                if let Some(binding) = self.bindings.get(key) {
                    self.gather_one(binding, &who, &mut grants);
                }
            }
        }
        grants
    }

    fn gather_one(&self, binding: &Binding, who: &Who, grants: &mut Grants) {
        let Some(role) = self.roles.get(&binding.role) else {
            grants.dangling.push((binding.namespace.clone(), binding.complaint()));
            return;
        };
        let grant = Grant { role: role.clone(), reason: binding.reason(who).into() };
        if binding.namespace.is_empty() {
            grants.everywhere.push(grant);
        } else {
            grants.by_namespace.entry(binding.namespace.clone()).or_default().push(grant);
        }
    }
}

impl Grants {
    fn complaints(&self, namespace: &str) -> Vec<String> {
        let mine = self.dangling.iter().filter(|(ns, _)| ns.is_empty() || ns == namespace);
        let mut out: Vec<String> = mine.map(|(_, c)| c.clone()).collect();
        out.sort();
        out.dedup();
        out
    }

    fn refusal(&self, namespace: &str) -> Verdict {
        let list = self.complaints(namespace);
        Verdict::NoOpinion(match list.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }
}

impl Binding {
    fn complaint(&self) -> String {
        let kind = self.role_kind.to_lowercase();
        format!("{kind}.rbac.authorization.k8s.io {:?} not found", self.role.1)
    }

    fn reason(&self, who: &Who) -> String {
        let subject = self.subjects.iter().find(|(w, _)| w == who).map_or("", |(_, s)| s.as_str());
        let (kind, name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.name.clone()),
            ns => ("RoleBinding", format!("{}/{ns}", self.name)),
        };
        format!("RBAC: allowed by {kind} {name:?} of {} {:?} to {subject}", self.role_kind, self.role.1)
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn key_of(object: &Value) -> Key {
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    (text(meta, "namespace").to_owned(), text(meta, "name").to_owned())
}

fn binding(object: &Value) -> Binding {
    let (namespace, name) = key_of(object);
    let reference = object.get("roleRef").unwrap_or(&Value::Null);
    let kind = text(reference, "kind").to_owned();
    let scope = if kind == "Role" { namespace.clone() } else { String::new() };
    let subjects = object.get("subjects").and_then(Value::as_array);
    let subjects = subjects.into_iter().flatten().filter_map(|s| subject(s, &namespace)).collect();
    Binding { namespace, name, role: (scope, text(reference, "name").to_owned()), role_kind: kind, subjects }
}

fn subject(subject: &Value, default_namespace: &str) -> Option<(Who, String)> {
    let name = text(subject, "name");
    match text(subject, "kind") {
        "User" => Some((Who::User(name.to_owned()), format!("User {name:?}"))),
        "Group" => Some((Who::Group(name.to_owned()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = text(subject, "namespace");
            let ns = if own.is_empty() { default_namespace } else { own };
            let user = format!("system:serviceaccount:{ns}:{name}");
            (!ns.is_empty())
                .then(|| (Who::User(user), format!("ServiceAccount {:?}", format!("{name}/{ns}"))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(ns: &str, name: &str, verbs: &[&str], resources: &[&str]) -> Value {
        json!({"metadata": {"namespace": ns, "name": name},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": resources}]})
    }

    fn bound(ns: &str, name: &str, role: (&str, &str), subjects: Value) -> Value {
        json!({"metadata": {"namespace": ns, "name": name}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1}})
    }

    fn want<'a>(verb: &'a str, resource: &'a str) -> Want<'a> {
        Want { verb, group: "", resource, subresource: "", name: "" }
    }

    fn allowed(index: &Index, user: &str, groups: &[&str], ns: &str, verb: &str, resource: &str) -> bool {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        matches!(index.decide(user, &groups, ns, &want(verb, resource)), Verdict::Allow(_))
    }

    fn sample() -> Index {
        let index = Index::new();
        index.put(Kind::ClusterRole, &role("", "reader", &["get", "list"], &["pods"]));
        index.put(Kind::Role, &role("a", "writer", &["create"], &["pods"]));
        let alice = json!([{"kind": "User", "name": "alice"}]);
        let robots = json!([{"kind": "ServiceAccount", "name": "bot"}, {"kind": "Group", "name": "ops"}]);
        index.put(Kind::ClusterRoleBinding, &bound("", "all", ("ClusterRole", "reader"), alice.clone()));
        index.put(Kind::RoleBinding, &bound("a", "w", ("Role", "writer"), alice));
        index.put(Kind::RoleBinding, &bound("b", "r", ("ClusterRole", "reader"), robots));
        index
    }

    #[test]
    fn scopes_and_subjects() {
        let index = sample();
        let table = "
            alice - a get pods yes
            alice - - list pods yes
            alice - a create pods yes
            alice - b create pods no
            alice - - create pods no
            alice - a get secrets no
            system:serviceaccount:b:bot - b get pods yes
            system:serviceaccount:b:bot - a get pods no
            system:serviceaccount:a:bot - b get pods no
            eve ops b list pods yes
            eve ops - list pods no
            eve - b list pods no
            ops - b list pods no";
        for line in table.lines().filter(|l| !l.trim().is_empty()) {
            let c: Vec<&str> = line.split_whitespace().collect();
            let groups: Vec<&str> = if c[1] == "-" { vec![] } else { vec![c[1]] };
            let ns = if c[2] == "-" { "" } else { c[2] };
            assert_eq!(allowed(&index, c[0], &groups, ns, c[3], c[4]), c[5] == "yes", "{line}");
        }
    }

    #[test]
    fn changes_are_seen_at_once() {
        let index = sample();
        assert!(allowed(&index, "alice", &[], "x", "get", "pods"));
        index.put(Kind::ClusterRole, &role("", "reader", &["list"], &["pods"]));
        assert!(!allowed(&index, "alice", &[], "x", "get", "pods"));
        index.remove(Kind::ClusterRoleBinding, "", "all");
        assert!(!allowed(&index, "alice", &[], "x", "list", "pods"));
        index.put(
            Kind::ClusterRoleBinding,
            &bound("", "all", ("ClusterRole", "reader"), json!([{"kind": "User", "name": "bob"}])),
        );
        assert!(allowed(&index, "bob", &[], "x", "list", "pods"));
        assert!(!allowed(&index, "alice", &[], "x", "list", "pods"));
    }

    #[test]
    fn reasons() {
        let index = sample();
        let say =
            |user: &str, groups: &[String], ns: &str| index.decide(user, groups, ns, &want("get", "pods"));
        let by = r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to User "alice""#;
        assert_eq!(say("alice", &[], "a"), Verdict::Allow(by.into()));
        let by = r#"RBAC: allowed by RoleBinding "r/b" of ClusterRole "reader" to Group "ops""#;
        assert_eq!(say("x", &["ops".into()], "b"), Verdict::Allow(by.into()));
        index.remove(Kind::ClusterRole, "", "reader");
        let lack = r#"RBAC: clusterrole.rbac.authorization.k8s.io "reader" not found"#;
        assert_eq!(say("alice", &[], "a"), Verdict::NoOpinion(lack.into()));
        assert_eq!(say("nobody", &[], "a"), Verdict::NoOpinion(String::new()));
    }
}
