//! PodTopologySpread: pods that are alike lie evenly over zones, nodes, or whatever a label tells apart.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use smallvec::SmallVec;

use crate::framework::{
    Before, Happening, Kind, MAX_SCORE, Plugin, Prepared, Quick, Test, Verdict, View, Want, own,
};
use crate::model::counts::{Domains, InPlace, NONE, Topology};
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::model::snapshot::{HARD, Snapshot};
use crate::model::spread::Spread;
use crate::model::taints::first_untolerated;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
/// Marks nodes that don't take part while scores are computed.
const IGNORED: i64 = i64::MIN;

/// The plugin with what holds for pods that have no constraints of their own.
pub struct TopologySpread {
    defaults: Vec<TopologySpreadConstraint>,
    /// The defaults are the system's: nodes without the labels take part.
    system: bool,
}

impl Default for TopologySpread {
    fn default() -> Self {
        let soft = |key: &str, max_skew| TopologySpreadConstraint {
            topology_key: key.into(),
            max_skew,
            when_unsatisfiable: "ScheduleAnyway".into(),
            ..Default::default()
        };
        Self { defaults: vec![soft(HOST, 3), soft(ZONE, 5)], system: true }
    }
}

/// Constraints of one sort.
type List<'a> = SmallVec<[&'a Spread; 2]>;

impl TopologySpread {
    /// With defaults of the profile.
    pub fn with(defaults: Vec<TopologySpreadConstraint>) -> Self {
        Self { defaults, system: false }
    }

    /// The pod's constraints, or the defaults if it has none and something selects it.
    fn constraints<'a>(&self, pod: &'a PodInfo, all: &Snapshot) -> Cow<'a, [Spread]> {
        if !pod.spread.is_empty() || self.defaults.is_empty() {
            return Cow::Borrowed(&pod.spread);
        }
        let Some(selector) = all.owners.selector(pod) else { return Cow::Borrowed(&[]) };
        let with = |c| Spread::with(c, &pod.namespace, selector.clone());
        Cow::Owned(self.defaults.iter().map(with).collect())
    }
}

fn those(constraints: &[Spread], hard: bool) -> List<'_> {
    constraints.iter().filter(|c| c.hard == hard).collect()
}

/// A hard constraint, ready to be asked about nodes.
struct Hard {
    constraint: Spread,
    topology: usize,
    tally: usize,
    /// 1 if the pod itself is counted.
    own: i64,
    /// By domain, if not all nodes take part.
    recount: Option<Vec<i64>>,
    /// The emptiest domain with its count, and the count of the next.
    least: (u32, i64),
    second: i64,
    domains: i64,
}

/// Whether a node counts for a constraint of this pod.
fn takes_part(constraint: &Spread, pod: &PodInfo, node: &NodeSpec) -> bool {
    (!constraint.honor_affinity || pod.wishes.allows(&node.name, &node.labels))
        && (!constraint.honor_taints || first_untolerated(&node.taints, &pod.tolerations, HARD).is_none())
}

/// Whether all nodes do, as far as can be told without looking at them.
fn all_take_part(constraint: &Spread, pod: &PodInfo, all: &Snapshot) -> bool {
    (!constraint.honor_affinity || pod.wishes.is_free()) && (!constraint.honor_taints || all.hard_taints == 0)
}

struct Place<'a> {
    topology: &'a Topology,
    number: usize,
    tally: usize,
    domains: &'a Domains,
}

fn place<'a>(constraint: &Spread, all: &'a Snapshot) -> Option<Place<'a>> {
    let counts = all.counts();
    let number = counts.find_topology(&constraint.key)?;
    let tally = counts.find(&constraint.wanted)?;
    let domains = counts.tally(tally)?.by(number)?;
    Some(Place { topology: counts.topology(number), number, tally, domains })
}

/// Counts by domain anew, over the nodes that have all `keys` and take part; -1 for domains without any.
fn recount(constraint: &Spread, at: &Place<'_>, keys: &[usize], pod: &PodInfo, all: &Snapshot) -> Vec<i64> {
    let mut counts = vec![-1; at.topology.nodes.len()];
    let Some(tally) = all.counts().tally(at.tally) else { return counts };
    let labelled = |slot: u32| keys.iter().all(|k| all.counts().topology(*k).domain(slot) != NONE);
    for slot in all.order().iter().filter(|s| labelled(**s)) {
        let domain = at.topology.domain(*slot);
        if domain != NONE && takes_part(constraint, pod, &all.node(*slot).spec) {
            let count = &mut counts[domain as usize];
            *count = (*count).max(0) + tally.on(*slot);
        }
    }
    counts
}

