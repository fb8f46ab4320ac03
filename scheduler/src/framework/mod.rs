//! The extension points, the cycle that walks through them, and the words of a refusal.

pub mod cycle;
pub mod message;

use std::any::Any;

use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

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
    /// Only these nodes come into question.
    Only(Vec<String>, Prepared),
    /// No node will do.
    Refuse(String),
}

/// What a plugin says of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It will do.
    Fits,
    /// It won't, for these reasons, until something leaves it.
    Refused(Vec<String>),
    /// It won't, and nothing leaving it would help.
    Never(Vec<String>),
}

impl Verdict {
    /// A final refusal for one reason.
    pub fn never(reason: &str) -> Self {
        Self::Never(vec![reason.into()])
    }

    /// A refusal for one reason.
    pub fn refused(reason: &str) -> Self {
        Self::Refused(vec![reason.into()])
    }
}

/// What happened in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Happening {
    /// A node came, or its labels, taints, room or cordon changed for the better.
    NodeOpened,
    /// A pod that was on a node left it.
    PodLeft,
    /// The pod itself was changed.
    PodChanged,
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

    /// Looks at the pod once, before the nodes. A plugin that only scores skips here.
    fn pre_filter(&self, _pod: &PodInfo, _nodes: &Snapshot) -> Before {
        Before::Skip
    }

    /// Whether the pod may go to this node.
    fn filter(&self, _prepared: &Prepared, _pod: &PodInfo, _node: &NodeInfo) -> Verdict {
        Verdict::Fits
    }

    /// The default weight of its score; 0 if it does not score.
    fn weight(&self) -> i64 {
        0
    }

    /// Whether its score is worth asking for this pod.
    fn scores(&self, _pod: &PodInfo) -> bool {
        true
    }

    /// How good the node is, 0 to 100, or anything that `normalise` makes 0 to 100.
    fn score(&self, _pod: &PodInfo, _node: &NodeInfo, _nodes: &Snapshot) -> i64 {
        0
    }

    /// Brings the scores of all nodes into 0 to 100.
    fn normalise(&self, _scores: &mut [i64]) {}

    /// What could change a refusal of this plugin.
    fn woken_by(&self) -> &'static [Happening] {
        &[]
    }
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
