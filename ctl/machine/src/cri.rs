//! A small client of the container runtime: what bootstrap and reset need, each call with a deadline.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as api;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};

/// Sockets at which runtimes are looked for.
pub const SOCKETS: [&str; 3] = [
    "unix:///var/run/containerd/containerd.sock",
    "unix:///var/run/crio/crio.sock",
    "unix:///var/run/cri-dockerd.sock",
];

/// kubeadm's deadline of a call.
const CALL: Duration = Duration::from_secs(2);
/// Stopping a pod waits for its containers' grace period in the runtime.
const POD: Duration = Duration::from_secs(45);
/// A pull ends by progress, not by the clock; this only bounds a runtime that hangs.
const PULL: Duration = Duration::from_secs(1200);
/// kubeadm's number of tries for pulls and pods.
const TRIES: u32 = 5;
/// An answer of thousands of pods is larger than the default limit.
const MAX_MESSAGE: usize = 16 << 20;
/// Pods removed at a time.
const AT_ONCE: usize = 8;

/// What a runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As `containerd`.
    pub name: String,
    /// Its own version.
    pub version: String,
}

/// Path behind `unix:///path` or a bare path.
pub fn path(socket: &str) -> PathBuf {
    PathBuf::from(socket.strip_prefix("unix://").unwrap_or(socket))
}

/// Sockets that are there.
pub fn detect() -> Vec<String> {
    SOCKETS.iter().filter(|s| path(s).exists()).map(ToString::to_string).collect()
}

fn channel(socket: &str) -> Result<Channel> {
    let at = path(socket);
    let connector = tower::service_fn(move |_: Uri| {
        let at = at.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(at).await?)) }
    });
    Ok(Endpoint::try_from("http://localhost")?.connect_timeout(CALL).connect_with_connector_lazy(connector))
}

fn runtime(socket: &str) -> Result<RuntimeServiceClient<Channel>> {
    Ok(RuntimeServiceClient::new(channel(socket)?).max_decoding_message_size(MAX_MESSAGE))
}

fn images(socket: &str) -> Result<ImageServiceClient<Channel>> {
    Ok(ImageServiceClient::new(channel(socket)?).max_decoding_message_size(MAX_MESSAGE))
}

/// A call that failed: what was called and why, in one line, without the transport's own account of it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failed {
    code: Code,
    text: String,
}

/// Makes a call's failure say what was called; a missing socket is told as such.
async fn bounded<T>(
    socket: &str,
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let text = unreachable(socket, status.code()).unwrap_or_else(|| status.message().to_string());
            Err(Failed { code: status.code(), text: format!("{what}: {text}") }.into())
        }
        Err(_) => bail!("{what}: the container runtime at {socket} did not answer within {limit:?}"),
    }
}

fn unreachable(socket: &str, code: Code) -> Option<String> {
    let at = path(socket);
    match code {
        Code::Unavailable | Code::Unknown if !at.exists() => {
            Some(format!("there is no socket {}", at.display()))
        }
        Code::Unavailable => Some(format!("nothing answers at {}", at.display())),
        _ => None,
    }
}

/// Whether the error is a runtime's "I don't have this call".
pub fn is_unimplemented(error: &anyhow::Error) -> bool {
    code(error) == Some(Code::Unimplemented)
}

fn code(error: &anyhow::Error) -> Option<Code> {
    error.chain().find_map(|e| e.downcast_ref::<Failed>()).map(|f| f.code)
}

/// Name and version of the runtime.
///
/// # Errors
/// When it can't be reached in time.
pub async fn version(socket: &str) -> Result<Version> {
    let mut client = runtime(socket)?;
    let request = api::VersionRequest { version: "0.1.0".into() };
    let answer = bounded(socket, "asking for the version", CALL, client.version(request)).await?;
    Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
}

