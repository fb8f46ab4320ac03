//! Resizing containers in place: what they run with is compared with what the pod asks for now.
//!
//! A wish that the node could never grant is Infeasible, one that it can't grant now is Deferred and looked at again
//! with every step; both are told as the condition PodResizePending. Deciding is pure, applying is at the end.

use super::admission;
use super::cri_config;
use super::resources::{self, is_sidecar};
use super::table::{ContainerState, PodView};
use super::worker::Worker;
use crate::cgroups::pod_limits;
use crate::events::{NORMAL, WARNING};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What running containers were given, by runtime id.
pub type Actuated = HashMap<String, ResourceRequirements>;

/// A container that runs with other resources than its spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// runtime id
    pub id: String,
    /// name
    pub name: String,
    /// it must be started anew, by its resizePolicy
    pub restart: bool,
}

/// Why a resize waits: Deferred or Infeasible, and the message.
pub type Pending = (&'static str, String);

/// Other pods may have made room by then.
const AGAIN: Duration = Duration::from_secs(10);
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

fn changed(old: &ResourceRequirements, new: &ResourceRequirements) -> Vec<&'static str> {
    let amounts = |r: &ResourceRequirements| (resources::requests(Some(r)), resources::limits(Some(r)));
    let (old, new) = (amounts(old), amounts(new));
    RESIZABLE
        .into_iter()
        .filter(|k| old.0.get(*k) != new.0.get(*k) || old.1.get(*k) != new.1.get(*k))
        .collect()
}

/// Containers that can be resized: regular ones and sidecars.
fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)))
}

/// All running containers whose resources differ from the spec's.
pub fn changes(spec: &PodSpec, view: &PodView, actuated: &Actuated) -> Vec<Change> {
    let of = |c: &Container| {
        let running = view.container(&c.name).filter(|k| k.state == ContainerState::Running)?;
        let differing = changed(actuated.get(&running.id)?, &c.resources.clone().unwrap_or_default());
        let policies = c.resize_policy.as_deref().unwrap_or_default();
        let restart = policies
            .iter()
            .any(|p| p.restart_policy == "RestartContainer" && differing.contains(&p.resource_name.as_str()));
        (!differing.is_empty()).then(|| Change { id: running.id.clone(), name: c.name.clone(), restart })
    };
    resizable(spec).filter_map(of).collect()
}

/// Whether the node can grant what the pod asks for now.
pub fn verdict(pod: &Pod, others: &[Arc<Pod>], allocatable: &BTreeMap<String, Quantity>) -> Option<Pending> {
    let wanted = resources::pod_requests(pod);
    for name in RESIZABLE {
        let (Some(asked), Some(all)) = (wanted.get(name), allocatable.get(name)) else { continue };
        let capacity = resources::base(name, all);
        if *asked > capacity {
            let text =
                format!("Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}");
            return Some(("Infeasible", text));
        }
    }
    let alone = BTreeMap::from_iter(
        allocatable
            .iter()
            .filter(|(k, _)| RESIZABLE.contains(&k.as_str()))
            .map(|(k, v)| (k.clone(), v.clone())),
    );
    let refusal = admission::admit(pod, others, &alone, None, true).err()?;
    refusal.reason.starts_with("OutOf").then_some(("Deferred", refusal.message))
}

impl Worker {
    /// Notes what a container was started with.
    pub(super) fn note_resources(&mut self, id: &str, c: &Container) {
        self.actuated.insert(id.to_owned(), c.resources.clone().unwrap_or_default());
    }

    /// Resizes what can be resized now. `Ok(true)`: a container was stopped to be started anew.
    pub(super) async fn resize(&mut self, pod: &Arc<Pod>, view: &PodView) -> Result<bool, ()> {
        let Some(spec) = &pod.spec else { return Ok(false) };
        let list = changes(spec, view, &self.actuated);
        if list.is_empty() {
            self.resize_pending = None;
            return Ok(false);
        }
        let allocatable = self.host.ctx.node.borrow().allocatable.clone();
        let others: Vec<Arc<Pod>> = self
            .host
            .ctx
            .pods
            .list()
            .into_iter()
            .filter(|e| e.uid() != self.uid && !e.finished)
            .map(|e| e.pod)
            .collect();
        let verdict = verdict(pod, &others, &allocatable);
        if verdict != self.resize_pending
            && let Some((reason, message)) = &verdict
        {
            self.event(WARNING, &format!("Resize{reason}"), format!("Pod resize {reason}: {message}"));
        }
        self.resize_pending = verdict;
        if self.resize_pending.is_some() {
            self.wake_in(AGAIN);
            return Ok(false);
        }
        self.event(NORMAL, "ResizeStarted", "Pod resize started");
        match self.apply(pod, spec, &list).await {
            Ok(restarted) => {
                self.event(NORMAL, "ResizeCompleted", "Pod resize completed");
                Ok(restarted)
            }
            Err(error) => {
                self.event(WARNING, "ResizeError", format!("Pod resize error: {error}"));
                Err(())
            }
        }
    }

