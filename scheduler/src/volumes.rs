//! VolumeBinding, the part that writes: sets volumes aside for a pod's claims, or asks for new ones, and waits until they are bound.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::model::pod::PodInfo;
use crate::model::storage::key;
use crate::plugins::volume_binding::Step;
use crate::schedule::Scheduler;

const DEADLINE: Duration = Duration::from_secs(15);

impl Scheduler {
    /// Does what the claims need on the chosen node; returns when all are bound.
    ///
    /// # Errors
    /// When a write fails, or binding takes longer than `limit`.
    pub(crate) async fn bind_volumes(
        &self,
        pod: &PodInfo,
        node: &str,
        steps: &[Step],
        limit: Duration,
    ) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        self.binder.expect(pod, node).await;
        for step in steps {
            let written = tokio::time::timeout(DEADLINE, write(self.binder.client(), step, node)).await;
            written.context("writing took too long")??;
        }
        let end = Instant::now() + limit;
        // The claims that have been seen with the node chosen for them.
        let mut chosen = BTreeSet::new();
        loop {
            let changed = self.storage.notified();
            if self.all_bound(steps, node, &mut chosen)? {
                return Ok(());
            }
            if tokio::time::timeout_at(end, changed).await.is_err() {
                bail!("binding volumes: context deadline exceeded");
            }
        }
    }

    fn all_bound(&self, steps: &[Step], node: &str, chosen: &mut BTreeSet<String>) -> Result<bool> {
        let mut state = self.state.lock();
        let storage = &state.all().storage;
        let mut all = true;
        for step in steps {
            let (Step::Bind { claim, .. } | Step::Provision { claim }) = step;
            let Some(now) = storage.claim(&claim.namespace, &claim.name) else {
                bail!("persistentvolumeclaim {:?} is gone", claim.name);
            };
            if now.bound {
                continue;
            }
            all = false;
            match now.selected_node.as_deref() {
                Some(selected) if selected == node => drop(chosen.insert(claim.name.clone())),
                // Who makes volumes could not make one there, and gives the claim back.
                None if chosen.contains(&claim.name) => {
                    bail!("selectedNode annotation reset for PVC {:?}", claim.name)
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// Takes back what was set aside here.
    pub(crate) fn release_volumes(&self, steps: &[Step]) {
        let mut state = self.state.lock();
        for step in steps {
            if let Step::Bind { volume, .. } = step {
                state.all().storage.release(&volume.name);
            }
        }
    }
}

/// Sets volumes aside in memory, so that the next pod does not choose them.
pub fn set_aside(all: &mut crate::model::snapshot::Snapshot, steps: &[Step]) {
    for step in steps {
        if let Step::Bind { claim, volume } = step {
            all.storage.assume(&volume.name, &key(&claim.namespace, &claim.name));
        }
    }
}

async fn write(client: &kube::Client, step: &Step, node: &str) -> Result<()> {
    let params = PatchParams::default();
    match step {
        Step::Bind { claim, volume } => {
            let api: Api<PersistentVolume> = Api::all(client.clone());
            let reference = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace,
                "name": claim.name, "uid": claim.uid});
            let notes = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
            let version = volume.version.clone();
            let patch = json!({"metadata": {"resourceVersion": version, "annotations": notes}, "spec": {"claimRef": reference}});
            api.patch(&volume.name, &params, &Patch::Merge(patch)).await?;
        }
        Step::Provision { claim } => {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &claim.namespace);
            let notes = json!({"volume.kubernetes.io/selected-node": node});
            let patch = json!({"metadata": {"uid": claim.uid, "annotations": notes}});
            api.patch(&claim.name, &params, &Patch::Merge(patch)).await?;
        }
    }
    Ok(())
}
