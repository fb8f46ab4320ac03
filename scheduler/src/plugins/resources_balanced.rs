//! NodeResourcesBalancedAllocation: prefers nodes whose resources are used evenly once the pod is there.

use crate::framework::Plugin;
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;

/// Scores by how much more even the node becomes (50 is neutral).
pub struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn weight(&self) -> i64 {
        1
    }

    /// Pods that ask for nothing don't change the balance.
    fn scores(&self, pod: &PodInfo) -> bool {
        !pod.request.is_zero()
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _nodes: &Snapshot) -> i64 {
        let before = balance(&node.allocatable, &node.requested);
        let mut then = node.requested.clone();
        then.add(&pod.request);
        50 + (50 + balance(&node.allocatable, &then) - before) / 2
    }
}

/// 100 when CPU and memory are used in equal parts.
fn balance(offered: &Resources, used: &Resources) -> i64 {
    let fraction =
        |offered: i64, used: i64| if offered <= 0 { 0.0 } else { (used as f64 / offered as f64).min(1.0) };
    let difference = fraction(offered.cpu, used.cpu) - fraction(offered.memory, used.memory);
    ((1.0 - difference.abs() / 2.0) * 100.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_use_is_best() {
        let offered = Resources { cpu: 1000, memory: 1000, ..Default::default() };
        let used = |cpu, memory| Resources { cpu, memory, ..Default::default() };
        assert_eq!(balance(&offered, &used(500, 500)), 100);
        assert_eq!(balance(&offered, &used(1000, 0)), 50);
        assert!(balance(&offered, &used(600, 500)) > balance(&offered, &used(900, 500)));
    }
}
