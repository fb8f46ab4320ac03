//! ImageLocality: prefers nodes that have the pod's images, weighted by how widespread each is.

use crate::framework::{MAX_SCORE, Plugin, Prepared};
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

const MIB: i64 = 1 << 20;
/// Less than this is no reason to prefer a node.
const LEAST: i64 = 23 * MIB;
/// More than this per container makes no further difference.
const MOST: i64 = 1000 * MIB;

/// Scores by the size of the images that are there.
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn pre_score(&self, pod: &PodInfo, all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        pod.images.iter().any(|i| all.nodes_with_image(i) > 0).then_some(None)
    }

    fn score(&self, _prepared: &Prepared, pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        let total = all.order().len().max(1) as i64;
        let share = |node: &NodeSpec, image: &String| {
            let size = node.images.get(image).copied().unwrap_or(0);
            (i128::from(size) * all.nodes_with_image(image) as i128 / i128::from(total)) as i64
        };
        for (slot, score) in nodes.iter().zip(scores) {
            let node = &all.node(*slot).spec;
            let sum = pod.images.iter().map(|i| share(node, i)).sum();
            *score = points(sum, pod.images.len() as i64);
        }
    }
}

fn points(size: i64, containers: i64) -> i64 {
    let most = MOST * containers.max(1);
    let size = size.clamp(LEAST, most);
    MAX_SCORE * (size - LEAST) / (most - LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_between_least_and_most() {
        for (size, containers, want) in
            [(0, 1, 0), (LEAST, 1, 0), (MOST, 1, 100), (5 * MOST, 1, 100), (MOST, 2, 49)]
        {
            assert_eq!(points(size, containers), want, "{size} {containers}");
        }
    }
}
