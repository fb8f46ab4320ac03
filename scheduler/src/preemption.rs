//! DefaultPreemption, the part that writes: pushes the victims away on the side, the last one after the others, while the pod they make
//! room for is held back.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;

use crate::framework::preempt::Candidate;
use crate::model::pod::PodInfo;
use crate::schedule::Scheduler;

/// Upstream's name.
pub const NAME: &str = "DefaultPreemption";
/// Victims pushed away at once.
const AT_ONCE: usize = 16;

impl Scheduler {
    /// Pushes the victims away and lets the pod be tried again.
    pub(crate) async fn push_away(self: Arc<Self>, pod: Arc<PodInfo>, chosen: Candidate) {
        self.counts.preemption(chosen.victims.len());
        self.clear_lesser(&pod, &chosen.node).await;
        let result = self.evict_all(&pod, &chosen).await;
        if let Err(error) = &result {
            tracing::warn!(
                pod = pod.key(),
                node = chosen.node,
                error = format!("{error:#}"),
                "preemption failed"
            );
        }
        let now = Instant::now();
        let mut state = self.state.lock();
        if result.is_err() {
            state.withdraw(&pod.uid, now);
            state.queue().wake_held(&pod.uid);
        }
        state.queue().released(&pod.uid, now);
        drop(state);
        self.wake.notify_one();
    }

    async fn evict_all(&self, pod: &PodInfo, chosen: &Candidate) -> anyhow::Result<()> {
        let Some((last, others)) = chosen.victims.split_last() else { return Ok(()) };
        let pending: Vec<_> = others.iter().map(|v| self.evict(pod, v, &chosen.node)).collect();
        let results: Vec<anyhow::Result<()>> =
            stream::iter(pending).buffer_unordered(AT_ONCE).collect().await;
        results.into_iter().collect::<anyhow::Result<()>>()?;
        // Its going is what lets the pod be tried: by then all others must have been told.
        self.evict(pod, last, &chosen.node).await
    }

    async fn evict(&self, pod: &PodInfo, victim: &PodInfo, node: &str) -> anyhow::Result<()> {
        if !victim.deleting {
            self.binder.evict(victim, &pod.scheduler).await?;
        }
        let message = format!("Preempted by pod {} on node {node}", pod.uid);
        self.binder.event(&pod.scheduler, victim, "Preempted", message);
        Ok(())
    }

    /// Less important pods that meant to go to the node must look elsewhere.
    async fn clear_lesser(&self, pod: &PodInfo, node: &str) {
        let lesser: Vec<Arc<PodInfo>> = {
            let mut state = self.state.lock();
            let all = state.all().nominated(node).iter();
            let lesser: Vec<_> = all.filter(|p| p.priority < pod.priority).cloned().collect();
            lesser.iter().for_each(|p| state.withdraw(&p.uid, Instant::now()));
            lesser
        };
        for p in lesser {
            self.binder.withdraw(&p).await;
        }
    }
}
