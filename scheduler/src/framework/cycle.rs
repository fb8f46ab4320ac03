//! One pod's way through the plugins: a pure function of the pod, the snapshot and a little randomness.

use std::sync::Arc;

use smallvec::SmallVec;

use super::message::{Histogram, Refusal};
use super::profile::Profile;
use super::quick::Walker;
use super::{Before, Delta, Plugin, Prepared, Reason, Reasons, Verdict, View};
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

/// What the filters left.
pub struct Found<'a> {
    /// Slots of nodes that will do.
    pub feasible: Vec<u32>,
    /// Slots of nodes that would do if something left them.
    pub refused: Vec<u32>,
    /// How many nodes were looked at.
    pub examined: usize,
    /// Where the next pod starts looking.
    pub next_start: usize,
    /// Why the others won't do.
    pub refusal: Refusal,
    last: &'static str,
    /// The plugins asked; `None` if one refused before any node was looked at.
    pub asked: Option<Asked<'a>>,
}

impl Profile {
    /// Chooses a node for `pod`. `start` is where to begin among the nodes; `random` breaks ties.
    pub fn decide(
        &self,
        pod: &PodInfo,
        all: &mut Snapshot,
        start: usize,
        random: &mut impl FnMut(usize) -> usize,
    ) -> Outcome {
        let found = self.find(pod, all, start, true);
        let choice = match found.feasible.as_slice() {
            [] => Err(found.refusal),
            [only] => Ok(all.node(*only).name().to_string()),
            feasible => Ok(all.node(self.best(pod, all, feasible, &[], random)).name().to_string()),
        };
        Outcome {
            choice,
            examined: found.examined,
            feasible: found.feasible.len(),
            next_start: found.next_start,
        }
    }

