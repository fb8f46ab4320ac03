//! Carrying out a plan: cgroup, volumes, sandbox, containers.

use super::cri_config::{self, ContainerInputs};
use super::decide::{Kind, Plan, Start};
use super::dns;
use super::env;
use super::table::{PodView, RuntimeSandbox};
use super::worker::Worker;
use crate::events::{self, NORMAL, WARNING};
use crate::images::{self, Progress, Wanted};
use crate::runtime::{cri, relist};
use crate::volumes::mount::Mounter;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, Secret};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a container did not come up: waiting reason and message.
type Failure = (String, String);

fn failure(reason: &str, message: impl Into<String>) -> Failure {
    (reason.to_owned(), message.into())
}

/// A container of any list as one type.
pub fn container_at(spec: &PodSpec, start: &Start) -> Option<Container> {
    match start.kind {
        Kind::Regular => spec.containers.get(start.index).cloned(),
        Kind::Init => spec.init_containers.as_ref()?.get(start.index).cloned(),
        Kind::Ephemeral => spec.ephemeral_containers.as_ref()?.get(start.index).map(from_ephemeral),
    }
}

fn from_ephemeral(e: &EphemeralContainer) -> Container {
    Container {
        name: e.name.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        command: e.command.clone(),
        args: e.args.clone(),
        working_dir: e.working_dir.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        volume_mounts: e.volume_mounts.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        ..Default::default()
    }
}

/// fieldPath prefix of a list.
pub fn field(kind: Kind) -> &'static str {
    match kind {
        Kind::Regular => "spec.containers",
        Kind::Init => "spec.initContainers",
        Kind::Ephemeral => "spec.ephemeralContainers",
    }
}

impl Worker {
    /// Carries out a plan. `Ok(true)`: the runtime changed, look again; `Err`: something failed, try later.
    pub(super) async fn sync(&mut self, plan: Plan, view: &Arc<PodView>) -> Result<bool, ()> {
        let pod = self.desired.pod.clone();
        self.host.objects.register(&pod, &self.wake.clone());
        if self.resize(&pod, view).await? {
            return Ok(true);
        }
        if plan.is_empty() && !self.mounted.volumes.is_empty() {
            // nothing to start: only let changed objects and tokens reach the volumes
            let _ = self.mount(&pod, view).await;
            return Ok(false);
        }
        if plan.is_empty() && self.cgroup_made {
            return Ok(false);
        }
        let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let network = self.host.ctx.health.borrow().network_error.clone();
        if let Some(error) = network.filter(|_| !host_network && !plan.is_empty()) {
            self.event(WARNING, "NetworkNotReady", format!("network is not ready: {error}"));
            return Err(());
        }
        self.make_cgroup(&pod, view).await?;
        self.mount(&pod, view).await?;
        if plan.is_empty() {
            return Ok(false);
        }
        if plan.kill_pod {
            if plan.create_sandbox.is_some() {
                self.event(
                    NORMAL,
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
            }
            let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
            if let Err(e) = super::stop::kill_pod(&self.host, &pod, &self.uid, grace).await {
                self.event(WARNING, "FailedKillPod", format!("error killing pod: {e}"));
                return Err(());
            }
        }
        let starts = plan.create_sandbox.is_some() || !plan.start.is_empty();
        let _turn = if starts { Some(self.host.gate.enter().await) } else { None };
        if let Some(attempt) = plan.create_sandbox {
            self.make_sandbox(&pod, attempt, view, plan.kill_pod).await?;
        }
        for kill in &plan.kill {
            let grace = kill
                .grace
                .or(pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds))
                .unwrap_or(30);
            if let Err(e) = super::stop::kill_container(
                &self.host,
                &pod,
                &self.uid,
                &kill.id,
                &kill.message_with_restart(),
                grace,
            )
            .await
            {
                tracing::warn!(pod = %self.name(), container = %kill.name, error = %e, "container not stopped");
                return Err(());
            }
        }
        let mut result = Ok(!plan.kill.is_empty() || plan.kill_pod || plan.create_sandbox.is_some());
        for start in &plan.start {
            match self.start(&pod, start).await {
                Started::Yes => result = result.map(|_| true),
                Started::Later => {}
                Started::Failed => result = Err(()),
            }
        }
        result
    }

    async fn make_cgroup(&mut self, pod: &Pod, _view: &PodView) -> Result<(), ()> {
        if self.cgroup_made {
            return Ok(());
        }
        let config = &self.host.ctx.config.file;
        let limits = crate::cgroups::pod_limits(
            pod,
            self.host.cfs_period(),
            config.cpu_cfs_quota,
            config.pod_pids_limit,
        );
        if let Err(e) = self.host.cgroups.ensure(&self.cgroup(), &limits) {
            self.event(
                WARNING,
                "FailedCreatePodContainer",
                format!("unable to ensure pod container exists: {e}"),
            );
            return Err(());
        }
        self.cgroup_made = true;
        Ok(())
    }

