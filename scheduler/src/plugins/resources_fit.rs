//! NodeResourcesFit: what the pod asks for must be left on the node; scores by how much is used, in one of three ways.

use std::sync::Arc;

use smallvec::SmallVec;

use super::resources_balanced::even_of;
use crate::framework::{
    Before, Happening, Kind, MAX_SCORE, Plugin, Prepared, Quick, Reason, Reasons, Verdict, View, own,
};
use crate::model::memo::{Ask, Known, Lack, Place};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;

/// A resource with its weight in a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: i64,
}

impl Weighted {
    /// CPU and memory alike.
    pub fn both() -> Vec<Self> {
        ["cpu", "memory"].map(|name| Self { name: name.into(), weight: 1 }).into()
    }
}

/// What makes a node good.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Much is left.
    #[default]
    Least,
    /// Much is used.
    Most,
    /// As this line says: (use in percent, score 0 to 10), by use.
    Ratio(Vec<(i64, i64)>),
}

/// The plugin with its arguments.
pub struct NodeResourcesFit {
    /// How it scores.
    pub strategy: Strategy,
    /// By which resources.
    pub resources: Vec<Weighted>,
    /// Extended resources that are not looked at.
    pub ignored: Vec<String>,
    /// And the parts before the slash of names that are not.
    pub ignored_groups: Vec<String>,
}

impl Default for NodeResourcesFit {
    fn default() -> Self {
        let resources = Weighted::both();
        Self { strategy: Strategy::default(), resources, ignored: Vec::new(), ignored_groups: Vec::new() }
    }
}

/// An extended resource asked for, with the words for its lack.
type Extended = SmallVec<[(String, i64, Arc<str>); 2]>;

/// Ready to be asked about nodes.
struct Wants {
    extended: Extended,
    /// Where what is known of nodes is remembered; only for pods that ask for nothing extended.
    known: Option<Place>,
}

impl NodeResourcesFit {
    fn extended(&self, pod: &PodInfo) -> Extended {
        let looked_at = |name: &String| {
            let group = name.split_once('/').map_or("", |(group, _)| group);
            !(name.contains('/')
                && (self.ignored.contains(name) || self.ignored_groups.iter().any(|g| g == group)))
        };
        let wanted = pod.request.scalar.iter().filter(|(name, amount)| *amount > 0 && looked_at(name));
        wanted.map(|(n, amount)| (n.clone(), amount, Arc::from(format!("Insufficient {n}")))).collect()
    }

    fn is_usual(&self) -> bool {
        let both = |a: &Weighted, b: &Weighted| a.name == "cpu" && b.name == "memory" && a.weight == b.weight;
        self.strategy == Strategy::Least && matches!(self.resources.as_slice(), [a, b] if both(a, b))
    }

    fn points(&self, used: i64, offered: i64) -> i64 {
        match &self.strategy {
            Strategy::Least if used > offered => 0,
            Strategy::Least => percent(offered - used, offered),
            Strategy::Most => percent(used.min(offered), offered),
            Strategy::Ratio(shape) => {
                on_line(shape, if used > offered { 100 } else { percent(used, offered) })
            }
        }
    }

    fn total(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for r in &self.resources {
            let (used, offered) = amounts(&r.name, pod, node);
            if offered <= 0 {
                continue;
            }
            let points = self.points(used, offered);
            if points > 0 || !matches!(self.strategy, Strategy::Ratio(_)) {
                sum += points * r.weight;
                weights += r.weight;
            }
        }
        match (&self.strategy, weights) {
            (_, 0) => 0,
            (Strategy::Ratio(_), _) => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn count(&self, pod: &PodInfo, all: &mut Snapshot) {
        Ask::of(pod).into_iter().for_each(|ask| all.remember(ask));
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        Before::ask(Wants { extended: self.extended(pod), known: place(pod, all) })
    }

    #[inline]
    fn filter(&self, prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        let Some(wants) = own::<Wants>(prepared) else { return Verdict::Fits };
        let Some(place) = wants.known.filter(|_| at.is_real()) else {
            return fit(pod, at.node, &wants.extended);
        };
        match at.all.memo().known(place, at.slot, || judge(pod, at.node)) {
            Known::Fits { .. } => Verdict::Fits,
            Known::Lacks(lack) => refusal(lack.words().map(Reason::Text).collect(), lack.never()),
        }
    }

    fn quick<'a>(&'a self, prepared: &'a Prepared, _pod: &PodInfo, all: &'a Snapshot) -> Option<Quick<'a>> {
        all.memo().cells(own::<Wants>(prepared)?.known?).map(Quick::Room)
    }

