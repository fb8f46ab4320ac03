//! Generators of roles and bindings.

use anyhow::{Result, bail};
use coxctl_kit::rbac::{URL_VERBS, is_resource_verb};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Flags of `create role` and, with more, of `create clusterrole`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Rules {
    /// Verb that applies to the resources contained in the rule.
    #[arg(long, value_delimiter = ',')]
    pub verb: Vec<String>,
    /// Resource that the rule applies to.
    #[arg(long, value_delimiter = ',')]
    pub resource: Vec<String>,
    /// Resource in the white list that the rule applies to, repeat this flag for multiple items.
    #[arg(long)]
    pub resource_name: Vec<String>,
}

/// More flags of `create clusterrole`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ClusterRules {
    #[command(flatten)]
    pub rules: Rules,
    /// A partial url that user should have access to.
    #[arg(long, value_delimiter = ',')]
    pub non_resource_url: Vec<String>,
    /// An aggregation label selector for combining ClusterRoles.
    #[arg(long, value_delimiter = ',')]
    pub aggregation_rule: Vec<String>,
}

/// One `--resource`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub group: String,
    pub resource: String,
    pub subresource: String,
}

/// `pods`, `deployments.apps`, `pods/log`; `*` alone stands for everything.
pub fn wanted(resources: &[String]) -> Vec<Wanted> {
    let mut out: Vec<Wanted> = Vec::new();
    for text in resources {
        let (name, subresource) = text.split_once('/').unwrap_or((text, ""));
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        let parsed =
            Wanted { group: group.into(), resource: resource.into(), subresource: subresource.into() };
        if text == "*" {
            return vec![parsed];
        }
        if !out.contains(&parsed) {
            out.push(parsed);
        }
    }
    out
}

fn verbs(given: &[String]) -> Vec<String> {
    if given.iter().any(|v| v == "*") {
        return vec!["*".into()];
    }
    let mut out: Vec<String> = Vec::new();
    given.iter().for_each(|verb| {
        if !out.contains(verb) {
            out.push(verb.clone())
        }
    });
    out
}

impl Rules {
    /// Checks the flags; the warnings that go to standard error are returned.
    pub fn check(&self) -> Result<Vec<String>> {
        if self.verb.is_empty() {
            bail!("at least one verb must be specified");
        }
        if self.resource.is_empty() {
            bail!("at least one resource must be specified");
        }
        self.check_resources()
    }

    fn check_resources(&self) -> Result<Vec<String>> {
        if wanted(&self.resource).iter().any(|w| w.resource.is_empty()) {
            bail!("resource must be specified if apiGroup/subresource specified");
        }
        let known = |verb: &&String| is_resource_verb(verb);
        let strange = verbs(&self.verb).into_iter().filter(|verb| !known(&verb));
        Ok(strange.map(|verb| format!("Warning: '{verb}' is not a standard resource verb")).collect())
    }

    /// Rules for resources whose group and plural name the server told.
    pub fn build(&self, resolved: &[Wanted]) -> Vec<Value> {
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for one in resolved {
            let name = match one.subresource.as_str() {
                "" => one.resource.clone(),
                sub => format!("{}/{sub}", one.resource),
            };
            let listed = groups.entry(&one.group).or_default();
            if !listed.contains(&name) {
                listed.push(name);
            }
        }
        let rule = |(group, resources)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs(&self.verb)});
            if !self.resource_name.is_empty() {
                rule["resourceNames"] = json!(self.resource_name);
            }
            rule
        };
        groups.into_iter().map(rule).collect()
    }
}

impl ClusterRules {
    /// Checks the flags; the warnings that go to standard error are returned.
    pub fn check(&self) -> Result<Vec<String>> {
        let rules = &self.rules;
        if !self.aggregation_rule.is_empty() {
            let others = [&rules.verb, &rules.resource, &rules.resource_name, &self.non_resource_url];
            if others.iter().any(|list| !list.is_empty()) {
                bail!(
                    "aggregation rule must be specified without nonResourceURLs, verbs, resources or resourceNames"
                );
            }
            return Ok(Vec::new());
        }
        if rules.verb.is_empty() {
            bail!("at least one verb must be specified");
        }
        if rules.resource.is_empty() && self.non_resource_url.is_empty() {
            bail!("one of resource or nonResourceURL must be specified");
        }
        let warnings = if rules.resource.is_empty() { Vec::new() } else { rules.check_resources()? };
        self.check_urls()?;
        Ok(warnings)
    }

