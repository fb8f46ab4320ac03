//! The in-memory runtime: the same seam without processes. Tests drive it, hollow nodes run on it.

use super::{ExecOutput, Result, Runtime, RuntimeError, cri};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Runs nothing, remembers everything. Containers start at once and run until told otherwise.
#[derive(Default)]
pub struct MemoryRuntime {
    state: Mutex<State>,
    counter: AtomicU64,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Held>,
    images: BTreeMap<String, cri::Image>,
    pull_errors: HashMap<String, String>,
    exec_results: HashMap<String, ExecOutput>,
    exits_at_start: HashMap<String, i32>,
    failing: HashMap<&'static str, String>,
    calls: Vec<String>,
    forgetful: bool,
    down: bool,
    listeners: Vec<mpsc::Sender<cri::ContainerEventResponse>>,
    removed_ips: HashSet<u32>,
    next_ip: u32,
}

struct Sandbox {
    config: cri::PodSandboxConfig,
    ready: bool,
    created_at: i64,
    ip: String,
}

struct Held {
    sandbox: String,
    config: cri::ContainerConfig,
    state: cri::ContainerState,
    created_at: i64,
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: String,
    log_path: String,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

fn not_found(what: &str, id: &str) -> RuntimeError {
    RuntimeError::NotFound(format!("{what} \"{id}\": not found"))
}

impl MemoryRuntime {
    /// An empty runtime.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty runtime that keeps no record of its calls, for nodes that live long.
    pub fn forgetful() -> Self {
        let runtime = Self::default();
        runtime.state.lock().forgetful = true;
        runtime
    }