impl Hard {
    fn of(constraint: &Spread, keys: &[usize], whole: bool, pod: &PodInfo, all: &Snapshot) -> Option<Self> {
        let at = place(constraint, all)?;
        let whole = whole && all_take_part(constraint, pod, all);
        let recount = (!whole).then(|| recount(constraint, &at, keys, pod, all));
        let mut hard = Self {
            own: i64::from(constraint.selector.matches(&pod.labels)),
            constraint: constraint.clone(),
            topology: at.number,
            tally: at.tally,
            recount,
            least: (NONE, i64::MAX),
            second: i64::MAX,
            domains: 0,
        };
        match hard.recount.take() {
            Some(counts) => {
                let known = counts.iter().enumerate().filter(|(_, c)| **c >= 0);
                known.for_each(|(d, c)| hard.see(d as u32, *c));
                hard.recount = Some(counts);
            }
            None => {
                let nodes = at.topology.nodes.iter().enumerate().filter(|(_, n)| **n > 0);
                nodes.for_each(|(d, _)| hard.see(d as u32, at.domains.at(d as u32)));
            }
        }
        Some(hard)
    }

    fn see(&mut self, domain: u32, count: i64) {
        self.domains += 1;
        if count < self.least.1 {
            self.second = self.least.1;
            self.least = (domain, count);
        } else if count < self.second {
            self.second = count;
        }
    }

    fn count(&self, domain: u32, all: &Snapshot) -> i64 {
        match &self.recount {
            Some(counts) => counts.get(domain as usize).copied().unwrap_or(0).max(0),
            None => {
                let tally = all.counts().tally(self.tally);
                tally.and_then(|t| t.by(self.topology)).map_or(0, |d| d.at(domain))
            }
        }
    }

    /// How many more of the pods counted are thought to be on the node.
    fn thought(&self, pod: &PodInfo, at: &View<'_>) -> i64 {
        if at.delta.is_empty() || !takes_part(&self.constraint, pod, &at.node.spec) {
            return 0;
        }
        let namespace = at.all.namespace(&pod.namespace);
        at.delta.count(|p| i64::from(self.constraint.wanted.counts(InPlace { pod: p, namespace })))
    }

    fn emptiest(&self, domain: u32, count: i64, more: i64) -> i64 {
        if self.domains < self.constraint.min_domains {
            return 0;
        }
        match more {
            0 => self.least.1,
            _ if domain == self.least.0 => self.second.min(count),
            _ => self.least.1.min(count),
        }
    }

    /// The verdict in short, if all nodes have the label.
    fn test<'a>(&'a self, all: &'a Snapshot) -> Option<Test<'a>> {
        let topology = all.counts().topology(self.topology);
        let counts = match &self.recount {
            Some(counts) => counts.as_slice(),
            None => all.counts().tally(self.tally)?.by(self.topology).map_or(&[][..], |d| &d.counts),
        };
        let least = self.emptiest(NONE, 0, 0);
        let most = self.constraint.max_skew.saturating_sub(self.own).saturating_add(least);
        (topology.lacking == 0).then_some(Test {
            topology,
            counts,
            want: Want::AtMost(most),
            reason: UNEVEN,
            never: false,
        })
    }

    fn verdict(&self, pod: &PodInfo, at: &View<'_>) -> Verdict {
        let domain = at.all.counts().topology(self.topology).domain(at.slot);
        if domain == NONE {
            return Verdict::never(UNLABELLED);
        }
        let more = self.thought(pod, at);
        let count = self.count(domain, at.all) + more;
        let least = self.emptiest(domain, count, more);
        let skew = count.saturating_add(self.own).saturating_sub(least);
        if skew > self.constraint.max_skew { Verdict::refused(UNEVEN) } else { Verdict::Fits }
    }
}

/// A soft constraint, ready to score.
struct Soft {
    topology: usize,
    tally: usize,
    /// Pods are counted on the node itself.
    host: bool,
    recount: Option<Vec<i64>>,
    weight: f64,
    max_skew: i64,
}

impl Soft {
    fn of(
        c: &Spread,
        keys: &[usize],
        strict: bool,
        pod: &PodInfo,
        all: &Snapshot,
        nodes: &[u32],
    ) -> Option<Self> {
        let at = place(c, all)?;
        let host = c.key == HOST;
        let labelled = !strict || keys.iter().all(|k| all.counts().topology(*k).lacking == 0);
        let whole = labelled && all_take_part(c, pod, all);
        let required: &[usize] = if strict { keys } else { &[] };
        let size = if host {
            taking_part(nodes, required, all)
        } else {
            distinct(nodes, required, at.topology, all)
        };
        Some(Self {
            topology: at.number,
            tally: at.tally,
            host,
            recount: (!host && !whole).then(|| recount(c, &at, required, pod, all)),
            weight: ((size + 2) as f64).ln(),
            max_skew: c.max_skew,
        })
    }

    fn score(&self, slot: u32, all: &Snapshot) -> f64 {
        let counts = all.counts();
        let domain = counts.topology(self.topology).domain(slot);
        let Some(tally) = counts.tally(self.tally).filter(|_| domain != NONE) else { return 0.0 };
        let count = match &self.recount {
            _ if self.host => tally.on(slot),
            Some(counts) => counts.get(domain as usize).copied().unwrap_or(0).max(0),
            None => tally.by(self.topology).map_or(0, |d| d.at(domain)),
        };
        count as f64 * self.weight + (self.max_skew - 1) as f64
    }
}

