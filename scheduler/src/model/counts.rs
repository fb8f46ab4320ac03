//! Counts of pods per node and per topology domain, kept up to date as pods come and go, so that no plugin walks over all pods.
//!
//! Two sorts: pods that match a selector, counted from the moment the first pod asks for it; and pods that have a term of pod
//! affinity themselves, always counted, because they concern pods yet to come.

use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use super::labels::Labels;
use super::pod::PodInfo;
use super::terms::{Term, Wanted};

/// The node lacks the label.
pub const NONE: u32 = u32::MAX;
/// So many selectors are counted at once; the one unused longest goes first.
const ROOM: usize = 1024;
/// So many labels divide the nodes into domains at once.
const KEYS: usize = 64;

/// The nodes divided by the value of one label.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// The label.
    pub key: String,
    /// The domain of each node by slot, [`NONE`] without the label or without a Node object.
    pub of_node: Vec<u32>,
    /// How many nodes each domain has; 0 for a number that is free.
    pub nodes: Vec<u32>,
    /// How many domains have nodes.
    pub domains: usize,
    /// How many nodes lack the label.
    pub lacking: usize,
    by_value: AHashMap<String, u32>,
    free: Vec<u32>,
    used: u64,
}

impl Topology {
    /// The domain of a node.
    #[inline]
    pub fn domain(&self, slot: u32) -> u32 {
        self.of_node.get(slot as usize).copied().unwrap_or(NONE)
    }

    fn enter(&mut self, slot: u32, value: Option<&String>) {
        fit(&mut self.of_node, slot, NONE);
        let Some(value) = value else {
            self.lacking += 1;
            return;
        };
        let domain = match self.by_value.get(value) {
            Some(domain) => *domain,
            None => self.open(value),
        };
        self.nodes[domain as usize] += 1;
        self.of_node[slot as usize] = domain;
    }

    fn open(&mut self, value: &str) -> u32 {
        let domain = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(0);
            self.nodes.len() as u32 - 1
        });
        self.by_value.insert(value.into(), domain);
        self.domains += 1;
        domain
    }

    fn leave(&mut self, slot: u32, value: Option<&String>) {
        let Some(value) = value else {
            self.lacking = self.lacking.saturating_sub(1);
            return;
        };
        let domain = std::mem::replace(&mut self.of_node[slot as usize], NONE);
        let Some(nodes) = self.nodes.get_mut(domain as usize) else { return };
        *nodes -= 1;
        if *nodes == 0 {
            self.by_value.remove(value);
            self.free.push(domain);
            self.domains -= 1;
        }
    }
}

/// One count.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// By slot of the node.
    pub per_node: Vec<i64>,
    /// By domain, for each topology asked for: its number, and the sum over all domains.
    by_key: SmallVec<[Domains; 2]>,
    used: u64,
}

/// The counts of a tally by the domains of one topology.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    topology: usize,
    /// By domain.
    pub counts: Vec<i64>,
    /// Over all domains.
    pub total: i64,
}

impl Domains {
    /// The count of a domain.
    #[inline]
    pub fn at(&self, domain: u32) -> i64 {
        self.counts.get(domain as usize).copied().unwrap_or(0)
    }
}

impl Tally {
    fn add(&mut self, slot: u32, amount: i64, topologies: &[Topology]) {
        fit(&mut self.per_node, slot, 0);
        self.per_node[slot as usize] += amount;
        for d in &mut self.by_key {
            shift(d, topologies[d.topology].domain(slot), amount);
        }
    }

    /// What is counted on a node.
    #[inline]
    pub fn on(&self, slot: u32) -> i64 {
        self.per_node.get(slot as usize).copied().unwrap_or(0)
    }

    /// The counts by the domains of a topology.
    pub fn by(&self, topology: usize) -> Option<&Domains> {
        self.by_key.iter().find(|d| d.topology == topology)
    }

    fn follow(&mut self, number: usize, topology: &Topology) {
        if self.by_key.iter().any(|d| d.topology == number) {
            return;
        }
        let mut domains = Domains { topology: number, ..Domains::default() };
        for (slot, amount) in self.per_node.iter().enumerate().filter(|(_, a)| **a != 0) {
            shift(&mut domains, topology.domain(slot as u32), *amount);
        }
        self.by_key.push(domains);
    }
}

