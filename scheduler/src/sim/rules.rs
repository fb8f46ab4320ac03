//! What a pod wishes, what a node offers, and whether both agree: the rules of scheduling in the plainest words, apart from the
//! scheduler's own way of finding out.

use std::collections::BTreeMap;

/// Others of a group, by node or by zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    pub group: u8,
    pub zone: bool,
}

/// A pod as the simulation thinks of it.
#[derive(Debug, Clone)]
pub struct Wish {
    pub cpu: i64,
    pub priority: i32,
    /// It pushes nobody away.
    pub never: bool,
    /// A port of the node, 0 for none.
    pub port: i32,
    /// What it is one of.
    pub group: Option<u8>,
    /// Not near these.
    pub shy: Option<Others>,
    /// Only near these.
    pub company: Option<Others>,
    /// Its group lies evenly over nodes or (true) zones, up to this difference.
    pub even: Option<(i64, bool)>,
    /// Only on nodes of this disk.
    pub disk: Option<u8>,
    pub tolerates: bool,
    pub guarded: bool,
    pub scheduler: String,
}

/// A node as the simulation thinks of it.
#[derive(Debug, Clone)]
pub struct SimNode {
    pub cpu: i64,
    pub pods: usize,
    pub disk: u8,
    pub zone: u8,
    pub cordoned: bool,
    pub tainted: bool,
    /// How many seconds its clock is off.
    pub clock: i64,
    /// It shrank, or took a pod nobody could have known of: it may be too full.
    pub excused: bool,
}

/// A pod on a node.
#[derive(Debug, Clone)]
pub struct There {
    pub uid: String,
    pub node: String,
    pub wish: Wish,
    pub deleting: bool,
}

/// Nodes and the pods on them, as someone sees them.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    pub nodes: &'a BTreeMap<String, SimNode>,
    pub there: Vec<There>,
}

impl<'a> Setting<'a> {
    /// Pods on nodes that are not there any more count for nothing.
    pub fn new(nodes: &'a BTreeMap<String, SimNode>, there: impl IntoIterator<Item = There>) -> Self {
        Self { nodes, there: there.into_iter().filter(|t| nodes.contains_key(&t.node)).collect() }
    }

    /// The same without the pods of a node that `goes` says.
    fn cleared(&self, node: &str, goes: impl Fn(&Wish) -> bool) -> Self {
        let stays = |t: &&There| t.node != node || !goes(&t.wish);
        Self { nodes: self.nodes, there: self.there.iter().filter(stays).cloned().collect() }
    }

    /// Whether both nodes are one, or in one zone.
    fn together(&self, a: &str, b: &str, zone: bool) -> bool {
        if !zone {
            return a == b;
        }
        matches!((self.nodes.get(a), self.nodes.get(b)), (Some(a), Some(b)) if a.zone == b.zone)
    }

    /// Why the pod can't be on the node beside those that are there; `None` if it can. `room` asks only for what pods take from
    /// each other.
    pub fn trouble(&self, wish: &Wish, name: &str, room: bool) -> Option<&'static str> {
        let node = self.nodes.get(name)?;
        let here: Vec<&There> = self.there.iter().filter(|t| t.node == name).collect();
        let used: i64 = here.iter().map(|t| t.wish.cpu).sum();
        let taken = wish.port != 0 && here.iter().any(|t| t.wish.port == wish.port);
        let rules = [
            ("cpu", used + wish.cpu > node.cpu),
            ("pods", here.len() + 1 > node.pods),
            ("port", taken),
            ("anti-affinity", self.crowded(wish, name)),
            ("cordoned", !room && node.cordoned),
            ("taint", !room && node.tainted && !wish.tolerates),
            ("disk", !room && wish.disk.is_some_and(|d| d != node.disk)),
            ("affinity", !room && !self.in_company(wish, name)),
            ("spread", !room && !self.is_even(wish, name)),
        ];
        rules.into_iter().find(|(_, broken)| *broken).map(|(what, _)| what)
    }

    fn crowded(&self, wish: &Wish, name: &str) -> bool {
        let minds = |shy: Option<Others>, group: Option<u8>, at: &str| {
            shy.is_some_and(|s| group == Some(s.group) && self.together(at, name, s.zone))
        };
        let near =
            |t: &There| minds(wish.shy, t.wish.group, &t.node) || minds(t.wish.shy, wish.group, &t.node);
        self.there.iter().any(near)
    }

    fn in_company(&self, wish: &Wish, name: &str) -> bool {
        let Some(wanted) = wish.company else { return true };
        let mut such = self.there.iter().filter(|t| t.wish.group == Some(wanted.group)).peekable();
        if such.peek().is_none() {
            return wish.group == Some(wanted.group);
        }
        such.any(|t| self.together(&t.node, name, wanted.zone))
    }

    fn is_even(&self, wish: &Wish, name: &str) -> bool {
        let (Some((most, zone)), Some(group)) = (wish.even, wish.group) else { return true };
        let takes_part = |node: &SimNode| wish.disk.is_none_or(|d| d == node.disk);
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        let domain = |name: &str, node: &SimNode| if zone { node.zone.to_string() } else { name.to_string() };
        for (name, node) in self.nodes.iter().filter(|(_, n)| takes_part(n)) {
            let such = |t: &&There| t.node == *name && !t.deleting && t.wish.group == Some(group);
            let there = self.there.iter().filter(such).count() as i64;
            *counts.entry(domain(name, node)).or_insert(0) += there;
        }
        let least = counts.values().min().copied().unwrap_or(0);
        let Some(at) = self.nodes.get(name) else { return false };
        counts.get(&domain(name, at)).is_some_and(|c| c + 1 - least <= most)
    }

    /// Whether it can be there, also when those come that mean to.
    pub fn fits(&self, wish: &Wish, name: &str, coming: &[There]) -> bool {
        if !self.nodes.contains_key(name) || self.trouble(wish, name, false).is_some() {
            return false;
        }
        let mut crowded: Vec<There> = coming.iter().filter(|c| c.node == name).cloned().collect();
        if crowded.is_empty() {
            return true;
        }
        crowded.extend(self.there.iter().cloned());
        Self { nodes: self.nodes, there: crowded }.trouble(wish, name, false).is_none()
    }

    /// Whether it could be there once less important pods were gone; `spare` keeps the guarded ones.
    pub fn could(&self, wish: &Wish, name: &str, coming: &[There], spare: bool) -> bool {
        if wish.never || !self.in_company(wish, name) {
            return false;
        }
        // A node comes into question only if the pod fits there once all less important ones are gone, its company among them.
        if spare && !self.could(wish, name, coming, false) {
            return false;
        }
        let goes = |other: &Wish| other.priority < wish.priority && !(spare && other.guarded);
        self.cleared(name, goes).fits(wish, name, coming)
    }

    /// Nodes where it fits as things are.
    pub fn places(&self, wish: &Wish, coming: &[There]) -> Vec<String> {
        self.nodes.keys().filter(|n| self.fits(wish, n, coming)).cloned().collect()
    }

    /// Nodes where it could be made to fit.
    pub fn chances(&self, wish: &Wish, coming: &[There], spare: bool) -> Vec<String> {
        self.nodes.keys().filter(|n| self.could(wish, n, coming, spare)).cloned().collect()
    }
}
