//! CRI v1 over a Unix socket: containerd, CRI-O, cri-dockerd.
//!
//! One HTTP/2 connection that is made anew at the first call after it broke, without growing back-off: a
//! restarted runtime is reached at once. Every call has a deadline, because a hung runtime accepts and never answers.

use super::{ExecOutput, Result, Runtime, RuntimeError, cri};
use async_trait::async_trait;
use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};

const MAX_MESSAGE: usize = 16 << 20;
/// Pulls end by progress, not by the clock; this only bounds a runtime that is gone.
const PULL_DEADLINE: Duration = Duration::from_secs(3600);

/// A client of one CRI socket (or two, when images have their own).
pub struct CriRuntime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    deadline: Duration,
}

/// Path behind `unix:///path` or a bare path.
pub fn socket_path(endpoint: &str) -> PathBuf {
    PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint))
}

fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    let path = socket_path(endpoint);
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::try_from("http://localhost")?.connect_timeout(Duration::from_secs(5));
    Ok(endpoint.connect_with_connector_lazy(connector))
}

impl CriRuntime {
    /// A client for `endpoint`; `image_endpoint` may be empty (the same socket). Nothing is connected yet.
    pub fn new(endpoint: &str, image_endpoint: &str, deadline: Duration) -> anyhow::Result<Self> {
        let runtime = channel(endpoint)?;
        let images = match image_endpoint {
            "" => runtime.clone(),
            other => channel(other)?,
        };
        Ok(Self {
            runtime: RuntimeServiceClient::new(runtime)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(images)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            deadline,
        })
    }
}

/// Maps a gRPC status to the seam's error.
pub fn from_status(status: &Status) -> RuntimeError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => RuntimeError::NotFound(message),
        Code::Unimplemented => RuntimeError::Unimplemented(message),
        Code::DeadlineExceeded => RuntimeError::DeadlineExceeded(message),
        Code::Unavailable => RuntimeError::Unavailable(message),
        code => RuntimeError::Other { code: code_name(code), message },
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::InvalidArgument => "InvalidArgument",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Internal => "Internal",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
        _ => "Unknown",
    }
}

async fn bounded<T>(
    deadline: Duration,
    call: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(RuntimeError::DeadlineExceeded("context deadline exceeded".into())),
    }
}

