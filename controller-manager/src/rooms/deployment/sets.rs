//! Questions about the ReplicaSets of a Deployment, and the annotations that tie them to it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::meta::{annotation, created, name, scaled};
pub use crate::kit::template::{HASH_LABEL, hash as template_hash, same as same_template};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
pub const ROLLBACK: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations of a Deployment that its ReplicaSets do not get.
pub const OWN: [&str; 6] = [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAXIMUM, ROLLBACK];
/// The list of former revisions is kept to this many characters.
const HISTORY_LIMIT: usize = 2000;

/// A ReplicaSet as planned: `set` is changed in place, `from` is its size as observed.
#[derive(Clone, Debug)]
pub struct Set {
    pub set: ReplicaSet,
    pub from: i32,
    pub touched: bool,
}

impl Set {
    pub fn new(set: ReplicaSet) -> Self {
        let from = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        Self { set, from, touched: false }
    }

    pub fn name(&self) -> &str {
        name(&self.set.metadata)
    }

    pub fn size(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    pub fn available(&self) -> i32 {
        self.set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
    }

    /// Available pods that will not go: what a set has beyond its size is about to, or has gone since it was counted.
    pub fn staying(&self) -> i32 {
        self.available().min(self.size())
    }

    pub fn actual(&self) -> i32 {
        self.set.status.as_ref().map_or(0, |s| s.replicas)
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        annotation(&self.set.metadata, key)?.parse().ok()
    }

    pub fn revision(&self) -> i64 {
        self.number(REVISION).unwrap_or(0)
    }

    /// Sets the size, and the annotations that record what it was meant for.
    pub fn resize(&mut self, size: i32, limits: &Limits) {
        if self.size() != size {
            self.set.spec.get_or_insert_default().replicas = Some(size);
            self.touched = true;
        }
        self.touched |= self.annotate(limits);
    }

    pub fn annotate(&mut self, limits: &Limits) -> bool {
        let annotations = self.set.metadata.annotations.get_or_insert_default();
        let mut put = |key: &str, value: i32| {
            annotations.insert(key.into(), value.to_string()).as_deref() != Some(&value.to_string())
        };
        let desired = put(DESIRED, limits.replicas);
        put(MAXIMUM, limits.replicas + limits.surge) || desired
    }
}

/// Sum of the sizes asked for.
pub fn total<'a>(sets: impl IntoIterator<Item = &'a Set>) -> i32 {
    sets.into_iter().map(Set::size).sum()
}

/// Numbers the strategy comes down to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub replicas: i32,
    pub surge: i32,
    pub unavailable: i32,
    pub rolling: bool,
}

impl Limits {
    /// Resolves percentages: surge up, unavailable down; both zero would never move, so one may be unavailable then.
    pub fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.clone().unwrap_or_default();
        if strategy.type_.as_deref() == Some("Recreate") {
            return Self { replicas, surge: 0, unavailable: 0, rolling: false };
        }
        let rolling = strategy.rolling_update.unwrap_or_default();
        let quarter = IntOrString::String("25%".into());
        let resolve =
            |v: &Option<IntOrString>, up| scaled(v.as_ref().unwrap_or(&quarter), replicas, up).unwrap_or(0);
        let surge = resolve(&rolling.max_surge, true);
        let mut unavailable = resolve(&rolling.max_unavailable, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas), rolling: true }
    }
}

/// The set with the Deployment's template (the oldest if there are several), and the others.
pub fn split(deployment: &Deployment, sets: Vec<ReplicaSet>) -> (Option<Set>, Vec<Set>) {
    let mut sets: Vec<Set> = sets.into_iter().map(Set::new).collect();
    sets.sort_by_key(|s| (created(&s.set.metadata), s.name().to_string()));
    let Some(wanted) = deployment.spec.as_ref().map(|s| &s.template) else { return (None, sets) };
    let is_new = |s: &Set| {
        s.set.spec.as_ref().and_then(|s| s.template.as_ref()).is_some_and(|t| same_template(t, wanted))
    };
    let new = sets.iter().position(is_new).map(|i| sets.remove(i));
    (new, sets)
}

/// Copies the Deployment's annotations and gives the set its revision; says whether anything changed.
pub fn annotate_new(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let before = annotations.clone();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let number = old.as_deref().and_then(|o| o.parse::<i64>().ok()).unwrap_or(0);
    if number < revision {
        annotations.insert(REVISION.into(), revision.to_string());
        if let Some(old) = old.filter(|_| number > 0) {
            remember(annotations, &old);
        }
    }
    *annotations != before
}

fn remember(annotations: &mut BTreeMap<String, String>, revision: &str) {
    let history = annotations.entry(HISTORY.into()).or_default();
    while history.len() + revision.len() + 1 > HISTORY_LIMIT {
        match history.split_once(',') {
            Some((_, rest)) => *history = rest.to_string(),
            None => history.clear(),
        }
    }
    if !history.is_empty() {
        history.push(',');
    }
    history.push_str(revision);
}
