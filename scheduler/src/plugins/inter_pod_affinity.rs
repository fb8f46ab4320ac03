//! InterPodAffinity: pods that want to be near others, or far from them, and pods already there that want the same of newcomers.

use smallvec::SmallVec;

use crate::framework::{
    Before, Happening, Kind, MAX_SCORE, Plugin, Prepared, Quick, Test, Verdict, View, Want, own,
};
use crate::model::counts::{Domains, Held, InPlace, NONE};
use crate::model::labels::Labels;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::terms::{PodAffinity, Term};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// The plugin with its arguments.
pub struct InterPodAffinity {
    /// What a required term of a pod that is there counts in the score of a newcomer it matches.
    pub hard_weight: i64,
    /// Newcomers without preferences are not scored by those of others.
    pub ignore_existing: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self { hard_weight: 1, ignore_existing: false }
    }
}

/// Counts by the domains of a topology: both by number.
#[derive(Clone, Copy)]
struct By {
    topology: usize,
    tally: usize,
}

/// Ready to be asked about nodes.
struct Terms {
    /// Where pods that match all required terms are, by each term's label.
    near: SmallVec<[By; 1]>,
    /// The pod itself matches all its required terms.
    own: bool,
    /// Where pods are that it must not be near.
    far: SmallVec<[By; 1]>,
    /// Terms of pods there that don't want it.
    unwanted: Vec<usize>,
}

fn covers(term: &Term, pod: &PodInfo, namespace: &Labels) -> bool {
    term.pods.covers(&pod.namespace, namespace, &pod.labels)
}

fn place(wanted: &std::sync::Arc<crate::model::terms::Wanted>, key: &str, all: &Snapshot) -> Option<By> {
    Some(By { topology: all.counts().find_topology(key)?, tally: all.counts().find(wanted)? })
}

impl By {
    fn domains<'a>(&self, all: &'a Snapshot) -> Option<&'a Domains> {
        all.counts().tally(self.tally)?.by(self.topology)
    }

    fn domain(&self, at: &View<'_>) -> u32 {
        at.all.counts().topology(self.topology).domain(at.slot)
    }
}

