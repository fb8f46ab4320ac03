//! Pod affinity terms: which pods are meant, in which namespaces, and what "together" means.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec, WeightedPodAffinityTerm};

use super::labels::{Labels, Selector};

/// Which namespaces are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// These by name.
    pub names: Vec<String>,
    /// And those whose labels match.
    pub selector: Option<Selector>,
}

impl Scope {
    /// One namespace.
    pub fn of_one(namespace: &str) -> Self {
        Self { names: vec![namespace.into()], selector: None }
    }

    /// Whether the namespace of this name and these labels is meant.
    pub fn covers(&self, namespace: &str, labels: &Labels) -> bool {
        self.names.iter().any(|n| n == namespace) || self.selector.as_ref().is_some_and(|s| s.matches(labels))
    }
}

/// Pods that match in their namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Match {
    /// In which namespaces.
    pub scope: Scope,
    /// Which pods.
    pub selector: Selector,
}

impl Match {
    /// Whether a pod with these labels in a namespace of this name and these labels is meant.
    pub fn covers(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        self.selector.matches(labels) && self.scope.covers(namespace, namespace_labels)
    }
}

/// What is counted per node: pods that all of `matches` cover.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// All must cover a pod.
    pub matches: Vec<Match>,
    /// Pods being deleted don't count.
    pub living: bool,
}

/// One term of pod affinity or anti-affinity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// The pods it is about.
    pub pods: Match,
    /// The node label whose equal value means "together".
    pub key: String,
}

/// A term of the incoming pod, with what has to be counted for it.
#[derive(Debug, Clone)]
pub struct OwnTerm {
    /// The term.
    pub term: Arc<Term>,
    /// What is counted.
    pub wanted: Arc<Wanted>,
    /// Its weight; 1 for what is required.
    pub weight: i64,
}

/// Everything a pod says about other pods.
#[derive(Debug, Clone, Default)]
pub struct PodAffinity {
    /// Must be near pods of each.
    pub required: Vec<OwnTerm>,
    /// Pods that match all of `required` together.
    pub required_all: Option<Arc<Wanted>>,
    /// Must not be near pods of any.
    pub anti: Vec<OwnTerm>,
    /// Would like to be near; a negative weight: not near.
    pub preferred: Vec<OwnTerm>,
}

impl PodAffinity {
    /// Takes it out of a pod's spec; `None` if the pod says nothing.
    pub fn of(spec: &PodSpec, namespace: &str, labels: &Labels) -> Option<Box<Self>> {
        let affinity = spec.affinity.as_ref()?;
        let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let own = |t: &PodAffinityTerm, weight| own_term(t, weight, namespace, labels);
        let weighted =
            |t: &WeightedPodAffinityTerm, sign| own(&t.pod_affinity_term, sign * i64::from(t.weight));
        let mut all = Self::default();
        if let Some(near) = near {
            let required = near.required_during_scheduling_ignored_during_execution.iter().flatten();
            all.required.extend(required.map(|t| own(t, 1)));
            let preferred = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            all.preferred.extend(preferred.map(|t| weighted(t, 1)));
        }
        if let Some(far) = far {
            let required = far.required_during_scheduling_ignored_during_execution.iter().flatten();
            all.anti.extend(required.map(|t| own(t, 1)));
            let preferred = far.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            all.preferred.extend(preferred.map(|t| weighted(t, -1)));
        }
        all.required_all = all.together();
        let empty = all.required.is_empty() && all.anti.is_empty() && all.preferred.is_empty();
        (!empty).then(|| Box::new(all))
    }

    fn together(&self) -> Option<Arc<Wanted>> {
        if let [only] = self.required.as_slice() {
            return Some(only.wanted.clone());
        }
        let matches: Vec<Match> = self.required.iter().map(|t| t.term.pods.clone()).collect();
        (!matches.is_empty()).then(|| Arc::new(Wanted { matches, living: false }))
    }
}

fn own_term(term: &PodAffinityTerm, weight: i64, namespace: &str, labels: &Labels) -> OwnTerm {
    let term = Arc::new(read_term(term, namespace, labels));
    let wanted = Arc::new(Wanted { matches: vec![term.pods.clone()], living: false });
    OwnTerm { term, wanted, weight }
}

/// The API server merges the label keys into the selector when a pod is made; doing it again changes nothing.
fn read_term(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Term {
    let mut selector = Selector::of(term.label_selector.as_ref());
    for key in term.match_label_keys.iter().flatten() {
        labels.get(key).into_iter().for_each(|value| selector.require(key, value));
    }
    for key in term.mismatch_label_keys.iter().flatten() {
        labels.get(key).into_iter().for_each(|value| selector.exclude(key, value));
    }
    let mut names = term.namespaces.clone().unwrap_or_default();
    if names.is_empty() && term.namespace_selector.is_none() {
        names.push(namespace.into());
    }
    names.sort();
    let by_label = term.namespace_selector.as_ref().map(|s| Selector::of(Some(s)));
    Term {
        pods: Match { scope: Scope { names, selector: by_label }, selector },
        key: term.topology_key.clone(),
    }
}
