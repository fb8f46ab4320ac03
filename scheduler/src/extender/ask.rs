//! A decision in which extenders have a say. The state is not locked while they are asked; what they leave is looked up anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::client::Client;
use super::{NAME, object};
use crate::framework::cycle::Found;
use crate::framework::message::Refusal;
use crate::framework::preempt::Candidate;
use crate::framework::profile::Profile;
use crate::framework::{MAX_SCORE, Reason};
use crate::model::pod::PodInfo;
use crate::queue::Queued;
use crate::schedule::{Decision, Scheduler, candidates, nominate, take};

/// The best score of an extender.
const THEIR_MAX: i64 = 10;
/// Milliseconds to wait for a whole pod, look by look.
const BEHIND: [u64; 6] = [10, 20, 40, 80, 160, 320];

/// What the filters of plugins and extenders left, by name.
struct Left {
    nodes: Vec<String>,
    /// Refused by an extender, though something leaving the node would help.
    refused: BTreeSet<String>,
    refusal: Refusal,
}

impl Scheduler {
    pub(crate) async fn decide_with_extenders(&self, profile: &Profile, queued: &Queued) -> Decision {
        let Some(pod) = self.whole_pod_soon(&queued.pod).await else {
            return Decision::Failed(anyhow!("pod {} is gone", queued.pod.key()));
        };
        let mut left = self.filter_by_plugins(profile, &queued.pod);
        if let Err(error) = self.filter_by_extenders(&queued.pod, &pod, &mut left).await {
            return Decision::Failed(error);
        }
        if left.nodes.is_empty() {
            return self.preempt_with_extenders(profile, queued, &pod, left).await;
        }
        let scores = self.scores(&queued.pod, &pod, &left.nodes).await;
        let mut state = self.state.lock();
        let pairs = left.nodes.iter().zip(&scores).filter_map(|(n, s)| Some((state.all().slot(n)?, *s)));
        let (slots, extra): (Vec<u32>, Vec<i64>) = pairs.collect();
        if slots.is_empty() || !state.wants_node(&queued.pod.uid) {
            return Decision::Failed(anyhow!("the nodes that would do are gone"));
        }
        let chance = state.draw();
        let slot = profile.best(&queued.pod, state.all(), &slots, &extra, &mut |n| chance % n.max(1));
        take(profile, queued, &mut state, slot)
    }

