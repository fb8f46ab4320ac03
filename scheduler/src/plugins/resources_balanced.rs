//! NodeResourcesBalancedAllocation: prefers nodes whose resources are used evenly once the pod is there.

use smallvec::SmallVec;

use super::resources_fit::{Weighted, place};
use crate::framework::{Plugin, Prepared};
use crate::model::memo::{Ask, Known};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;

/// Scores by how much more even the node becomes (50 is neutral).
pub struct BalancedAllocation {
    /// The resources compared; their weights don't count.
    pub resources: Vec<Weighted>,
}

impl Default for BalancedAllocation {
    fn default() -> Self {
        Self { resources: Weighted::both() }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn count(&self, pod: &PodInfo, all: &mut Snapshot) {
        Ask::of(pod).filter(|_| self.is_usual()).into_iter().for_each(|ask| all.remember(ask));
    }

    fn weight(&self) -> i64 {
        1
    }

    /// Pods that ask for nothing don't change the balance.
    fn pre_score(&self, pod: &PodInfo, _all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        (!pod.request.is_zero()).then_some(None)
    }

    fn score(&self, _prepared: &Prepared, pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        let nothing = Resources::default();
        if self.is_usual() {
            return usual(pod, all, nodes, scores);
        }
        for (slot, score) in nodes.iter().zip(scores) {
            let node = all.node(*slot);
            let then = self.balance(&node.allocatable, &node.requested, &pod.request, &pod.request);
            let before = self.balance(&node.allocatable, &node.requested, &nothing, &pod.request);
            *score = 50 + (50 + then - before) / 2;
        }
    }
}

/// CPU and memory, as nearly everywhere: no names are looked at.
fn usual(pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
    let cells = place(pod, all).and_then(|p| all.memo().cells(p));
    for (slot, score) in nodes.iter().zip(scores) {
        *score = match cells.and_then(|c| c.known(*slot)) {
            Some(Known::Fits { even, .. }) => i64::from(even),
            _ => even_of(pod, all.node(*slot)),
        };
    }
}

/// The usual score of one node.
pub fn even_of(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let part = |used: i64, whole: i64| (used as f64 / whole as f64).min(1.0);
    let even = |cpu: f64, memory: f64| ((1.0 - (cpu - memory).abs() / 2.0) * 100.0) as i64;
    let (offered, used) = (&node.allocatable, &node.requested);
    // With one resource or none there is nothing to balance.
    if offered.cpu <= 0 || offered.memory <= 0 {
        return 75;
    }
    let before = even(part(used.cpu, offered.cpu), part(used.memory, offered.memory));
    let (cpu, memory) = (used.cpu + pod.request.cpu, used.memory + pod.request.memory);
    50 + (50 + even(part(cpu, offered.cpu), part(memory, offered.memory)) - before) / 2
}

impl BalancedAllocation {
    fn is_usual(&self) -> bool {
        matches!(self.resources.as_slice(), [a, b] if a.name == "cpu" && b.name == "memory")
    }

    /// 100 when all are used in equal parts. What an extended resource has counts only if `asked` asks for it.
    fn balance(&self, offered: &Resources, used: &Resources, more: &Resources, asked: &Resources) -> i64 {
        let of = |r: &Resources, name: &str| match name {
            "cpu" => r.cpu,
            "memory" => r.memory,
            "ephemeral-storage" => r.ephemeral,
            _ => r.scalar.get(name).unwrap_or(0),
        };
        let usual = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage");
        let mut parts: SmallVec<[f64; 4]> = SmallVec::new();
        for Weighted { name, .. } in &self.resources {
            let whole = of(offered, name);
            if whole > 0 && (usual(name) || of(asked, name) > 0) {
                parts.push(((of(used, name) + of(more, name)) as f64 / whole as f64).min(1.0));
            }
        }
        ((1.0 - deviation(&parts)) * 100.0) as i64
    }
}

fn deviation(parts: &[f64]) -> f64 {
    match parts {
        [] | [_] => 0.0,
        [a, b] => (a - b).abs() / 2.0,
        _ => {
            let mean = parts.iter().sum::<f64>() / parts.len() as f64;
            (parts.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / parts.len() as f64).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, cpu_pod, node, pod};
    use serde_json::json;

    #[test]
    fn even_use_is_best() {
        let plugin = BalancedAllocation::default();
        let offered = Resources { cpu: 1000, memory: 1000, ..Default::default() };
        let used = |cpu, memory| Resources { cpu, memory, ..Default::default() };
        let none = Resources::default();
        let balance = |u: Resources| plugin.balance(&offered, &u, &none, &none);
        assert_eq!(balance(used(500, 500)), 100);
        assert_eq!(balance(used(1000, 0)), 50);
        assert!(balance(used(600, 500)) > balance(used(900, 500)));
        assert!((deviation(&[0.2, 0.4, 0.6]) - (0.08f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_makes_the_node_more_even_is_above_the_middle() {
        let mut all = cluster(&[node("n", json!({}))]);
        all.add_pod("n", cpu_pod("other", "2"));
        let memory = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"memory": "4Gi"}}}]});
        let plugin = BalancedAllocation::default();
        let score = |p: &PodInfo| {
            let mut scores = [0];
            plugin.score(&None, p, &all, &[0], &mut scores);
            scores[0]
        };
        // From 50 % and 0 to 50 % each: 75 to 100.
        assert_eq!(score(&pod("p", memory)), 50 + (50 + 100 - 75) / 2);
        assert_eq!(score(&cpu_pod("p", "2")), 50 + (50 + 50 - 75) / 2);
        assert!(plugin.pre_score(&pod("none", json!({})), &all, &[0]).is_none());
    }
}