    async fn mount(&mut self, pod: &Pod, view: &PodView) -> Result<(), ()> {
        if pod.spec.as_ref().is_none_or(|s| s.volumes.as_ref().is_none_or(Vec::is_empty)) {
            return Ok(());
        }
        let (pod_ips, host_ips) = (self.pod_ips(pod, view), self.host.host_ips());
        let node = self.host.ctx.node.borrow().clone();
        let mounter = Mounter {
            pod_dir: self.host.ctx.config.pod_dir(&self.uid),
            pod,
            before: &self.mounted,
            objects: &self.host.objects,
            tokens: &self.host.tokens,
            client: self.host.ctx.client.as_ref(),
            node: &node,
            pod_ips: &pod_ips,
            host_ips: &host_ips,
        };
        match mounter.mount_all().await {
            Ok(mounted) => {
                self.mounted = mounted;
                self.mount_error = None;
                Ok(())
            }
            Err(fault) => {
                self.event(WARNING, "FailedMount", fault.text.clone());
                self.mount_error = Some(fault.text);
                if let Some(claim) = fault.claim {
                    self.await_claim(pod, claim);
                }
                Err(())
            }
        }
    }

    /// Looks again as soon as the claim is bound, not only at the next try.
    fn await_claim(&mut self, pod: &Pod, claim: String) {
        let Some(client) = self.host.ctx.client.clone() else { return };
        self.awaited.retain(|_, task| !task.is_finished());
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let wake = self.wake.clone();
        self.awaited.entry(claim).or_insert_with_key(|claim| {
            let bound = crate::volumes::claims::bound_once(client, namespace, claim.clone());
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
                if bound.await {
                    wake.notify_one();
                }
            }))
        });
    }

    /// Addresses of the pod: the sandbox's, or the host's for host network.
    pub(super) fn pod_ips(&self, pod: &Pod, view: &PodView) -> Vec<String> {
        match pod.spec.as_ref().and_then(|s| s.host_network) == Some(true) {
            true => self.host.host_ips(),
            false => view.sandboxes.first().map(|s| s.ips.clone()).unwrap_or_default(),
        }
    }

    fn sandbox_config(&self, pod: &Pod, attempt: u32) -> Result<cri::PodSandboxConfig, String> {
        let config = &self.host.ctx.config;
        let (resolver, warning) =
            dns::resolver(pod, &self.host.resolver(), &config.file.cluster_dns, &config.file.cluster_domain);
        if let Some((reason, text)) = warning {
            self.event(WARNING, reason, text);
        }
        cri_config::sandbox(pod, attempt, config, &self.host.layout, &resolver)
    }

    async fn make_sandbox(
        &mut self,
        pod: &Pod,
        attempt: u32,
        view: &PodView,
        changed: bool,
    ) -> Result<(), ()> {
        if !view.sandboxes.is_empty() && !changed {
            self.event(NORMAL, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
        }
        let config = match self.sandbox_config(pod, attempt) {
            Ok(c) => c,
            Err(e) => return self.sandbox_failed(e),
        };
        // the runtime opens log files there; containerd makes the directory, others may not
        let _ = std::fs::create_dir_all(&config.log_directory);
        let handler = self.runtime_handler(pod).await;
        let making = self.making.clone().read_owned().await;
        let id = match self.host.ctx.runtime.run_sandbox(config, &handler).await {
            Ok(id) => id,
            Err(e) => return self.sandbox_failed(e.to_string()),
        };
        drop(making);
        let mut sandbox = RuntimeSandbox { id: id.clone(), attempt, ready: true, ..Default::default() };
        match self.host.ctx.runtime.sandbox_status(&id).await {
            Ok(status) => relist::fill_sandbox(&mut sandbox, &status),
            Err(e) => {
                self.event(
                    WARNING,
                    "FailedPodSandBoxStatus",
                    format!("Unable to get pod sandbox status: {e}"),
                );
                return Err(());
            }
        }
        self.host.ctx.metrics.started_pods.inc();
        let view = self.edit(|v| {
            v.sandboxes.retain(|s| s.id != id);
            v.sandboxes.push(sandbox);
        });
        self.refresh_status(&view);
        Ok(())
    }

    fn sandbox_failed(&self, error: String) -> Result<(), ()> {
        self.host.ctx.metrics.started_pods_errors.inc();
        self.event(WARNING, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
        Err(())
    }

    /// Handler of the pod's RuntimeClass; empty is the runtime's default.
    async fn runtime_handler(&self, pod: &Pod) -> String {
        let class = pod.spec.as_ref().and_then(|s| s.runtime_class_name.clone()).filter(|c| !c.is_empty());
        let (Some(class), Some(client)) = (class, &self.host.ctx.client) else { return String::new() };
        let api: kube::Api<k8s_openapi::api::node::v1::RuntimeClass> = kube::Api::all(client.clone());
        match tokio::time::timeout(Duration::from_secs(10), api.get(&class)).await {
            Ok(Ok(found)) => found.handler,
            _ => String::new(),
        }
    }

    fn edit(&self, change: impl FnOnce(&mut PodView)) -> Arc<PodView> {
        let m = &self.desired.pod.metadata;
        self.host.relist.edit(&self.uid, |v| {
            v.uid.clone_from(&self.uid);
            v.name = m.name.clone().unwrap_or_default();
            v.namespace = m.namespace.clone().unwrap_or_default();
            change(v);
        })
    }

    /// Starts one container, or says why not.
    async fn start(&mut self, pod: &Arc<Pod>, start: &Start) -> Started {
        let Some(c) = pod.spec.as_ref().and_then(|s| container_at(s, start)) else { return Started::Later };
        if let Some(wait) = self.in_crash_loop(pod, &c, start.kind) {
            self.wake_in(wait);
            return Started::Later;
        }
        match self.start_container(pod, &c, start.kind).await {
            Ok(()) => {
                self.errors.remove(&c.name);
                self.host.ctx.metrics.started_containers.inc();
                Started::Yes
            }
            Err((reason, message)) => {
                self.host.ctx.metrics.started_containers_errors.inc();
                self.errors.insert(c.name.clone(), (reason.clone(), message));
                let wait = c.image.as_deref().and_then(|i| self.host.images.next_try(&self.uid, i));
                match reason.as_str() {
                    "ErrImagePull" | "ImagePullBackOff" => {
                        self.wake_in(match reason.as_str() {
                            // upstream looks again soon, to say ImagePullBackOff
                            "ErrImagePull" => Duration::from_secs(2),
                            _ => wait.unwrap_or(Duration::from_secs(10)).min(Duration::from_secs(60)),
                        });
                        Started::Later
                    }
                    _ => Started::Failed,
                }
            }
        }
    }

    /// Time still to wait before the next start of a container that ended; None: start now.
    fn in_crash_loop(&mut self, pod: &Pod, c: &Container, kind: Kind) -> Option<Duration> {
        let view = self.host.relist.view(&self.uid);
        let last = view.container(&c.name)?;
        if last.finished_at == 0 {
            return None;
        }
        let key = format!("{}:{}", c.name, cri_config::container_hash(c));
        let age = u64::try_from(super::host::now_ns() - last.finished_at).unwrap_or(0);
        let now = Instant::now();
        let event = now.checked_sub(Duration::from_nanos(age)).unwrap_or(now);
        let Some(wait) = self.crash.waiting_since(&key, event, now) else {
            self.crash.next_at(&key, event, now);
            return None;
        };
        let full = dns::full_name(pod);
        let delay = crate::config::duration::format(self.crash.delay(&key));
        let reason = "CrashLoopBackOff".to_owned();
        let known = self.errors.get(&c.name).is_some_and(|e| e.0 == reason);
        let text = format!("back-off {delay} restarting failed container={} pod={full}", c.name);
        self.errors.insert(c.name.clone(), (reason, text));
        if !known {
            let text = format!("Back-off restarting failed container {} in pod {full}", c.name);
            self.container_event(kind, &c.name, WARNING, "BackOff", text);
        }
        Some(wait)
    }

    fn container_event(
        &self,
        kind: Kind,
        name: &str,
        event: &'static str,
        reason: &str,
        message: impl Into<String>,
    ) {
        let object = events::container_ref(&self.desired.pod, field(kind), name);
        self.host.ctx.events.record(object, event, reason, message);
    }

    async fn start_container(&mut self, pod: &Arc<Pod>, c: &Container, kind: Kind) -> Result<(), Failure> {
        let view = self.host.relist.view(&self.uid);
        let sandbox = view.ready_sandbox().cloned();
        let sandbox =
            sandbox.ok_or_else(|| failure("CreateContainerError", "the pod has no ready sandbox"))?;
        let sandbox_config = self
            .sandbox_config(pod, sandbox.attempt)
            .map_err(|e| failure("CreateContainerConfigError", e))?;
        let image = self.image(pod, c, kind, &sandbox_config).await?;
        let restart_count = self.restart_count(&view, c, &sandbox_config);
        let config = match self.container_config(pod, c, kind, &view, &image, restart_count).await {
            Ok(config) => config,
            Err(e) => {
                self.container_event(kind, &c.name, WARNING, "Failed", format!("Error: {e}"));
                return Err(failure("CreateContainerConfigError", e));
            }
        };
        let runtime = self.host.ctx.runtime.clone();
        let making = self.making.clone().read_owned().await;
        let id = match runtime.create_container(&sandbox.id, config, sandbox_config).await {
            Ok(id) => id,
            Err(e) => {
                self.host.images.forget(c.image.as_deref().unwrap_or_default());
                self.container_event(kind, &c.name, WARNING, "Failed", format!("Error: {}", e.words()));
                return Err(failure("CreateContainerError", e.words()));
            }
        };
        self.container_event(kind, &c.name, NORMAL, "Created", "Container created");
        if let Err(e) = runtime.start_container(&id).await {
            self.container_event(kind, &c.name, WARNING, "Failed", format!("Error: {}", e.words()));
            self.note_container(&sandbox.id, &id).await;
            return Err(failure("RunContainerError", e.words()));
        }
        drop(making);
        self.container_event(kind, &c.name, NORMAL, "Started", "Container started");
        self.note_resources(&id, c);
        self.note_container(&sandbox.id, &id).await;
        crate::gc::logs::link(pod, &c.name, &id, &self.log_path(pod, c, restart_count));
        self.post_start(pod, c, kind, &id, &view).await
    }

    fn log_path(&self, pod: &Pod, c: &Container, restart_count: i32) -> std::path::PathBuf {
        let m = &pod.metadata;
        let dir = super::table::pod_log_dir(
            Path::new(&self.host.ctx.config.file.pod_logs_dir),
            m.namespace.as_deref().unwrap_or_default(),
            m.name.as_deref().unwrap_or_default(),
            &self.uid,
        );
        dir.join(&c.name).join(format!("{restart_count}.log"))
    }

    async fn note_container(&self, sandbox: &str, id: &str) {
        if let Ok(status) = self.host.ctx.runtime.container_status(id).await {
            let made = relist::container_from_status(sandbox, &status);
            self.edit(|v| {
                v.containers.retain(|k| k.id != made.id);
                v.containers.push(made);
            });
        }
    }

    async fn image(
        &self,
        pod: &Pod,
        c: &Container,
        kind: Kind,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<cri::Image, Failure> {
        let image = c.image.as_deref().unwrap_or_default();
        let default =
            if image.ends_with(":latest") || !image.contains(':') { "Always" } else { "IfNotPresent" };
        let policy = c.image_pull_policy.as_deref().filter(|p| !p.is_empty()).unwrap_or(default);
        let secrets = self.pull_secrets(pod).await;
        let auth = images::credentials::for_image(&secrets, image);
        let wanted = Wanted { pod_uid: &self.uid, image, policy, auth, sandbox };
        let report = |p: Progress| {
            let (event, reason, text) = match p {
                Progress::Pulling(t) => (NORMAL, "Pulling", t),
                Progress::Pulled(t) => (NORMAL, "Pulled", t),
                Progress::Failed(t) => (WARNING, "Failed", t),
                Progress::BackOff(t) => (NORMAL, "BackOff", t),
                Progress::NeverPull(t) => (WARNING, "ErrImageNeverPull", t),
                Progress::InspectFailed(t) => (WARNING, "InspectFailed", t),
            };
            self.container_event(kind, &c.name, event, reason, text);
        };
        self.host.images.ensure(&wanted, report).await.map_err(|e| {
            self.container_event(kind, &c.name, WARNING, "Failed", format!("Error: {}", e.reason));
            failure(e.reason, e.message)
        })
    }

    async fn pull_secrets(&self, pod: &Pod) -> Vec<Arc<Secret>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut out = Vec::new();
        for r in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
            match self.host.objects.secret(namespace, &r.name).await {
                Ok(Some(secret)) => out.push(secret),
                _ => {
                    let text = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        r.name
                    );
                    self.event(WARNING, "FailedToRetrieveImagePullSecret", text);
                }
            }
        }
        out
    }

    fn restart_count(&self, view: &PodView, c: &Container, sandbox: &cri::PodSandboxConfig) -> i32 {
        if let Some(last) = view.container(&c.name) {
            return last.restart_count + 1;
        }
        // the record is gone, the logs may still count
        let dir = Path::new(&sandbox.log_directory).join(&c.name);
        let numbers = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| {
            e.file_name().to_string_lossy().split('.').next().and_then(|n| n.parse::<i32>().ok())
        });
        numbers.max().map_or(0, |n| n + 1)
    }

    async fn container_config(
        &self,
        pod: &Pod,
        c: &Container,
        kind: Kind,
        view: &PodView,
        image: &cri::Image,
        restart_count: i32,
    ) -> Result<cri::ContainerConfig, String> {
        let (pod_ips, host_ips) = (self.pod_ips(pod, view), self.host.host_ips());
        let env = self.environment(pod, c, &pod_ips, &host_ips).await?;
        let mounts = super::mounts::container_mounts(&self.host, pod, c, &self.mounted, &env, &pod_ips)?;
        let target = self.target(pod, kind, &c.name, view);
        cri_config::container(
            pod,
            c,
            ContainerInputs {
                image_ref: image.id.clone(),
                image_uid: image.uid.as_ref().map(|u| u.value),
                image_user: image.username.clone(),
                restart_count,
                env,
                mounts,
                devices: super::mounts::container_devices(c, &self.mounted)?,
                node_memory: self.host.node_memory(),
                config: &self.host.ctx.config,
                target,
            },
        )
    }

    /// Runtime id of the container whose processes an ephemeral container wants to see.
    fn target(&self, pod: &Pod, kind: Kind, name: &str, view: &PodView) -> Option<String> {
        if kind != Kind::Ephemeral {
            return None;
        }
        let list = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
        let target = list
            .iter()
            .find(|e| e.name == name)?
            .target_container_name
            .as_deref()
            .filter(|t| !t.is_empty())?;
        view.container(target).map(|c| c.id.clone())
    }

    async fn environment(
        &self,
        pod: &Pod,
        c: &Container,
        pod_ips: &[String],
        host_ips: &[String],
    ) -> Result<Vec<(String, String)>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut only = pod.clone();
        if let Some(spec) = only.spec.as_mut() {
            *spec = PodSpec { containers: vec![c.clone()], ..Default::default() };
        }
        let refs = crate::volumes::objects::references(&only);
        let (mut config_maps, mut secrets) = (HashMap::new(), HashMap::new());
        for name in refs.config_maps {
            let found = self.host.objects.config_map(namespace, &name).await?;
            config_maps.insert(name, found);
        }
        for name in refs.secrets {
            let found = self.host.objects.secret(namespace, &name).await?;
            secrets.insert(name, found);
        }
        let links = pod.spec.as_ref().and_then(|s| s.enable_service_links) != Some(false);
        let services = self.services(namespace, links).await?;
        let allocatable = self.host.ctx.node.borrow().allocatable.clone();
        let sources = env::Sources { config_maps, secrets, services, pod_ips, host_ips, allocatable };
        env::environment(pod, c, &sources)
    }

    async fn services(&self, namespace: &str, links: bool) -> Result<Vec<(String, String)>, String> {
        let Some(cache) = &self.host.services else { return Ok(Vec::new()) };
        let is_static = self.desired.source != super::table::Source::Api;
        if !cache.is_synced() {
            if is_static {
                return Ok(Vec::new());
            }
            let wait = tokio::time::timeout(Duration::from_secs(30), cache.synced()).await;
            wait.map_err(|_| {
                "services have not yet been read at least once, cannot construct envvars".to_owned()
            })?;
        }
        let mut list = if links { cache.by_namespace(namespace) } else { Vec::new() };
        if namespace != "default" || !links {
            list.extend(cache.get("default", "kubernetes"));
        }
        Ok(env::service_variables(&list, namespace, links))
    }

    async fn post_start(
        &mut self,
        pod: &Arc<Pod>,
        c: &Container,
        kind: Kind,
        id: &str,
        view: &PodView,
    ) -> Result<(), Failure> {
        let Some(hook) = c.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return Ok(()) };
        let ip = self.pod_ips(pod, view).first().cloned().unwrap_or_default();
        let outcome = super::hooks::run(&self.host, Some(c), id, &ip, hook, Duration::ZERO).await;
        let Err(e) = outcome else { return Ok(()) };
        // The text may hold secrets: events tell only that it failed.
        self.container_event(kind, &c.name, WARNING, "FailedPostStartHook", "PostStartHook failed");
        let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let _ =
            super::stop::kill_container(&self.host, pod, &self.uid, id, "FailedPostStartHook", grace).await;
        Err(failure("PostStartHookError", super::hooks::failure(hook, &c.name, &dns::full_name(pod), &e)))
    }
}

enum Started {
    Yes,
    Later,
    Failed,
}
