//! Rules taken apart, joined and sorted, as `can-i --list` shows them.

use serde_json::Value;

/// A rule about resources or about paths.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

impl Rule {
    /// What rules are sorted by.
    fn key(&self) -> String {
        let list = |values: &[String]| format!("[{}]", values.join(" "));
        format!(
            "Verbs:{},APIGroups:{},Resources:{},ResourceNames:{},NonResourceURLs:{},",
            list(&self.verbs),
            list(&self.groups),
            list(&self.resources),
            list(&self.names),
            list(&self.paths)
        )
    }

    /// One group, one resource and at most one name: such rules are joined.
    fn is_simple(&self) -> bool {
        self.paths.is_empty() && self.groups.len() == 1 && self.resources.len() == 1 && self.names.len() <= 1
    }

    fn same_target(&self, other: &Rule) -> bool {
        self.groups == other.groups && self.resources == other.resources && self.names == other.names
    }

    fn cells(&self) -> [String; 4] {
        let list = |values: &[String]| format!("[{}]", values.join(" "));
        let resource = self
            .resources
            .first()
            .map(|resource| qualified(resource, self.groups.first()))
            .unwrap_or_default();
        [resource, list(&self.paths), list(&self.names), list(&self.verbs)]
    }
}

/// `deployments.apps/scale`.
fn qualified(resource: &str, group: Option<&String>) -> String {
    let (name, sub) = resource.split_once('/').map_or((resource, None), |(name, sub)| (name, Some(sub)));
    let group = group.filter(|group| !group.is_empty()).map(|group| format!(".{group}")).unwrap_or_default();
    let sub = sub.map(|sub| format!("/{sub}")).unwrap_or_default();
    format!("{name}{group}{sub}")
}

/// The rows of a SelfSubjectRulesReview's status.
pub fn rows(status: &Value) -> Vec<[String; 4]> {
    let mut rules: Vec<Rule> = Vec::new();
    for given in status["resourceRules"].as_array().into_iter().flatten() {
        for rule in apart(given) {
            join(&mut rules, rule);
        }
    }
    for given in status["nonResourceRules"].as_array().into_iter().flatten() {
        for path in texts(&given["nonResourceURLs"]) {
            let each = texts(&given["verbs"]).into_iter();
            rules.extend(each.map(|verb| Rule {
                verbs: vec![verb],
                paths: vec![path.clone()],
                ..Rule::default()
            }));
        }
    }
    rules.sort_by_key(Rule::key);
    rules.iter().map(Rule::cells).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_string)).collect()
}

/// A rule for each group, resource, verb and name.
fn apart(given: &Value) -> Vec<Rule> {
    let names: Vec<Vec<String>> = match texts(&given["resourceNames"]) {
        names if names.is_empty() => vec![Vec::new()],
        names => names.into_iter().map(|name| vec![name]).collect(),
    };
    let mut out = Vec::new();
    for group in texts(&given["apiGroups"]) {
        for resource in texts(&given["resources"]) {
            for verb in texts(&given["verbs"]) {
                out.extend(names.iter().map(|names| Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    names: names.clone(),
                    paths: Vec::new(),
                }));
            }
        }
    }
    out
}

fn join(rules: &mut Vec<Rule>, rule: Rule) {
    match rules.iter_mut().find(|known| known.is_simple() && known.same_target(&rule)) {
        Some(known) => {
            let fresh: Vec<String> =
                rule.verbs.into_iter().filter(|verb| !known.verbs.contains(verb)).collect();
            known.verbs.extend(fresh);
        }
        None => rules.push(rule),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_become_rows() {
        let status = json!({
            "resourceRules": [
                {"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments/scale", "deployments"]},
                {"verbs": ["watch", "get"], "apiGroups": ["apps"], "resources": ["deployments"]},
                {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}]});
        let rows: Vec<String> = rows(&status).iter().map(|row| row.join(" ")).collect();
        assert_eq!(
            rows,
            [
                "deployments.apps [] [] [get list watch]",
                "deployments.apps/scale [] [] [get list]",
                " [/api/*] [] [get]",
                " [/healthz] [] [get]",
                "secrets [] [a] [get]",
            ]
        );
    }
}
