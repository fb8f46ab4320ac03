//! The bootstrap roles and bindings, out of the two text tables beside this file.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::authz::rbac::Rule;

const UPSTREAM: &str = include_str!("rbac.txt");
const OWN: &str = include_str!("coxswain.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// One bootstrap object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    /// clusterroles, roles, clusterrolebindings or rolebindings.
    pub plural: &'static str,
    /// Empty at cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels beside the one all of them carry.
    pub labels: Vec<String>,
    /// Labels of the cluster roles it gathers its rules from.
    pub aggregates: Vec<String>,
    /// Rules of a role.
    pub rules: Vec<Rule>,
    /// Kind and name of the role a binding gives.
    pub role: (&'static str, String),
    /// Subjects of a binding as they stand in the object.
    pub subjects: Vec<Value>,
}

/// All of them, in the order of the tables.
pub fn all() -> Vec<Bootstrap> {
    let mut out: Vec<Bootstrap> = Vec::new();
    for line in UPSTREAM.lines().chain(OWN.lines()).filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        match (line.strip_prefix("  "), out.last_mut()) {
            (Some(detail), Some(object)) => object.detail(detail),
            _ => out.extend(header(line)),
        }
    }
    gather(&mut out);
    out
}

/// The rules of one bootstrap cluster role, empty if there is none of the name.
pub fn rules_of_cluster_role(name: &str) -> Vec<Rule> {
    let found = all().into_iter().find(|o| o.plural == "clusterroles" && o.name == name);
    found.map(|o| o.rules).unwrap_or_default()
}

fn kind_word(word: &str) -> Option<(&'static str, &'static str)> {
    Some(match word {
        "clusterrole" => ("ClusterRole", "clusterroles"),
        "role" => ("Role", "roles"),
        "clusterrolebinding" => ("ClusterRoleBinding", "clusterrolebindings"),
        "rolebinding" => ("RoleBinding", "rolebindings"),
        _ => return None,
    })
}

/// `clusterrole NAME +LABEL aggregates LABEL`, `rolebinding NS/NAME -> role NAME` and so on.
fn header(line: &str) -> Option<Bootstrap> {
    let mut words = line.split_whitespace();
    let (_, plural) = kind_word(words.next()?)?;
    let name = words.next()?;
    let (namespace, name) = match plural {
        "roles" | "rolebindings" => name.split_once('/')?,
        _ => ("", name),
    };
    let mut object = Bootstrap {
        plural,
        namespace: namespace.into(),
        name: name.into(),
        role: ("ClusterRole", String::new()),
        ..Bootstrap::default()
    };
    while let Some(word) = words.next() {
        match word {
            "aggregates" => object.aggregates.push(words.next()?.to_owned()),
            "->" => {}
            w if w.starts_with('+') => object.labels.push(w.trim_start_matches('+').to_owned()),
            w => match kind_word(w) {
                Some((kind, _)) => object.role.0 = kind,
                None => object.role.1 = w.to_owned(),
            },
        }
    }
    Some(object)
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

impl Bootstrap {
    fn detail(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["rule", verbs, "at", urls] => {
                self.rules.push(Rule { verbs: list(verbs), urls: list(urls), ..Rule::default() });
            }
            ["rule", verbs, "on", groups, "/", resources, names @ ..] => {
                let groups =
                    list(groups).into_iter().map(|g| if g == "core" { String::new() } else { g }).collect();
                let names = names.get(1).map(|n| list(n)).unwrap_or_default();
                self.rules.push(Rule {
                    verbs: list(verbs),
                    groups,
                    resources: list(resources),
                    names,
                    urls: vec![],
                });
            }
            ["serviceaccount", name] => {
                let (namespace, name) = name.split_once('/').unwrap_or(("", name));
                self.subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
            }
            ["user", name] => self.subjects.push(json!({"apiGroup": GROUP, "kind": "User", "name": name})),
            ["group", name] => self.subjects.push(json!({"apiGroup": GROUP, "kind": "Group", "name": name})),
            _ => {}
        }
    }

    /// The API object.
    pub fn object(&self) -> Value {
        let mut labels = Map::from_iter([("kubernetes.io/bootstrapping".to_owned(), json!("rbac-defaults"))]);
        labels.extend(self.labels.iter().map(|l| (l.clone(), json!("true"))));
        let mut meta = json!({"name": self.name, "labels": labels,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}});
        if !self.namespace.is_empty() {
            meta["namespace"] = json!(self.namespace);
        }
        let kind = match self.plural {
            "clusterroles" => "ClusterRole",
            "roles" => "Role",
            "clusterrolebindings" => "ClusterRoleBinding",
            _ => "RoleBinding",
        };
        let mut object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": meta});
        self.fill(&mut object);
        object
    }

    fn fill(&self, object: &mut Value) {
        if self.plural.ends_with("bindings") {
            object["roleRef"] = json!({"apiGroup": GROUP, "kind": self.role.0, "name": self.role.1});
            object["subjects"] = json!(self.subjects);
            return;
        }
        object["rules"] = json!(self.rules.iter().map(Rule::to_json).collect::<Vec<_>>());
        if !self.aggregates.is_empty() {
            let select = |label: &String| json!({"matchLabels": {label: "true"}});
            object["aggregationRule"] =
                json!({"clusterRoleSelectors": self.aggregates.iter().map(select).collect::<Vec<_>>()});
        }
    }
}