    fn weight(&self) -> i64 {
        1
    }

    fn pre_score(&self, _pod: &PodInfo, _all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        Some(None)
    }

    fn score(&self, _prepared: &Prepared, pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        if self.is_usual() {
            return least(pod, all, nodes, scores);
        }
        for (slot, score) in nodes.iter().zip(scores) {
            *score = self.total(pod, all.node(*slot));
        }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::PodLeft, Kind::PodShrunk, Kind::NodeAdded, Kind::NodeRoom, Kind::OwnRequest]
    }

    /// A node helps only if the pod would fit there were it empty.
    fn hint(&self, pod: &PodInfo, what: &Happening, _all: &Snapshot) -> bool {
        match what {
            Happening::Node { new, .. } => {
                fit(pod, &NodeInfo::alone(new.clone()), &self.extended(pod)) == Verdict::Fits
            }
            Happening::Pod { kind: Kind::PodShrunk, old, pod: now } => {
                old.as_ref().is_none_or(|old| shrank(&old.request, &now.request))
            }
            _ => true,
        }
    }
}

/// Where it is remembered what holds of nodes for pods like this.
pub fn place(pod: &PodInfo, all: &Snapshot) -> Option<Place> {
    all.memo().find(&Ask::of(pod)?)
}

/// What is remembered of a node: a pure function of the node's resources and an [`Ask`].
pub fn judge(pod: &PodInfo, node: &NodeInfo) -> Known {
    let lack = lack(pod, node);
    if lack.is_none() {
        return Known::fitting(least_of(pod, node), even_of(pod, node));
    }
    Known::Lacks(lack)
}

/// CPU and memory alike, the less used the better, as nearly everywhere: no names are looked at.
fn least(pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
    let cells = place(pod, all).and_then(|p| all.memo().cells(p));
    for (slot, score) in nodes.iter().zip(scores) {
        *score = match cells.and_then(|c| c.known(*slot)) {
            Some(Known::Fits { least, .. }) => i64::from(least),
            _ => least_of(pod, all.node(*slot)),
        };
    }
}

fn least_of(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let points = |used: i64, offered: i64| if used > offered { 0 } else { percent(offered - used, offered) };
    let (used, more, offered) = (&node.score_requested, &pod.score_request, &node.allocatable);
    let (cpu, memory) = (offered.cpu > 0, offered.memory > 0);
    let cpu_points = if cpu { points(used.cpu + more.cpu, offered.cpu) } else { 0 };
    let memory_points = if memory { points(used.memory + more.memory, offered.memory) } else { 0 };
    (cpu_points + memory_points) >> u32::from(cpu && memory)
}

fn shrank(old: &Resources, new: &Resources) -> bool {
    new.cpu < old.cpu || new.memory < old.memory || new.ephemeral < old.ephemeral
}

/// What is missing, but for what is extended.
fn lack(pod: &PodInfo, node: &NodeInfo) -> Lack {
    let (want, used, offer) = (&pod.request, &node.requested, &node.allocatable);
    let mut lack = if node.pods.len() as i64 + 1 > node.max_pods { Lack::PODS } else { 0 };
    for (bit, wanted, used, offered) in [
        (Lack::CPU, want.cpu, used.cpu, offer.cpu),
        (Lack::MEMORY, want.memory, used.memory, offer.memory),
        (Lack::EPHEMERAL, want.ephemeral, used.ephemeral, offer.ephemeral),
    ] {
        if wanted > 0 && wanted > offered - used {
            lack |= bit | if wanted > offered { Lack::NEVER } else { 0 };
        }
    }
    Lack(lack)
}

