//! From obstacles on each node to sentences.

use std::collections::BTreeSet;

use super::{Help, Obstacle, World};
use crate::finding::Reason;
use crate::words;

/// Up to so many nodes each get a sentence of their own.
const EACH: usize = 4;
/// How many nodes of a group are named.
const NAMED: usize = 3;

/// A node's obstacles.
struct Held<'a> {
    node: &'a str,
    obstacles: Vec<Obstacle>,
}

impl Held<'_> {
    /// What nodes with the same troubles have in common.
    fn alike(&self) -> String {
        self.obstacles.iter().map(|o| o.alike.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// How much would have to change: few things first, then cheap ones.
    fn cost(&self) -> (usize, u32) {
        let plugins: BTreeSet<&str> = self.obstacles.iter().map(|o| o.plugin).collect();
        (plugins.len(), self.obstacles.iter().map(|o| u32::from(o.help.cost) * 1000 + o.help.gap).sum())
    }
}

/// A sentence for each node, or for each group of nodes in the same trouble, and what would help at the node that needs
/// least. Nothing where some node would take the pod.
pub fn explain(world: &World<'_>) -> Vec<Reason> {
    let held: Vec<Held<'_>> =
        world.nodes.iter().map(|spot| Held { node: spot.name, obstacles: world.obstacles(spot) }).collect();
    if held.is_empty() || held.iter().any(|held| held.obstacles.is_empty()) {
        return Vec::new();
    }
    let best = held.iter().min_by_key(|held| held.cost()).map(|held| held.node).unwrap_or_default();
    let mut groups: Vec<Vec<Held<'_>>> = Vec::new();
    let apart = held.len() <= EACH;
    for one in held {
        match groups.iter_mut().find(|group| !apart && group.iter().any(|other| other.alike() == one.alike()))
        {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups.sort_by_key(|group| !group.iter().any(|held| held.node == best));
    groups.into_iter().filter_map(|group| reason(group, best)).collect()
}

fn reason(mut group: Vec<Held<'_>>, best: &str) -> Option<Reason> {
    group.sort_by_key(|held| (held.node != best, held.cost()));
    let nodes: Vec<&str> = group.iter().map(|held| held.node).collect();
    let (count, first) = (group.len(), group.first()?);
    let texts: Vec<&str> = first.obstacles.iter().map(|o| o.text.as_str()).collect();
    let sentence = match count {
        1 => format!("{} {}", first.node, texts.join("; it ")),
        n => format!(
            "{n} nodes ({}) are alike: {} {}",
            words::list(&nodes, NAMED),
            first.node,
            texts.join("; it ")
        ),
    };
    let mut reason = Reason::new(first.obstacles.first()?.plugin, sentence);
    reason.evidence = first.obstacles.iter().flat_map(|o| o.evidence.clone()).collect();
    if first.node == best {
        reason.helps = helps(&first.obstacles);
    }
    Some(reason)
}

/// What must be done for one node, each thing once.
fn helps(obstacles: &[Obstacle]) -> Vec<String> {
    let mut helps: Vec<&Help> = obstacles.iter().map(|o| &o.help).collect();
    helps.sort_by_key(|help| help.cost);
    let mut texts: Vec<String> = Vec::new();
    for help in helps {
        if !texts.contains(&help.text) {
            texts.push(help.text.clone());
        }
    }
    texts
}