    /// Walks the nodes until enough will do. `sample` false looks at all of them.
    pub fn find(&self, pod: &PodInfo, all: &mut Snapshot, start: usize, sample: bool) -> Found<'_> {
        all.refresh();
        self.filters.iter().chain(self.scores.iter().map(|(p, _)| p)).for_each(|p| p.count(pod, all));
        let total = all.order().len();
        let mut found = Found {
            feasible: Vec::new(),
            refused: Vec::new(),
            examined: 0,
            next_start: start,
            refusal: Refusal { nodes: total, ..Refusal::default() },
            last: "",
            asked: None,
        };
        if total == 0 {
            return found;
        }
        let Some(asked) = self.prepare(pod, all, &mut found.refusal) else { return found };
        if !found.try_nominated(pod, all, &asked) {
            let enough = if sample { self.enough(total) } else { total };
            found.walk(pod, all, start % total, enough, &asked);
        }
        found.asked = Some(asked);
        found
    }

    fn prepare<'a>(&'a self, pod: &PodInfo, all: &Snapshot, refusal: &mut Refusal) -> Option<Asked<'a>> {
        let mut asked = Asked { plugins: Vec::with_capacity(self.filters.len()), only: None, by: Vec::new() };
        for plugin in &self.filters {
            match plugin.pre_filter(pod, all) {
                Before::Skip => {}
                Before::Ask(prepared) => asked.plugins.push((plugin.as_ref(), prepared)),
                Before::Only(slots, prepared) => {
                    asked.narrow(slots, plugin.name());
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

    /// How many feasible nodes are enough: all of a small cluster, a falling share of a large one.
    fn enough(&self, total: usize) -> usize {
        if self.scores.is_empty() {
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

    /// The best of several nodes. `extra` is added to the totals if it is not empty (the scores of extenders).
    pub fn best(
        &self,
        pod: &PodInfo,
        all: &Snapshot,
        feasible: &[u32],
        extra: &[i64],
        random: &mut impl FnMut(usize) -> usize,
    ) -> u32 {
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = vec![0i64; feasible.len()];
        for (plugin, weight) in &self.scores {
            let Some(prepared) = plugin.pre_score(pod, all, feasible) else { continue };
            plugin.score(&prepared, pod, all, feasible, &mut scores);
            totals.iter_mut().zip(&scores).for_each(|(total, score)| *total += score * weight);
        }
        totals.iter_mut().zip(extra).for_each(|(total, extra)| *total += extra);
        let top = totals.iter().copied().max().unwrap_or(0);
        let winners = totals.iter().filter(|t| **t == top).count();
        let nth = random(winners.max(1)) % winners.max(1);
        let place = totals.iter().enumerate().filter(|(_, t)| **t == top).nth(nth).map_or(0, |(i, _)| i);
        feasible[place]
    }
}

impl Found<'_> {
    /// A node that is being cleared for the pod is looked at first, and is enough if it will do.
    fn try_nominated(&mut self, pod: &PodInfo, all: &Snapshot, asked: &Asked<'_>) -> bool {
        let Some(slot) = pod.nominated.as_deref().and_then(|n| all.slot(n)) else { return false };
        if asked.only.as_ref().is_some_and(|only| !only.contains(&slot)) || asked.ask(pod, all, slot).is_err()
        {
            return false;
        }
        self.feasible.push(slot);
        self.examined = 1;
        true
    }

    fn walk(&mut self, pod: &PodInfo, all: &Snapshot, start: usize, enough: usize, asked: &Asked<'_>) {
        let total = all.order().len();
        let mut reasons = Histogram::default();
        let mut walkers = asked.walkers(pod, all);
        if let Some(only) = &asked.only {
            only.iter().for_each(|slot| self.look(pod, all, *slot, asked, &mut walkers, &mut reasons));
            let text = format!("node(s) didn't satisfy plugin(s) [{}]", asked.by.join(" "));
            reasons.add_many(Reason::Made(text.into()), total - only.len().min(total));
            if only.len() < total {
                self.refusal.plugins.extend(asked.by.iter().copied());
            }
        } else {
            let (before, after) = all.order().split_at(start);
            self.feasible.reserve(enough);
            for slot in after.iter().chain(before) {
                if self.feasible.len() >= enough {
                    break;
                }
                self.look(pod, all, *slot, asked, &mut walkers, &mut reasons);
            }
            self.next_start = (start + self.examined) % total;
        }
        walkers.iter().for_each(|w| w.tell(&mut reasons, &mut self.refusal));
        self.refusal.reasons = reasons;
    }

    #[inline]
    fn look(
        &mut self,
        pod: &PodInfo,
        all: &Snapshot,
        slot: u32,
        asked: &Asked<'_>,
        walkers: &mut [Walker<'_>],
        reasons: &mut Histogram,
    ) {
        self.examined += 1;
        match asked.ask_shortly(pod, all, slot, walkers) {
            Ok(()) => self.feasible.push(slot),
            Err(Short::Counted(hopeless)) => {
                if !hopeless {
                    self.refused.push(slot);
                }
            }
            Err(Short::Whole((plugin, why, hopeless))) => {
                if !hopeless {
                    self.refused.push(slot);
                }
                // Mostly the same as for the node before.
                if self.last != plugin {
                    self.refusal.plugins.insert(plugin);
                    self.last = plugin;
                }
                reasons.add(&why);
            }
        }
    }
}

/// Who refused, why, and whether nothing leaving the node would help.
pub type No = (&'static str, Reasons, bool);

/// A refusal on the way along the nodes.
enum Short {
    /// Given in short, and counted by who gave it; true if nothing leaving the node would help.
    Counted(bool),
    Whole(No),
}

/// The plugins that want to be asked about each node, and which nodes come into question.
pub struct Asked<'a> {
    plugins: Vec<(&'a dyn Plugin, Prepared)>,
    only: Option<Vec<u32>>,
    by: Vec<&'static str>,
}

impl Asked<'_> {
    fn narrow(&mut self, slots: Vec<u32>, plugin: &'static str) {
        match &mut self.only {
            Some(left) => left.retain(|s| slots.contains(s)),
            None => self.only = Some(slots),
        }
        self.by.push(plugin);
    }

    fn walkers<'b>(&'b self, pod: &PodInfo, all: &'b Snapshot) -> SmallVec<[Walker<'b>; 4]> {
        let short = !all.has_nominated();
        self.plugins
            .iter()
            .map(|(plugin, prepared)| Walker::new((*plugin, prepared), pod, all, short))
            .collect()
    }

    /// As [`Asked::ask`], in short where that will do.
    #[inline]
    fn ask_shortly(
        &self,
        pod: &PodInfo,
        all: &Snapshot,
        slot: u32,
        walkers: &mut [Walker<'_>],
    ) -> Result<(), Short> {
        if all.has_nominated() {
            return self.ask(pod, all, slot).map_err(Short::Whole);
        }
        for w in walkers {
            match w.ask(slot) {
                Some(Ok(())) => {}
                Some(Err(hopeless)) => return Err(Short::Counted(hopeless)),
                None => {
                    let verdict = w.plugin.filter(w.prepared, pod, &View::of(slot, all));
                    refusal(w.plugin, verdict).map_err(Short::Whole)?;
                }
            }
        }
        Ok(())
    }

    /// Asks about a node as it is, and also as it will be with the pods that mean to go there.
    ///
    /// # Errors
    /// Who refuses and why.
    #[inline]
    pub fn ask(&self, pod: &PodInfo, all: &Snapshot, slot: u32) -> Result<(), No> {
        if all.has_nominated() {
            self.ask_crowded(pod, all, all.node(slot), Delta::default())?;
        }
        self.ask_at(pod, &View::of(slot, all))
    }

    /// The same for a node that is thought to be different.
    ///
    /// # Errors
    /// Who refuses and why.
    pub fn ask_thought(&self, pod: &PodInfo, view: &View<'_>) -> Result<(), No> {
        if view.all.has_nominated() {
            self.ask_crowded(pod, view.all, view.node, view.delta)?;
        }
        self.ask_at(pod, view)
    }

    /// With the pods of no less importance that mean to go to this node.
    fn ask_crowded(
        &self,
        pod: &PodInfo,
        all: &Snapshot,
        node: &NodeInfo,
        delta: Delta<'_>,
    ) -> Result<(), No> {
        let nominated = all.nominated(node.name());
        let before_me = |p: &&Arc<PodInfo>| p.priority >= pod.priority && p.uid != pod.uid;
        let mut added: Vec<Arc<PodInfo>> = nominated.iter().filter(before_me).cloned().collect();
        if added.is_empty() {
            return Ok(());
        }
        let mut crowded = node.clone();
        added.iter().for_each(|p| crowded.add_pod(p.clone()));
        added.extend_from_slice(delta.added);
        self.ask_at(
            pod,
            &View {
                node: &crowded,
                slot: node.slot,
                all,
                delta: Delta { added: &added, removed: delta.removed },
            },
        )
    }

    #[inline]
    fn ask_at(&self, pod: &PodInfo, at: &View<'_>) -> Result<(), No> {
        self.plugins
            .iter()
            .try_for_each(|(plugin, prepared)| refusal(*plugin, plugin.filter(prepared, pod, at)))
    }
}

#[inline]
fn refusal(plugin: &dyn Plugin, verdict: Verdict) -> Result<(), No> {
    match verdict {
        Verdict::Fits => Ok(()),
        Verdict::Refused(why) => Err((plugin.name(), why, false)),
        Verdict::Never(why) => Err((plugin.name(), why, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins;
    use crate::testing::{cluster, cpu_pod, node, pod};
    use serde_json::json;

    fn decide(all: &mut Snapshot, pod: &PodInfo) -> Result<String, String> {
        plugins::default_profile().decide(pod, all, 0, &mut |_| 0).choice.map_err(|r| r.message())
    }

    #[test]
    fn every_reason_is_counted() {
        let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let mut all = cluster(&[
            node("tainted", taint),
            node("cordoned", json!({"spec": {"unschedulable": true}})),
            node("small", json!({"status": {"allocatable": {"cpu": "1"}}})),
            node("full", json!({"status": {"allocatable": {"pods": "0"}}})),
        ]);
        assert_eq!(
            decide(&mut all, &cpu_pod("p", "2")).unwrap_err(),
            "0/4 nodes are available: 1 Insufficient cpu, 1 Too many pods, 1 node(s) had untolerated taint(s), \
             1 node(s) were unschedulable."
        );
    }

    #[test]
    fn the_emptier_node_wins_and_labels_decide() {
        let mut all =
            cluster(&[node("a", json!({})), node("b", json!({"metadata": {"labels": {"disk": "ssd"}}}))]);
        all.add_pod("a", cpu_pod("other", "2"));
        assert_eq!(decide(&mut all, &cpu_pod("p", "1")).unwrap(), "b");
        let wants = pod("q", json!({"nodeSelector": {"disk": "hdd"}}));
        assert!(
            decide(&mut all, &wants)
                .unwrap_err()
                .contains("2 node(s) didn't match Pod's node affinity/selector")
        );
    }

    #[test]
    fn large_clusters_are_looked_at_in_part_and_in_turn() {
        let mut all = cluster(&(0..1000).map(|i| node(&format!("n{i}"), json!({}))).collect::<Vec<_>>());
        let outcome = plugins::default_profile().decide(&cpu_pod("p", "1"), &mut all, 900, &mut |_| 0);
        assert_eq!((outcome.feasible, outcome.examined, outcome.next_start), (420, 420, 320));
    }

    #[test]
    fn a_named_node_is_the_only_one_looked_at() {
        let mut all = cluster(&[node("a", json!({})), node("b", json!({"spec": {"unschedulable": true}}))]);
        let field = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]);
        let p = pod(
            "p",
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": field}}}}),
        );
        assert_eq!(
            decide(&mut all, &p).unwrap_err(),
            "0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 1 node(s) were unschedulable."
        );
    }

    #[test]
    fn pods_that_mean_to_come_are_counted_if_they_matter_as_much() {
        let mut all = cluster(&[node("a", json!({}))]);
        let coming = |priority: i32| {
            let mut p = PodInfo::clone(&cpu_pod("coming", "3"));
            p.priority = priority;
            Arc::new(p)
        };
        all.nominate(coming(5), "a");
        assert!(decide(&mut all, &cpu_pod("p", "2")).unwrap_err().contains("1 Insufficient cpu"));
        all.nominate(coming(-1), "a");
        assert_eq!(decide(&mut all, &cpu_pod("p", "2")).unwrap(), "a");
    }

    #[test]
    fn no_nodes() {
        assert_eq!(
            decide(&mut Snapshot::default(), &cpu_pod("p", "1")).unwrap_err(),
            "no nodes available to schedule pods"
        );
    }
}