    /// The pod's cgroup grows before its containers and shrinks after them.
    async fn apply(&mut self, pod: &Pod, spec: &PodSpec, list: &[Change]) -> Result<bool, String> {
        let file = &self.host.ctx.config.file;
        let limits = pod_limits(pod, self.host.cfs_period(), file.cpu_cfs_quota, file.pod_pids_limit);
        // refused while the containers hold more: it succeeds after them
        let grown = self.host.cgroups.ensure(&self.cgroup(), &limits).is_ok();
        let mut restarted = false;
        for change in list {
            let Some(c) = resizable(spec).find(|c| c.name == change.name) else { continue };
            if change.restart {
                let why = format!("Container {} will be restarted to be resized", c.name);
                let grace = spec.termination_grace_period_seconds.unwrap_or(30);
                super::stop::kill_container(&self.host, pod, &self.uid, &change.id, &why, grace)
                    .await
                    .map_err(|e| e.to_string())?;
                restarted = true;
                continue;
            }
            let wanted = cri_config::linux_resources(pod, c, self.host.node_memory(), &self.host.ctx.config);
            let runtime = &self.host.ctx.runtime;
            runtime.update_resources(&change.id, wanted).await.map_err(|e| e.words().to_owned())?;
            self.note_resources(&change.id, c);
        }
        if !grown {
            self.host.cgroups.ensure(&self.cgroup(), &limits).map_err(|e| e.to_string())?;
        }
        Ok(restarted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::RuntimeContainer;

    fn pod(cpu: &str, policy: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "metadata: {{name: p}}\nspec: {{containers: [{{name: a, resizePolicy: [{{resourceName: cpu, restartPolicy: {policy}}}], resources: {{requests: {{cpu: {cpu}}}}}}}]}}"
        ))
        .unwrap()
    }

    #[test]
    fn running_containers_that_differ() {
        let (before, after) = (pod("100m", "NotRequired"), pod("200m", "NotRequired"));
        let mut view = PodView::default();
        view.containers.push(RuntimeContainer {
            name: "a".into(),
            id: "i".into(),
            state: ContainerState::Running,
            ..Default::default()
        });
        let given = before.spec.as_ref().unwrap().containers[0].resources.clone().unwrap();
        let actuated = Actuated::from([("i".to_owned(), given)]);
        assert_eq!(changes(before.spec.as_ref().unwrap(), &view, &actuated), []);
        let found = |p: &Pod| changes(p.spec.as_ref().unwrap(), &view, &actuated);
        let want = Change { id: "i".into(), name: "a".into(), restart: false };
        assert_eq!(found(&after), std::slice::from_ref(&want));
        assert_eq!(found(&pod("200m", "RestartContainer")), [Change { restart: true, ..want }]);
        // the same amount in other words is no change
        assert_eq!(found(&pod("0.1", "NotRequired")), []);
        // what is not known to run with anything else is left alone
        assert_eq!(changes(after.spec.as_ref().unwrap(), &view, &Actuated::new()), []);
    }

    #[test]
    fn verdicts() {
        let node = BTreeMap::from([
            ("cpu".to_owned(), Quantity("2".into())),
            ("pods".to_owned(), Quantity("1".into())),
        ]);
        let others = [Arc::new(pod("1500m", "NotRequired")), Arc::new(pod("1m", "NotRequired"))];
        let why = |cpu: &str| verdict(&pod(cpu, "NotRequired"), &others, &node);
        assert_eq!(why("400m"), None);
        assert_eq!(why("1").map(|p| p.0), Some("Deferred"));
        assert_eq!(
            why("3"),
            Some((
                "Infeasible",
                "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000".into()
            ))
        );
    }
}
