//! Whether a pod fits a node, as far as controllers ask: its name, its labels, its taints. Resources are the scheduler's.

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use super::meta::name;

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref().filter(|o| !o.is_empty()).unwrap_or("Equal") {
            "Exists" => true,
            "Equal" => value == taint.value.as_deref().unwrap_or_default() && !key.is_empty(),
            _ => false,
        }
}

/// The first taint of one of the effects that no toleration covers.
pub fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// Whether a node has the labels of the pod's node selector and satisfies its required node affinity.
pub fn affine(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v));
    let required = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = required.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| any_term(selector, node))
}

/// Terms are alternatives; one that says nothing matches nothing.
fn any_term(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |r: &NodeSelectorRequirement| node.metadata.labels.as_ref()?.get(&r.key).map(String::as_str);
    let field = |r: &NodeSelectorRequirement| (r.key == "metadata.name").then(|| name(&node.metadata));
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|r| holds(r, label(r)))
        && fields.iter().all(|r| holds(r, field(r)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |v: &str| values.iter().any(|x| x == v);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || values.first().filter(|_| values.len() == 1).and_then(|v| number(v));
    match (requirement.operator.as_str(), value) {
        ("In", Some(v)) => listed(v),
        ("NotIn", v) => !v.is_some_and(listed),
        ("Exists", v) => v.is_some(),
        ("DoesNotExist", v) => v.is_none(),
        ("Gt", Some(v)) => number(v).zip(bound()).is_some_and(|(v, b)| v > b),
        ("Lt", Some(v)) => number(v).zip(bound()).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn affinity() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"a": "1", "size": "7"}}}))
                .expect("a node");
        let fits = |spec: serde_json::Value| {
            let mut whole = json!({"containers": []});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            affine(&serde_json::from_value(whole).unwrap(), &node)
        };
        let terms = |terms: serde_json::Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let table = [
            (json!({}), true),
            (json!({"nodeSelector": {"a": "1"}}), true),
            (json!({"nodeSelector": {"a": "2"}}), false),
            (terms(json!([])), false),
            (terms(json!([{}])), false),
            (terms(json!([{}, {"matchExpressions": [{"key": "a", "operator": "Exists"}]}])), true),
            (
                terms(json!([{"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["6"]}]}])),
                true,
            ),
            (
                terms(json!([{"matchExpressions": [{"key": "size", "operator": "Lt", "values": ["6"]}]}])),
                false,
            ),
            (
                terms(json!([{"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["6"]}]}])),
                true,
            ),
            (
                terms(
                    json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]),
                ),
                true,
            ),
            (
                terms(
                    json!([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n"]}]}]),
                ),
                false,
            ),
            (
                terms(json!([{"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}],
                "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])),
                false,
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(fits(spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn taints() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": [
            {"key": "a", "value": "1", "effect": "NoSchedule"}, {"key": "b", "effect": "PreferNoSchedule"}]}}))
        .expect("a node");
        let found = |tolerations: serde_json::Value, effects: &[&str]| {
            let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
            untolerated(&node, &tolerations, effects).map(|t| t.key.clone())
        };
        assert_eq!(found(json!([]), &["NoSchedule"]).as_deref(), Some("a"));
        assert_eq!(found(json!([]), &["NoExecute"]), None);
        assert_eq!(found(json!([{"key": "a", "value": "1"}]), &["NoSchedule", "NoExecute"]), None);
        assert_eq!(found(json!([{"key": "a", "value": "2"}]), &["NoSchedule"]).as_deref(), Some("a"));
        assert_eq!(found(json!([{"operator": "Exists"}]), &["NoSchedule"]), None);
    }
}
