//! Claims of generic ephemeral volumes: made for a pod from the template in it, and gone with it.

use std::sync::Arc;

use control::events::{Kind, reference};
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use prometheus_client::metrics::counter::Counter;

use crate::kit::meta::{controlled_by, controller_ref, name, namespace};
use crate::kit::pods::finished;
use crate::kit::storage::{self, BY_CLAIM};
use crate::kit::{Context, Plan, Write};

struct Room {
    context: Context,
    pods: Cache<Pod>,
    claims: Cache<PersistentVolumeClaim>,
    made: Counter,
    failed: Counter,
}

/// Starts the controller.
pub fn start(context: Context) {
    let counter = |what: &str, help: &str| {
        context.metrics.register(&format!("ephemeral_volume_controller_{what}"), help, Counter::default())
    };
    let room = Arc::new(Room {
        pods: context.pods(),
        claims: context.caches.of(),
        made: counter("create", "Number of PersistentVolumeClaim creation requests"),
        failed: counter("create_failures", "Number of PersistentVolumeClaim creation requests that failed"),
        context: context.clone(),
    });
    storage::index_pods(&room.pods);
    let queue = Queue::new();
    let q = queue.clone();
    room.pods.handle(move |event| {
        if event.new.as_ref().is_some_and(|p| wants(p)) {
            q.add(event.key.clone());
        }
    });
    let (q, pods) = (queue.clone(), room.pods.clone());
    room.claims.handle(move |event| {
        // Somebody took it away, or was first to make one of that name.
        if event.new.is_none() || event.old.is_none() {
            let users = pods.by_index(BY_CLAIM, &format!("{}/{}", event.key.namespace, event.key.name));
            users.iter().filter(|p| wants(p)).for_each(|p| q.add(Key::of(&**p)));
        }
    });
    let workers = context.config.workers("ephemeralvolume", 5);
    context.run(Options::new("ephemeral-volume-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(|v| v.ephemeral.is_some())
}

fn wants(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !finished(pod) && volumes(pod).next().is_some()
}

/// The claim of a volume of a pod.
fn claim(pod: &Pod, volume: &Volume) -> PersistentVolumeClaim {
    let template = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.clone());
    let given = template.as_ref().and_then(|t| t.metadata.clone()).unwrap_or_default();
    let metadata = ObjectMeta {
        name: Some(format!("{}-{}", name(&pod.metadata), volume.name)),
        namespace: pod.metadata.namespace.clone(),
        labels: given.labels,
        annotations: given.annotations,
        owner_references: Some(vec![controller_ref(pod)]),
        ..Default::default()
    };
    PersistentVolumeClaim { metadata, spec: template.map(|t| t.spec), status: None }
}

/// What to do about one volume of a pod; the error is that of its event.
fn plan(pod: &Pod, volume: &Volume, existing: Option<&PersistentVolumeClaim>) -> Result<Plan, String> {
    let wanted = claim(pod, volume);
    let Some(existing) = existing else {
        let mut plan = Plan::because(format!("{} is missing", name(&wanted.metadata)));
        plan.write(Write::create(&wanted));
        return Ok(plan);
    };
    if controlled_by(&existing.metadata, &pod.metadata) {
        return Ok(Plan::nothing("it is there"));
    }
    let (ns, pod) = (namespace(&pod.metadata), name(&pod.metadata));
    let made = name(&wanted.metadata);
    Err(format!("PVC {ns}/{made} was not created for pod {ns}/{pod} (pod is not owner)"))
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(pod) = self.pods.get_key(&key).filter(|p| wants(p)) else { return Ok(None) };
        let mut failed = None;
        for volume in volumes(&pod) {
            if let Err(error) = self.make(&pod, volume).await {
                let message = format!("ephemeral volume {}: {error:#}", volume.name);
                self.context.recorder.record(&reference(&*pod), Kind::Warning, "FailedBinding", message);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn make(&self, pod: &Pod, volume: &Volume) -> anyhow::Result<()> {
        let called = format!("{}-{}", name(&pod.metadata), volume.name);
        let existing = self.claims.get(namespace(&pod.metadata), &called);
        let plan = plan(pod, volume, existing.as_deref()).map_err(anyhow::Error::msg)?;
        for step in &plan.steps {
            let crate::kit::Step::Write(write) = step else { continue };
            self.made.inc();
            let sent = self.context.writer.send(write).await;
            if sent.is_err() {
                self.failed.inc();
            }
            match sent {
                // Its namespace is going, or there is one that the cache is yet to show: then that is looked at.
                Err(failure) if failure.namespace_terminating() || failure.already_exists() => {}
                Err(failure) => anyhow::bail!("create PVC {called}: {}", failure.message),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        let mut pod = crate::testing::pod("p Pending");
        let volume = json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate": {
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}});
        pod.spec.as_mut().unwrap().volumes = Some(vec![serde_json::from_value(volume).unwrap()]);
        pod
    }

    #[test]
    fn a_claim_is_made_and_belongs_to_the_pod() {
        let pod = pod();
        let volume = volumes(&pod).next().unwrap();
        let plan = plan(&pod, volume, None).unwrap();
        assert_eq!(plan.to_string(), "why: p-scratch is missing\ncreate persistentvolumeclaims p-scratch\n");
        let made = claim(&pod, volume);
        let owner = &made.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Pod", "uid-p"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
        assert_eq!(made.metadata.labels.as_ref().unwrap()["a"], "b");
        assert_eq!(made.metadata.annotations.as_ref().unwrap()["c"], "d");
        assert!(made.spec.is_some());
    }

    #[test]
    fn anothers_claim_is_left_alone() {
        let pod = pod();
        let volume = volumes(&pod).next().unwrap();
        let mut made = claim(&pod, volume);
        assert!(plan(&pod, volume, Some(&made)).unwrap().steps.is_empty());
        made.metadata.owner_references = None;
        let error = plan(&pod, volume, Some(&made)).unwrap_err();
        assert_eq!(error, "PVC ns/p-scratch was not created for pod ns/p (pod is not owner)");
    }

    #[test]
    fn pods_that_end_want_nothing() {
        let mut pod = pod();
        assert!(wants(&pod));
        pod.metadata.deletion_timestamp = Some(crate::testing::time("2026-01-01T10:00:00Z"));
        assert!(!wants(&pod));
    }
}