    /// Makes an image present.
    pub fn add_image(&self, name: &str) {
        let id = format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name)));
        let image = cri::Image {
            id: id.clone(),
            repo_tags: vec![name.to_owned()],
            repo_digests: vec![format!("{}@{id}", name.split(':').next().unwrap_or(name))],
            size: 1 << 20,
            ..Default::default()
        };
        self.state.lock().images.insert(name.to_owned(), image);
    }

    /// Pulling `image` fails with this text until called with None.
    pub fn fail_pull(&self, image: &str, error: Option<&str>) {
        let mut s = self.state.lock();
        match error {
            Some(e) => s.pull_errors.insert(image.into(), e.into()),
            None => s.pull_errors.remove(image),
        };
    }

    /// The call named fails with this text until called with None.
    pub fn fail(&self, call: &'static str, error: Option<&str>) {
        let mut s = self.state.lock();
        match error {
            Some(e) => s.failing.insert(call, e.into()),
            None => s.failing.remove(call),
        };
    }

    /// The whole runtime is away (true) or back.
    pub fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    /// Containers of this name end at once with `code` when started; None undoes it.
    pub fn exit_at_start(&self, container: &str, code: Option<i32>) {
        let mut s = self.state.lock();
        match code {
            Some(c) => s.exits_at_start.insert(container.into(), c),
            None => s.exits_at_start.remove(container),
        };
    }

    /// What exec_sync of a command (joined by blanks) answers.
    pub fn set_exec(&self, command: &str, output: ExecOutput) {
        self.state.lock().exec_results.insert(command.into(), output);
    }

    /// Ends the running container of a pod as if its process had exited.
    pub fn exit(&self, pod: &str, container: &str, code: i32) {
        let mut s = self.state.lock();
        let State { containers, sandboxes, .. } = &mut *s;
        for c in containers.values_mut() {
            let of_pod = sandboxes.get(&c.sandbox).is_some_and(|b| sandbox_pod(b) == pod);
            if of_pod && container_name(c) == container && c.state == cri::ContainerState::ContainerRunning {
                end(c, code, if code == 0 { "Completed" } else { "Error" });
            }
        }
        s.note("exit", container);
    }

    /// Stops a pod's sandbox behind the kubelet's back.
    pub fn lose_sandbox(&self, pod: &str) {
        let mut s = self.state.lock();
        let State { containers, sandboxes, .. } = &mut *s;
        for (id, sandbox) in sandboxes.iter_mut().filter(|(_, b)| sandbox_pod(b) == pod) {
            sandbox.ready = false;
            for c in containers.values_mut().filter(|c| &c.sandbox == id) {
                end(c, 137, "Error");
            }
        }
        s.note("lose_sandbox", pod);
    }

    /// The calls made so far that change something, as `verb name`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    fn id(&self, kind: &str) -> String {
        format!("{kind}{:060x}", self.counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn enter(&self, call: &'static str) -> Result<parking_lot::MutexGuard<'_, State>> {
        let s = self.state.lock();
        if s.down {
            return Err(RuntimeError::Unavailable("connection refused".into()));
        }
        match s.failing.get(call) {
            Some(text) => Err(RuntimeError::Other { code: "Unknown", message: text.clone() }),
            None => Ok(s),
        }
    }
}

fn sandbox_pod(s: &Sandbox) -> &str {
    s.config.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default()
}

fn container_name(c: &Held) -> &str {
    c.config.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default()
}

fn end(c: &mut Held, code: i32, reason: &str) {
    if c.state != cri::ContainerState::ContainerRunning && c.state != cri::ContainerState::ContainerCreated {
        return;
    }
    c.state = cri::ContainerState::ContainerExited;
    c.exit_code = code;
    c.reason = reason.into();
    c.finished_at = now();
}

impl State {
    fn note(&mut self, call: &str, name: &str) {
        if !self.forgetful {
            self.calls.push(format!("{call} {name}"));
        }
        let event = cri::ContainerEventResponse { created_at: now(), ..Default::default() };
        self.listeners
            .retain(|l| !matches!(l.try_send(event.clone()), Err(mpsc::error::TrySendError::Closed(_))));
    }

    fn sandbox_item(&self, id: &str, s: &Sandbox) -> cri::PodSandbox {
        cri::PodSandbox {
            id: id.into(),
            metadata: s.config.metadata.clone(),
            state: if s.ready {
                cri::PodSandboxState::SandboxReady
            } else {
                cri::PodSandboxState::SandboxNotready
            } as i32,
            created_at: s.created_at,
            labels: s.config.labels.clone(),
            annotations: s.config.annotations.clone(),
            runtime_handler: String::new(),
        }
    }

    fn image_ref(&self, name: &str) -> String {
        self.images.get(name).map(|i| i.id.clone()).unwrap_or_default()
    }
}

fn wanted(labels: &HashMap<String, String>, uid: Option<&str>) -> bool {
    uid.is_none_or(|u| labels.get("io.kubernetes.pod.uid").is_some_and(|v| v == u))
}

fn image_name(config: &cri::ContainerConfig) -> String {
    config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default()
}

#[async_trait]
impl Runtime for MemoryRuntime {
    async fn version(&self) -> Result<cri::VersionResponse> {
        drop(self.enter("version")?);
        Ok(cri::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "memory".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self) -> Result<cri::StatusResponse> {
        drop(self.enter("status")?);
        let conditions = ["RuntimeReady", "NetworkReady"]
            .map(|r| cri::RuntimeCondition { r#type: r.into(), status: true, ..Default::default() })
            .to_vec();
        Ok(cri::StatusResponse { status: Some(cri::RuntimeStatus { conditions }), ..Default::default() })
    }

    async fn systemd_cgroups(&self) -> Result<Option<bool>> {
        Ok(None)
    }

    async fn update_pod_cidr(&self, _cidr: &str) -> Result<()> {
        Ok(())
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig, _handler: &str) -> Result<String> {
        let id = self.id("5b");
        let mut s = self.enter("run_sandbox")?;
        s.next_ip = (s.next_ip + 1) % 60_000;
        let n = s.next_ip + 1;
        let name = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        let host = config
            .linux
            .as_ref()
            .and_then(|l| l.security_context.as_ref()?.namespace_options.as_ref())
            .is_some_and(|o| o.network == cri::NamespaceMode::Node as i32);
        let ip = if host { String::new() } else { format!("10.244.{}.{}", n / 250, n % 250 + 2) };
        s.removed_ips.remove(&n);
        s.sandboxes.insert(id.clone(), Sandbox { config, ready: true, created_at: now(), ip });
        s.note("run_sandbox", &name);
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let mut s = self.enter("stop_sandbox")?;
        for c in s.containers.values_mut().filter(|c| c.sandbox == id) {
            end(c, 137, "Error");
        }
        let Some(sandbox) = s.sandboxes.get_mut(id) else { return Ok(()) };
        sandbox.ready = false;
        let name = sandbox_pod(sandbox).to_owned();
        s.note("stop_sandbox", &name);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut s = self.enter("remove_sandbox")?;
        s.containers.retain(|_, c| c.sandbox != id);
        if let Some(sandbox) = s.sandboxes.remove(id) {
            s.note("remove_sandbox", sandbox_pod(&sandbox));
        }
        Ok(())
    }

    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let s = self.enter("sandbox_status")?;
        let sandbox = s.sandboxes.get(id).ok_or_else(|| not_found("sandbox", id))?;
        let item = s.sandbox_item(id, sandbox);
        let options = sandbox
            .config
            .linux
            .as_ref()
            .and_then(|l| l.security_context.as_ref()?.namespace_options.clone());
        Ok(cri::PodSandboxStatus {
            id: item.id,
            metadata: item.metadata,
            state: item.state,
            created_at: item.created_at,
            network: Some(cri::PodSandboxNetworkStatus {
                ip: sandbox.ip.clone(),
                additional_ips: Vec::new(),
            }),
            linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(cri::Namespace { options }) }),
            labels: item.labels,
            annotations: item.annotations,
            runtime_handler: String::new(),
        })
    }

    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<cri::PodSandbox>> {
        let s = self.enter("list_sandboxes")?;
        Ok(s.sandboxes
            .iter()
            .filter(|(_, b)| wanted(&b.config.labels, pod_uid))
            .map(|(id, b)| s.sandbox_item(id, b))
            .collect())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let id = self.id("c0");
        let mut s = self.enter("create_container")?;
        let ready = s.sandboxes.get(sandbox).ok_or_else(|| not_found("sandbox", sandbox))?.ready;
        if !ready {
            let message = format!("sandbox \"{sandbox}\" is not running");
            return Err(RuntimeError::Other { code: "Unknown", message });
        }
        let held = Held {
            sandbox: sandbox.into(),
            log_path: format!("{}/{}", sandbox_config.log_directory, config.log_path),
            config,
            state: cri::ContainerState::ContainerCreated,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
        };
        let name = container_name(&held).to_owned();
        s.containers.insert(id.clone(), held);
        s.note("create_container", &name);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let mut s = self.enter("start_container")?;
        let State { containers, exits_at_start, .. } = &mut *s;
        let c = containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        c.state = cri::ContainerState::ContainerRunning;
        c.started_at = now();
        let name = container_name(c).to_owned();
        if let Some(code) = exits_at_start.get(&name).copied() {
            end(c, code, if code == 0 { "Completed" } else { "Error" });
        }
        s.note("start_container", &name);
        Ok(())
    }

    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<()> {
        let mut s = self.enter("stop_container")?;
        let Some(c) = s.containers.get_mut(id) else { return Ok(()) };
        end(c, 0, "Completed");
        let name = container_name(c).to_owned();
        s.note("stop_container", &name);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let mut s = self.enter("remove_container")?;
        if let Some(c) = s.containers.remove(id) {
            s.note("remove_container", container_name(&c));
        }
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let s = self.enter("container_status")?;
        let c = s.containers.get(id).ok_or_else(|| not_found("container", id))?;
        Ok(cri::ContainerStatus {
            id: id.into(),
            metadata: c.config.metadata.clone(),
            state: c.state as i32,
            created_at: c.created_at,
            started_at: c.started_at,
            finished_at: c.finished_at,
            exit_code: c.exit_code,
            image: c.config.image.clone(),
            image_ref: s.image_ref(&image_name(&c.config)),
            reason: c.reason.clone(),
            labels: c.config.labels.clone(),
            annotations: c.config.annotations.clone(),
            mounts: c.config.mounts.clone(),
            log_path: c.log_path.clone(),
            ..Default::default()
        })
    }

    async fn list_containers(&self, pod_uid: Option<&str>) -> Result<Vec<cri::Container>> {
        let s = self.enter("list_containers")?;
        let item = |(id, c): (&String, &Held)| cri::Container {
            id: id.clone(),
            pod_sandbox_id: c.sandbox.clone(),
            metadata: c.config.metadata.clone(),
            image: c.config.image.clone(),
            image_ref: s.image_ref(&image_name(&c.config)),
            state: c.state as i32,
            created_at: c.created_at,
            labels: c.config.labels.clone(),
            annotations: c.config.annotations.clone(),
            ..Default::default()
        };
        Ok(s.containers.iter().filter(|(_, c)| wanted(&c.config.labels, pod_uid)).map(item).collect())
    }

    async fn update_resources(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()> {
        let mut s = self.enter("update_resources")?;
        let c = s.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        c.config.linux.get_or_insert_default().resources = Some(resources);
        Ok(())
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let s = self.enter("reopen_log")?;
        s.containers.contains_key(id).then_some(()).ok_or_else(|| not_found("container", id))
    }

    async fn exec_sync(&self, id: &str, command: &[String], _timeout: Duration) -> Result<ExecOutput> {
        let s = self.enter("exec_sync")?;
        let c = s.containers.get(id).ok_or_else(|| not_found("container", id))?;
        if c.state != cri::ContainerState::ContainerRunning {
            let message = format!("container is in {:?} state", c.state);
            return Err(RuntimeError::Other { code: "Unknown", message });
        }
        Ok(s.exec_results.get(&command.join(" ")).cloned().unwrap_or_default())
    }

    async fn exec_url(&self, _request: cri::ExecRequest) -> Result<String> {
        Err(RuntimeError::Unimplemented("the in-memory runtime streams nothing".into()))
    }

    async fn attach_url(&self, _request: cri::AttachRequest) -> Result<String> {
        Err(RuntimeError::Unimplemented("the in-memory runtime streams nothing".into()))
    }

    async fn port_forward_url(&self, _request: cri::PortForwardRequest) -> Result<String> {
        Err(RuntimeError::Unimplemented("the in-memory runtime streams nothing".into()))
    }

    async fn container_stats(&self, id: &str) -> Result<cri::ContainerStats> {
        let all = self.list_container_stats().await?;
        let own = |s: &cri::ContainerStats| s.attributes.as_ref().is_some_and(|a| a.id == id);
        all.into_iter().find(own).ok_or_else(|| not_found("container", id))
    }

    async fn list_container_stats(&self) -> Result<Vec<cri::ContainerStats>> {
        let s = self.enter("list_container_stats")?;
        let running = s.containers.iter().filter(|(_, c)| c.state == cri::ContainerState::ContainerRunning);
        let stats = |(id, c): (&String, &Held)| cri::ContainerStats {
            attributes: Some(cri::ContainerAttributes {
                id: id.clone(),
                metadata: c.config.metadata.clone(),
                labels: c.config.labels.clone(),
                annotations: c.config.annotations.clone(),
            }),
            ..Default::default()
        };
        Ok(running.map(stats).collect())
    }

    async fn list_sandbox_stats(&self) -> Result<Vec<cri::PodSandboxStats>> {
        Ok(Vec::new())
    }

    async fn list_images(&self) -> Result<Vec<cri::Image>> {
        Ok(self.enter("list_images")?.images.values().cloned().collect())
    }

    async fn image_status(&self, spec: cri::ImageSpec) -> Result<Option<cri::Image>> {
        let s = self.enter("image_status")?;
        let by_id = || s.images.values().find(|i| i.id == spec.image);
        Ok(s.images.get(&spec.image).or_else(by_id).cloned())
    }

    async fn pull_image(
        &self,
        spec: cri::ImageSpec,
        _auth: Option<cri::AuthConfig>,
        _sandbox: cri::PodSandboxConfig,
    ) -> Result<String> {
        let failure = self.enter("pull_image")?.pull_errors.get(&spec.image).cloned();
        if let Some(text) = failure {
            return Err(RuntimeError::Other { code: "NotFound", message: text });
        }
        self.add_image(&spec.image);
        let mut s = self.state.lock();
        s.note("pull_image", &spec.image);
        Ok(s.image_ref(&spec.image))
    }

    async fn remove_image(&self, spec: cri::ImageSpec) -> Result<()> {
        let mut s = self.enter("remove_image")?;
        s.images.retain(|name, i| *name != spec.image && i.id != spec.image);
        s.note("remove_image", &spec.image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        drop(self.enter("image_fs_info")?);
        Ok(cri::ImageFsInfoResponse::default())
    }

    async fn events(&self) -> Result<mpsc::Receiver<cri::ContainerEventResponse>> {
        let (tx, rx) = mpsc::channel(1000);
        self.enter("events")?.listeners.push(tx);
        Ok(rx)
    }
}
