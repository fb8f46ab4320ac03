//! NodeResourcesFit: what the pod asks for must be left on the node; emptier nodes are better.

use crate::framework::{Before, Happening, MAX_SCORE, Plugin, Prepared, Verdict};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Refuses nodes without room; scores by what is left (upstream's LeastAllocated over CPU and memory).
pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn pre_filter(&self, _pod: &PodInfo, _nodes: &Snapshot) -> Before {
        Before::Ask(None)
    }

    fn filter(&self, _prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let mut missing = Vec::new();
        let mut hopeless = false;
        if node.pods.len() as i64 + 1 > node.max_pods {
            missing.push("Too many pods".to_string());
        }
        for (name, wanted, used, offered) in amounts(pod, node) {
            if wanted > 0 && wanted > offered - used {
                missing.push(format!("Insufficient {name}"));
                hopeless |= wanted > offered;
            }
        }
        match (missing.is_empty(), hopeless) {
            (true, _) => Verdict::Fits,
            (false, false) => Verdict::Refused(missing),
            (false, true) => Verdict::Never(missing),
        }
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _nodes: &Snapshot) -> i64 {
        let cpu = free(node.allocatable.cpu, node.score_requested.cpu + pod.score_request.cpu);
        let memory = free(node.allocatable.memory, node.score_requested.memory + pod.score_request.memory);
        (cpu + memory) / 2
    }

    fn woken_by(&self) -> &'static [Happening] {
        &[Happening::PodLeft, Happening::NodeOpened, Happening::PodChanged]
    }
}

/// Name, wanted, used and offered amount of each resource the pod asks for.
fn amounts<'a>(pod: &'a PodInfo, node: &'a NodeInfo) -> impl Iterator<Item = (&'a str, i64, i64, i64)> {
    let (want, used, offer) = (&pod.request, &node.requested, &node.allocatable);
    let scalar = move |(name, wanted): (&'a String, &'a i64)| {
        let of = |r: &crate::model::resources::Resources| r.scalar.get(name).copied().unwrap_or(0);
        (name.as_str(), *wanted, of(used), of(offer))
    };
    [
        ("cpu", want.cpu, used.cpu, offer.cpu),
        ("memory", want.memory, used.memory, offer.memory),
        ("ephemeral-storage", want.ephemeral, used.ephemeral, offer.ephemeral),
    ]
    .into_iter()
    .chain(want.scalar.iter().map(scalar))
}

fn free(offered: i64, wanted: i64) -> i64 {
    if offered <= 0 || wanted > offered {
        0
    } else {
        ((i128::from(offered - wanted)) * i128::from(MAX_SCORE) / i128::from(offered)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpu_pod, node, pod};
    use serde_json::json;

    fn info(over: serde_json::Value) -> NodeInfo {
        let mut info = NodeInfo::unknown("n");
        info.update(&node("n", over));
        info
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut node = info(json!({"status": {"allocatable": {"pods": "1", "x.y/gpu": "1"}}}));
        let gpu = |n: &str| {
            pod(
                "p",
                json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"x.y/gpu": n}}}]}),
            )
        };
        assert_eq!(NodeResourcesFit.filter(&None, &gpu("1"), &node), Verdict::Fits);
        assert_eq!(
            NodeResourcesFit.filter(&None, &gpu("2"), &node),
            Verdict::Never(vec!["Insufficient x.y/gpu".into()])
        );
        node.add_pod(cpu_pod("other", "3"));
        let want = vec!["Too many pods".to_string(), "Insufficient cpu".into()];
        assert_eq!(NodeResourcesFit.filter(&None, &cpu_pod("q", "2"), &node), Verdict::Refused(want));
    }

    #[test]
    fn scores_fall_as_the_node_fills() {
        let mut node = info(json!({}));
        let nodes = Snapshot::default();
        let empty = NodeResourcesFit.score(&cpu_pod("p", "1"), &node, &nodes);
        node.add_pod(cpu_pod("other", "2"));
        assert!(NodeResourcesFit.score(&cpu_pod("p", "1"), &node, &nodes) < empty);
    }
}