    /// Whole objects come by a watch of their own, which may be a little behind the one that woke the scheduler.
    async fn whole_pod_soon(&self, pod: &PodInfo) -> Option<Arc<Pod>> {
        for wait in BEHIND {
            if let Some(whole) = self.whole_pod(pod) {
                return Some(whole);
            }
            if !self.state.lock().wants_node(&pod.uid) {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        self.whole_pod(pod)
    }

    fn whole_pod(&self, pod: &PodInfo) -> Option<Arc<Pod>> {
        let whole = self.whole.get()?.pods.get(&pod.namespace, &pod.name)?;
        (whole.metadata.uid.as_deref() == Some(&pod.uid)).then_some(whole)
    }

    fn whole_nodes(&self, names: &[String], client: &Client) -> Vec<Value> {
        let Some(whole) = self.whole.get().filter(|_| !client.config.knows_nodes) else { return Vec::new() };
        let nodes = names.iter().filter_map(|n| whole.nodes.get("", n));
        nodes.map(|n| serde_json::to_value(&*n).unwrap_or_default()).collect()
    }

    fn filter_by_plugins(&self, profile: &Profile, pod: &PodInfo) -> Left {
        let mut state = self.state.lock();
        let start = state.next_start();
        let found = profile.find(pod, state.all(), start, true);
        state.set_next_start(found.next_start);
        let name = |slot: &u32| state.all().node(*slot).name().to_string();
        let nodes = found.feasible.iter().map(name).collect();
        Left { nodes, refused: BTreeSet::new(), refusal: found.refusal }
    }

    async fn filter_by_extenders(&self, info: &PodInfo, pod: &Pod, left: &mut Left) -> Result<()> {
        for client in self.extenders.iter().filter(|e| !e.config.filter.is_empty() && e.config.concerns(info))
        {
            if left.nodes.is_empty() {
                break;
            }
            let nodes = self.whole_nodes(&left.nodes, client);
            match client.filter(pod, &left.nodes, &nodes).await {
                Ok(answer) => left.narrow(answer),
                Err(error) if client.config.ignorable => {
                    tracing::warn!(error = format!("{error:#}"), "an extender is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The weighted sum of the extenders' scores by node; one that fails has no say.
    async fn scores(&self, info: &PodInfo, pod: &Pod, names: &[String]) -> Vec<i64> {
        let mut sums = vec![0; names.len()];
        for client in
            self.extenders.iter().filter(|e| !e.config.prioritize.is_empty() && e.config.concerns(info))
        {
            let nodes = self.whole_nodes(names, client);
            match client.prioritize(pod, names, &nodes).await {
                Ok(scores) => add(&mut sums, names, &scores, client.config.weight),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "an extender gave no scores"),
            }
        }
        sums
    }

    async fn preempt_with_extenders(
        &self,
        profile: &Profile,
        queued: &Queued,
        pod: &Pod,
        left: Left,
    ) -> Decision {
        let clients = || {
            self.extenders.iter().filter(|e| !e.config.preempt.is_empty() && e.config.concerns(&queued.pod))
        };
        let found = self.look_again(profile, &queued.pod, left);
        let (refusal, mut list) = match found {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        for client in clients() {
            let whole = |v: &PodInfo| self.whole_pod(v).map(|p| object(&p)).unwrap_or_default();
            list = match client.preempt(pod, list.clone(), whole).await {
                Ok(kept) => kept,
                Err(error) if client.config.ignorable => {
                    tracing::warn!(error = format!("{error:#}"), "an extender is passed over");
                    list
                }
                Err(error) => return Decision::Failed(error),
            };
        }
        nominate(&queued.pod, &mut self.state.lock(), refusal, list)
    }

    /// Candidates for preemption. Nodes that only extenders refused are looked at too: whether something that leaves them would help
    /// is not for the plugins to say.
    fn look_again(
        &self,
        profile: &Profile,
        pod: &Arc<PodInfo>,
        left: Left,
    ) -> std::result::Result<(Refusal, Vec<Candidate>), Decision> {
        let mut state = self.state.lock();
        let mut found: Found<'_> = profile.find(pod, state.all(), 0, false);
        let mut more: Vec<u32> = left.refused.iter().filter_map(|n| state.all().slot(n)).collect();
        more.retain(|slot| !found.refused.contains(slot));
        found.refused.extend(more);
        candidates(profile, pod, &mut state, &found, left.refusal)
    }
}

impl Left {
    fn narrow(&mut self, answer: super::Filtered) {
        let before = std::mem::take(&mut self.nodes);
        let kept: BTreeSet<&String> = answer.nodes.iter().collect();
        for node in before {
            if kept.contains(&node) {
                self.nodes.push(node);
                continue;
            }
            self.refusal.plugins.insert(NAME);
            let why = answer.never.get(&node).or_else(|| answer.failed.get(&node));
            let why = why.cloned().unwrap_or_else(|| "node(s) were refused by an extender".into());
            self.refusal.reasons.add_many(Reason::Made(why.into()), 1);
            if !answer.never.contains_key(&node) {
                self.refused.insert(node);
            }
        }
    }
}

fn add(sums: &mut [i64], names: &[String], scores: &BTreeMap<String, i64>, weight: i64) {
    for (sum, name) in sums.iter_mut().zip(names) {
        *sum += scores.get(name).copied().unwrap_or(0) * weight * (MAX_SCORE / THEIR_MAX);
    }
}
