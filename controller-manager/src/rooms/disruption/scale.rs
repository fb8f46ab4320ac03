//! How many pods the controllers of pods want to have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use control::{Cache, Watchable};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::kit::meta::{controller, name, namespace, uid};
use crate::kit::served::Served;
use crate::kit::{Context, Kind};

const DEADLINE: Duration = Duration::from_secs(10);

/// Finds out what controllers want.
pub struct Scales {
    context: Context,
    controllers: Cache<ReplicationController>,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    stateful_sets: Cache<StatefulSet>,
    served: Served,
}

impl Scales {
    /// Over the manager's caches, and the scale subresource of what is in none of them.
    pub fn new(context: &Context) -> Self {
        let caches = &context.caches;
        Self::over(context, caches.of(), caches.of(), (caches.of(), caches.of()))
    }

    /// Over caches of replica sets, deployments, and the two other kinds.
    pub fn over(
        context: &Context,
        replica_sets: Cache<ReplicaSet>,
        deployments: Cache<Deployment>,
        (stateful_sets, controllers): (Cache<StatefulSet>, Cache<ReplicationController>),
    ) -> Self {
        let served = Served::new(context.root.clone());
        Self { context: context.clone(), controllers, deployments, replica_sets, stateful_sets, served }
    }

    /// Calls `changed` with the namespace of each owner of pods that comes to want another number of them: pods alone
    /// do not tell, for theirs may be seen before it.
    pub fn handle(&self, changed: impl Fn(&str) + Clone + Send + Sync + 'static) {
        tell(&self.controllers, |c| c.spec.as_ref().and_then(|s| s.replicas), changed.clone());
        tell(&self.deployments, |d| d.spec.as_ref().and_then(|s| s.replicas), changed.clone());
        tell(&self.replica_sets, |s| s.spec.as_ref().and_then(|s| s.replicas), changed.clone());
        tell(&self.stateful_sets, |s| s.spec.as_ref().and_then(|s| s.replicas), changed);
    }

    /// The sum over the distinct controllers of the pods, and the names of pods without one.
    pub async fn sum(&self, pods: &[&Pod]) -> Result<(i32, Vec<String>)> {
        let (mut owners, mut scales, mut unmanaged) = (HashMap::new(), HashMap::new(), Vec::new());
        for pod in pods {
            match controller(&pod.metadata) {
                Some(owner) => drop(owners.entry(owner.uid.clone()).or_insert((owner, pod))),
                None => unmanaged.push(name(&pod.metadata).to_string()),
            }
        }
        for (owner, pod) in owners.into_values() {
            let found = self.of(namespace(&pod.metadata), owner).await?;
            let (id, scale) =
                found.ok_or_else(|| anyhow!("found no controllers for pod {:?}", name(&pod.metadata)))?;
            scales.insert(id, scale);
        }
        let sum = scales.into_values().fold(0_i32, i32::saturating_add);
        Ok((sum, unmanaged))
    }

    /// The UID of what decides, and its number; `None` if it is not there.
    async fn of(&self, ns: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>> {
        let group = owner.api_version.split_once('/').map_or("", |(g, _)| g);
        Ok(match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => {
                let found = self.controllers.get(ns, &owner.name).filter(|c| is(&c.metadata, owner));
                found.map(|c| (owner.uid.clone(), number(c.spec.as_ref().and_then(|s| s.replicas))))
            }
            ("apps" | "extensions", "ReplicaSet") => self.replica_set(ns, owner),
            ("apps", "StatefulSet") => {
                let found = self.stateful_sets.get(ns, &owner.name).filter(|s| is(&s.metadata, owner));
                found.map(|s| (owner.uid.clone(), number(s.spec.as_ref().and_then(|s| s.replicas))))
            }
            _ => self.subresource(ns, owner).await?,
        })
    }

    /// A ReplicaSet's number, or that of the Deployment it belongs to.
    fn replica_set(&self, ns: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let set = self.replica_sets.get(ns, &owner.name).filter(|s| is(&s.metadata, owner))?;
        match controller(&set.metadata).filter(|c| c.kind == "Deployment") {
            None => Some((owner.uid.clone(), number(set.spec.as_ref().and_then(|s| s.replicas)))),
            Some(above) => {
                let deployment = self.deployments.get(ns, &above.name).filter(|d| is(&d.metadata, above))?;
                Some((above.uid.clone(), number(deployment.spec.as_ref().and_then(|s| s.replicas))))
            }
        }
    }

    async fn subresource(&self, ns: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>> {
        let served = self.served.resources(&owner.api_version).await?;
        let here = |r: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource| {
            r.kind == owner.kind && !r.name.contains('/')
        };
        let Some(resource) = served.resources.iter().find(here) else {
            bail!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version)
        };
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let kind = Kind {
            group: group.to_string().into(),
            version: version.to_string().into(),
            plural: resource.name.clone().into(),
            kind: owner.kind.clone().into(),
        };
        let scale = format!("{}/scale", resource.name);
        if !served.resources.iter().any(|r| r.name == scale) {
            bail!("{}.{group} does not implement the scale subresource", resource.name)
        }
        let request = http::Request::get(format!("{}/scale", kind.path(ns, &owner.name))).body(Vec::new())?;
        let asked = self.context.writer.client();
        match tokio::time::timeout(DEADLINE, asked.request::<Scale>(request)).await? {
            Ok(scale) if is(&scale.metadata, owner) => {
                Ok(Some((owner.uid.clone(), scale.spec.and_then(|s| s.replicas).unwrap_or(0))))
            }
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error).context("scale"),
        }
    }
}

fn tell<T: Watchable>(
    cache: &Cache<T>,
    wants: fn(&T) -> Option<i32>,
    changed: impl Fn(&str) + Send + Sync + 'static,
) {
    cache.handle(move |event| {
        let wants = |object: &Option<Arc<T>>| object.as_deref().map(wants);
        if wants(&event.old) != wants(&event.new) {
            changed(&event.key.namespace);
        }
    });
}

fn is(meta: &ObjectMeta, owner: &OwnerReference) -> bool {
    uid(meta) == owner.uid
}

/// The number a spec asks for; one where it says nothing.
fn number(replicas: Option<i32>) -> i32 {
    replicas.unwrap_or(1)
}
