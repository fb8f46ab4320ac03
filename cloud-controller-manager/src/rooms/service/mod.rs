//! service: the load balancers of Services of type LoadBalancer, by way of the provider.

pub mod plan;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use anyhow::{Result, anyhow};
use control::runner::{self, Options, Outcome};
use control::{Key, Queue, Recorder};
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Node, Service};
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{SERVICE, within};
use crate::Context;
use crate::provider::{Fault, LoadBalancers};
use plan::{FINALIZER, Todo};

/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Starts the controller: one queue of Services, one of Services whose nodes changed.
pub fn start(context: &Context) {
    let recorder = Recorder::start(context.client.clone(), "service-controller", None, &context.tasks);
    let room = Arc::new(Room { context: context.clone(), recorder, known: Mutex::default() });
    let queue: Queue<Key> = Queue::with_backoff(RETRY.0, RETRY.1);
    let nodes: Queue<Key> = Queue::with_backoff(RETRY.0, RETRY.1);
    room.listen(&queue, &nodes);
    let workers = usize::from(context.config.concurrent_service_syncs);
    let (services, hosts) = (room.clone(), room);
    runner::start(Options::new(SERVICE.0, workers), queue, &context.tasks, move |key: Key| {
        let room = services.clone();
        async move { room.sync(&key).await }
    });
    runner::start(Options::new("service-lb-controller nodes", 1), nodes, &context.tasks, move |key: Key| {
        let room = hosts.clone();
        async move { room.sync_nodes(&key).await.map(|()| None) }
    });
}

/// What was last seen of a Service with a load balancer.
struct Known {
    service: Arc<Service>,
    /// The nodes it was told of.
    nodes: Vec<(String, String)>,
}

struct Room {
    context: Context,
    recorder: Recorder,
    known: Mutex<AHashMap<Key, Known>>,
}

impl Room {
    fn balancers(&self) -> Result<&dyn LoadBalancers> {
        self.context.provider.load_balancers().ok_or_else(|| anyhow!("the provider has no load balancers"))
    }

    fn class(&self) -> Option<&str> {
        self.balancers().ok().and_then(LoadBalancers::class)
    }

    fn listen(self: &Arc<Self>, queue: &Queue<Key>, nodes: &Queue<Key>) {
        let (room, all) = (self.clone(), queue.clone());
        self.context.services.handle(move |event| {
            let todo = |s: &Arc<Service>| plan::todo(s, room.class());
            match (&event.old, &event.new) {
                (Some(old), Some(new)) if old.metadata.uid == new.metadata.uid => {
                    let needed = plan::ours(new, room.class()).then(|| plan::changed(old, new)).flatten();
                    if let Some(Some((reason, message))) = &needed {
                        room.recorder.normal(&control::events::reference(&**new), reason, message.clone());
                    }
                    if needed.is_some() || todo(new) == Todo::Cleanup {
                        all.add(event.key.clone());
                    }
                }
                (_, Some(new)) if todo(new) != Todo::Nothing => all.add(event.key.clone()),
                // Gone in spite of its finalizer: somebody took that off.
                (Some(_), None) if room.known.lock().contains_key(&event.key) => all.add(event.key.clone()),
                _ => {}
            }
        });
        let (services, class) = (self.context.services.clone(), self.class().map(str::to_string));
        let (changed, wanted) = (nodes.clone(), services.clone());
        let ensured = move |s: &Service| plan::todo(s, class.as_deref()) == Todo::Ensure;
        let these = ensured.clone();
        self.context.nodes.handle(move |event| {
            if plan::concerns(event.old.as_deref(), event.new.as_deref()) {
                let all = wanted.list().into_iter().filter(|s| these(s));
                all.for_each(|s| changed.add(Key::of(&*s)));
            }
        });
        let waiting = queue.clone();
        if let Ok(balancers) = self.balancers() {
            balancers.wake(Arc::new(move || {
                let all = services.list().into_iter().filter(|s| ensured(s));
                let without = all.filter(|s| plan::status(s).ingress.unwrap_or_default().is_empty());
                without.for_each(|s| waiting.add(Key::of(&*s)));
            }));
        }
    }

