//! The seam to the container runtime: one trait, CRI v1 over a socket and an in-memory twin.
//!
//! The vocabulary is CRI's own messages, so nothing is translated twice. Every call has a deadline inside the
//! implementation; errors carry the gRPC code.

pub mod cri_client;
pub mod health;
pub mod memory;
pub mod relist;

pub use k8s_cri::v1 as cri;

use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a runtime call can answer instead of a result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// The object does not exist (any more).
    #[error("rpc error: code = NotFound desc = {0}")]
    NotFound(String),
    /// The runtime does not know the call.
    #[error("rpc error: code = Unimplemented desc = {0}")]
    Unimplemented(String),
    /// The deadline passed.
    #[error("rpc error: code = DeadlineExceeded desc = {0}")]
    DeadlineExceeded(String),
    /// The socket is away.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unavailable(String),
    /// Any other failure, in the runtime's words.
    #[error("rpc error: code = {code} desc = {message}")]
    Other {
        /// gRPC code by name
        code: &'static str,
        /// the runtime's text
        message: String,
    },
}

impl RuntimeError {
    /// True when the object asked for is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// The runtime's words alone, without the code.
    pub fn words(&self) -> &str {
        match self {
            Self::NotFound(m) | Self::Unimplemented(m) | Self::DeadlineExceeded(m) | Self::Unavailable(m) => {
                m
            }
            Self::Other { message, .. } => message,
        }
    }
}

/// Result of a runtime call.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// Answer of a synchronous exec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// captured standard output
    pub stdout: Vec<u8>,
    /// captured standard error
    pub stderr: Vec<u8>,
    /// exit code of the command
    pub exit_code: i32,
}

/// A container runtime. CRI v1 semantics throughout: stopping and removing are idempotent, a missing image is `None`.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version of the runtime.
    async fn version(&self) -> Result<cri::VersionResponse>;
    /// Conditions RuntimeReady and NetworkReady, handlers.
    async fn status(&self) -> Result<cri::StatusResponse>;
    /// The cgroup driver if the runtime tells (Some(true) = systemd).
    async fn systemd_cgroups(&self) -> Result<Option<bool>>;
    /// Hands the node's pod CIDR to the runtime.
    async fn update_pod_cidr(&self, cidr: &str) -> Result<()>;

    /// Creates and starts a sandbox, returns its id.
    async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: &str) -> Result<String>;
    /// Stops a sandbox and all in it.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Removes a sandbox and its containers.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    /// State, addresses and namespaces of a sandbox.
    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus>;
    /// All sandboxes, or those of one pod.
    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<cri::PodSandbox>>;

    /// Creates a container in a sandbox, returns its id.
    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String>;
    /// Starts a created container.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Stops a container, killing it after `grace`.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// Removes a container.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// Full status of a container.
    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus>;
    /// All containers, or those of one pod.
    async fn list_containers(&self, pod_uid: Option<&str>) -> Result<Vec<cri::Container>>;
    /// Changes the limits of a running container.
    async fn update_resources(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()>;
    /// Makes the runtime open the log file anew, after a rotation.
    async fn reopen_log(&self, id: &str) -> Result<()>;
    /// Runs a command and waits for it; zero `timeout` means none beyond the call's own.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput>;

    /// Prepares a streaming exec; the answer is a URL of the runtime's streaming server.
    async fn exec_url(&self, request: cri::ExecRequest) -> Result<String>;
    /// Prepares an attach.
    async fn attach_url(&self, request: cri::AttachRequest) -> Result<String>;
    /// Prepares a port-forward.
    async fn port_forward_url(&self, request: cri::PortForwardRequest) -> Result<String>;

    /// Usage of one container.
    async fn container_stats(&self, id: &str) -> Result<cri::ContainerStats>;
    /// Usage of all containers.
    async fn list_container_stats(&self) -> Result<Vec<cri::ContainerStats>>;
    /// Usage of all sandboxes.
    async fn list_sandbox_stats(&self) -> Result<Vec<cri::PodSandboxStats>>;

    /// All local images.
    async fn list_images(&self) -> Result<Vec<cri::Image>>;
    /// A local image by reference, None when it is not there.
    async fn image_status(&self, spec: cri::ImageSpec) -> Result<Option<cri::Image>>;
    /// Pulls an image, returns the reference it is known by.
    async fn pull_image(
        &self,
        spec: cri::ImageSpec,
        auth: Option<cri::AuthConfig>,
        sandbox: cri::PodSandboxConfig,
    ) -> Result<String>;
    /// Removes a local image.
    async fn remove_image(&self, spec: cri::ImageSpec) -> Result<()>;
    /// Usage of the image file systems.
    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse>;

    /// Container events, if the runtime sends them; `Unimplemented` means: relist.
    async fn events(&self) -> Result<mpsc::Receiver<cri::ContainerEventResponse>>;
}