fn gone_is_fine<T>(answer: Result<T>) -> Result<()> {
    match answer {
        Err(e) if e.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

fn pod_labels(uid: Option<&str>) -> HashMap<String, String> {
    uid.map(|u| ("io.kubernetes.pod.uid".to_owned(), u.to_owned())).into_iter().collect()
}

fn missing<T>(what: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| RuntimeError::Other {
        code: "Internal",
        message: format!("{what} of the answer is empty"),
    })
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn version(&self) -> Result<cri::VersionResponse> {
        let request = cri::VersionRequest { version: "0.1.0".into() };
        bounded(self.deadline, self.runtime.clone().version(request)).await
    }

    async fn status(&self) -> Result<cri::StatusResponse> {
        bounded(self.deadline, self.runtime.clone().status(cri::StatusRequest { verbose: false })).await
    }

    async fn systemd_cgroups(&self) -> Result<Option<bool>> {
        match bounded(self.deadline, self.runtime.clone().runtime_config(cri::RuntimeConfigRequest {})).await
        {
            Ok(answer) => Ok(answer.linux.map(|l| l.cgroup_driver == cri::CgroupDriver::Systemd as i32)),
            Err(RuntimeError::Unimplemented(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn update_pod_cidr(&self, cidr: &str) -> Result<()> {
        let network_config = Some(cri::NetworkConfig { pod_cidr: cidr.into() });
        let request =
            cri::UpdateRuntimeConfigRequest { runtime_config: Some(cri::RuntimeConfig { network_config }) };
        bounded(self.deadline, self.runtime.clone().update_runtime_config(request)).await.map(|_| ())
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: &str) -> Result<String> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        // sandbox creation includes CNI and, at worst, a pull of the pause image
        let deadline = self.deadline * 2;
        bounded(deadline, self.runtime.clone().run_pod_sandbox(request)).await.map(|a| a.pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(bounded(self.deadline, self.runtime.clone().stop_pod_sandbox(request)).await)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(bounded(self.deadline, self.runtime.clone().remove_pod_sandbox(request)).await)
    }

    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let answer = bounded(self.deadline, self.runtime.clone().pod_sandbox_status(request)).await?;
        missing("sandbox status", answer.status)
    }

    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<cri::PodSandbox>> {
        let filter = pod_uid
            .map(|_| cri::PodSandboxFilter { label_selector: pod_labels(pod_uid), ..Default::default() });
        let request = cri::ListPodSandboxRequest { filter };
        bounded(self.deadline, self.runtime.clone().list_pod_sandbox(request)).await.map(|a| a.items)
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        bounded(self.deadline, self.runtime.clone().create_container(request)).await.map(|a| a.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: id.into() };
        bounded(self.deadline, self.runtime.clone().start_container(request)).await.map(|_| ())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest { container_id: id.into(), timeout };
        let deadline = self.deadline.saturating_add(grace);
        gone_is_fine(bounded(deadline, self.runtime.clone().stop_container(request)).await)
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: id.into() };
        gone_is_fine(bounded(self.deadline, self.runtime.clone().remove_container(request)).await)
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = bounded(self.deadline, self.runtime.clone().container_status(request)).await?;
        missing("container status", answer.status)
    }

    async fn list_containers(&self, pod_uid: Option<&str>) -> Result<Vec<cri::Container>> {
        let filter = pod_uid
            .map(|_| cri::ContainerFilter { label_selector: pod_labels(pod_uid), ..Default::default() });
        let request = cri::ListContainersRequest { filter };
        bounded(self.deadline, self.runtime.clone().list_containers(request)).await.map(|a| a.containers)
    }

    async fn update_resources(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(resources),
            ..Default::default()
        };
        bounded(self.deadline, self.runtime.clone().update_container_resources(request)).await.map(|_| ())
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let request = cri::ReopenContainerLogRequest { container_id: id.into() };
        bounded(self.deadline, self.runtime.clone().reopen_container_log(request)).await.map(|_| ())
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let request = cri::ExecSyncRequest {
            container_id: id.into(),
            cmd: command.to_vec(),
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(0),
        };
        let deadline = if timeout.is_zero() { PULL_DEADLINE } else { self.deadline.saturating_add(timeout) };
        let answer = bounded(deadline, self.runtime.clone().exec_sync(request)).await?;
        Ok(ExecOutput { stdout: answer.stdout, stderr: answer.stderr, exit_code: answer.exit_code })
    }

    async fn exec_url(&self, request: cri::ExecRequest) -> Result<String> {
        bounded(self.deadline, self.runtime.clone().exec(request)).await.map(|a| a.url)
    }

    async fn attach_url(&self, request: cri::AttachRequest) -> Result<String> {
        bounded(self.deadline, self.runtime.clone().attach(request)).await.map(|a| a.url)
    }

    async fn port_forward_url(&self, request: cri::PortForwardRequest) -> Result<String> {
        bounded(self.deadline, self.runtime.clone().port_forward(request)).await.map(|a| a.url)
    }

    async fn container_stats(&self, id: &str) -> Result<cri::ContainerStats> {
        let request = cri::ContainerStatsRequest { container_id: id.into() };
        let answer = bounded(self.deadline, self.runtime.clone().container_stats(request)).await?;
        missing("container stats", answer.stats)
    }

    async fn list_container_stats(&self) -> Result<Vec<cri::ContainerStats>> {
        let request = cri::ListContainerStatsRequest { filter: None };
        bounded(self.deadline, self.runtime.clone().list_container_stats(request)).await.map(|a| a.stats)
    }

    async fn list_sandbox_stats(&self) -> Result<Vec<cri::PodSandboxStats>> {
        let request = cri::ListPodSandboxStatsRequest { filter: None };
        bounded(self.deadline, self.runtime.clone().list_pod_sandbox_stats(request)).await.map(|a| a.stats)
    }

    async fn list_images(&self) -> Result<Vec<cri::Image>> {
        let request = cri::ListImagesRequest { filter: None };
        bounded(self.deadline, self.images.clone().list_images(request)).await.map(|a| a.images)
    }

    async fn image_status(&self, spec: cri::ImageSpec) -> Result<Option<cri::Image>> {
        let request = cri::ImageStatusRequest { image: Some(spec), verbose: false };
        match bounded(self.deadline, self.images.clone().image_status(request)).await {
            Ok(answer) => Ok(answer.image),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn pull_image(
        &self,
        spec: cri::ImageSpec,
        auth: Option<cri::AuthConfig>,
        sandbox: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::PullImageRequest { image: Some(spec), auth, sandbox_config: Some(sandbox) };
        bounded(PULL_DEADLINE, self.images.clone().pull_image(request)).await.map(|a| a.image_ref)
    }

    async fn remove_image(&self, spec: cri::ImageSpec) -> Result<()> {
        let request = cri::RemoveImageRequest { image: Some(spec) };
        gone_is_fine(bounded(self.deadline, self.images.clone().remove_image(request)).await)
    }

    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        bounded(self.deadline, self.images.clone().image_fs_info(cri::ImageFsInfoRequest {})).await
    }

    async fn events(&self) -> Result<mpsc::Receiver<cri::ContainerEventResponse>> {
        let mut stream =
            bounded(self.deadline, self.runtime.clone().get_container_events(cri::GetEventsRequest {}))
                .await?;
        let (tx, rx) = mpsc::channel(1000);
        tokio::spawn(async move {
            while let Ok(Some(event)) = stream.message().await {
                if tx.send(event).await.is_err() {
                    break;
                }
            }
        });
        Ok(rx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_codes() {
        assert_eq!(socket_path("unix:///run/a.sock"), PathBuf::from("/run/a.sock"));
        assert_eq!(socket_path("/run/a.sock"), PathBuf::from("/run/a.sock"));
        assert!(from_status(&Status::not_found("x")).is_not_found());
        let other = from_status(&Status::unknown("boom"));
        assert_eq!(other.to_string(), "rpc error: code = Unknown desc = boom");
    }

    #[tokio::test]
    async fn an_absent_socket_is_unavailable_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.sock");
        let client = CriRuntime::new(path.to_str().unwrap(), "", Duration::from_secs(5)).unwrap();
        assert!(matches!(client.version().await, Err(RuntimeError::Unavailable(_))));
    }
}