    async fn sync(&self, key: &Key) -> Outcome {
        self.context.tally.load_balancer_syncs.inc();
        let Some(service) = self.context.services.get_key(key) else { return self.vanished(key).await };
        let outcome = match plan::todo(&service, self.class()) {
            Todo::Nothing => return Ok(None),
            Todo::Ensure => self.ensure(key, &service).await,
            Todo::Cleanup => self.cleanup(key, &service).await,
        };
        let Err(fault) = outcome else { return Ok(None) };
        let about = control::events::reference(&*service);
        self.recorder.warning(
            &about,
            "SyncLoadBalancerFailed",
            format!("Error syncing load balancer: {fault}"),
        );
        match fault {
            Fault::Later { after, .. } => Ok(Some(after)),
            other => Err(anyhow!("{other}")),
        }
    }

    /// The load balancer of a Service that is gone is removed by what was last known of it.
    async fn vanished(&self, key: &Key) -> Outcome {
        let Some(service) = self.known.lock().get(key).map(|k| k.service.clone()) else { return Ok(None) };
        let deleted = self.balancers()?.delete(&self.context.config.cluster_name, &service).await;
        deleted.map_err(|fault| anyhow!("{fault}"))?;
        self.known.lock().remove(key);
        Ok(None)
    }

    async fn ensure(&self, key: &Key, service: &Arc<Service>) -> Result<(), Fault> {
        let about = control::events::reference(&**service);
        self.recorder.normal(&about, "EnsuringLoadBalancer", "Ensuring load balancer");
        let with = |what: &str, error: anyhow::Error| Fault::Other(anyhow!("failed to {what}: {error:#}"));
        if !plan::has_finalizer(service) {
            let mut all = service.metadata.finalizers.clone().unwrap_or_default();
            all.push(FINALIZER.into());
            let added = self.finalizers(service, all).await;
            added.map_err(|e| with("add load balancer cleanup finalizer", e))?;
        }
        let nodes = self.nodes(service);
        if nodes.is_empty() {
            self.recorder.warning(
                &about,
                "UnAvailableLoadBalancer",
                "There are no available nodes for LoadBalancer",
            );
        }
        let faces = nodes.iter().map(|n| plan::face(n)).collect();
        let known = Known { service: service.clone(), nodes: faces };
        self.known.lock().insert(key.clone(), known);
        let balancers = self.balancers().map_err(Fault::Other)?;
        let made = balancers.ensure(&self.context.config.cluster_name, service, &nodes).await;
        let status = match made {
            Ok(status) => status,
            // Somebody else's; upstream leaves it at that too.
            Err(Fault::Elsewhere) => return Ok(()),
            Err(Fault::Other(error)) => return Err(with("ensure load balancer", error)),
            Err(later) => return Err(later),
        };
        self.recorder.normal(&about, "EnsuredLoadBalancer", "Ensured load balancer");
        self.patch_status(service, &status).await
    }

    async fn cleanup(&self, key: &Key, service: &Arc<Service>) -> Result<(), Fault> {
        let about = control::events::reference(&**service);
        let cluster = &self.context.config.cluster_name;
        let with =
            |what: &str, error: &dyn std::fmt::Display| Fault::Other(anyhow!("failed to {what}: {error}"));
        let balancers = self.balancers().map_err(Fault::Other)?;
        let there = balancers.get(cluster, service).await;
        if there.map_err(|e| with("check if load balancer exists before cleanup", &e))?.is_some() {
            self.recorder.normal(&about, "DeletingLoadBalancer", "Deleting load balancer");
            balancers.delete(cluster, service).await.map_err(|e| with("delete load balancer", &e))?;
        }
        // A Service that only changed its type stays, with a status of none.
        if service.metadata.deletion_timestamp.is_none() {
            self.patch_status(service, &LoadBalancerStatus::default()).await?;
        }
        let rest =
            service.metadata.finalizers.iter().flatten().filter(|f| *f != FINALIZER).cloned().collect();
        let removed = self.finalizers(service, rest).await;
        removed.map_err(|e| with("remove load balancer cleanup finalizer", &e))?;
        self.known.lock().remove(key);
        self.recorder.normal(&about, "DeletedLoadBalancer", "Deleted load balancer");
        Ok(())
    }