    fn check_urls(&self) -> Result<()> {
        if self.non_resource_url.is_empty() {
            return Ok(());
        }
        if let Some(verb) = self.rules.verb.iter().find(|verb| !URL_VERBS.contains(&verb.as_str())) {
            bail!("invalid verb: '{verb}' for nonResourceURL");
        }
        for url in &self.non_resource_url {
            if url == "*" {
                continue;
            }
            if !url.starts_with('/') {
                bail!("nonResourceURL should start with /");
            }
            if url.trim_end_matches('*').len() + 1 < url.len() || url.trim_end_matches('*').contains('*') {
                bail!("nonResourceURL only supports wildcard matches when '*' is at the end");
            }
        }
        Ok(())
    }

    /// The ClusterRole.
    pub fn build(&self, name: &str, resolved: &[Wanted]) -> Value {
        let mut rules = self.rules.build(resolved);
        if !self.non_resource_url.is_empty() {
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": verbs(&self.rules.verb)}));
        }
        let mut object = role("ClusterRole", name, rules);
        let labels: Map<String, Value> = self
            .aggregation_rule
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_string(), json!(value)))
            .collect();
        if !labels.is_empty() {
            object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            object["rules"] = Value::Null;
        }
        object
    }
}

/// A Role or ClusterRole.
pub fn role(kind: &str, name: &str, rules: Vec<Value>) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": name}, "rules": rules})
}

/// Whom a binding is for.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Subjects {
    /// Usernames to bind to the role. The flag can be repeated to add multiple users.
    #[arg(long)]
    pub user: Vec<String>,
    /// Groups to bind to the role. The flag can be repeated to add multiple groups.
    #[arg(long)]
    pub group: Vec<String>,
    /// Service accounts to bind to the role, in the format <namespace>:<name>.
    #[arg(long)]
    pub serviceaccount: Vec<String>,
}

impl Subjects {
    /// The subjects as the API writes them.
    pub fn build(&self) -> Result<Vec<Value>> {
        let people = |kind: &'static str, names: &[String]| -> Vec<Value> {
            names.iter().map(|name| json!({"kind": kind, "apiGroup": GROUP, "name": name})).collect()
        };
        let mut out = people("User", &self.user);
        out.extend(people("Group", &self.group));
        for account in &self.serviceaccount {
            match account.split_once(':') {
                Some((namespace, name))
                    if !namespace.is_empty() && !name.is_empty() && !name.contains(':') =>
                {
                    out.push(json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}));
                }
                _ => bail!("serviceaccount must be <namespace>:<name>"),
            }
        }
        Ok(out)
    }
}

/// A RoleBinding or ClusterRoleBinding.
pub fn binding(kind: &str, name: &str, role: (&str, &str), subjects: Vec<Value>) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": role.0, "name": role.1},
    });
    if !subjects.is_empty() {
        object["subjects"] = Value::Array(subjects);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_string()).collect()
    }

    #[test]
    fn resources_by_group() {
        let parsed = wanted(&list(&["pods", "deployments.apps", "pods/log", "pods"]));
        assert_eq!(parsed.len(), 3);
        let rules = Rules { verb: list(&["get", "get", "list"]), ..Rules::default() }.build(&parsed);
        assert_eq!(
            rules,
            [
                json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}),
                json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}),
            ]
        );
        assert_eq!(wanted(&list(&["pods", "*"])).len(), 1);
    }

    #[test]
    fn checks() {
        let rules = |verb: &[&str], resource: &[&str]| Rules {
            verb: list(verb),
            resource: list(resource),
            ..Rules::default()
        };
        assert!(rules(&[], &["pods"]).check().is_err());
        assert!(rules(&["get"], &["/log"]).check().is_err());
        assert_eq!(rules(&["foo"], &["pods"]).check().expect("warns").len(), 1);
        let urls = |verb: &str, url: &str| ClusterRules {
            rules: rules(&[verb], &[]),
            non_resource_url: list(&[url]),
            ..ClusterRules::default()
        };
        for (verb, url, fine) in [
            ("get", "/a", true),
            ("get", "*", true),
            ("get", "/a/*", true),
            ("get", "a", false),
            ("list", "/a", false),
            ("get", "/a*b*", false),
        ] {
            assert_eq!(urls(verb, url).check().is_ok(), fine, "{verb} {url}");
        }
    }

    #[test]
    fn subjects() {
        let who = Subjects { user: list(&["u"]), group: list(&["g"]), serviceaccount: list(&["n:s"]) };
        assert_eq!(
            who.build().expect("builds")[2],
            json!({"kind": "ServiceAccount", "namespace": "n", "name": "s"})
        );
        let bad = Subjects { serviceaccount: list(&["s"]), ..Subjects::default() };
        assert!(bad.build().is_err());
    }
}