fn shift(domains: &mut Domains, domain: u32, amount: i64) {
    if domain != NONE {
        fit(&mut domains.counts, domain, 0);
        domains.counts[domain as usize] += amount;
        domains.total += amount;
    }
}

fn fit<T: Clone>(list: &mut Vec<T>, place: u32, with: T) {
    if list.len() <= place as usize {
        list.resize(place as usize + 1, with);
    }
}

/// What a term of a pod that is already there means for one to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// It must not come near.
    Anti,
    /// It is needed near.
    Required,
    /// Its being near is liked, or disliked; the weights are summed.
    Preferred,
}

/// Pods that have one term.
#[derive(Debug, Clone)]
pub struct Holders {
    /// What it means.
    pub held: Held,
    /// The term.
    pub term: Arc<Term>,
    /// The topology of its key.
    pub topology: usize,
    /// Pods, or the sum of weights.
    pub tally: Tally,
    pods: usize,
}

impl Holders {
    /// The counts by domain.
    pub fn domains(&self) -> Option<&Domains> {
        self.tally.by_key.first()
    }
}

/// All counts.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    topologies: Vec<Topology>,
    by_key: AHashMap<String, usize>,
    tallies: Vec<Option<Tally>>,
    wanted: AHashMap<Arc<Wanted>, usize>,
    /// The same by the namespace they are about; those about several, or named by label, are under the empty name.
    homes: AHashMap<String, Vec<(Arc<Wanted>, usize)>>,
    holders: Vec<Option<Holders>>,
    held: AHashMap<(Held, Arc<Term>), usize>,
    /// Numbers of holders by a namespace their term names; those that name namespaces by label are under the empty name.
    concerned: AHashMap<String, Vec<usize>>,
    clock: u64,
}

/// A pod with the labels of its namespace.
#[derive(Clone, Copy)]
pub struct InPlace<'a> {
    /// The pod.
    pub pod: &'a PodInfo,
    /// Its namespace's labels.
    pub namespace: &'a Labels,
}

impl Wanted {
    /// Whether this pod is counted.
    pub fn counts(&self, at: InPlace<'_>) -> bool {
        !(self.living && at.pod.deleting)
            && self.matches.iter().all(|m| m.covers(&at.pod.namespace, at.namespace, &at.pod.labels))
    }

    /// The one namespace it is about, or nothing.
    fn home(&self) -> &str {
        match self.matches.first().map(|m| (&m.scope.selector, m.scope.names.as_slice())) {
            Some((None, [only])) => only,
            _ => "",
        }
    }

    /// Whether labels of namespaces decide.
    pub fn asks_namespaces(&self) -> bool {
        self.matches.iter().any(|m| m.scope.selector.is_some())
    }
}

impl Counts {
    /// A topology by its number.
    pub fn topology(&self, number: usize) -> &Topology {
        &self.topologies[number]
    }