    /// Writes the list of finalizers; a Service that changed meanwhile refuses it.
    async fn finalizers(&self, service: &Service, all: Vec<String>) -> Result<()> {
        let body = json!({"metadata": {"uid": service.metadata.uid, "resourceVersion": service.metadata.resource_version, "finalizers": all}});
        let fresh = match self.patch(service, body.clone(), false).await {
            Err(error) if conflict(&error) => self.api(service).get_opt(&name(service)).await?,
            other => return other,
        };
        // The cache is behind: once more, by what is there now.
        let Some(fresh) = fresh.filter(|f| f.metadata.uid == service.metadata.uid) else { return Ok(()) };
        let mut now = fresh.metadata.finalizers.clone().unwrap_or_default();
        now.retain(|f| f != FINALIZER);
        if all.iter().any(|f| f == FINALIZER) {
            now.push(FINALIZER.into());
        }
        let body = json!({"metadata": {"uid": fresh.metadata.uid, "resourceVersion": fresh.metadata.resource_version, "finalizers": now}});
        self.patch(&fresh, body, false).await
    }

    async fn patch_status(&self, service: &Service, status: &LoadBalancerStatus) -> Result<(), Fault> {
        if plan::same(&plan::status(service), status) {
            return Ok(());
        }
        let ingress = status.ingress.as_ref().map(|i| json!(i));
        let body = json!({"metadata": {"uid": service.metadata.uid}, "status": {"loadBalancer": {"ingress": ingress}}});
        let patched = self.patch(service, body, true).await;
        patched.map_err(|e| Fault::Other(anyhow!("failed to update load balancer status: {e:#}")))
    }

    /// A merge patch; a Service that is gone is no error.
    async fn patch(&self, service: &Service, body: Value, status: bool) -> Result<()> {
        let (api, params, body) = (self.api(service), PatchParams::default(), Patch::Merge(body));
        let name = name(service);
        let done = match status {
            true => within("service status", api.patch_status(&name, &params, &body)).await,
            false => within("service", api.patch(&name, &params, &body)).await,
        };
        match done {
            Err(error) if code(&error) == Some(404) => Ok(()),
            other => other.map(drop),
        }
    }

    fn api(&self, service: &Service) -> Api<Service> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.context.client.clone(), namespace)
    }

    /// The nodes for a Service, in order.
    fn nodes(&self, service: &Service) -> Vec<Arc<Node>> {
        let local = plan::local(service);
        let mut nodes: Vec<_> =
            self.context.nodes.list().into_iter().filter(|n| plan::fit(n, local)).collect();
        nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        nodes
    }

    /// Tells a load balancer the nodes, if they are others than it was told.
    async fn sync_nodes(&self, key: &Key) -> Result<()> {
        let Some(service) = self.context.services.get_key(key) else { return Ok(()) };
        let nodes = self.nodes(&service);
        let faces: Vec<_> = nodes.iter().map(|n| plan::face(n)).collect();
        // One that was never made is told when it is.
        if self.known.lock().get(key).is_none_or(|k| k.nodes == faces) {
            return Ok(());
        }
        let begin = Instant::now();
        let told = self.balancers()?.update(&self.context.config.cluster_name, &service, &nodes).await;
        let (tally, about) = (&self.context.tally, control::events::reference(&*service));
        tally.host_update_latency.observe(begin.elapsed().as_secs_f64());
        tally.node_sync_latency.observe(begin.elapsed().as_secs_f64());
        if let Err(fault) = told {
            tally.node_sync_errors.inc();
            let names: Vec<&str> = faces.iter().map(|f| f.0.as_str()).collect();
            let message =
                format!("Error updating load balancer with new hosts [{}]: {fault}", names.join(" "));
            self.recorder.warning(&about, "UpdateLoadBalancerFailed", message);
            return Err(anyhow!("{fault}"));
        }
        if let Some(known) = self.known.lock().get_mut(key) {
            known.nodes = faces;
        }
        match nodes.is_empty() {
            true => {
                let none = "There are no available nodes for LoadBalancer";
                self.recorder.warning(&about, "UnAvailableLoadBalancer", none);
            }
            false => {
                self.recorder.normal(&about, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
            }
        }
        Ok(())
    }
}

fn name(service: &Service) -> String {
    service.metadata.name.clone().unwrap_or_default()
}

fn code(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

fn conflict(error: &anyhow::Error) -> bool {
    code(error) == Some(409)
}
