//! Where the pods of a DaemonSet may run, and how they are made for a node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Toleration,
};

use crate::kit::history::POD_HASH;
use crate::kit::meta::{annotation, controller_ref, name, namespace};
use crate::kit::nodes::{affine, untolerated};
use crate::kit::pods::{self, from_template};

const GENERATION: &str = "deprecated.daemonset.template.generation";
/// The label that carries the generation of the template.
pub const GENERATION_LABEL: &str = "pod-template-generation";

/// Taints of nodes in trouble that a daemon stays on in spite of.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NO_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The template's generation, if the set still says it.
pub fn generation(set: &DaemonSet) -> Option<i64> {
    annotation(&set.metadata, GENERATION)?.parse().ok()
}

/// The spec of the set's pods, tolerations added, node open.
pub fn spec(set: &DaemonSet) -> PodSpec {
    let template = set.spec.as_ref().and_then(|s| s.template.spec.clone());
    let mut spec = template.unwrap_or_default();
    let more = (spec.host_network == Some(true)).then_some(NO_NETWORK);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(more) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        let same = |t: &Toleration| {
            t.key == toleration.key
                && t.effect == toleration.effect
                && t.operator == toleration.operator
                && t.value.as_deref().unwrap_or_default().is_empty()
        };
        match tolerations.iter_mut().find(|t| same(t)) {
            Some(there) => *there = toleration,
            None => tolerations.push(toleration),
        }
    }
    spec
}

/// Whether a pod should be made on a node, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub run: bool,
    pub stay: bool,
}

/// Looks at name, labels and taints of a node. `spec` is that of [`spec`].
pub fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let named = spec.node_name.as_deref().is_none_or(|n| n.is_empty() || n == name(&node.metadata));
    if !named || !affine(spec, node) {
        return Fit { run: false, stay: false };
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    Fit {
        run: untolerated(node, tolerations, &["NoExecute", "NoSchedule"]).is_none(),
        stay: untolerated(node, tolerations, &["NoExecute"]).is_none(),
    }
}

/// The pod for a node, which the scheduler will put there.
pub fn make(set: &DaemonSet, spec: &PodSpec, hash: &str, node: &str) -> Pod {
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod =
        from_template(&template, name(&set.metadata), namespace(&set.metadata), controller_ref(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.into(), generation.to_string());
    }
    labels.insert(POD_HASH.into(), hash.into());
    let mut spec = spec.clone();
    bind(spec.affinity.get_or_insert_default(), node);
    pod.spec = Some(spec);
    pod
}

/// Makes a node the only one that will do, whatever was required before.
fn bind(affinity: &mut Affinity, node: &str) {
    let field = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.into()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a pod is on or is meant for.
pub fn target(pod: &Pod) -> Option<&str> {
    pods::node(pod).or_else(|| {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms =
            &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        let fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
        let by_name = |r: &&NodeSelectorRequirement| r.key == "metadata.name" && r.operator == "In";
        fields.into_iter().find(by_name)?.values.as_ref()?.first().map(String::as_str)
    })
}

/// Whether a change of a node can change where pods run.
pub fn matters(old: &Node, new: &Node) -> bool {
    let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    old.metadata.uid != new.metadata.uid
        || old.metadata.labels != new.metadata.labels
        || taints(old) != taints(new)
}