fn fit(pod: &PodInfo, node: &NodeInfo, extended: &Extended) -> Verdict {
    let lack = lack(pod, node);
    if lack.is_none() && extended.is_empty() {
        return Verdict::Fits;
    }
    let mut missing: Reasons = lack.words().map(Reason::Text).collect();
    let mut hopeless = lack.never();
    for (name, wanted, words) in extended {
        let of = |r: &Resources| r.scalar.get(name).unwrap_or(0);
        if *wanted > of(&node.allocatable) - of(&node.requested) {
            missing.push(Reason::Made(words.clone()));
            hopeless |= *wanted > of(&node.allocatable);
        }
    }
    refusal(missing, hopeless)
}

fn refusal(missing: Reasons, hopeless: bool) -> Verdict {
    match (missing.is_empty(), hopeless) {
        (true, _) => Verdict::Fits,
        (false, false) => Verdict::Refused(missing),
        (false, true) => Verdict::Never(missing),
    }
}

/// What of a resource would be used with the pod, and what there is; nothing of what the pod doesn't ask for beyond the usual three.
#[inline]
fn amounts(name: &str, pod: &PodInfo, node: &NodeInfo) -> (i64, i64) {
    match name {
        "cpu" => (node.score_requested.cpu + pod.score_request.cpu, node.allocatable.cpu),
        "memory" => (node.score_requested.memory + pod.score_request.memory, node.allocatable.memory),
        "ephemeral-storage" => (node.requested.ephemeral + pod.request.ephemeral, node.allocatable.ephemeral),
        _ => {
            let of = |r: &Resources| r.scalar.get(name).unwrap_or(0);
            match of(&pod.request) {
                0 => (0, 0),
                wanted => (of(&node.requested) + wanted, of(&node.allocatable)),
            }
        }
    }
}

/// Below this a quotient of percent comes out the same from a division of floating point numbers, which takes a fraction of the
/// time: its error is smaller than the distance to the next whole number.
const EXACT: i64 = 1 << 46;

#[inline]
fn percent(part: i64, whole: i64) -> i64 {
    if (0..EXACT).contains(&part) && whole < EXACT {
        return ((part * MAX_SCORE) as f64 / whole as f64) as i64;
    }
    (i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole)) as i64
}

