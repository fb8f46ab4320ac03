//! PodDisruptionBudgets: how many pods may be evicted now; and marks of disruption that came to nothing.

mod plan;
mod scale;
#[cfg(test)]
mod simulation;

use std::sync::Arc;

use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde_json::json;

use crate::kit::meta::{name, namespace, selects};
use crate::kit::write::{Failure, Format};
use crate::kit::{Context, Write};
use plan::{disrupted, failed, healthy, needs_scale, stale_in, status, wanted};
use scale::Scales;

struct Room {
    context: Context,
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    scales: Scales,
    /// What time it is.
    now: fn() -> Timestamp,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        budgets: context.caches.of(),
        pods: context.pods(),
        scales: Scales::new(&context),
        now: Timestamp::now,
        context: context.clone(),
    });
    let (queue, stale) = (Queue::new(), Queue::new());
    wake(&room, &queue, &stale);
    let looker = room.clone();
    context.run(Options::new("disruption-controller", 1), queue, move |key| {
        let room = looker.clone();
        async move { room.sync(key).await }
    });
    context.run(Options::new("disruption-controller marks", 1), stale, move |key| {
        let room = room.clone();
        async move { room.sync_mark(key).await }
    });
}

fn wake(room: &Arc<Room>, queue: &Queue<Key>, stale: &Queue<Key>) {
    let q = queue.clone();
    room.budgets.handle(move |event| q.add(event.key.clone()));
    let (q, budgets) = (queue.clone(), room.budgets.clone());
    room.scales.handle(move |namespace| {
        let budgets = budgets.by_namespace(namespace);
        let concerned = budgets.iter().filter(|b| b.spec.as_ref().is_some_and(needs_scale));
        concerned.for_each(|b| q.add(Key::of(&**b)));
    });
    let (q, s, budgets, now) = (queue.clone(), stale.clone(), room.budgets.clone(), room.now);
    room.pods.handle(move |event| {
        for budget in
            event.object().map(|p| budgets.by_namespace(namespace(&p.metadata))).into_iter().flatten()
        {
            if event.old.iter().chain(&event.new).any(|p| covers(&budget, p)) {
                q.add(Key::of(&*budget));
            }
        }
        if let Some(wait) = event.new.as_ref().and_then(|p| stale_in(p, now())) {
            s.add_after(event.key.clone(), wait);
        }
    });
}

/// Whether a budget is about a pod. An empty selector is about all, none at all about nothing.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_some_and(|s: &LabelSelector| selects(s, pod.metadata.labels.as_ref()))
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(budget) = self.budgets.get_key(&key) else { return Ok(None) };
        match self.reckon(&budget).await {
            // Evictions write the status too: it is looked at anew with theirs.
            Err(error) if error.downcast_ref::<Failure>().is_some_and(Failure::conflict) => Err(error),
            Err(error) => {
                self.write(&budget, failed(&budget, &error.to_string(), (self.now)())).await?;
                Err(error)
            }
            Ok(again) => Ok(again),
        }
    }

    async fn reckon(&self, budget: &PodDisruptionBudget) -> Outcome {
        let Some(spec) = &budget.spec else { return Ok(None) };
        let recorder = &self.context.recorder;
        // Asked before the pods are read.
        let whole = control::cache::version_of(budget).is_some_and(|v| v <= self.pods.resource_version());
        let pods = self.pods.by_namespace(namespace(&budget.metadata));
        let pods: Vec<&Pod> = pods.iter().map(|p| &**p).filter(|p| covers(budget, p)).collect();
        if pods.is_empty() {
            recorder.normal(&reference(budget), "NoPods", "No matching pods found");
        }
        let scale = if needs_scale(spec) { self.scales.sum(&pods).await } else { Ok((0, Vec::new())) };
        let wanted = scale.and_then(|(scale, unmanaged)| {
            self.tell_unmanaged(budget, &unmanaged);
            wanted(spec, pods.len() as i32, scale)
                .ok_or_else(|| anyhow::anyhow!("invalid value for IntOrString"))
        });
        let wanted = wanted.inspect_err(|error| {
            let message = format!("Failed to calculate the number of expected pods: {error}");
            recorder.warning(&reference(budget), "CalculateExpectedPodCountFailed", message);
        })?;
        let now = (self.now)();
        let disrupted = disrupted(budget, &pods, whole, now);
        for pod in &disrupted.stayed {
            let (ns, name) = (namespace(&budget.metadata), name(&budget.metadata));
            let message = format!("Pod was expected by PDB {ns}/{name} to be deleted but it wasn't");
            recorder.warning(&reference(*pod), "NotDeleted", message);
        }
        let healthy = healthy(&pods, &disrupted.pods);
        self.write(budget, status(budget, wanted, healthy, disrupted.pods, now)).await?;
        Ok(disrupted.again)
    }

    fn tell_unmanaged(&self, budget: &PodDisruptionBudget, pods: &[String]) {
        if pods.is_empty() {
            return;
        }
        let selector = budget.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
        let selector = serde_json::to_string(&selector).unwrap_or_default();
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
        );
        self.context.recorder.warning(&reference(budget), "UnmanagedPods", message);
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> anyhow::Result<()> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = budget.clone();
        changed.status = Some(status);
        match self.context.writer.send(&Write::update_status(&changed)).await {
            Err(failure) if failure.not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Takes a mark of disruption back that nothing followed.
    async fn sync_mark(&self, key: Key) -> Outcome {
        let Some(pod) = self.pods.get_key(&key) else { return Ok(None) };
        let now = (self.now)();
        match stale_in(&pod, now) {
            Some(wait) if wait.is_zero() => {}
            other => return Ok(other),
        }
        let condition = json!({
            "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
            "lastTransitionTime": Time(now),
        });
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let body = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
        let write = Write::patch(&*pod, Format::Strategic, body).subresource("status").note("not disrupted");
        match self.context.writer.send(&write).await {
            Err(failure) if failure.not_found() => Ok(None),
            other => Ok(other.map(|_| None)?),
        }
    }
}
