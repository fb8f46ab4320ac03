//! One pod's way through the plugins: a pure function of the pod, the snapshot and a little randomness.

use std::collections::BTreeMap;

use super::message::Refusal;
use super::{Before, Plugin, Prepared, Verdict};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// Below this many nodes all are looked at.
const ALWAYS_ALL: usize = 100;

/// What was decided, and what every plugin said: events, logs and explanations read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The chosen node, or why there is none.
    pub choice: Result<String, Refusal>,
    /// How many nodes were looked at.
    pub examined: usize,
    /// How many of them would do.
    pub feasible: usize,
    /// Where the next pod starts looking, so that all nodes get their turn.
    pub next_start: usize,
}

/// The plugins of a profile with their weights, and how much of the cluster to look at.
pub struct Profile {
    /// The scheduler name pods ask for.
    pub name: String,
    /// Plugins in order, each with the weight of its score.
    pub plugins: Vec<(Box<dyn Plugin>, i64)>,
    /// Percentage of nodes to find before scoring; 0 adapts to the size of the cluster.
    pub percentage: usize,
}

impl Profile {
    /// The reason that keeps a pod out of the queue, if any, and whose.
    pub fn gate(&self, pod: &PodInfo) -> Option<(&'static str, String)> {
        self.plugins.iter().find_map(|(p, _)| p.pre_enqueue(pod).err().map(|reason| (p.name(), reason)))
    }

    /// Chooses a node for `pod`. `start` is where to begin among the nodes; `random` breaks ties.
    pub fn decide(
        &self,
        pod: &PodInfo,
        nodes: &Snapshot,
        start: usize,
        random: &mut impl FnMut(usize) -> usize,
    ) -> Outcome {
        let total = nodes.nodes().len();
        let mut refusal = Refusal { nodes: total, ..Refusal::default() };
        let asked = match self.prepare(pod, nodes, &mut refusal) {
            Some(asked) if total > 0 => asked,
            _ => return Outcome { choice: Err(refusal), examined: 0, feasible: 0, next_start: start },
        };
        let (feasible, examined) = self.feasible(pod, nodes, start % total, &asked, &mut refusal);
        let next_start = (start + examined) % total;
        let choice = match feasible.len() {
            0 => Err(refusal),
            1 => Ok(feasible[0].name.clone()),
            _ => Ok(self.best(pod, nodes, &feasible, random)),
        };
        Outcome { choice, examined, feasible: feasible.len(), next_start }
    }

    fn prepare<'a>(&'a self, pod: &PodInfo, nodes: &Snapshot, refusal: &mut Refusal) -> Option<Asked<'a>> {
        let mut asked = Asked { plugins: Vec::new(), only: None };
        for (plugin, _) in &self.plugins {
            match plugin.pre_filter(pod, nodes) {
                Before::Skip => {}
                Before::Ask(prepared) => asked.plugins.push((plugin.as_ref(), prepared)),
                Before::Only(names, prepared) => {
                    asked.narrow(names, plugin.name());
                    asked.plugins.push((plugin.as_ref(), prepared));
                }
                Before::Refuse(reason) => {
                    refusal.before = Some(reason);
                    refusal.plugins.insert(plugin.name());
                    return None;
                }
            }
        }
        Some(asked)
    }

    fn feasible<'a>(
        &self,
        pod: &PodInfo,
        nodes: &'a Snapshot,
        start: usize,
        asked: &Asked<'_>,
        refusal: &mut Refusal,
    ) -> (Vec<&'a NodeInfo>, usize) {
        let total = nodes.nodes().len();
        let enough = self.enough(total);
        let (mut found, mut examined) = (Vec::new(), 0);
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let (before, after) = (nodes.nodes().iter().take(start), nodes.nodes().iter().skip(start));
        for node in after.chain(before) {
            if found.len() >= enough {
                break;
            }
            examined += 1;
            match asked.ask(pod, node) {
                Ok(()) => found.push(node.as_ref()),
                Err((plugin, why)) => {
                    refusal.plugins.insert(plugin);
                    why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
                }
            }
        }
        refusal.reasons = reasons;
        (found, examined)
    }

    /// How many feasible nodes are enough: all of a small cluster, a falling share of a large one.
    fn enough(&self, total: usize) -> usize {
        if !self.plugins.iter().any(|(_, weight)| *weight > 0) {
            return 1;
        }
        let percentage =
            if self.percentage > 0 { self.percentage } else { 50usize.saturating_sub(total / 125).max(5) };
        if total < ALWAYS_ALL || percentage >= 100 {
            total
        } else {
            (total * percentage / 100).max(ALWAYS_ALL)
        }
    }

    fn best(
        &self,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[&NodeInfo],
        random: &mut impl FnMut(usize) -> usize,
    ) -> String {
        let mut totals = vec![0i64; feasible.len()];
        for (plugin, weight) in self.plugins.iter().filter(|(p, w)| *w > 0 && p.scores(pod)) {
            let mut scores: Vec<i64> = feasible.iter().map(|n| plugin.score(pod, n, nodes)).collect();
            plugin.normalise(&mut scores);
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score * weight);
        }
        let top = totals.iter().copied().max().unwrap_or(0);
        let winners: Vec<&NodeInfo> =
            feasible.iter().zip(totals).filter(|(_, t)| *t == top).map(|(n, _)| *n).collect();
        winners[random(winners.len()) % winners.len()].name.clone()
    }
}

