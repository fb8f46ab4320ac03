//! The extension points, the cycle that walks through them, and the words of a refusal.

pub mod cycle;
pub mod happening;
pub mod message;
pub mod preempt;
pub mod profile;
pub mod quick;

#[cfg(test)]
mod preempt_tests;

use std::any::Any;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
pub use happening::{Happening, Kind};
pub use quick::{Quick, Test, Want};

/// The best score of one plugin.
pub const MAX_SCORE: i64 = 100;

/// What a plugin computed for one pod before the nodes are walked.
pub type Prepared = Option<Box<dyn Any + Send + Sync>>;

/// What a plugin says of a pod before any node is looked at.
pub enum Before {
    /// Ask about each node, with what was computed.
    Ask(Prepared),
    /// This plugin has nothing to say of this pod.
    Skip,
    /// Only the nodes in these slots come into question.
    Only(Vec<u32>, Prepared),
    /// No node will do.
    Refuse(String),
}

impl Before {
    /// Ask about each node with this.
    pub fn ask<T: Any + Send + Sync>(prepared: T) -> Self {
        Self::Ask(Some(Box::new(prepared)))
    }
}

/// One reason, in words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Known beforehand.
    Text(&'static str),
    /// Made once per pod.
    Made(Arc<str>),
}

impl Reason {
    /// Whether both are the same; those from one place are so without a look at the words.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => std::ptr::eq(*a, *b) || a == b,
            (Self::Made(a), Self::Made(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// The reasons of one node; hardly ever more than two.
pub type Reasons = SmallVec<[Reason; 2]>;

/// What a plugin says of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It will do.
    Fits,
    /// It won't, for these reasons, until something leaves it.
    Refused(Reasons),
    /// It won't, and nothing leaving it would help.
    Never(Reasons),
}

impl Verdict {
    /// A final refusal for one reason.
    pub fn never(reason: &'static str) -> Self {
        Self::Never(smallvec![Reason::Text(reason)])
    }

    /// A refusal for one reason.
    pub fn refused(reason: &'static str) -> Self {
        Self::Refused(smallvec![Reason::Text(reason)])
    }
}

/// Pods thought onto a node, or away from it. The node in the same [`View`] has them on it, or off it, already; the counts of the
/// snapshot have not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delta<'a> {
    /// Thought onto it.
    pub added: &'a [Arc<PodInfo>],
    /// Thought away.
    pub removed: &'a [Arc<PodInfo>],
}

impl Delta<'_> {
    /// How many more of the pods that `counts` says are there than the snapshot knows.
    pub fn count(&self, counts: impl Fn(&PodInfo) -> i64) -> i64 {
        let sum = |pods: &[Arc<PodInfo>]| pods.iter().map(|p| counts(p)).sum::<i64>();
        sum(self.added) - sum(self.removed)
    }

    /// Whether nothing is thought.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// One node, as it is or is thought to be.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The node.
    pub node: &'a NodeInfo,
    /// Its place in the snapshot, for those who need nothing else of it.
    pub slot: u32,
    /// Everything else.
    pub all: &'a Snapshot,
    /// What is thought.
    pub delta: Delta<'a>,
}

impl<'a> View<'a> {
    /// A node as it is.
    #[inline]
    pub fn of(slot: u32, all: &'a Snapshot) -> Self {
        Self { node: all.node(slot), slot, all, delta: Delta::default() }
    }

    /// Whether it is the snapshot's own node, not one thought to be different. Told by where it lies: nothing of it is read.
    #[inline]
    pub fn is_real(&self) -> bool {
        std::ptr::eq(self.node, self.all.node(self.slot))
    }
}

/// One scheduling plugin. Every method has a default, so that a plugin writes only what it is about. Verdicts are synchronous and
/// depend on nothing but their arguments.
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// Whether the pod may enter the queue; the reason if not.
    ///
    /// # Errors
    /// The reason that keeps it out.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), String> {
        Ok(())
    }

    /// Asks the snapshot to count what this plugin will look at.
    fn count(&self, _pod: &PodInfo, _all: &mut Snapshot) {}

    /// Looks at the pod once, before the nodes. A plugin that only scores skips here.
    fn pre_filter(&self, _pod: &PodInfo, _all: &Snapshot) -> Before {
        Before::Skip
    }

    /// Whether the pod may go to this node.
    fn filter(&self, _prepared: &Prepared, _pod: &PodInfo, _at: &View<'_>) -> Verdict {
        Verdict::Fits
    }

    /// The same in short for nodes as they are, if it can be told by their numbers alone.
    fn quick<'a>(&'a self, _prepared: &'a Prepared, _pod: &PodInfo, _all: &'a Snapshot) -> Option<Quick<'a>> {
        None
    }

    /// The default weight of its score; 0 if it does not score.
    fn weight(&self) -> i64 {
        0
    }

    /// Looks at the nodes that will do, before they are scored; `None` if all of them are the same to this plugin.
    fn pre_score(&self, _pod: &PodInfo, _all: &Snapshot, _nodes: &[u32]) -> Option<Prepared> {
        None
    }

    /// How good each node is, 0 to 100, into `scores`, which is as long as `nodes`.
    fn score(
        &self,
        _prepared: &Prepared,
        _pod: &PodInfo,
        _all: &Snapshot,
        _nodes: &[u32],
        _scores: &mut [i64],
    ) {
    }

    /// What could change a refusal of this plugin.
    fn woken_by(&self) -> &'static [Kind] {
        &[]
    }

    /// Whether this event of a kind it is woken by could change its refusal of this pod.
    fn hint(&self, _pod: &PodInfo, _what: &Happening, _all: &Snapshot) -> bool {
        true
    }
}

/// What a plugin prepared, in its own type.
pub fn own<T: 'static>(prepared: &Prepared) -> Option<&T> {
    prepared.as_ref()?.downcast_ref()
}

/// Scales scores so that the best is 100, or with `reverse` so that the least is best.
pub fn scale(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 { 0 } else { *score * MAX_SCORE / max };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_the_real_node() {
        let all =
            crate::testing::cluster(&["a", "b"].map(|n| crate::testing::node(n, serde_json::json!({}))));
        assert!(View::of(1, &all).is_real());
        let copy = all.node(1).clone();
        assert!(!View { node: &copy, ..View::of(1, &all) }.is_real());
    }

    #[test]
    fn scaling() {
        for (before, reverse, after) in [
            ([0, 5, 10], false, [0, 50, 100]),
            ([0, 5, 10], true, [100, 50, 0]),
            ([0, 0, 0], true, [100, 100, 100]),
        ] {
            let mut scores = before;
            scale(&mut scores, reverse);
            assert_eq!(scores, after);
        }
    }
}