/// Whether the runtime is ready (its network is not asked for).
///
/// # Errors
/// When it can't be reached or isn't ready, in the runtime's words.
pub async fn ready(socket: &str) -> Result<()> {
    let status = status(socket, false).await?;
    let conditions = status.status.unwrap_or_default().conditions;
    match conditions.iter().find(|c| c.r#type == "RuntimeReady") {
        Some(ready) if ready.status => Ok(()),
        Some(not) => bail!("the container runtime is not ready: {} {}", not.reason, not.message),
        None => bail!("the container runtime does not say whether it is ready"),
    }
}

async fn status(socket: &str, verbose: bool) -> Result<api::StatusResponse> {
    let mut client = runtime(socket)?;
    bounded(socket, "asking for the status", CALL, client.status(api::StatusRequest { verbose })).await
}

/// Configuration of the runtime as it shows it (containerd: JSON under `config`), empty when it shows none.
///
/// # Errors
/// When it can't be reached.
pub async fn configuration(socket: &str) -> Result<String> {
    Ok(status(socket, true).await?.info.remove("config").unwrap_or_default())
}

/// Whether the runtime names its cgroup driver by itself (CRI RuntimeConfig); None where it does not implement the call.
///
/// # Errors
/// When it can't be reached.
pub async fn cgroup_driver(socket: &str) -> Result<Option<String>> {
    let mut client = runtime(socket)?;
    let call = client.runtime_config(api::RuntimeConfigRequest {});
    match bounded(socket, "asking for the cgroup driver", CALL, call).await {
        Ok(answer) => Ok(answer.linux.map(|linux| {
            let systemd = linux.cgroup_driver == api::CgroupDriver::Systemd as i32;
            if systemd { "systemd".into() } else { "cgroupfs".into() }
        })),
        Err(error) if is_unimplemented(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn spec(image: &str) -> Option<api::ImageSpec> {
    Some(api::ImageSpec { image: image.into(), ..Default::default() })
}

/// Whether the image is there.
///
/// # Errors
/// When the runtime can't be reached.
pub async fn has_image(socket: &str, image: &str) -> Result<bool> {
    Ok(image_id(socket, image).await?.is_some())
}

/// The image's id (checksum of its configuration), if it is there.
///
/// # Errors
/// When the runtime can't be reached.
pub async fn image_id(socket: &str, image: &str) -> Result<Option<String>> {
    let mut client = images(socket)?;
    let request = api::ImageStatusRequest { image: spec(image), verbose: false };
    let answer = bounded(socket, "looking for an image", CALL * 5, client.image_status(request)).await?;
    Ok(answer.image.map(|i| i.id))
}

/// Pulls an image, five tries.
///
/// # Errors
/// As the runtime says.
pub async fn pull(socket: &str, image: &str) -> Result<()> {
    pull_until(socket, image, |_| false).await
}

/// As [`pull`], but no further try after an error that is `hopeless`.
///
/// # Errors
/// As the runtime says.
pub async fn pull_until(socket: &str, image: &str, hopeless: impl Fn(&anyhow::Error) -> bool) -> Result<()> {
    let what = format!("pulling {image}");
    let once = || async {
        let mut client = images(socket)?;
        let request = api::PullImageRequest { image: spec(image), ..Default::default() };
        bounded(socket, &what, PULL, client.pull_image(request)).await.map(|_| ())
    };
    again(once, hopeless).await
}

/// Tries several times, a little longer apart each time, with jitter.
async fn again<F: Future<Output = Result<()>>>(
    mut work: impl FnMut() -> F,
    hopeless: impl Fn(&anyhow::Error) -> bool,
) -> Result<()> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..TRIES {
        match work().await {
            Ok(()) => return Ok(()),
            Err(error) if hopeless(&error) => return Err(error),
            Err(error) => tracing::debug!("{error:#}"),
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
        pause *= 2;
    }
    work().await
}

/// Stops and removes every pod sandbox, five tries each; returns how many went and what went wrong.
///
/// # Errors
/// When the runtime can't be reached.
pub async fn remove_all_pods(socket: &str) -> Result<(usize, Vec<String>)> {
    use futures::StreamExt;
    let mut client = runtime(socket)?;
    let request = api::ListPodSandboxRequest { filter: None };
    let pods = bounded(socket, "listing pods", CALL * 5, client.list_pod_sandbox(request)).await?.items;
    let results: Vec<Result<()>> = futures::stream::iter(pods.iter().map(|pod| remove_pod(socket, pod)))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let troubles: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|e| format!("{e:#}")).collect();
    Ok((pods.len() - troubles.len(), troubles))
}

async fn remove_pod(socket: &str, pod: &api::PodSandbox) -> Result<()> {
    let meta = pod.metadata.clone().unwrap_or_default();
    let what = format!("removing pod {}/{}", meta.namespace, meta.name);
    let once = || async {
        let mut client = runtime(socket)?;
        let stop = api::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        gone_is_fine(bounded(socket, &what, POD, client.stop_pod_sandbox(stop)).await)?;
        let remove = api::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        gone_is_fine(bounded(socket, &what, POD, client.remove_pod_sandbox(remove)).await)
    };
    again(once, |_| false).await
}

fn gone_is_fine<T>(answer: Result<T>) -> Result<()> {
    match answer {
        Err(error) if code(&error) == Some(Code::NotFound) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The socket given, else the only one that is there, else containerd's.
///
/// # Errors
/// When there are several and none was given.
pub fn choose(given: &str, found: &[String]) -> Result<String> {
    match found {
        _ if !given.is_empty() => Ok(given.to_string()),
        [] => Ok(SOCKETS[0].to_string()),
        [one] => Ok(one.clone()),
        several => bail!(
            "found several container runtimes: {}; say which with --cri-socket or nodeRegistration.criSocket",
            several.join(", ")
        ),
    }
}

/// Whether containerd's configuration asks for systemd cgroups, by `SystemdCgroup` of its default runtime.
pub fn wants_systemd_cgroups(configuration: &str) -> bool {
    let Ok(all) = serde_json::from_str::<serde_json::Value>(configuration) else { return false };
    let containerd = &all["containerd"];
    let name = containerd["defaultRuntimeName"].as_str().unwrap_or("runc");
    containerd["runtimes"][name]["options"]["SystemdCgroup"].as_bool().unwrap_or(false)
}

/// The pause image that containerd is configured with; empty when it does not say.
pub fn sandbox_image(configuration: &str) -> String {
    let all: serde_json::Value = serde_json::from_str(configuration).unwrap_or_default();
    all["sandboxImage"].as_str().unwrap_or_default().to_string()
}

/// Whether a path is a socket.
pub fn is_socket(at: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(at).is_ok_and(|m| m.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_and_a_hung_runtime_are_told_apart() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let at = dir.path().join("cri.sock");
        let socket = format!("unix://{}", at.display());
        let error = format!("{:#}", ready(&socket).await.unwrap_err());
        assert!(error.contains("there is no socket"), "{error}");
        let _listener = std::os::unix::net::UnixListener::bind(&at)?;
        assert!(is_socket(&at));
        let begun = std::time::Instant::now();
        let error = format!("{:#}", ready(&socket).await.unwrap_err());
        assert!(error.contains("did not answer within 2s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(4));
        Ok(())
    }

    #[test]
    fn sockets() -> Result<()> {
        let both: Vec<String> = SOCKETS.iter().take(2).map(ToString::to_string).collect();
        assert_eq!(choose("unix:///x", &both)?, "unix:///x");
        assert_eq!(choose("", &[])?, SOCKETS[0]);
        assert_eq!(choose("", &both[1..])?, SOCKETS[1]);
        assert!(choose("", &both).is_err());
        assert_eq!(path("unix:///run/x.sock"), path("/run/x.sock"));
        Ok(())
    }

    #[test]
    fn what_containerd_shows() {
        let config = r#"{"sandboxImage":"p:1","containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":true}}}}}"#;
        assert!(wants_systemd_cgroups(config));
        assert_eq!(sandbox_image(config), "p:1");
        for other in ["", "{}", r#"{"containerd":{"runtimes":{"runc":{"options":{}}}}}"#] {
            assert!(!wants_systemd_cgroups(other));
            assert_eq!(sandbox_image(other), "");
        }
    }
}