/// The plugins that want to be asked about each node, and which nodes come into question.
struct Asked<'a> {
    plugins: Vec<(&'a dyn Plugin, Prepared)>,
    only: Option<(Vec<String>, Vec<&'static str>)>,
}

impl Asked<'_> {
    fn narrow(&mut self, names: Vec<String>, plugin: &'static str) {
        let (left, plugins) = self.only.get_or_insert_with(|| (names.clone(), Vec::new()));
        left.retain(|n| names.contains(n));
        plugins.push(plugin);
    }

    fn ask(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), (&'static str, Vec<String>)> {
        if let Some((names, plugins)) = &self.only
            && !names.contains(&node.name)
        {
            let reason = format!("node(s) didn't satisfy plugin(s) [{}]", plugins.join(" "));
            return Err((plugins.first().copied().unwrap_or_default(), vec![reason]));
        }
        for (plugin, prepared) in &self.plugins {
            match plugin.filter(prepared, pod, node) {
                Verdict::Fits => {}
                Verdict::Refused(why) | Verdict::Never(why) => return Err((plugin.name(), why)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::Nodes;
    use crate::plugins;
    use crate::testing::{cpu_pod, node, pod};
    use serde_json::json;

    fn profile() -> Profile {
        Profile { name: "default-scheduler".into(), plugins: plugins::default_set(), percentage: 0 }
    }

    fn cluster(nodes: &[k8s_openapi::api::core::v1::Node]) -> Nodes {
        let mut all = Nodes::default();
        for n in nodes {
            all.update(n);
        }
        all
    }

    fn decide(nodes: &Nodes, pod: &PodInfo) -> Result<String, String> {
        profile().decide(pod, &nodes.snapshot(), 0, &mut |_| 0).choice.map_err(|r| r.message())
    }

    #[test]
    fn every_reason_is_counted() {
        let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let nodes = cluster(&[
            node("tainted", taint),
            node("cordoned", json!({"spec": {"unschedulable": true}})),
            node("small", json!({"status": {"allocatable": {"cpu": "1"}}})),
            node("full", json!({"status": {"allocatable": {"pods": "0"}}})),
        ]);
        assert_eq!(
            decide(&nodes, &cpu_pod("p", "2")).unwrap_err(),
            "0/4 nodes are available: 1 Insufficient cpu, 1 Too many pods, 1 node(s) had untolerated taint(s), \
             1 node(s) were unschedulable."
        );
    }

    #[test]
    fn the_emptier_node_wins_and_labels_decide() {
        let mut nodes =
            cluster(&[node("a", json!({})), node("b", json!({"metadata": {"labels": {"disk": "ssd"}}}))]);
        nodes.change_pods("a", |n| n.add_pod(cpu_pod("other", "2")));
        assert_eq!(decide(&nodes, &cpu_pod("p", "1")).unwrap(), "b");
        let wants = pod("q", json!({"nodeSelector": {"disk": "hdd"}}));
        assert!(
            decide(&nodes, &wants)
                .unwrap_err()
                .contains("2 node(s) didn't match Pod's node affinity/selector")
        );
    }

    #[test]
    fn large_clusters_are_looked_at_in_part_and_in_turn() {
        let nodes = cluster(&(0..1000).map(|i| node(&format!("n{i}"), json!({}))).collect::<Vec<_>>());
        let outcome = profile().decide(&cpu_pod("p", "1"), &nodes.snapshot(), 900, &mut |_| 0);
        assert_eq!((outcome.feasible, outcome.examined, outcome.next_start), (420, 420, 320));
    }

    #[test]
    fn no_nodes() {
        assert_eq!(
            decide(&Nodes::default(), &cpu_pod("p", "1")).unwrap_err(),
            "no nodes available to schedule pods"
        );
    }
}