/// Fills aggregated roles from the roles they select, through several steps, so that they are of use
/// from the first moment; the aggregation controller keeps them in step afterwards.
fn gather(objects: &mut [Bootstrap]) {
    let mut done: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for _ in 0..objects.len() {
        let before = done.clone();
        for object in objects.iter().filter(|o| !o.aggregates.is_empty()) {
            let chosen = objects.iter().filter(|o| {
                o.plural == "clusterroles"
                    && o.name != object.name
                    && o.labels.iter().any(|l| object.aggregates.contains(l))
            });
            let mut rules: Vec<Rule> = Vec::new();
            for rule in chosen.flat_map(|o| {
                if o.rules.is_empty() {
                    done.get(&o.name).cloned().unwrap_or_default()
                } else {
                    o.rules.clone()
                }
            }) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            done.insert(object.name.clone(), rules);
        }
        if done == before {
            break;
        }
    }
    for object in objects.iter_mut() {
        if let Some(rules) = done.remove(&object.name).filter(|_| !object.aggregates.is_empty()) {
            object.rules = rules;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rbac::rule::missing;

    #[test]
    fn the_tables_are_read_whole() {
        let all = all();
        let count = |plural: &str| all.iter().filter(|o| o.plural == plural).count();
        assert_eq!(count("clusterroles"), 69 + 3);
        assert_eq!(count("clusterrolebindings"), 50 + 3);
        assert_eq!((count("roles"), count("rolebindings")), (7, 7));
        for object in &all {
            let binding = object.plural.ends_with("bindings");
            assert_eq!(binding, !object.role.1.is_empty(), "{object:?}");
            assert!(binding || !object.rules.is_empty(), "{object:?}");
            assert_eq!(object.namespace.is_empty(), object.plural.starts_with("cluster"), "{object:?}");
            for rule in &object.rules {
                assert!(
                    !rule.verbs.is_empty() && (rule.urls.is_empty() != rule.resources.is_empty()),
                    "{object:?}"
                );
            }
        }
        let details = UPSTREAM.lines().chain(OWN.lines()).filter(|l| l.starts_with("  ")).count();
        let plain = all.iter().filter(|o| o.aggregates.is_empty());
        assert_eq!(plain.map(|o| o.rules.len() + o.subjects.len()).sum::<usize>(), details);
    }

    #[test]
    fn aggregated_roles_are_full() {
        let (view, edit, admin) =
            (rules_of_cluster_role("view"), rules_of_cluster_role("edit"), rules_of_cluster_role("admin"));
        assert!(!view.is_empty());
        assert!(missing(&edit, &view).is_empty(), "edit holds view");
        assert!(missing(&admin, &edit).is_empty(), "admin holds edit");
        assert!(!missing(&view, &edit).is_empty());
    }

    #[test]
    fn objects_have_upstream_form() {
        let all = all();
        let one = |name: &str, plural: &str| {
            all.iter().find(|o| o.name == name && o.plural == plural).expect("there").object()
        };
        let view = one("system:public-info-viewer", "clusterroles");
        assert_eq!(view["rules"][0]["nonResourceURLs"][0], "/healthz");
        assert_eq!(view["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        let admins = one("cluster-admin", "clusterrolebindings");
        assert_eq!(
            admins["roleRef"],
            json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"})
        );
        assert_eq!(
            admins["subjects"],
            json!([{"apiGroup": GROUP, "kind": "Group", "name": "system:masters"}])
        );
        let lead = one("system::leader-locking-kube-scheduler", "rolebindings");
        assert_eq!(lead["metadata"]["namespace"], "kube-system");
        assert_eq!(lead["roleRef"]["kind"], "Role");
    }
}
