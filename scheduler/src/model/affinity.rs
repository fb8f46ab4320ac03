//! Node selectors: which nodes a pod asks for, and which it prefers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm,
};

/// A pod's wishes about nodes.
#[derive(Debug, Clone, Default)]
pub struct NodeWishes {
    /// Every label must be there.
    pub selector: BTreeMap<String, String>,
    /// One of the terms must match; `None` asks for nothing.
    pub required: Option<Vec<NodeSelectorTerm>>,
    /// Weights of terms that would be nice.
    pub preferred: Vec<PreferredSchedulingTerm>,
}

impl NodeWishes {
    /// Takes them out of a pod's spec.
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            selector: spec.node_selector.clone().unwrap_or_default(),
            required: required.map(|r| r.node_selector_terms.clone()),
            preferred: affinity
                .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.clone())
                .unwrap_or_default(),
        }
    }

    /// Whether nothing is asked for, so that every node will do.
    pub fn is_free(&self) -> bool {
        self.selector.is_empty() && self.required.is_none()
    }

    /// Whether a node of this name and these labels will do.
    pub fn allows(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(k, v)| labels.get(k) == Some(v))
            && self.required.as_ref().is_none_or(|terms| any_matches(terms, name, labels))
    }
}

/// The names that fields of the terms allow: `None` if some term leaves the name open.
pub fn named(terms: &[NodeSelectorTerm]) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for term in terms {
        all.extend(named_by(term)?);
    }
    (!terms.is_empty()).then_some(all)
}

fn named_by(term: &NodeSelectorTerm) -> Option<BTreeSet<String>> {
    let fields = term.match_fields.iter().flatten();
    let names = fields.filter(|r| r.key == "metadata.name" && r.operator == "In");
    let sets = names.map(|r| r.values.iter().flatten().cloned().collect::<BTreeSet<String>>());
    sets.reduce(|a, b| a.intersection(&b).cloned().collect())
}

/// The sum of the weights of the terms that match.
pub fn preference(terms: &[PreferredSchedulingTerm], name: &str, labels: &BTreeMap<String, String>) -> i64 {
    let hit = |t: &&PreferredSchedulingTerm| t.weight != 0 && term_matches(&t.preference, name, labels);
    terms.iter().filter(hit).map(|t| i64::from(t.weight)).sum()
}

/// Whether one of the terms matches.
pub fn any_matches(terms: &[NodeSelectorTerm], name: &str, labels: &BTreeMap<String, String>) -> bool {
    terms.iter().any(|t| term_matches(t, name, labels))
}

/// A term with neither expressions nor fields matches nothing.
fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let (expressions, fields) =
        (term.match_expressions.as_deref().unwrap_or(&[]), term.match_fields.as_deref().unwrap_or(&[]));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && holds(r, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or(&[]);
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(value, values).is_some_and(|o| o.is_gt()),
        "Lt" => compare(value, values).is_some_and(|o| o.is_lt()),
        _ => false,
    }
}

fn compare(value: Option<&str>, values: &[String]) -> Option<std::cmp::Ordering> {
    let (mine, [theirs]) = (value?, values) else { return None };
    Some(mine.parse::<i64>().ok()?.cmp(&theirs.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_spec;
    use serde_json::json;

    #[test]
    fn operators() {
        let labels =
            BTreeMap::from([("zone".to_string(), "a".to_string()), ("gen".to_string(), "7".to_string())]);
        for (key, operator, values, want) in [
            ("zone", "In", json!(["a", "b"]), true),
            ("zone", "NotIn", json!(["a"]), false),
            ("none", "NotIn", json!(["a"]), true),
            ("zone", "Exists", json!([]), true),
            ("none", "DoesNotExist", json!([]), true),
            ("gen", "Gt", json!(["6"]), true),
            ("gen", "Lt", json!(["7"]), false),
            ("zone", "Gt", json!(["1"]), false),
            ("gen", "Gt", json!(["x"]), false),
        ] {
            let terms = json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
            let spec = pod_spec(json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}));
            assert_eq!(NodeWishes::of(&spec).allows("n", &labels), want, "{key} {operator}");
        }
    }

    #[test]
    fn an_empty_term_matches_nothing_and_a_field_matches_the_name() {
        let with = |terms| {
            NodeWishes::of(&pod_spec(json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})))
        };
        assert!(!with(json!([{}])).allows("n", &BTreeMap::new()));
        let named = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]);
        assert!(with(named.clone()).allows("n", &BTreeMap::new()));
        assert!(!with(named).allows("m", &BTreeMap::new()));
    }
}
