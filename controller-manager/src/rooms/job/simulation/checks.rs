//! What must hold, at every write.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::super::indexes::Indexes;
use super::super::pods::{failed, index_of, indexed, only_failed_replaced};
use super::super::policy::judge;
use super::super::view::{finished, holds};
use super::world::World;
use crate::kit::meta::uid;
use crate::kit::pods;

impl World {
    /// Never more pods than were allowed at any time since what the manager saw; no index twice at a time.
    pub fn check_new(&self, pod: &Pod) {
        let before = self.parallelism.iter().rev().find(|(v, _)| *v <= self.seen);
        let since = self.parallelism.iter().filter(|(v, _)| *v > self.seen);
        let allowed = before.into_iter().chain(since).map(|(_, p)| *p).max().unwrap_or(0);
        let leaving = only_failed_replaced(self.spec());
        let counts = |p: &&Pod| pods::active(p) || (leaving && pods::terminating(p));
        let running = self.pods.iter().filter(counts).count() as i32;
        assert!(running < allowed, "pod {} of {allowed}", running + 1);
        if let Some(index) = index_of(pod) {
            let twin = self.pods.iter().filter(counts).any(|p| index_of(p) == Some(index));
            assert!(!twin, "index {index} runs twice");
            let done = leaving && self.successes.contains_key(&index);
            assert!(!done, "index {index} begins again");
        }
        assert!(!finished(&self.job), "a pod for a job that is over");
    }

    /// A pod is let go only when its end is written down, or is not to be.
    pub fn check_free(&mut self, at: usize, disowned: bool) {
        let pod = &self.pods[at];
        let id = uid(&pod.metadata).to_string();
        if disowned {
            assert!(!pods::finished(pod), "{id} had ended when it was disowned");
            self.disowned.insert(id);
            return;
        }
        let status = self.job.status.clone().unwrap_or_default();
        let lists = status.uncounted_terminated_pods.unwrap_or_default();
        let noted = [&lists.succeeded, &lists.failed].into_iter().flatten().flatten().any(|u| *u == id);
        let index = index_of(pod).filter(|i| *i < self.spec().completions.unwrap_or(0));
        let done = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), i32::MAX);
        let good = pods::phase(pod) == "Succeeded";
        let by_index =
            indexed(self.spec()) && (index.is_none() || (good && index.is_some_and(|i| done.has(i))));
        let ignored = failed(pod, self.spec()) && !judge(self.spec(), pod).counts();
        let success = holds(&self.job, "SuccessCriteriaMet").is_some() && !good;
        let over = finished(&self.job) || self.job.metadata.deletion_timestamp.is_some();
        assert!(
            noted || by_index || ignored || success || over || self.counted.contains(&id),
            "{id} ({}) was let go uncounted",
            pods::phase(pod)
        );
    }

    /// Counters only grow, and by exactly the ends that are struck off; each end is counted once.
    pub fn check_status(&mut self, new: &JobStatus) {
        let old = self.job.status.clone().unwrap_or_default();
        let lists = |s: &JobStatus| -> [BTreeSet<String>; 2] {
            let l = s.uncounted_terminated_pods.clone().unwrap_or_default();
            [l.succeeded, l.failed].map(|l| l.into_iter().flatten().collect())
        };
        let (before, after) = (lists(&old), lists(new));
        for id in after.iter().flatten() {
            assert!(!self.counted.contains(id), "{id} is noted again");
        }
        assert!(after[0].is_disjoint(&after[1]), "noted as both");
        let struck = [0, 1].map(|n| before[n].difference(&after[n]).count() as i32);
        self.counted.extend(before.iter().zip(&after).flat_map(|(b, a)| b.difference(a).cloned()));
        let grown = |a: Option<i32>, b: Option<i32>| a.unwrap_or(0) - b.unwrap_or(0);
        assert_eq!(grown(new.failed, old.failed), struck[1], "failed");
        let completions = self.spec().completions.unwrap_or(0);
        if indexed(self.spec()) {
            let parse = |s: &JobStatus| {
                Indexes::parse(s.completed_indexes.as_deref().unwrap_or_default(), completions)
            };
            let (was, is) = (parse(&old), parse(new));
            assert_eq!(is.common(&was), was.total(), "an index is no longer complete");
            assert_eq!(new.succeeded.unwrap_or(0), is.total(), "succeeded");
            let known = (0..completions).filter(|i| is.has(*i)).all(|i| self.successes.contains_key(&i));
            assert!(known, "an index is complete that never succeeded");
            let lost = Indexes::parse(new.failed_indexes.as_deref().unwrap_or_default(), completions);
            assert_eq!(lost.common(&is), 0, "an index is both");
        } else {
            assert_eq!(grown(new.succeeded, old.succeeded), struck[0], "succeeded");
        }
        assert!(new.ready.unwrap_or(0) <= new.active.unwrap_or(0), "ready");
        let job = Job { status: Some(new.clone()), ..self.job.clone() };
        if finished(&job) {
            assert!(after.iter().all(BTreeSet::is_empty), "over with ends uncounted");
            assert_eq!((new.active, new.terminating), (Some(0), Some(0)));
            let wanted = if holds(&job, "Failed").is_some() { "FailureTarget" } else { "SuccessCriteriaMet" };
            assert!(holds(&job, wanted).is_some(), "over without {wanted}");
        }
        assert!(!finished(&self.job) || finished(&job), "no longer over");
    }
}
