//! Does this node take a pod? Resources, node affinity, taints, host ports, pod count. Pure.

use super::resources::{self, Amounts};
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// status.reason and the event's
    pub reason: String,
    /// text of the event; the status puts "Pod was rejected: " before it
    pub message: String,
}

/// Is `pod` taken, beside `others`, by a node with this allocatable and object?
pub fn admit(
    pod: &Pod,
    others: &[Arc<Pod>],
    allocatable: &BTreeMap<String, Quantity>,
    node: Option<&Node>,
    is_static: bool,
) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    fits(pod, others, allocatable)?;
    if let Some(node) = node {
        if !affinity(spec, node) {
            return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
        }
        if !is_static && let Some(t) = untolerated(spec, node) {
            let text =
                format!("node(s) had untolerated taint {{{}: {}}}", t.key, t.value.as_deref().unwrap_or(""));
            return Err(predicate("TaintToleration", &text));
        }
    }
    let taken: BTreeSet<_> = others.iter().filter_map(|p| p.spec.as_ref()).flat_map(host_ports).collect();
    if host_ports(spec).iter().any(|p| taken.iter().any(|t| clash(p, t))) {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

fn predicate(name: &str, text: &str) -> Refusal {
    Refusal { reason: name.into(), message: format!("Predicate {name} failed: {text}") }
}

fn fits(pod: &Pod, others: &[Arc<Pod>], allocatable: &BTreeMap<String, Quantity>) -> Result<(), Refusal> {
    if let Some(limit) = allocatable.get("pods").map(resources::value) {
        let used = i64::try_from(others.len()).unwrap_or(i64::MAX);
        if used + 1 > limit {
            return Err(out_of("pods", 1, used, limit));
        }
    }
    let mut used = Amounts::new();
    for other in others {
        for (k, v) in resources::pod_requests(other) {
            *used.entry(k).or_default() += v;
        }
    }
    for (name, wanted) in resources::pod_requests(pod) {
        // what the node does not know of is somebody else's business
        let Some(capacity) = allocatable.get(&name).map(|q| resources::base(&name, q)) else { continue };
        let in_use = used.get(&name).copied().unwrap_or(0);
        if wanted > 0 && in_use + wanted > capacity {
            return Err(out_of(&name, wanted, in_use, capacity));
        }
    }
    Ok(())
}

fn out_of(resource: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    Refusal {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn labels(node: &Node) -> BTreeMap<String, String> {
    node.metadata.labels.clone().unwrap_or_default()
}

/// nodeSelector and required node affinity.
fn affinity(spec: &PodSpec, node: &Node) -> bool {
    let labels = labels(node);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term(t, &labels, name)))
}

fn term(t: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let (exprs, fields) = (t.match_expressions.as_deref(), t.match_fields.as_deref());
    if exprs.is_none_or(<[_]>::is_empty) && fields.is_none_or(<[_]>::is_empty) {
        return false; // an empty term matches nothing
    }
    let fields_map = BTreeMap::from([("metadata.name".to_owned(), name.to_owned())]);
    exprs.unwrap_or_default().iter().all(|e| requirement(e, labels))
        && fields.unwrap_or_default().iter().all(|e| requirement(e, &fields_map))
}

fn requirement(r: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&r.key);
    let values = r.values.as_deref().unwrap_or_default();
    let number = |s: &String| s.parse::<i64>().ok();
    match r.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => value.is_none_or(|v| !values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => {
            matches!((value.and_then(number), values.first().and_then(number)), (Some(a), Some(b)) if a > b)
        }
        "Lt" => {
            matches!((value.and_then(number), values.first().and_then(number)), (Some(a), Some(b)) if a < b)
        }
        _ => false,
    }
}

/// First NoExecute taint the pod does not tolerate.
fn untolerated<'a>(spec: &PodSpec, node: &'a Node) -> Option<&'a Taint> {
    let taints = node.spec.as_ref()?.taints.as_ref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    taints.iter().find(|t| t.effect == "NoExecute" && !tolerations.iter().any(|o| tolerates(o, t)))
}

fn tolerates(o: &Toleration, t: &Taint) -> bool {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let (effect, key) = (text(&o.effect), text(&o.key));
    let exists = o.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == t.effect)
        && (key.is_empty() && exists || key == t.key)
        && (exists || text(&o.value) == text(&t.value))
}

type HostPort = (String, String, i32);

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| resources::is_sidecar(c));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|n| *n > 0)?;
            let ip = p.host_ip.clone().filter(|i| !i.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((p.protocol.clone().unwrap_or_else(|| "TCP".into()), ip, port))
        })
        .collect()
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || a.1 == "0.0.0.0" || b.1 == "0.0.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        serde_yaml::from_str(&format!("metadata: {{name: p}}\nspec: {spec}")).unwrap()
    }

    #[test]
    fn table() {
        let allocatable: BTreeMap<String, Quantity> =
            serde_yaml::from_str("{cpu: '2', memory: 1Gi, pods: '3'}").unwrap();
        let node: Node = serde_yaml::from_str("metadata: {name: n, labels: {zone: a, n: '5'}}\nspec: {taints: [{key: k, value: v, effect: NoExecute}]}").unwrap();
        let other = Arc::new(pod(
            "{containers: [{name: a, resources: {requests: {cpu: 1500m}}, ports: [{containerPort: 1, hostPort: 80}]}]}",
        ));
        let tol = "tolerations: [{operator: Exists}]";
        for (spec, want) in [
            (format!("{{{tol}, containers: [{{name: a}}]}}"), ""),
            (format!("{{{tol}, containers: [{{name: a, resources: {{requests: {{cpu: 500m}}}}}}]}}"), ""),
            (
                format!("{{{tol}, containers: [{{name: a, resources: {{requests: {{cpu: 501m}}}}}}]}}"),
                "OutOfcpu",
            ),
            (
                format!("{{{tol}, containers: [{{name: a, resources: {{requests: {{memory: 2Gi}}}}}}]}}"),
                "OutOfmemory",
            ),
            (format!("{{{tol}, containers: [{{name: a, resources: {{requests: {{x/gpu: 1}}}}}}]}}"), ""),
            ("{containers: [{name: a}]}".into(), "TaintToleration"),
            (format!("{{{tol}, nodeSelector: {{zone: b}}, containers: [{{name: a}}]}}"), "NodeAffinity"),
            (
                format!(
                    "{{{tol}, affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchExpressions: [{{key: n, operator: Gt, values: ['4']}}]}}]}}}}}}, containers: [{{name: a}}]}}"
                ),
                "",
            ),
            (
                format!("{{{tol}, containers: [{{name: a, ports: [{{containerPort: 9, hostPort: 80}}]}}]}}"),
                "NodePorts",
            ),
            (
                format!(
                    "{{{tol}, containers: [{{name: a, ports: [{{containerPort: 9, hostPort: 80, protocol: UDP}}]}}]}}"
                ),
                "",
            ),
        ] {
            let got = admit(&pod(&spec), std::slice::from_ref(&other), &allocatable, Some(&node), false);
            assert_eq!(got.err().map_or(String::new(), |r| r.reason), want, "{spec}");
        }
        let full = vec![other.clone(), other.clone(), other];
        let got = admit(&pod("{containers: []}"), &full, &allocatable, None, false).unwrap_err();
        assert_eq!(got.message, "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3");
    }
}
