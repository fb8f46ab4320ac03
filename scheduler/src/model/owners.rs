//! Services and workloads by their selectors: what counts as "the same application" for pods that say nothing about spreading.

use ahash::AHashMap;

use super::labels::{Labels, Selector};
use super::pod::PodInfo;

/// Selectors by namespace and name.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    services: AHashMap<String, AHashMap<String, Labels>>,
    /// By kind, namespace and name.
    workloads: AHashMap<(String, String, String), Selector>,
}

impl Owners {
    /// A Service came or changed (`Some`) or went; one without a selector selects nothing.
    pub fn service(&mut self, namespace: &str, name: &str, selector: Option<Labels>) {
        let all = self.services.entry(namespace.into()).or_default();
        match selector.filter(|s| !s.is_empty()) {
            Some(selector) => drop(all.insert(name.into(), selector)),
            None => drop(all.remove(name)),
        }
        if all.is_empty() {
            self.services.remove(namespace);
        }
    }

    /// A ReplicationController, ReplicaSet or StatefulSet came or changed (`Some`) or went.
    pub fn workload(&mut self, kind: &str, namespace: &str, name: &str, selector: Option<Selector>) {
        let key = (kind.to_string(), namespace.to_string(), name.to_string());
        match selector {
            Some(selector) => drop(self.workloads.insert(key, selector)),
            None => drop(self.workloads.remove(&key)),
        }
    }

    /// What the pod's services and owner select together; `None` if nothing selects it.
    pub fn selector(&self, pod: &PodInfo) -> Option<Selector> {
        let mut all = Selector::default();
        let mine = |s: &&Labels| s.iter().all(|(k, v)| pod.labels.get(k) == Some(v));
        for service in self.services.get(&pod.namespace).into_iter().flat_map(|s| s.values()).filter(mine) {
            all.merge(&Selector::exactly(service));
        }
        if let Some((kind, name)) = &pod.owner {
            let key = (kind.clone(), pod.namespace.clone(), name.clone());
            self.workloads.get(&key).into_iter().for_each(|s| all.merge(s));
        }
        (!all.is_everything()).then_some(all)
    }
}
