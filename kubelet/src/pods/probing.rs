//! The probes of a pod's containers: started when they are due, stopped with their container.

use super::host::now_ns;
use super::table::{ContainerState, PodView};
use super::worker::Worker;
use crate::events;
use crate::probes::{ProbeKind, task::ProbeTask};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashSet;
use std::sync::Arc;

impl Worker {
    pub(super) fn stop_probes(&mut self, which: impl Fn(ProbeKind) -> bool) {
        self.probes.retain(|(_, kind), handle| {
            let stop = which(*kind);
            if stop {
                handle.abort();
            }
            !stop
        });
    }

    /// Starts the probes that are due and stops those of containers that no longer run.
    pub(super) fn sync_probes(&mut self) {
        let pod = self.desired.pod.clone();
        let Some(spec) = &pod.spec else { return };
        let view = self.host.relist.view(&self.uid);
        let sidecars = spec.init_containers.iter().flatten().filter(|c| super::resources::is_sidecar(c));
        let mut running: HashSet<&str> = HashSet::new();
        let fields = spec.containers.iter().map(|c| (c, "spec.containers"));
        for (c, field) in fields.chain(sidecars.map(|c| (c, "spec.initContainers"))) {
            let Some(now) = view.container(&c.name).filter(|s| s.state == ContainerState::Running) else {
                continue;
            };
            running.insert(now.id.as_str());
            let started = c.startup_probe.is_none() || self.results.started(&now.id) == Some(true);
            let due = [
                (ProbeKind::Startup, c.startup_probe.as_ref().filter(|_| !started)),
                (ProbeKind::Liveness, c.liveness_probe.as_ref().filter(|_| started)),
                (ProbeKind::Readiness, c.readiness_probe.as_ref().filter(|_| started)),
            ];
            for (kind, probe) in due {
                let Some(probe) = probe else { continue };
                self.start_probe(&pod, c, field, now, kind, probe, &view);
            }
        }
        self.probes.retain(|(id, _), handle| {
            let keep = running.contains(id.as_str());
            if !keep {
                handle.abort();
            }
            keep
        });
        self.actuated.retain(|id, _| running.contains(id.as_str()));
        self.results.retain(&view.containers.iter().map(|c| c.id.as_str()).collect());
    }

    fn start_probe(
        &mut self,
        pod: &Arc<Pod>,
        c: &Container,
        field: &str,
        now: &super::table::RuntimeContainer,
        kind: ProbeKind,
        probe: &k8s_openapi::api::core::v1::Probe,
        view: &PodView,
    ) {
        let key = (now.id.clone(), kind);
        if self.probes.contains_key(&key) {
            return;
        }
        let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let ip = match host_network {
            true => self.host.host_ips().first().cloned(),
            false => view.ready_sandbox().and_then(|s| s.ips.first().cloned()),
        };
        let env = c.env.iter().flatten().filter_map(|e| Some((e.name.clone(), e.value.clone()?))).collect();
        let period = i64::from(probe.period_seconds.unwrap_or(10).max(1)) * 1_000_000_000;
        let task = ProbeTask {
            kind,
            probe: probe.clone(),
            container_id: now.id.clone(),
            started_at: now.started_at,
            ports: c.ports.clone().unwrap_or_default(),
            pod_ip: ip.unwrap_or_default(),
            env,
            results: self.results.clone(),
            wake: self.wake.clone(),
            runtime: self.host.ctx.runtime.clone(),
            events: self.host.ctx.events.clone(),
            object: events::container_ref(pod, field, &c.name),
            spread: now.started_at < self.host.started_at && now_ns() - self.host.started_at < period,
        };
        let handle = tokio::spawn(task.run()).abort_handle();
        self.probes.insert(key, handle);
    }
}