    /// The number of the topology of a label, if it was asked for.
    pub fn find_topology(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The number of the tally of these pods, if it was asked for.
    pub fn find(&self, wanted: &Arc<Wanted>) -> Option<usize> {
        self.wanted.get(wanted).copied()
    }

    /// A tally by its number.
    pub fn tally(&self, number: usize) -> Option<&Tally> {
        self.tallies.get(number)?.as_ref()
    }

    /// Pods that have a term, by number.
    pub fn holder(&self, number: usize) -> Option<&Holders> {
        self.holders.get(number)?.as_ref()
    }

    /// All terms of pods already there that could be about pods of this namespace, with their numbers.
    pub fn about<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (usize, &'a Holders)> {
        let named = self.concerned.get(namespace).into_iter().flatten();
        let by_label = self.concerned.get("").into_iter().flatten();
        named.chain(by_label).filter_map(|n| Some((*n, self.holder(*n)?)))
    }

    /// Whether a label divides the nodes already.
    pub fn has_topology(&mut self, key: &str) -> bool {
        self.clock += 1;
        let Some(number) = self.by_key.get(key) else { return false };
        self.topologies[*number].used = self.clock;
        true
    }

    /// Divides the nodes by a label; `nodes` are all that are present with their labels.
    pub fn add_topology<'a>(&mut self, key: &str, nodes: impl Iterator<Item = (u32, &'a Labels)>) -> usize {
        let mut topology = Topology { key: key.into(), used: self.clock, ..Topology::default() };
        nodes.for_each(|(slot, labels)| topology.enter(slot, labels.get(key)));
        let number = match self.spare_topology() {
            Some(number) => number,
            None => {
                self.topologies.push(Topology::default());
                self.topologies.len() - 1
            }
        };
        self.by_key.remove(&self.topologies[number].key);
        self.topologies[number] = topology;
        self.by_key.insert(key.into(), number);
        number
    }

    /// The place of a label unused longest, when there are too many and no term of a pod rests on it.
    fn spare_topology(&mut self) -> Option<usize> {
        if self.topologies.len() < KEYS {
            return None;
        }
        let in_use = |n: usize| self.holders.iter().flatten().any(|h| h.topology == n);
        let oldest =
            (0..self.topologies.len()).filter(|n| !in_use(*n)).min_by_key(|n| self.topologies[*n].used)?;
        for tally in self.tallies.iter_mut().flatten() {
            tally.by_key.retain(|d| d.topology != oldest);
        }
        Some(oldest)
    }

    /// Whether these pods are counted by this label already.
    pub fn is_counted(&mut self, wanted: &Arc<Wanted>, key: &str) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let (Some(number), Some(topology)) = (self.wanted.get(wanted), self.by_key.get(key)) else {
            return false;
        };
        self.topologies[*topology].used = clock;
        let Some(Some(tally)) = self.tallies.get_mut(*number) else { return false };
        tally.used = clock;
        tally.by_key.iter().any(|d| d.topology == *topology)
    }

    /// Begins to count pods by a label that divides the nodes already; `pods` gives every pod with its node's slot.
    pub fn begin<'a>(
        &mut self,
        wanted: &Arc<Wanted>,
        key: &str,
        pods: impl Iterator<Item = (u32, InPlace<'a>)>,
    ) {
        let Some(topology) = self.by_key.get(key).copied() else { return };
        if !self.wanted.contains_key(wanted) {
            let mut tally = Tally { used: self.clock, ..Tally::default() };
            for (slot, _) in pods.filter(|(_, at)| wanted.counts(*at)) {
                tally.add(slot, 1, &self.topologies);
            }
            let number = self.place();
            self.tallies[number] = Some(tally);
            self.homes.entry(wanted.home().into()).or_default().push((wanted.clone(), number));
            self.wanted.insert(wanted.clone(), number);
        }
        let number = self.wanted[wanted];
        if let Some(tally) = &mut self.tallies[number] {
            tally.follow(topology, &self.topologies[topology]);
        }
    }

    fn place(&mut self) -> usize {
        if self.wanted.len() >= ROOM {
            let age = |n: &usize| self.tallies[*n].as_ref().map_or(0, |t| t.used);
            if let Some(oldest) = self.wanted.iter().min_by_key(|(_, n)| age(n)).map(|(w, _)| w.clone())
                && let Some(number) = self.forget(&oldest)
            {
                return number;
            }
        }
        free_place(&mut self.tallies)
    }

    fn forget(&mut self, wanted: &Arc<Wanted>) -> Option<usize> {
        if let Some(home) = self.homes.get_mut(wanted.home()) {
            home.retain(|(w, _)| w != wanted);
            if home.is_empty() {
                self.homes.remove(wanted.home());
            }
        }
        self.wanted.remove(wanted)
    }

    /// A pod came to a node (`sign` 1) or left it (-1).
    pub fn pod(&mut self, slot: u32, at: InPlace<'_>, sign: i64) {
        let homes = [at.pod.namespace.as_str(), ""].into_iter().filter_map(|home| self.homes.get(home));
        for (wanted, number) in homes.flatten() {
            if wanted.counts(at)
                && let Some(tally) = &mut self.tallies[*number]
            {
                tally.add(slot, sign, &self.topologies);
            }
        }
        let Some(affinity) = &at.pod.affinity else { return };
        let all = affinity.anti.iter().map(|t| (Held::Anti, t));
        let all = all.chain(affinity.required.iter().map(|t| (Held::Required, t)));
        for (held, own) in all.chain(affinity.preferred.iter().map(|t| (Held::Preferred, t))) {
            self.hold(held, &own.term, slot, own.weight * sign, sign > 0);
        }
    }

    fn hold(&mut self, held: Held, term: &Arc<Term>, slot: u32, amount: i64, comes: bool) {
        let key = (held, term.clone());
        let number = match self.held.get(&key) {
            Some(number) => *number,
            None => self.begin_holding(key.clone()),
        };
        let Some(holders) = &mut self.holders[number] else { return };
        holders.tally.add(slot, amount, &self.topologies);
        holders.pods = if comes { holders.pods + 1 } else { holders.pods.saturating_sub(1) };
        if holders.pods == 0 {
            self.end_holding(&key, number);
        }
    }

    fn begin_holding(&mut self, key: (Held, Arc<Term>)) -> usize {
        let (held, term) = key.clone();
        let topology = self.by_key.get(&term.key).copied().unwrap_or(0);
        let mut tally = Tally::default();
        tally.follow(topology, &self.topologies[topology]);
        let number = free_place(&mut self.holders);
        for namespace in namespaces(&term) {
            self.concerned.entry(namespace).or_default().push(number);
        }
        self.holders[number] = Some(Holders { held, term, topology, tally, pods: 0 });
        self.held.insert(key, number);
        number
    }

    fn end_holding(&mut self, key: &(Held, Arc<Term>), number: usize) {
        self.held.remove(key);
        self.holders[number] = None;
        for namespace in namespaces(&key.1) {
            if let Some(list) = self.concerned.get_mut(&namespace) {
                list.retain(|n| *n != number);
                if list.is_empty() {
                    self.concerned.remove(&namespace);
                }
            }
        }
    }

    /// A node's labels changed; `None` stands for a node without its Node object.
    pub fn node(&mut self, slot: u32, old: Option<&Labels>, new: Option<&Labels>) {
        for number in 0..self.topologies.len() {
            let topology = &mut self.topologies[number];
            let key = topology.key.clone();
            let value = |labels: Option<&Labels>| labels.map(|l| l.get(&key).cloned());
            let (before, after) = (value(old), value(new));
            if before == after {
                continue;
            }
            let from = topology.domain(slot);
            before.iter().for_each(|v| topology.leave(slot, v.as_ref()));
            after.iter().for_each(|v| topology.enter(slot, v.as_ref()));
            let to = topology.domain(slot);
            let holders = self.holders.iter_mut().flatten().map(|h| &mut h.tally);
            for tally in self.tallies.iter_mut().flatten().chain(holders) {
                tally.moved(number, slot, from, to);
            }
        }
    }

    /// The labels of a namespace changed: what was counted by them is counted anew when next asked for.
    pub fn namespace_changed(&mut self) {
        let stale: Vec<Arc<Wanted>> = self.wanted.keys().filter(|w| w.asks_namespaces()).cloned().collect();
        for wanted in stale {
            if let Some(number) = self.forget(&wanted) {
                self.tallies[number] = None;
            }
        }
    }
}

impl Tally {
    fn moved(&mut self, topology: usize, slot: u32, from: u32, to: u32) {
        let amount = self.on(slot);
        if amount == 0 {
            return;
        }
        for d in self.by_key.iter_mut().filter(|d| d.topology == topology) {
            shift(d, from, -amount);
            shift(d, to, amount);
        }
    }
}

fn free_place<T>(list: &mut Vec<Option<T>>) -> usize {
    match list.iter().position(Option::is_none) {
        Some(place) => place,
        None => {
            list.push(None);
            list.len() - 1
        }
    }
}

/// Under which names a term is found: those it names, and the empty one if labels decide.
fn namespaces(term: &Term) -> Vec<String> {
    let scope = &term.pods.scope;
    let mut names = scope.names.clone();
    names.dedup();
    if scope.selector.is_some() {
        names.clear();
        names.push(String::new());
    }
    names
}