impl Terms {
    fn of(pod: &PodInfo, all: &Snapshot) -> Self {
        let none = PodAffinity::default();
        let affinity = pod.affinity.as_deref().unwrap_or(&none);
        let namespace = all.namespace(&pod.namespace);
        let together = affinity.required_all.as_ref();
        let near = affinity.required.iter().filter_map(|t| place(together?, &t.term.key, all));
        let far = affinity.anti.iter().filter_map(|t| place(&t.wanted, &t.term.key, all));
        let about = all.counts().about(&pod.namespace);
        let unwanted = about.filter(|(_, h)| h.held == Held::Anti && covers(&h.term, pod, namespace));
        Self {
            near: near.collect(),
            own: affinity.required.iter().all(|t| covers(&t.term, pod, namespace)),
            far: far.collect(),
            unwanted: unwanted.map(|(n, _)| n).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty() && self.unwanted.is_empty()
    }

    /// Every required term needs a pod in its domain, unless the pod is the first of its kind and would be its own company.
    fn is_near(&self, pod: &PodInfo, at: &View<'_>) -> bool {
        let Some(together) = pod.affinity.as_ref().and_then(|a| a.required_all.as_ref()) else { return true };
        let more = if at.delta.is_empty() {
            0
        } else {
            let namespace = |p: &PodInfo| at.all.namespace(&p.namespace);
            at.delta.count(|p| i64::from(together.counts(InPlace { pod: p, namespace: namespace(p) })))
        };
        let (mut all_there, mut total) = (true, 0);
        for by in &self.near {
            let domain = by.domain(at);
            if domain == NONE {
                return false;
            }
            let domains = by.domains(at.all);
            all_there &= domains.map_or(0, |d| d.at(domain)) + more > 0;
            total += domains.map_or(0, |d| d.total) + more;
        }
        all_there || (total == 0 && self.own)
    }

    fn is_far(&self, pod: &PodInfo, at: &View<'_>) -> bool {
        let anti = pod.affinity.iter().flat_map(|a| &a.anti);
        self.far.iter().zip(anti).all(|(by, own)| {
            let domain = by.domain(at);
            let there = by.domains(at.all).map_or(0, |d| d.at(domain));
            if domain == NONE || at.delta.is_empty() {
                return domain == NONE || there <= 0;
            }
            let namespace = |p: &PodInfo| at.all.namespace(&p.namespace);
            let counts = |p: &PodInfo| own.wanted.counts(InPlace { pod: p, namespace: namespace(p) });
            there + at.delta.count(|p| i64::from(counts(p))) <= 0
        })
    }

    fn is_wanted(&self, pod: &PodInfo, at: &View<'_>) -> bool {
        let counts = at.all.counts();
        let refuses = |number: &usize| {
            let Some(holders) = counts.holder(*number) else { return false };
            let domain = counts.topology(holders.topology).domain(at.slot);
            let held = |p: &PodInfo| {
                let anti = p.affinity.iter().flat_map(|a| &a.anti);
                anti.filter(|t| t.term == holders.term).count() as i64
            };
            let removed: i64 = at.delta.removed.iter().map(|p| held(p)).sum();
            domain != NONE && holders.domains().map_or(0, |d| d.at(domain)) - removed > 0
        };
        !self.unwanted.iter().any(refuses) && !at.delta.added.iter().any(|p| minds(p, pod, at))
    }
}

impl Terms {
    /// The three questions in short. Without a pod that matches all its required terms, one that does itself is its own company.
    fn tests<'a>(&self, all: &'a Snapshot) -> SmallVec<[Test<'a>; 2]> {
        let test = |topology: usize, domains: Option<&'a Domains>, want, reason, never| Test {
            topology: all.counts().topology(topology),
            counts: domains.map_or(&[][..], |d| &d.counts),
            want,
            reason,
            never,
        };
        let first = self.own && self.near.iter().all(|by| by.domains(all).is_none_or(|d| d.total == 0));
        let near = if first { Want::Label } else { Want::Some };
        let near = self.near.iter().map(|by| test(by.topology, by.domains(all), near, AFFINITY, true));
        let far = self.far.iter().map(|by| test(by.topology, by.domains(all), Want::Nothing, ANTI, false));
        let theirs = self.unwanted.iter().filter_map(|n| all.counts().holder(*n));
        let theirs = theirs.map(|h| test(h.topology, h.domains(), Want::Nothing, EXISTING, false));
        near.chain(far).chain(theirs).collect()
    }
}

/// Whether a pod thought onto the node doesn't want the other there.
fn minds(there: &PodInfo, pod: &PodInfo, at: &View<'_>) -> bool {
    let namespace = at.all.namespace(&pod.namespace);
    let mut anti = there.affinity.iter().flat_map(|a| &a.anti);
    anti.any(|t| at.node.spec.labels.contains_key(&t.term.key) && covers(&t.term, pod, namespace))
}

/// Something that adds to scores: counts by domain with a weight.
enum Pull {
    /// Pods that match a preference of the newcomer.
    Mine(By, i64),
    /// Pods that have a term about the newcomer.
    Theirs(usize, i64),
}

impl InterPodAffinity {
    fn pulls(&self, pod: &PodInfo, all: &Snapshot) -> Vec<Pull> {
        let mut pulls = Vec::new();
        let preferred = pod.affinity.as_deref().map_or(&[][..], |a| &a.preferred);
        for own in preferred {
            if let Some(by) = place(&own.wanted, &own.term.key, all)
                && by.domains(all).is_some_and(|d| d.total != 0)
            {
                pulls.push(Pull::Mine(by, own.weight));
            }
        }
        if self.ignore_existing && preferred.is_empty() {
            return pulls;
        }
        let namespace = all.namespace(&pod.namespace);
        for (number, holders) in all.counts().about(&pod.namespace) {
            let weight = match holders.held {
                Held::Anti => 0,
                Held::Required => self.hard_weight,
                Held::Preferred => 1,
            };
            if weight != 0 && covers(&holders.term, pod, namespace) {
                pulls.push(Pull::Theirs(number, weight));
            }
        }
        pulls
    }
}

