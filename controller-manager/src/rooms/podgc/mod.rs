//! Pods nobody else will ever finish: on nodes that are gone, out of service, never bound, or too many finished ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::Cache;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::json;
use tokio::time::Instant;

use crate::kit::meta::{created, namespace};
use crate::kit::write::Format;
use crate::kit::{Context, Write, pods};

/// Between two sweeps over the caches.
const PERIOD: Duration = Duration::from_secs(20);
/// A node must be missing for this long before its pods are orphans.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct Room {
    context: Context,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    /// Nodes that pods name and the cache does not have, since when.
    missing: Mutex<HashMap<String, Instant>>,
    deleted: Family<[(&'static str, String); 2], Counter>,
    failed: Family<[(&'static str, String); 2], Counter>,
}

/// Starts the collector.
pub fn start(context: Context) {
    let room = Room {
        nodes: context.nodes(),
        pods: context.pods(),
        missing: Mutex::default(),
        deleted: context.metrics.register(
            "pod_gc_collector_force_delete_pods",
            "Number of pods that are being forcefully deleted since the Pod GC Controller started",
            Family::default(),
        ),
        failed: context.metrics.register(
            "pod_gc_collector_force_delete_pod_errors",
            "Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started",
            Family::default(),
        ),
        context: context.clone(),
    };
    context.tasks.spawn("pod-garbage-collector-controller", async move {
        room.nodes.synced().await;
        room.pods.synced().await;
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            room.sweep().await;
        }
    });
}

/// Why a pod is collected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    Terminated,
    OutOfService,
    Orphaned,
    Unscheduled,
}

impl Why {
    /// As the metrics call it.
    fn label(self) -> &'static str {
        match self {
            Why::Terminated => "terminated",
            Why::OutOfService => "out-of-service",
            Why::Orphaned => "orphaned",
            Why::Unscheduled => "unscheduled",
        }
    }
}

/// What to collect, not asking about orphans yet. Finished pods beyond the threshold go, evicted ones first, then the
/// oldest.
fn plan(
    all: &[Arc<Pod>],
    threshold: i64,
    out_of_service: impl Fn(&str) -> bool,
    gone: impl Fn(&str) -> bool,
) -> Vec<(&Arc<Pod>, Why)> {
    let mut plan = Vec::new();
    if threshold > 0 {
        let mut finished: Vec<&Arc<Pod>> = all.iter().filter(|p| pods::finished(p)).collect();
        let excess = finished.len().saturating_sub(threshold as usize);
        let evicted = |p: &Pod| p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
        finished.sort_by_key(|p| (!evicted(p), created(&p.metadata), p.metadata.name.clone()));
        plan.extend(finished.into_iter().take(excess).map(|p| (p, Why::Terminated)));
    }
    for pod in all {
        let deleting = pod.metadata.deletion_timestamp.is_some();
        let why = match pods::node(pod) {
            None if deleting => Why::Unscheduled,
            Some(node) if deleting && out_of_service(node) => Why::OutOfService,
            Some(node) if gone(node) => Why::Orphaned,
            _ => continue,
        };
        plan.push((pod, why));
    }
    plan
}

impl Room {
    async fn sweep(&self) {
        let all = self.pods.list();
        let gone = self.gone(&all).await;
        let threshold = self.context.config.terminated_pod_gc_threshold;
        let plan = plan(&all, threshold, |n| self.out_of_service(n), |n| gone.iter().any(|g| g == n));
        for (pod, why) in plan {
            let labels =
                [("namespace", namespace(&pod.metadata).to_string()), ("reason", why.label().to_string())];
            self.deleted.get_or_create(&labels).inc();
            if let Err(failure) = self.collect(pod, why).await {
                self.failed.get_or_create(&labels).inc();
                tracing::warn!(pod = pods::key(pod), %failure, "pod could not be collected");
            }
        }
    }

    fn out_of_service(&self, node: &str) -> bool {
        self.nodes.get("", node).is_some_and(|n| {
            let ready = n.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let ready = ready.clone().any(|c| c.type_ == "Ready" && c.status == "True");
            let taints = n.spec.iter().flat_map(|s| s.taints.iter().flatten());
            !ready && taints.clone().any(|t| t.key == OUT_OF_SERVICE)
        })
    }

    /// Nodes that have been missing long enough and that the API server does not know either.
    async fn gone(&self, all: &[Arc<Pod>]) -> Vec<String> {
        let mut named: Vec<&str> = all.iter().filter_map(|p| pods::node(p)).collect();
        named.sort_unstable();
        named.dedup();
        named.retain(|n| self.nodes.get("", n).is_none());
        let due: Vec<String> = {
            let mut missing = self.missing.lock();
            missing.retain(|n, _| named.contains(&n.as_str()));
            for node in &named {
                missing.entry(node.to_string()).or_insert_with(Instant::now);
            }
            missing
                .iter()
                .filter(|(_, since)| since.elapsed() >= QUARANTINE)
                .map(|(n, _)| n.clone())
                .collect()
        };
        let api: Api<Node> = Api::all(self.context.writer.client());
        let mut gone = Vec::new();
        for node in due {
            if matches!(api.get_opt(&node).await, Ok(None)) {
                gone.push(node);
            }
        }
        gone
    }

    async fn collect(&self, pod: &Pod, why: Why) -> Result<(), crate::kit::write::Failure> {
        tracing::info!(pod = pods::key(pod), ?why, "collecting pod");
        let mut writes = Vec::new();
        if !pods::finished(pod) {
            let mut status = json!({"phase": "Failed"});
            if why == Why::Orphaned {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": Time(Timestamp::now()),
                }]);
            }
            writes
                .push(Write::patch(pod, Format::Strategic, json!({"status": status})).subresource("status"));
        }
        writes.push(Write::delete(pod).grace(0));
        for write in writes {
            match self.context.writer.send(&write).await {
                Err(failure) if failure.not_found() => return Ok(()),
                other => drop(other?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::meta::name;
    use crate::testing::pod;

    fn check(threshold: i64, texts: &[&str]) -> Vec<String> {
        let all: Vec<Arc<Pod>> = texts.iter().map(|t| Arc::new(pod(t))).collect();
        let plan = plan(&all, threshold, |n| n == "down", |n| n == "gone");
        plan.iter().map(|(p, why)| format!("{} {why:?}", name(&p.metadata))).collect()
    }

    #[test]
    fn each_reason() {
        assert_eq!(
            check(
                0,
                &[
                    "a Running node=gone",
                    "b Running node=down",
                    "c Running node=down deleting",
                    "d Pending deleting",
                    "e Pending"
                ]
            ),
            ["a Orphaned", "c OutOfService", "d Unscheduled"]
        );
        assert_eq!(
            check(
                1,
                &[
                    "a Failed node=n created=2026-01-01T03:00:00Z",
                    "b Succeeded node=n created=2026-01-01T01:00:00Z",
                    "c Failed node=n created=2026-01-01T02:00:00Z",
                    "d Running node=n"
                ]
            ),
            ["b Terminated", "c Terminated"]
        );
    }
}
