//! Preemption, the pure part: on which node less important pods could make room, and which of them.

use std::sync::Arc;

use jiff::Timestamp;

use super::cycle::{Asked, Found};
use super::message::Histogram;
use super::profile::PreemptionArgs;
use super::{Delta, Reason, View};
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NO_HELP: &str = "Preemption is not helpful for scheduling";

/// A node on which removing these pods makes room.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// Who has to go, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a budget protects.
    pub violations: usize,
}

/// Why the pod may push nobody away now; `None` if it may.
pub fn barred(pod: &PodInfo, all: &Snapshot, found: &Found<'_>) -> Option<&'static str> {
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = pod.nominated.as_deref().and_then(|n| all.get(n))?;
    let resolvable = found.refused.contains(&node.slot);
    let leaving = |p: &Arc<PodInfo>| p.priority < pod.priority && p.deleting && p.preempted;
    (resolvable && node.pods.iter().any(leaving))
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Why there is no candidate, in the words to add to the refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum No {
    /// The pod may push nobody away now; a node that is being cleared for it stays its own.
    Barred(String),
    /// Pushing others away would not help.
    Vain(String),
}

impl No {
    /// The words.
    pub fn words(&self) -> &str {
        match self {
            Self::Barred(words) | Self::Vain(words) => words,
        }
    }
}

/// Looks for candidates among the nodes that were refused, from `offset` on.
///
/// # Errors
/// Why there are none.
pub fn candidates(
    pod: &PodInfo,
    all: &Snapshot,
    found: &Found<'_>,
    args: PreemptionArgs,
    offset: usize,
) -> Result<Vec<Candidate>, No> {
    if let Some(why) = barred(pod, all, found) {
        return Err(No::Barred(format!("preemption: {why}")));
    }
    let total = all.order().len();
    let mut reasons = Histogram::default();
    let mut list = Vec::new();
    let potential = &found.refused;
    if let (Some(asked), false) = (&found.asked, potential.is_empty()) {
        let wanted = (potential.len() * args.percentage / 100).max(args.absolute).min(potential.len());
        let (before, after) = potential.split_at(offset % potential.len());
        let mut safe = 0;
        for slot in after.iter().chain(before) {
            match dry_run(pod, all, asked, *slot) {
                Ok(candidate) => {
                    safe += usize::from(candidate.violations == 0);
                    list.push(candidate);
                }
                Err(why) => reasons.add_many(why, 1),
            }
            if list.len() >= wanted && safe > 0 {
                break;
            }
        }
    }
    if !list.is_empty() {
        return Ok(list);
    }
    reasons.add_many(Reason::Text(NO_HELP), total - potential.len());
    Err(No::Vain(format!("preemption: 0/{total} nodes are available: {}.", reasons.text())))
}

/// Who would have to leave this node.
fn dry_run(pod: &PodInfo, all: &Snapshot, asked: &Asked<'_>, slot: u32) -> Result<Candidate, Reason> {
    let node = all.node(slot);
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(Reason::Text(NO_VICTIMS));
    }
    let mut cleared = node.clone();
    cleared.keep_pods(|p| p.priority >= pod.priority);
    let mut removed = lower.clone();
    fits(pod, all, asked, &cleared, &removed)?;
    lower.sort_by_key(|p| importance(p));
    let broken = all.budgets.broken_by(lower.iter().map(Arc::as_ref));
    let protected = lower.iter().zip(&broken).filter(|(_, b)| **b);
    let others = lower.iter().zip(&broken).filter(|(_, b)| !**b);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (p, protected) in protected.chain(others) {
        cleared.add_pod(p.clone());
        removed.retain(|r| !Arc::ptr_eq(r, p));
        if fits(pod, all, asked, &cleared, &removed).is_err() {
            cleared.remove_pod(&p.uid);
            removed.push(p.clone());
            victims.push(p.clone());
            violations += usize::from(*protected);
        }
    }
    // The plugins would have it there as it is: only an extender refuses, and nobody's going would change that.
    if victims.is_empty() {
        return Err(Reason::Text(NO_VICTIMS));
    }
    victims.sort_by_key(|p| importance(p));
    Ok(Candidate { node: node.name().into(), victims, violations })
}

fn fits(
    pod: &PodInfo,
    all: &Snapshot,
    asked: &Asked<'_>,
    node: &NodeInfo,
    removed: &[Arc<PodInfo>],
) -> Result<(), Reason> {
    let view = View { node, slot: node.slot, all, delta: Delta { added: &[], removed } };
    asked
        .ask_thought(pod, &view)
        .map_err(|(_, why, _)| why.into_iter().next().unwrap_or(Reason::Text(NO_HELP)))
}

/// Smaller is more important: higher priority, then longer running.
fn importance(pod: &PodInfo) -> (std::cmp::Reverse<i32>, Timestamp) {
    (std::cmp::Reverse(pod.priority), pod.started.unwrap_or(Timestamp::MAX))
}

/// The node where the least is lost: fewest broken budgets, least important victim at the top, smallest sum of priorities, fewest
/// victims, and whose most important victims have run the shortest.
pub fn choose(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(cost)
}

fn cost(c: &Candidate) -> (usize, i64, i64, usize, std::cmp::Reverse<Timestamp>) {
    let highest = c.victims.iter().map(|p| i64::from(p.priority)).max().unwrap_or(i64::MIN);
    let sum = c.victims.iter().map(|p| i64::from(p.priority) + (1 << 31)).sum();
    let first = c.victims.iter().filter(|p| i64::from(p.priority) == highest);
    let started = first.map(|p| p.started.unwrap_or(Timestamp::MAX)).min().unwrap_or(Timestamp::MAX);
    (c.violations, highest, sum, c.victims.len(), std::cmp::Reverse(started))
}