impl Pull {
    fn add(&self, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        let counts = all.counts();
        let (topology, domains, weight) = match self {
            Self::Mine(by, weight) => (by.topology, by.domains(all), *weight),
            Self::Theirs(number, weight) => match counts.holder(*number) {
                Some(holders) => (holders.topology, holders.domains(), *weight),
                None => return,
            },
        };
        let Some(domains) = domains else { return };
        let topology = counts.topology(topology);
        for (slot, score) in nodes.iter().zip(scores) {
            // A node without the label has no domain, and nothing is counted there.
            *score += domains.at(topology.domain(*slot)) * weight;
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn count(&self, pod: &PodInfo, all: &mut Snapshot) {
        let Some(affinity) = &pod.affinity else { return };
        for own in affinity.anti.iter().chain(&affinity.preferred) {
            all.ensure(&own.wanted, &own.term.key);
        }
        if let Some(together) = &affinity.required_all {
            affinity.required.iter().for_each(|own| all.ensure(together, &own.term.key));
        }
    }

    fn pre_filter(&self, pod: &PodInfo, all: &Snapshot) -> Before {
        let terms = Terms::of(pod, all);
        // Pods that mean to come may mind, though nobody there does.
        if terms.is_empty() && !all.has_nominated() { Before::Skip } else { Before::ask(terms) }
    }

    fn filter(&self, prepared: &Prepared, pod: &PodInfo, at: &View<'_>) -> Verdict {
        let Some(terms) = own::<Terms>(prepared) else { return Verdict::Fits };
        if !terms.near.is_empty() && !terms.is_near(pod, at) {
            return Verdict::never(AFFINITY);
        }
        if !terms.is_far(pod, at) {
            return Verdict::refused(ANTI);
        }
        if !terms.is_wanted(pod, at) {
            return Verdict::refused(EXISTING);
        }
        Verdict::Fits
    }

    fn quick<'a>(&'a self, prepared: &'a Prepared, _pod: &PodInfo, all: &'a Snapshot) -> Option<Quick<'a>> {
        Some(Quick::Tests(own::<Terms>(prepared)?.tests(all)))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_score(&self, pod: &PodInfo, all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        let pulls = self.pulls(pod, all);
        (!pulls.is_empty()).then(|| Some(Box::new(pulls) as _))
    }

    fn score(&self, prepared: &Prepared, _pod: &PodInfo, all: &Snapshot, nodes: &[u32], scores: &mut [i64]) {
        scores.fill(0);
        let pulls = own::<Vec<Pull>>(prepared).into_iter().flatten();
        pulls.for_each(|pull| pull.add(all, nodes, scores));
        stretch(scores);
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::PodPlaced, Kind::PodLabels, Kind::PodLeft, Kind::NodeAdded, Kind::NodeLabels, Kind::OwnLabels]
    }

    fn hint(&self, pod: &PodInfo, what: &Happening, all: &Snapshot) -> bool {
        let Happening::Pod { kind, old, pod: other } = what else { return true };
        let none = PodAffinity::default();
        let mine = pod.affinity.as_deref().unwrap_or(&none);
        let about = |terms: &[crate::model::terms::OwnTerm], p: &PodInfo| {
            terms.iter().any(|t| covers(&t.term, p, all.namespace(&p.namespace)))
        };
        let company = |p: &PodInfo| about(&mine.required, p);
        let hindrance = |p: &PodInfo| {
            let theirs = p.affinity.as_deref().map_or(&[][..], |a| &a.anti);
            about(&mine.anti, p) || about(theirs, pod)
        };
        match kind {
            Kind::PodPlaced => company(other),
            // The last of its company may have left: then a pod that is company to itself can go anywhere.
            Kind::PodLeft => hindrance(other) || (company(other) && company(pod)),
            _ => company(other) || old.as_deref().is_some_and(hindrance),
        }
    }
}

/// The least becomes 0 and the most 100.
fn stretch(scores: &mut [i64]) {
    let least = scores.iter().copied().min().unwrap_or(0);
    let range = scores.iter().copied().max().unwrap_or(0) - least;
    for score in scores {
        *score =
            if range == 0 { 0 } else { (MAX_SCORE as f64 * ((*score - least) as f64 / range as f64)) as i64 };
    }
}