fn has_all(slot: u32, keys: &[usize], all: &Snapshot) -> bool {
    keys.iter().all(|k| all.counts().topology(*k).domain(slot) != NONE)
}

fn taking_part(nodes: &[u32], keys: &[usize], all: &Snapshot) -> usize {
    nodes.iter().filter(|s| has_all(**s, keys, all)).count()
}

fn distinct(nodes: &[u32], keys: &[usize], topology: &Topology, all: &Snapshot) -> usize {
    let mut seen = vec![false; topology.nodes.len()];
    for slot in nodes.iter().filter(|s| has_all(**s, keys, all)) {
        if let Some(seen) = seen.get_mut(topology.domain(*slot) as usize) {
            *seen = true;
        }
    }
    seen.iter().filter(|s| **s).count()
}

struct Scoring {
    soft: SmallVec<[Soft; 2]>,
    /// Nodes without one of these labels don't take part.
    keys: SmallVec<[usize; 2]>,
}

fn numbers(list: &List<'_>, all: &Snapshot) -> SmallVec<[usize; 2]> {
    list.iter().filter_map(|c| all.counts().find_topology(&c.key)).collect()
}

impl Plugin for TopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn count(&self, pod: &PodInfo, all: &mut Snapshot) {
        for c in self.constraints(pod, all).iter() {
            all.ensure(&c.wanted, &c.key);
        }
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        let constraints = self.constraints(pod, all);
        let list = those(&constraints, true);
        if list.is_empty() {
            return Before::Skip;
        }
        let keys = numbers(&list, all);
        let whole = keys.iter().all(|k| all.counts().topology(*k).lacking == 0);
        let hard: SmallVec<[Hard; 2]> =
            list.iter().filter_map(|c| Hard::of(c, &keys, whole, pod, all)).collect();
        Before::ask(hard)
    }

    fn filter(&self, prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        let Some(hard) = own::<SmallVec<[Hard; 2]>>(prepared) else { return Verdict::Fits };
        hard.iter().map(|h| h.verdict(pod, at)).find(|v| *v != Verdict::Fits).unwrap_or(Verdict::Fits)
    }

    fn quick<'a>(&'a self, prepared: &'a Prepared, _pod: &PodInfo, all: &'a Snapshot) -> Option<Quick<'a>> {
        let hard = own::<SmallVec<[Hard; 2]>>(prepared)?;
        hard.iter().map(|h| h.test(all)).collect::<Option<_>>().map(Quick::Tests)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_score(&self, pod: &PodInfo, all: &Snapshot, nodes: &[u32]) -> Option<Prepared> {
        let constraints = self.constraints(pod, all);
        let list = those(&constraints, false);
        if list.is_empty() {
            return None;
        }
        let strict = !pod.spread.is_empty() || !self.system;
        let keys = numbers(&list, all);
        let soft = list.iter().filter_map(|c| Soft::of(c, &keys, strict, pod, all, nodes)).collect();
        let keys = if strict { keys } else { SmallVec::new() };
        Some(Some(Box::new(Scoring { soft, keys })))
    }

    fn score(&self, prepared: &Prepared, _pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        let Some(scoring) = own::<Scoring>(prepared) else { return };
        for (slot, score) in nodes.iter().zip(scores.iter_mut()) {
            *score = match has_all(*slot, &scoring.keys, all) {
                true => scoring.soft.iter().map(|s| s.score(*slot, all)).sum::<f64>().round() as i64,
                false => IGNORED,
            };
        }
        even_out(scores);
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[
            Kind::PodPlaced,
            Kind::PodLabels,
            Kind::PodLeft,
            Kind::NodeAdded,
            Kind::NodeGone,
            Kind::NodeLabels,
            Kind::NodeTaints,
            Kind::OwnLabels,
            Kind::OwnTolerations,
        ]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, all: &Snapshot) -> bool {
        let constraints = self.constraints(pod, all);
        let list = those(&constraints, true);
        match what {
            Happening::Pod { old, pod: other, .. } => {
                let counted = |p: &PodInfo| list.iter().any(|c| c.selector.matches(&p.labels));
                other.namespace == pod.namespace && (counted(other) || old.as_deref().is_some_and(counted))
            }
            Happening::Node { old, new, .. } => {
                let labelled = |n: &NodeSpec| list.iter().all(|c| n.labels.contains_key(&c.key));
                labelled(new) || old.as_deref().is_some_and(labelled)
            }
            _ => true,
        }
    }
}

/// The fewer the better: the node with most gets least. Where nothing is counted all are alike.
fn even_out(scores: &mut [i64]) {
    let known = || scores.iter().copied().filter(|s| *s != IGNORED);
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    for score in scores {
        *score = match *score {
            IGNORED => 0,
            _ if most == 0 => MAX_SCORE,
            s => MAX_SCORE * (most + least - s) / most,
        };
    }
}