/// The score at `use_` percent, ten times the line's, which is broken at its points and level before and after.
fn on_line(shape: &[(i64, i64)], use_: i64) -> i64 {
    let Some(after) = shape.iter().position(|(u, _)| use_ <= *u) else {
        return shape.last().map_or(0, |(_, score)| score * 10);
    };
    let (u2, s2) = (shape[after].0, shape[after].1 * 10);
    let Some((u1, s1)) = after.checked_sub(1).and_then(|i| shape.get(i)) else { return s2 };
    s1 * 10 + (s2 - s1 * 10) * (use_ - u1) / (u2 - u1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpu_pod, node_spec, pod};
    use serde_json::json;

    fn info(over: serde_json::Value) -> NodeInfo {
        NodeInfo::alone(node_spec("n", over))
    }

    fn filter(plugin: &NodeResourcesFit, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let all = Snapshot::default();
        let Before::Ask(prepared) = plugin.pre_filter(pod, &all) else { panic!("it always asks") };
        let view = View { node, slot: 0, all: &all, delta: Default::default() };
        plugin.filter(&prepared, pod, &view)
    }

    fn gpu(n: &str) -> Arc<PodInfo> {
        let requests = json!({"x.y/gpu": n});
        pod("p", json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}))
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut node = info(json!({"status": {"allocatable": {"pods": "1", "x.y/gpu": "1"}}}));
        let fit = NodeResourcesFit::default();
        assert_eq!(filter(&fit, &gpu("1"), &node), Verdict::Fits);
        let Verdict::Never(why) = filter(&fit, &gpu("2"), &node) else { panic!("there are not as many") };
        assert_eq!(why[0].as_str(), "Insufficient x.y/gpu");
        node.add_pod(cpu_pod("other", "3"));
        let Verdict::Refused(why) = filter(&fit, &cpu_pod("q", "2"), &node) else { panic!("it is full") };
        assert_eq!(why.iter().map(Reason::as_str).collect::<Vec<_>>(), ["Too many pods", "Insufficient cpu"]);
    }

    #[test]
    fn ignored_resources_are_not_looked_at() {
        let node = info(json!({}));
        let by_name = NodeResourcesFit { ignored: vec!["x.y/gpu".into()], ..Default::default() };
        let by_group = NodeResourcesFit { ignored_groups: vec!["x.y".into()], ..Default::default() };
        let other = NodeResourcesFit { ignored_groups: vec!["x".into()], ..Default::default() };
        assert_eq!(filter(&by_name, &gpu("2"), &node), Verdict::Fits);
        assert_eq!(filter(&by_group, &gpu("2"), &node), Verdict::Fits);
        assert!(matches!(filter(&other, &gpu("2"), &node), Verdict::Never(_)));
    }

    #[test]
    fn percents_are_whole_division() {
        let (tera, odd) = (1i64 << 46, 70_368_744_177_663);
        for whole in [1, 3, 7, 4000, 4001, 33_554_432_000, tera - 1, tera, odd, i64::MAX / 100] {
            for part in [0, 1, whole / 3, whole / 2, whole / 100 * 29, whole - whole / 7, whole - 1, whole] {
                let exact = i128::from(part) * 100 / i128::from(whole);
                assert_eq!(i128::from(percent(part, whole)), exact, "{part} of {whole}");
            }
        }
    }

    #[test]
    fn three_strategies() {
        // 4 CPUs and 8 GiB; 1 CPU is used, and 1 CPU and 200 MiB (the default) come.
        let mut node = info(json!({"status": {"allocatable": {"x.y/gpu": "4"}}}));
        node.add_pod(cpu_pod("other", "1"));
        let cpu = vec![Weighted { name: "cpu".into(), weight: 1 }];
        let ratio = |shape: &[(i64, i64)]| Strategy::Ratio(shape.to_vec());
        let with_gpu = [Weighted::both(), vec![Weighted { name: "x.y/gpu".into(), weight: 4 }]].concat();
        let score = |strategy, resources: &Vec<Weighted>, pod: &PodInfo| {
            let plugin = NodeResourcesFit { strategy, resources: resources.clone(), ..Default::default() };
            plugin.total(pod, &node)
        };
        let p = cpu_pod("p", "1");
        for (strategy, resources, want) in [
            (Strategy::Least, &cpu, 50),
            (Strategy::Least, &Weighted::both(), (50 + 95) / 2),
            (Strategy::Most, &Weighted::both(), (50 + 4) / 2),
            (Strategy::Least, &with_gpu, (50 + 95) / 2),
            (ratio(&[(0, 0), (100, 10)]), &cpu, 50),
            (ratio(&[(0, 10), (100, 0)]), &cpu, 50),
            (ratio(&[(40, 2), (60, 4)]), &cpu, 30),
            (ratio(&[(60, 4), (100, 10)]), &cpu, 40),
            (ratio(&[(0, 0), (40, 6)]), &cpu, 60),
        ] {
            assert_eq!(score(strategy.clone(), resources, &p), want, "{strategy:?} {resources:?}");
        }
        // CPU 1100 of 4000, memory 400 MiB of 8 GiB, one of four GPUs.
        assert_eq!(score(Strategy::Most, &with_gpu, &gpu("1")), (27 + 4 + 4 * 25) / 6);
        assert_eq!(score(Strategy::Least, &cpu, &cpu_pod("big", "9")), 0);
        assert_eq!(score(Strategy::Most, &cpu, &cpu_pod("big", "9")), 100);
    }
}
