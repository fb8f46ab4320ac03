//! PodDisruptionBudgets, as far as preemption looks at them.

use ahash::AHashMap;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::labels::Selector;
use super::pod::PodInfo;

/// One budget.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    selector: Selector,
    allowed: i64,
    /// Pods whose disruption is counted already.
    disrupted: Vec<String>,
}

impl Budget {
    /// Derives it from the API's object.
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let status = budget.status.as_ref();
        let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let disrupted = status.and_then(|s| s.disrupted_pods.as_ref());
        Self {
            selector: Selector::of(selector),
            allowed: status.map_or(0, |s| i64::from(s.disruptions_allowed.unwrap_or(0))),
            disrupted: disrupted.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        }
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        !pod.labels.is_empty()
            && !self.selector.is_everything()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&pod.name)
    }
}

/// All budgets by namespace and name.
#[derive(Debug, Clone, Default)]
pub struct Budgets {
    all: AHashMap<String, AHashMap<String, Budget>>,
}

impl Budgets {
    /// A budget came or changed (`Some`) or went.
    pub fn set(&mut self, namespace: &str, name: &str, budget: Option<Budget>) {
        let all = self.all.entry(namespace.into()).or_default();
        match budget {
            Some(budget) => drop(all.insert(name.into(), budget)),
            None => drop(all.remove(name)),
        }
        if all.is_empty() {
            self.all.remove(namespace);
        }
    }

    /// For each of `pods`, taken in this order, whether its removal would break a budget.
    pub fn broken_by<'a>(&self, pods: impl Iterator<Item = &'a PodInfo>) -> Vec<bool> {
        if self.all.is_empty() {
            return pods.map(|_| false).collect();
        }
        let mut left: AHashMap<(&str, &str), i64> = AHashMap::new();
        pods.map(|pod| {
            let mut breaks = false;
            let budgets = self.all.get_key_value(&pod.namespace);
            for (namespace, (name, budget)) in
                budgets.into_iter().flat_map(|(ns, all)| all.iter().map(move |b| (ns, b)))
            {
                if budget.concerns(pod) {
                    let left = left.entry((namespace, name)).or_insert(budget.allowed);
                    *left -= 1;
                    breaks |= *left < 0;
                }
            }
            breaks
        })
        .collect()
    }
}
