//! A profile: the plugins behind one scheduler name, at which points they act, and with which weights.

use std::sync::Arc;

use super::Plugin;
use crate::model::pod::PodInfo;

/// How preemption looks for candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreemptionArgs {
    /// At least this share of the nodes, in percent, is looked at.
    pub percentage: usize,
    /// And at least so many.
    pub absolute: usize,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { percentage: 10, absolute: 100 }
    }
}

/// The plugins of a profile, in order, by what they do.
#[derive(Clone)]
pub struct Profile {
    /// The scheduler name pods ask for.
    pub name: String,
    /// Those that keep pods out of the queue.
    pub gates: Vec<Arc<dyn Plugin>>,
    /// Those that refuse nodes.
    pub filters: Vec<Arc<dyn Plugin>>,
    /// Those that score nodes, with their weights.
    pub scores: Vec<(Arc<dyn Plugin>, i64)>,
    /// All of them once, for what wakes pods.
    pub all: Vec<Arc<dyn Plugin>>,
    /// Pushes less important pods away; `None` if that is disabled.
    pub preemption: Option<PreemptionArgs>,
    /// Volumes are bound when a pod gets its node; `None` if that is disabled, or how long it may take.
    pub bind_volumes: Option<std::time::Duration>,
    /// The choice is written by the scheduler itself.
    pub binds: bool,
    /// Percentage of nodes to find before scoring; 0 adapts to the size of the cluster.
    pub percentage: usize,
}

impl Profile {
    /// The reason that keeps a pod out of the queue, if any, and whose.
    pub fn gate(&self, pod: &PodInfo) -> Option<(&'static str, String)> {
        self.gates.iter().find_map(|p| p.pre_enqueue(pod).err().map(|reason| (p.name(), reason)))
    }

    /// A plugin by name.
    pub fn plugin(&self, name: &str) -> Option<&Arc<dyn Plugin>> {
        self.all.iter().find(|p| p.name() == name)
    }
}
