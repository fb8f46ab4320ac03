//! Stopping containers and pods, and removing what the runtime remembers of them.

use super::decide::Kill;
use super::host::Host;
use super::resources::is_sidecar;
use super::table::{ContainerState, PodView, RuntimeContainer};
use crate::events::{self, NORMAL, WARNING};
use crate::runtime::{Result, relist};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use std::time::{Duration, Instant};

/// What StopContainer gets at least, after the hook took its time.
const LEAST: Duration = Duration::from_secs(2);

impl Kill {
    /// The event's text: the reason, and what will follow.
    pub fn message_with_restart(&self) -> String {
        format!("{}, will be restarted", self.message)
    }
}

fn spec_of<'a>(pod: &'a Pod, name: &str) -> Option<(&'a Container, &'static str)> {
    let spec = pod.spec.as_ref()?;
    let regular = spec.containers.iter().map(|c| (c, "spec.containers"));
    let init = spec.init_containers.iter().flatten().map(|c| (c, "spec.initContainers"));
    regular.chain(init).find(|(c, _)| c.name == name)
}

fn stoppable(c: &RuntimeContainer) -> bool {
    matches!(c.state, ContainerState::Running | ContainerState::Created | ContainerState::Unknown)
}

/// Stops everything of a pod: containers at once, sidecars after them in reverse order, then the sandboxes.
pub async fn kill_pod(host: &Host, pod: &Pod, uid: &str, grace: i64) -> Result<()> {
    let view = host.relist.view(uid);
    let began = Instant::now();
    let sidecars: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .filter(|c| is_sidecar(c))
        .map(|c| c.name.as_str())
        .collect();
    let all = view.containers.iter().filter(|c| stoppable(c));
    let (late, first): (Vec<_>, Vec<_>) = all.partition(|c| sidecars.contains(&c.name.as_str()));
    let stops = first.iter().map(|c| kill_container(host, pod, uid, &c.id, "", grace));
    for outcome in futures::future::join_all(stops).await {
        outcome?;
    }
    for name in sidecars.iter().rev() {
        for c in late.iter().filter(|c| c.name == *name) {
            let left = grace - i64::try_from(began.elapsed().as_secs()).unwrap_or(0);
            kill_container(host, pod, uid, &c.id, "", left.max(2)).await?;
        }
    }
    for s in view.sandboxes.iter().filter(|s| s.ready) {
        let turn = host.gate.enter().await;
        host.ctx.runtime.stop_sandbox(&s.id).await?;
        drop(turn);
        host.relist
            .edit(uid, |v| v.sandboxes.iter_mut().filter(|k| k.id == s.id).for_each(|k| k.ready = false));
    }
    Ok(())
}

/// Stops one container: event, preStop hook, StopContainer with what is left of the grace.
pub async fn kill_container(
    host: &Host,
    pod: &Pod,
    uid: &str,
    id: &str,
    why: &str,
    grace: i64,
) -> Result<()> {
    let view = host.relist.view(uid);
    let Some(c) = view.containers.iter().find(|c| c.id == id).cloned() else { return Ok(()) };
    let (spec, field) =
        spec_of(pod, &c.name).map_or((None, "spec.ephemeralContainers"), |(s, f)| (Some(s), f));
    let object = events::container_ref(pod, field, &c.name);
    let text = if why.is_empty() { format!("Stopping container {}", c.name) } else { why.to_owned() };
    if c.state == ContainerState::Running {
        host.ctx.events.record(object.clone(), NORMAL, "Killing", text);
    }
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(1).max(1));
    let began = Instant::now();
    if let Some(hook) = pre_stop(spec, &c).filter(|_| c.state == ContainerState::Running) {
        let ip = view.ready_sandbox().and_then(|s| s.ips.first().cloned());
        let ip = ip.or_else(|| host.host_ips().first().cloned()).unwrap_or_default();
        let outcome = tokio::time::timeout(grace, super::hooks::run(host, spec, id, &ip, &hook, grace)).await;
        if let Ok(Err(error)) = outcome {
            tracing::warn!(container = %id, %error, "preStop hook failed");
            // The text may hold secrets: events tell only that it failed.
            host.ctx.events.record(object, WARNING, "FailedPreStopHook", "PreStopHook failed");
        }
    }
    let left = grace.saturating_sub(began.elapsed());
    let left = if began.elapsed() > Duration::from_millis(100) { left.max(LEAST) } else { grace };
    host.ctx.runtime.stop_container(id, left).await?;
    note_end(host, uid, &c).await;
    Ok(())
}

/// The hook of the spec, or of the annotation when the spec is not known any more.
fn pre_stop(spec: Option<&Container>, c: &RuntimeContainer) -> Option<LifecycleHandler> {
    match spec {
        Some(s) => s.lifecycle.as_ref()?.pre_stop.clone(),
        None => serde_json::from_str(c.annotations.get(super::cri_config::keys::PRE_STOP)?).ok(),
    }
}

async fn note_end(host: &Host, uid: &str, c: &RuntimeContainer) {
    let ended = match host.ctx.runtime.container_status(&c.id).await {
        Ok(status) => Some(relist::container_from_status(&c.sandbox_id, &status)),
        Err(e) if e.is_not_found() => None,
        Err(_) => return,
    };
    host.relist.edit(uid, |v| {
        v.containers.retain(|k| k.id != c.id);
        v.containers.extend(ended);
    });
}

/// Removes all records of a pod from the runtime. What fails is left to garbage collection.
pub async fn remove_records(host: &Host, view: &PodView) {
    for s in &view.sandboxes {
        let _turn = host.gate.enter().await;
        if s.ready {
            let _ = host.ctx.runtime.stop_sandbox(&s.id).await;
        }
        // removes the containers in it too
        if let Err(e) = host.ctx.runtime.remove_sandbox(&s.id).await {
            tracing::debug!(sandbox = %s.id, error = %e, "sandbox not removed, garbage collection will");
        }
    }
    let known: Vec<&str> = view.sandboxes.iter().map(|s| s.id.as_str()).collect();
    for c in view.containers.iter().filter(|c| !known.contains(&c.sandbox_id.as_str())) {
        let _ = host.ctx.runtime.remove_container(&c.id).await;
    }
}
