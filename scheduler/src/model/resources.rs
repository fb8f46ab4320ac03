//! Amounts of resources in whole units: milli-CPUs, bytes, counts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery::quantity::Quantity as Parsed;

/// Counted for a container that asks for no CPU when nodes are scored, in milli-CPUs.
const DEFAULT_CPU: i64 = 100;
/// Counted for a container that asks for no memory when nodes are scored, in bytes.
const DEFAULT_MEMORY: i64 = 200 << 20;

/// Amounts of each resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Milli-CPUs.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of local disk.
    pub ephemeral: i64,
    /// Everything else by name, in units.
    pub scalar: Scalars,
}

/// Amounts by name. Mostly there are none, and then they take no more room than a pointer: nodes are walked by the thousand.
#[derive(Debug, Clone, Default)]
#[allow(clippy::box_collection, reason = "a pointer instead of three words, twice in each node")]
pub struct Scalars(Option<Box<BTreeMap<String, i64>>>);

impl Scalars {
    /// The amount of one.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.0.as_ref()?.get(name).copied()
    }

    /// Each with its amount, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, i64)> {
        self.0.iter().flat_map(|all| all.iter()).map(|(name, amount)| (name, *amount))
    }

    /// The place of an amount, to change it.
    pub fn entry(&mut self, name: &str) -> &mut i64 {
        let all = self.0.get_or_insert_default();
        all.entry(name.to_owned()).or_default()
    }
}

impl PartialEq for Scalars {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Scalars {}

type List = BTreeMap<String, Quantity>;

impl Resources {
    /// Reads a resource list; `pods` is left out, see [`pod_count`]. What is no quantity counts as nothing.
    pub fn from_list(list: &List) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list {
            let Ok(amount) = Parsed::parse(&quantity.0) else { continue };
            match name.as_str() {
                "cpu" => all.cpu = amount.milli_value(),
                "memory" => all.memory = amount.value(),
                "ephemeral-storage" => all.ephemeral = amount.value(),
                "pods" => {}
                _ => *all.scalar.entry(name) = amount.value(),
            }
        }
        all
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    /// Takes `other` away.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    /// Keeps the larger of each.
    pub fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, f: impl Fn(i64, i64) -> i64) {
        self.cpu = f(self.cpu, other.cpu);
        self.memory = f(self.memory, other.memory);
        self.ephemeral = f(self.ephemeral, other.ephemeral);
        for (name, amount) in other.scalar.iter() {
            let mine = self.scalar.entry(name);
            *mine = f(*mine, amount);
        }
    }

    /// Whether nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.ephemeral == 0 && self.scalar.iter().all(|(_, v)| v == 0)
    }
}

/// The number of pods a node takes, from its resource list.
pub fn pod_count(list: &List) -> i64 {
    list.get("pods").and_then(|q| Parsed::parse(&q.0).ok()).map_or(0, |q| q.value())
}

/// What a pod asks for: its containers and sidecars together, or the largest of its start-up stages where that is more, and its
/// overhead. Pod-level requests replace the sum for the resources they name.
pub fn pod_request(spec: &PodSpec) -> Resources {
    total(spec, requests)
}

/// As [`pod_request`], with defaults for containers that ask for nothing; only for scores.
pub fn pod_score_request(spec: &PodSpec) -> Resources {
    total(spec, |requirements| {
        let list = requirements.and_then(|r| r.requests.as_ref());
        let has = |name: &str| list.is_some_and(|l| l.contains_key(name));
        let mut all = requests(requirements);
        all.cpu = if has("cpu") { all.cpu } else { DEFAULT_CPU };
        all.memory = if has("memory") { all.memory } else { DEFAULT_MEMORY };
        all
    })
}

fn requests(requirements: Option<&ResourceRequirements>) -> Resources {
    requirements.and_then(|r| r.requests.as_ref()).map(Resources::from_list).unwrap_or_default()
}

fn total(spec: &PodSpec, of: impl Fn(Option<&ResourceRequirements>) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container.resources.as_ref()));
    }
    let (mut sidecars, mut starting) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut stage = sidecars.clone();
        stage.add(&of(container.resources.as_ref()));
        starting.max(&stage);
        if is_sidecar(container) {
            sidecars = stage;
        }
    }
    running.add(&sidecars);
    running.max(&starting);
    override_by_pod(&mut running, spec);
    if let Some(overhead) = &spec.overhead {
        running.add(&Resources::from_list(overhead));
    }
    running
}

/// The spec with what its containers hold or were promised where that is more: a container being resized counts for the most of
/// what it asks for, what the node set aside for it, and what it has.
pub fn as_running<'a>(spec: &'a PodSpec, status: Option<&PodStatus>) -> Cow<'a, PodSpec> {
    let statuses = status.and_then(|s| s.container_statuses.as_ref());
    let held = |s: &&ContainerStatus| s.allocated_resources.is_some() || s.resources.is_some();
    if !statuses.into_iter().flatten().any(|s| held(&s)) {
        return Cow::Borrowed(spec);
    }
    let mut grown = spec.clone();
    for status in statuses.into_iter().flatten().filter(held) {
        if let Some(container) = grown.containers.iter_mut().find(|c| c.name == status.name) {
            grow(container, status);
        }
    }
    Cow::Owned(grown)
}

fn grow(container: &mut Container, status: &ContainerStatus) {
    let actual = status.resources.as_ref().and_then(|r| r.requests.as_ref());
    let requests = container.resources.get_or_insert_default().requests.get_or_insert_default();
    for (name, amount) in [status.allocated_resources.as_ref(), actual].into_iter().flatten().flatten() {
        let Ok(theirs) = Parsed::parse(&amount.0) else { continue };
        let mine = requests.get(name).and_then(|q| Parsed::parse(&q.0).ok());
        if mine.is_none_or(|m| m.nanos() < theirs.nanos()) {
            requests.insert(name.clone(), amount.clone());
        }
    }
}

fn override_by_pod(sum: &mut Resources, spec: &PodSpec) {
    let Some(list) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) else { return };
    let pod = Resources::from_list(list);
    if list.contains_key("cpu") {
        sum.cpu = pod.cpu;
    }
    if list.contains_key("memory") {
        sum.memory = pod.memory;
    }
    pod.scalar.iter().for_each(|(name, amount)| *sum.scalar.entry(name) = amount);
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_spec;

    #[test]
    fn start_up_stages_and_sidecars() {
        let spec = pod_spec(serde_json::json!({
            "initContainers": [
                {"name": "a", "resources": {"requests": {"cpu": "2"}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "b", "resources": {"requests": {"cpu": "1"}}},
            ],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "1Gi", "x.y/z": "3"}}}],
            "overhead": {"cpu": "10m"},
        }));
        let all = pod_request(&spec);
        assert_eq!((all.cpu, all.memory, all.scalar.get("x.y/z")), (2010, 1 << 30, Some(3)));
    }

    #[test]
    fn scores_count_something_for_those_who_ask_for_nothing() {
        let all =
            pod_score_request(&pod_spec(serde_json::json!({"containers": [{"name": "a"}, {"name": "b"}]})));
        assert_eq!((all.cpu, all.memory), (200, 400 << 20));
    }
}
