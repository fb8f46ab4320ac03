//! ImageLocality: prefers nodes that have the pod's images, weighted by how widespread each is.

use crate::framework::{MAX_SCORE, Plugin};
use crate::model::node::NodeInfo;
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

    fn score(&self, pod: &PodInfo, node: &NodeInfo, nodes: &Snapshot) -> i64 {
        let total = nodes.nodes().len().max(1) as i64;
        let share = |image: &String| {
            let size = node.images.get(image).copied().unwrap_or(0);
            (i128::from(size) * nodes.nodes_with_image(image) as i128 / i128::from(total)) as i64
        };
        points(pod.images.iter().map(share).sum(), pod.images.len() as i64)
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
